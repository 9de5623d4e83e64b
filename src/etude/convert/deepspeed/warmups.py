"""DeepSpeed's schedulers that warm up: `WarmupLR`, `WarmupDecayLR`, `WarmupCosineLR`.

Formulas from deepspeed 0.19.8, `runtime/lr_schedules.py`. The engine steps a scheduler after each update
(`runtime/engine.py`, `_take_model_step`), and these begin to count then: update k is read at k - 1, and the
first two updates are alike.
"""

import math
from typing import NamedTuple

from etude.convert.deepspeed.logarithm import logarithm
from etude.convert.deepspeed.params import Drawn, Params
from etude.convert.pieces import NOTHING, PEAK, Level, Piece
from etude.convert.values import read, whole
from etude.errors import RecipeError

LATE = (
    "DeepSpeed reads update k at k - 1, so that the first two updates are both at the start of the warm-up; "
    "hold(1) says so."
)
FIRST = (
    "DeepSpeed makes the first update at a rate of 0, whatever warmup_min_ratio says, and reads the warm-up "
    "at k - 1; its cosine is on time."
)


class Rise(NamedTuple):
    """A warm-up of so many updates; the logarithm is at the peak one update `early`."""

    updates: int
    pieces: list[Piece]
    early: int
    traps: list[str]


def _rise(params: Params, low: Level) -> Rise:
    updates = max(2, params.updates("warmup_num_steps", 1000))
    kind = params.said.get("warmup_type", "log")
    traps = [LATE]
    if kind == "linear":
        return Rise(updates, [Piece("linear" if low.rate else "warmup", updates, low, PEAK)], 0, traps)
    if kind != "log":
        traps.append(f"warmup_type {kind!r} is unknown to DeepSpeed, which takes its logarithm instead.")
    lines, off = logarithm(updates, low)
    traps.append(
        f"DeepSpeed's own warm-up goes as log(1 + k)/log({updates}), which is at half the peak after "
        f"{math.sqrt(updates) - 1:.0f} updates; the straight lines are off by at most {off:.2%} of the peak, "
        f"and warmup({updates}) is what others mean by a warm-up."
    )
    return Rise(updates, lines, 1, traps)


def warmup_lr(params: Params) -> Drawn:
    peak = params.peak("warmup_max_lr", params.lr)
    low = Level(params.number("warmup_min_lr", 0.0), peak)
    rise = _rise(params, low)
    return Drawn(peak, [Piece("hold", 1, low, low), *rise.pieces, Piece("hold")], rise.traps + _absolute(low))


def warmup_decay(params: Params) -> Drawn:
    peak, total = params.peak("warmup_max_lr", 0.001), _total(params)
    low = Level(params.number("warmup_min_lr", 0.0), peak)
    rise = _rise(params, low)
    waiting = [Piece("hold", 1, PEAK, PEAK)] * rise.early
    fall = [Piece("linear", max(1, total - rise.updates), PEAK, low), Piece("hold", None, low, low)]
    pieces = [Piece("hold", 1, low, low), *rise.pieces, *waiting, *fall]
    return Drawn(peak, pieces, rise.traps + _absolute(low), total)


def warmup_cosine(params: Params) -> Drawn:
    if params.lr is None:
        raise RecipeError(
            "WarmupCosineLR is a ratio of the optimizer's lr, which is not said; write its number"
        )
    total, low = _total(params), Level(params.number("warmup_min_ratio", 0.0))
    floor = Level(params.number("cos_min_ratio", 1e-4))
    updates, pieces, early, traps = _rise(params, low)
    traps[0] = FIRST
    if not early:
        short = (1 - low.ratio) / updates
        pieces = [Piece("linear", updates - 1, low, Level(1 - short))]
        traps.append(f"Update {updates} is at the peak; DeepSpeed's own is {short:.2g} of the peak below it.")
    fall = [Piece("cosine", max(1, total - updates), PEAK, floor), Piece("hold", None, floor, floor)]
    return Drawn(params.lr, [Piece("hold", 1, NOTHING, NOTHING), *pieces, *fall], traps, total)


def _total(params: Params) -> int:
    return read("total_num_steps", params.number("total_num_steps", params.total), whole, low=1)


def _absolute(low: Level) -> list[str]:
    if not low.rate:
        return []
    return [
        f"warmup_min_lr={low.rate:g} is a rate: in étude every group starts at {low.ratio:g} of its own peak."
    ]
