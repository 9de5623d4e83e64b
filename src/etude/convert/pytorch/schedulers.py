"""The schedulers of torch that go once over a run, in the language of schedules.

Formulas and defaults as in torch 2.13 `optim/lr_scheduler.py`, read at the beginning of an update (tick 0).
"""

import math
from collections.abc import Callable
from typing import Any

from etude.convert.pieces import NOTHING, PEAK, Level, Piece, length
from etude.convert.pytorch.asked import REQUIRED, Asked
from etude.convert.values import read, whole
from etude.errors import RecipeError


def step(asked: Asked) -> list[Piece]:
    """`StepLR`."""
    every, by = asked.whole("step_size"), asked.positive("gamma")
    last = asked.updates % every if asked.updates else 0
    if asked.updates and 0 < last < every / 2 and asked.updates > every:
        asked.traps.append(
            f"StepLR drops a last time {last:g} updates before the end; step(by={by!r}, times=…) has equal "
            "stairs."
        )
    if (asked.updates and every >= asked.updates) or by == 1:
        return [Piece("hold")]
    return [Piece("step", options=(f"by={by!r}", f"every={every}"))]


def multistep(asked: Asked) -> list[Piece]:
    """`MultiStepLR`."""
    by = asked.positive("gamma")
    milestones = sorted(
        read("milestones", m, whole) for m in _listed("milestones", asked.options["milestones"])
    )
    begun = by ** sum(m == 0 for m in milestones)
    at = [m for m in milestones if m > 0 and (asked.updates is None or m < asked.updates)]
    if late := [m for m in milestones if asked.updates is not None and m >= asked.updates]:
        asked.traps.append(f"Milestone {late[0]} is not reached in {asked.updates:g} updates.")
    if not at or by == 1:
        return [Piece("hold", start=Level(begun))]
    written = ", ".join(map(str, at)) + ("," if len(at) == 1 else "")
    return [Piece("multistep", start=Level(begun), options=(f"by={by!r}", f"at=({written})"))]


def constant(asked: Asked) -> list[Piece]:
    """`ConstantLR`."""
    low = Level(asked.positive("factor"))
    return [Piece("hold", asked.whole("total_iters"), low, low), Piece("hold")]


def linear(asked: Asked) -> list[Piece]:
    """`LinearLR`."""
    start, end = Level(asked.positive("start_factor")), Level(asked.number("end_factor"))
    over = asked.whole("total_iters")
    if start.ratio < 0.01 and end == PEAK:
        asked.traps.append(
            f"LinearLR starts at {start} because torch refuses 0; étude's warmup({over}) starts at 0, and no "
            f"update is lost with tick: 0.5."
        )
    return [Piece("linear", over, start, end), Piece("hold", None, end, end)]


def exponential(asked: Asked) -> list[Piece]:
    """`ExponentialLR`."""
    gamma = asked.positive("gamma")
    if gamma == 1:
        return [Piece("hold")]
    if asked.updates is None:
        half = abs(math.log(2) / math.log(gamma))
        asked.traps.append(
            f"ExponentialLR multiplies by {gamma:g} at every step: the rate "
            f"{'halves' if gamma < 1 else 'doubles'} within {half:.0f}; say the total, and the text has the "
            "final ratio."
        )
        return [Piece("step", options=(f"by={gamma!r}", "every=1"))]
    # Below the smallest normal numbers a ratio has no digits left.
    final = gamma**asked.updates if asked.updates * abs(math.log(gamma)) < 650 else 0.0
    asked.traps.append(
        f"ExponentialLR multiplies by {gamma:g} at every step, by {final:.2g} over {asked.updates:g} "
        f"updates; étude writes that final ratio."
    )
    if not final:
        return [Piece("step", options=(f"by={gamma!r}", "every=1"))]
    return [Piece("exp", None, PEAK, Level(final))]


def polynomial(asked: Asked) -> list[Piece]:
    """`PolynomialLR`."""
    power, over = asked.number("power"), asked.whole("total_iters")
    if not power:
        return [Piece("hold")]
    if asked.updates is not None and over < asked.updates:
        asked.traps.append(
            f"PolynomialLR ends after {over} of {asked.updates:g} updates; the rest trains nothing."
        )
    fall = Piece("linear", over, PEAK, NOTHING)
    if power != 1:
        fall = fall._replace(word="poly", options=(f"power={power!r}",))
    return _to_the_end(fall, asked) or [fall, Piece("hold", None, NOTHING, NOTHING)]


def cosine(asked: Asked) -> list[Piece]:
    """`CosineAnnealingLR`."""
    low = asked.floor()
    if asked.options["T_max"] is None:
        asked.traps.append("T_max is taken to be the length of the run.")
        return [Piece("cosine", None, PEAK, low)]
    half = asked.positive("T_max")
    fall = Piece("cosine", half, PEAK, low)
    if asked.updates is None:
        asked.traps.append(f"The run is taken to end at T_max={half:g}; later on torch's cosine climbs back.")
        return [fall]
    if half >= asked.updates:
        return _to_the_end(fall, asked) or [fall]
    asked.traps.append(
        f"Past T_max={half:g} torch's cosine climbs back, in {asked.updates:g} updates to "
        f"{low.ratio + (1 - low.ratio) * (1 + math.cos(math.pi * asked.updates / half)) / 2:.0%} of the "
        f"peak; cosine({length(half)}) >> hold() stays low."
    )
    return [Piece("wave", options=(f"half={length(half)}", *((f"low={low}",) if low.rate else ())))]


def warm_restarts(asked: Asked) -> list[Piece]:
    """`CosineAnnealingWarmRestarts`."""
    low, first, longer = asked.floor(), asked.whole("T_0"), asked.whole("T_mult")
    if asked.updates is None:
        raise RecipeError("CosineAnnealingWarmRestarts restarts for ever: say the total number of updates")
    cycles, over, left = 0, first, asked.updates
    while left >= over:
        cycles, left, over = cycles + 1, left - over, over * longer
    floor = "" if low == NOTHING else f"to={low}, "
    stretch = f", stretch={longer}" if longer > 1 and cycles > 1 else ""
    repeated = f"repeat(cosine({first}, {floor}start=1), {cycles}{stretch})"
    pieces = [Piece(repeated, asked.updates - left)] if cycles else []
    if cycles == 1:
        pieces = [Piece("cosine", first, PEAK, low)]
    if left:
        high = low.ratio + (1 - low.ratio) * (1 + math.cos(math.pi * left / over)) / 2
        more = f", stretch={longer}" if longer > 1 else ""
        asked.traps.append(
            f"T_0={first}, T_mult={longer} ends within a cycle, at {high:.0%} of the peak; "
            f"repeat(cosine({floor}start=1), {cycles + 1}{more}) has {cycles + 1} cycles and ends at a "
            "minimum."
        )
        low_option = (f"low={low}",) if low.rate else ()
        pieces.append(Piece("wave", options=(f"half={length(over)}", *low_option)))
    return pieces


def held(asked: Asked) -> list[Piece]:
    """`ReduceLROnPlateau`."""
    asked.traps.append(
        "ReduceLROnPlateau follows the evaluations: that is a controller and no schedule. The text holds the "
        "peak; étude's own controller comes with a later release."
    )
    return [Piece("hold")]


def _to_the_end(piece: Piece, asked: Asked) -> list[Piece]:
    """The piece without its length where it fills the run."""
    return [piece._replace(over=None)] if piece.over == asked.updates else []


def _listed(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise RecipeError(f"{key}: got {value!r}; write a list of numbers")
    return list(value)


# The scheduler -> how it is drawn, and its arguments after the optimizer with their defaults.
SCHEDULERS: dict[str, tuple[Callable[[Asked], list[Piece]], dict[str, Any]]] = {
    "StepLR": (step, {"step_size": REQUIRED, "gamma": 0.1}),
    "MultiStepLR": (multistep, {"milestones": REQUIRED, "gamma": 0.1}),
    "ConstantLR": (constant, {"factor": 1 / 3, "total_iters": 5}),
    "LinearLR": (linear, {"start_factor": 1 / 3, "end_factor": 1.0, "total_iters": 5}),
    "ExponentialLR": (exponential, {"gamma": REQUIRED}),
    "PolynomialLR": (polynomial, {"total_iters": 5, "power": 1.0}),
    "CosineAnnealingLR": (cosine, {"T_max": REQUIRED, "eta_min": 0.0}),
    "CosineAnnealingWarmRestarts": (warm_restarts, {"T_0": REQUIRED, "T_mult": 1, "eta_min": 0.0}),
    "ReduceLROnPlateau": (held, dict.fromkeys(
        ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
    )),
}  # fmt: skip
