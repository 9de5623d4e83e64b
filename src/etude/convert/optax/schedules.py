"""optax' schedules that decay or warm up, drawn in the language.

Formulas from optax 0.2.8, `schedules/_schedule.py`. Every one stays where it ends.
"""

import math

from etude.convert.optax.asked import Asked, ending, held, ramp
from etude.convert.pieces import Level, Piece, length
from etude.convert.ratios import left_after
from etude.errors import RecipeError

MOST_STAIRS = 1000


def constant(asked: Asked) -> list[Piece]:
    """`constant_schedule`."""
    return [held(asked.number("value"))]


def linear(asked: Asked) -> list[Piece]:
    """`linear_schedule`: a polynomial of power 1."""
    return _power(asked, 1.0)


def polynomial(asked: Asked) -> list[Piece]:
    """`polynomial_schedule`."""
    return _power(asked, asked.number("power"))


def _power(asked: Asked, power: float) -> list[Piece]:
    start, end, over = asked.number("init_value"), asked.number("end_value"), asked.count("transition_steps")
    begin = asked.count("transition_begin", 0)
    if not over:
        return [held(start)]
    if not power:
        raise RecipeError(f"power (line {asked.line}): got 0, a constant rate; write constant_schedule")
    if power == 1:
        return ending(begin, ramp(over, start, end))
    options = () if power == 2 else (f"power={power!r}",)
    return ending(begin, Piece("poly", over, Level(start), Level(end), options))


def cosine(asked: Asked) -> list[Piece]:
    """`cosine_decay_schedule`: its floor `alpha` is a ratio."""
    peak = asked.number("init_value")
    return ending(0, _fall(asked, peak, asked.number("alpha", 0.0) * peak, asked.count("decay_steps")))


def _fall(asked: Asked, peak: float, end: float, over: float) -> Piece:
    exponent = asked.number("exponent", 1.0)
    if not over:
        raise RecipeError(f"decay_steps (line {asked.line}) leaves nothing for the cosine; make it longer")
    return Piece(
        "cosine", over, Level(peak), Level(end), () if exponent == 1 else (f"exponent={exponent!r}",)
    )


def warmup_cosine(asked: Asked) -> list[Piece]:
    """`warmup_cosine_decay_schedule`, whose decay_steps count the warm-up."""
    peak, end = asked.number("peak_value"), asked.number("end_value", 0.0)
    warm, whole = asked.count("warmup_steps"), asked.count("decay_steps")
    if warm >= whole:
        raise RecipeError(
            f"decay_steps (line {asked.line}) counts the warm-up: {whole:g} leave nothing after {warm:g}"
        )
    if warm:
        asked.traps.append(
            f"decay_steps counts the warm-up: the run has {whole:g} updates, the cosine {whole - warm:g}."
        )
    if end:
        asked.traps.append(
            f"end_value={end:g} is a rate: in étude every group ends at {end / (peak or 1):g} of its peak."
        )
    return ending(0, ramp(warm, asked.number("init_value"), peak), _fall(asked, peak, end, whole - warm))


def warmup_constant(asked: Asked) -> list[Piece]:
    """`warmup_constant_schedule`."""
    return ending(
        0, ramp(asked.count("warmup_steps"), asked.number("init_value"), asked.number("peak_value"))
    )


def warmup_exponential(asked: Asked) -> list[Piece]:
    """`warmup_exponential_decay_schedule`."""
    warm, peak = asked.count("warmup_steps"), asked.number("peak_value")
    if asked.left is not None:
        asked.left = max(0.0, asked.left - warm)
    rise = [ramp(warm, asked.number("init_value"), peak)] if warm else []
    return [*rise, *_exponential(asked, peak)]


def exponential(asked: Asked) -> list[Piece]:
    """`exponential_decay`, which has no end unless `end_value` gives it one; in stairs or smooth."""
    return _exponential(asked, asked.number("init_value"))


def _exponential(asked: Asked, start: float) -> list[Piece]:
    every, rate, begin = (
        asked.count("transition_steps"),
        asked.number("decay_rate"),
        asked.count("transition_begin", 0),
    )
    if not every or rate in (0, 1):
        return [held(start)]
    waiting = [held(start, begin)] if begin else []
    if not asked.said.get("end_value"):  # equal ratios never reach 0
        if asked.said.get("staircase"):
            return [*waiting, _stairs(start, rate, every)]
        end = start * left_after("decay_rate", rate, (asked.rest() - begin) / every)
        return [*waiting, Piece("exp", None, Level(start), Level(end))]
    end = asked.number("end_value")
    if (end >= start) == (rate < 1):
        asked.traps.append(f"end_value={end:g} is reached from the first update on: the rate never moves.")
        return [held(end)]
    falls = math.log(end / start) / math.log(rate)
    if not asked.said.get("staircase"):
        return [*waiting, Piece("exp", falls * every, Level(start), Level(end)), held(end)]
    return [*waiting, _stairs(start, rate, every, math.ceil(falls - 1e-9) * every), held(end)]


def _stairs(start: float, rate: float, every: float, over: float | None = None) -> Piece:
    by = () if rate == 0.1 else (f"by={rate!r}",)
    return Piece("step", over, Level(start), None, (*by, f"every={length(every)}"))
