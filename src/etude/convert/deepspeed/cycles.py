"""DeepSpeed's `OneCycle` and `LRRangeTest`, which count from 0: update k is read at k.

Formulas from deepspeed 0.19.8, `runtime/lr_schedules.py`.
"""

import math

from etude.convert.deepspeed.params import Drawn, Params
from etude.convert.pieces import PEAK, Level, Piece
from etude.convert.ratios import over_time
from etude.errors import RecipeError


def one_cycle(params: Params) -> Drawn:
    for key in ("cycle_first_stair_count", "cycle_second_stair_count"):
        if params.number(key, 0):
            raise RecipeError(f"{key}: the language has no stairs up a cycle; leave it out")
    peak, bottom = params.peak("cycle_max_lr"), params.number("cycle_min_lr")
    first = params.updates("cycle_first_step_size", 2000)
    second = params.updates("cycle_second_step_size", first)
    low, every, slower = (
        Level(bottom, peak),
        params.number("decay_step_size", 0),
        params.number("decay_lr_rate", 0),
    )
    falls = every > 0 and over_time(slower, every) != "hold()"
    tail = Piece(over_time(slower, every)) if falls else Piece("hold", None, low, low)
    pieces = [Piece("linear", first, low, PEAK), Piece("linear", second, PEAK, low), tail]
    traps = [
        f"After its cycle, at update {first + second}, OneCycle "
        + ("falls as one over the time." if falls else f"stays at {bottom:g}.")
    ]
    return Drawn(peak, pieces, traps, momentum=_momentum(params, first, second, every, traps))


def _momentum(params: Params, first: int, second: int, every: float, traps: list[str]) -> list[Piece] | None:
    if not params.said.get("cycle_momentum", True):
        return None
    low, high = params.number("cycle_min_mom", 0.8), params.number("cycle_max_mom", 0.9)
    if every and params.number("decay_mom_rate", 0):
        raise RecipeError("decay_mom_rate: it raises the momentum without an end; leave it out")
    traps.append(
        f"OneCycle moves the first beta and sets the second to 0.99, whatever the optimizer says; its first "
        f"update has a momentum of {low:g} in place of {high:g}, which hold(1) says."
    )
    bottom, top = Level(low), Level(high)
    rise = Piece("linear", first - 1, Level(high + (low - high) / first), bottom)
    fall = [Piece("linear", second, bottom, top), Piece("hold", None, top, top)]
    return [Piece("hold", 1, bottom, bottom), *([rise] if first > 1 else []), *fall]


def range_test(params: Params) -> Drawn:
    low, every = params.peak("lr_range_test_min_lr", 1e-3), params.updates("lr_range_test_step_size", 2000)
    rate, total = params.number("lr_range_test_step_rate", 1.0), params.total
    if total is None:
        raise RecipeError("LRRangeTest has no end; say how many updates the test has, total=…")
    traps = [
        "LRRangeTest rises in a straight line; the test of fastai and étude goes by equal ratios, exp(to=…)."
    ]
    if params.said.get("lr_range_test_staircase"):
        stairs = math.ceil(total / every)
        if stairs > 100:
            raise RecipeError(
                f"LRRangeTest: {stairs} stairs are too many to write down; leave the staircase out"
            )
        levels = [Level(1 + rate * i) for i in range(stairs)]
        return Drawn(low, [Piece("hold", every, level, level) for level in levels], traps, total)
    return Drawn(low, [Piece("linear", None, PEAK, Level(1 + rate * total / every))], traps, total)
