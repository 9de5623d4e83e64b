"""optax' schedules that are made of parts, drawn in the language: stairs, knots, one-cycle, restarts.

Formulas from optax 0.2.8, `schedules/_schedule.py`.
"""

from collections.abc import Mapping
from itertools import pairwise

from etude.convert.optax.asked import Asked, held, ramp
from etude.convert.optax.schedules import warmup_cosine
from etude.convert.pieces import Level, Piece, length
from etude.convert.values import number, read
from etude.errors import RecipeError


def piecewise_constant(asked: Asked) -> list[Piece]:
    """`piecewise_constant_schedule`: scales that multiply each other, each from its boundary on."""
    start, scales = asked.number("init_value"), _scales(asked)
    by = {scale for _, scale in scales}
    if len(by) == 1 and 0 not in by:
        at = ", ".join(length(time) for time, _ in scales) + ("," if len(scales) == 1 else "")
        factor = () if by == {0.1} else (f"by={by.pop()!r}",)
        return [Piece("multistep", None, Level(start), None, (f"at=({at})", *factor))]
    rates = _multiplied(start, scales)
    times = [0.0, *(time for time, _ in scales)]
    pieces = [held(rate, end - begin) for (begin, end), rate in zip(pairwise(times), rates, strict=False)]
    return [*(piece for piece in pieces if piece.over), held(rates[-1])]


def piecewise_interpolate(asked: Asked) -> list[Piece]:
    """`piecewise_interpolate_schedule`: straight lines or half cosines between the multiplied values."""
    kind = asked.said.get("interpolate_type")
    if kind not in ("linear", "cosine"):
        raise RecipeError(f"interpolate_type (line {asked.line}) is {kind!r}; write 'linear' or 'cosine'")
    return _knots(kind, asked.number("init_value"), _scales(asked))


def cosine_onecycle(asked: Asked) -> list[Piece]:
    """`cosine_onecycle_schedule`: up and down along half cosines."""
    peak, steps, div, final = _cycle(asked)
    up = int(asked.number("pct_start", 0.3) * steps)
    return _knots("cosine", peak / div, [(up, div), (int(steps), 1 / (div * final))])


def linear_onecycle(asked: Asked) -> list[Piece]:
    """`linear_onecycle_schedule`: up, down to where it began, and further down, in straight lines."""
    peak, steps, div, final = _cycle(asked)
    up, down = (
        int(asked.number(key, usual) * steps) for key, usual in (("pct_start", 0.3), ("pct_final", 0.85))
    )
    return _knots("linear", peak / div, [(up, div), (down, 1 / div), (steps, 1 / final)])


def _cycle(asked: Asked) -> tuple[float, float, float, float]:
    peak, steps = asked.number("peak_value"), asked.count("transition_steps")
    div, final = asked.number("div_factor", 25.0), asked.number("final_div_factor", 1e4)
    if not (steps and div and final):
        raise RecipeError(f"{asked.name} (line {asked.line}) takes steps and factors above 0")
    asked.traps.append(
        f"final_div_factor divides the first rate, as in torch: the end is peak/{div * final:g}, where "
        f"fastai's div_final divides the peak; boundaries are cut down to whole updates."
    )
    return peak, steps, div, final


def restarts(asked: Asked) -> list[Piece]:
    """`sgdr_schedule`: a warm-up and a cosine for each cycle; the last one's floor stays."""
    cycles = asked.said.get("cosine_kwargs")
    if not isinstance(cycles, list) or not cycles or not all(isinstance(cycle, Mapping) for cycle in cycles):
        raise RecipeError(
            f"cosine_kwargs (line {asked.line}) is {cycles!r}; write a list of dict(…), one a cycle"
        )
    several = [warmup_cosine(Asked(asked.name, asked.line, cycle, traps=asked.traps)) for cycle in cycles]
    return [*(piece for one in several for piece in one[:-1]), several[-1][-1]]


def _scales(asked: Asked) -> list[tuple[float, float]]:
    said = asked.said.get("boundaries_and_scales") or {}
    if not isinstance(said, Mapping):
        raise RecipeError(f"boundaries_and_scales (line {asked.line}) is {said!r}; write {{boundary: scale}}")
    return sorted(
        (read("boundary", time, number), read("scale", scale, number)) for time, scale in said.items()
    )


def _multiplied(start: float, scales: list[tuple[float, float]]) -> list[float]:
    rates = [start]
    for _, scale in scales:
        rates.append(rates[-1] * scale)
    return rates


def _knots(kind: str, start: float, scales: list[tuple[float, float]]) -> list[Piece]:
    # Of two scales at one time optax knows the last: it keeps them in a dict.
    scales = sorted(dict(scales).items())
    rates, times = _multiplied(start, scales), [0.0, *(time for time, _ in scales)]
    drawn: list[Piece] = []
    for (begin, end), (a, b) in zip(pairwise(times), pairwise(rates), strict=True):
        if end > begin:
            over = end - begin
            drawn.append(ramp(over, a, b) if kind == "linear" else Piece("cosine", over, Level(a), Level(b)))
    return [*drawn, held(rates[-1])]
