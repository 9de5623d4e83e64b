"""timm's `wsd` and `rsqrt`: a stable stage and a decay, after a warm-up that is always in front.

Formulas from timm 1.0.31, `scheduler/wsd_lr.py` and `scheduler/scheduler_factory.py`.
"""

import math

from etude.convert.parts import one_of
from etude.convert.pieces import NOTHING, PEAK, Level, Piece
from etude.convert.timm.asked import Asked, epochs
from etude.convert.values import read
from etude.errors import RecipeError

DECAYS = {"linear": "linear", "1-sqrt": "sqrt", "power": "sqrt", "cosine": "cosine", "exp": "exp_warmup"}
# What is left of the stable rate at the end of an exponential decay, before it is moved down to the floor.
LEFT = 0.1


def wsd(asked: Asked) -> list[list[Piece]]:
    """`--sched wsd`: one path."""
    floor = asked.level("min_lr")
    if floor.rate:
        asked.traps.append(
            f"min_lr={floor.rate:g} is a rate: in étude every group ends at {floor.ratio:g} of its peak."
        )
    stable, fall = _decay(asked, floor, "1-sqrt")
    hold = [Piece("hold", None, PEAK, PEAK)] if stable else []
    return [[*asked.rise(), *hold, fall, *asked.cooldown(floor)]]


def rsqrt(asked: Asked) -> list[list[Piece]]:
    """`--sched rsqrt`: one over the root of the time, and a decay that multiplies it."""
    if asked.number("min_lr"):
        raise RecipeError("rsqrt with a min_lr is no product of a curve and a decay; leave --min-lr out")
    scale = read("lr_stable_timescale", asked.said.get("lr_stable_timescale") or asked.warm)
    if not scale:
        raise RecipeError("rsqrt needs a timescale: write --lr-stable-timescale or --warmup-epochs")
    stable, fall = _decay(asked, NOTHING, "linear")
    hold = [Piece("hold", None, PEAK, PEAK)] if stable or asked.warm else []
    falling = Piece("inv_sqrt", options=(f"timescale={epochs(scale)}",))
    return [[*asked.rise(), falling], [*hold, fall, *asked.cooldown(NOTHING)]]


def _decay(asked: Asked, floor: Level, usual: str) -> tuple[float, Piece]:
    """The length of the stable stage, and the decay after it."""
    kind = one_of("lr_decay_fn", asked.said.get("lr_decay_fn") or usual, DECAYS)
    whole = asked.number("epochs") - (0 if asked.prefix else asked.warm)
    over = read("decay_epochs", asked.said.get("decay_epochs", 0.2))
    if 0 < over < 1:
        over *= whole
    if not asked.by_update:
        asked.traps.append(
            "timm steps the decay once an epoch, so that its last epoch is well above min_lr; étude's is not."
        )
        over = round(over)
    elif over != int(over):
        asked.traps.append(
            f"The decay of {over:g} epochs is rounded to whole updates by timm, and not by étude."
        )
    if not 0 < over <= whole:
        raise RecipeError(f"decay_epochs takes {over:g} of {whole:g} epochs after the warm-up; shorten it")
    options = ()
    if kind == "exp":
        options = (f"start=1, to={floor}, timescale={epochs(over / math.log(1 / LEFT))}",)
    return whole - over, Piece(DECAYS[kind], epochs(over), PEAK, floor, options)
