"""The curves of Hugging Face transformers, `lr_scheduler_type`, in the language of schedules.

Formulas and defaults as in transformers 5.23 `optimization.py`; read at the beginning of an update the curves
are equal to 1e-12, but for `cosine_warmup_with_min_lr`, which transformers reads at the end.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from etude.convert.huggingface.cosines import cosine, early, floored, restarts
from etude.convert.huggingface.curve import Curve
from etude.convert.huggingface.stages import stages
from etude.convert.pieces import NOTHING, Piece
from etude.convert.values import read, whole
from etude.errors import RecipeError, near


def curve(
    kind: Any,
    options: Mapping[str, Any] | str | None = None,
    warm: float = 0,
    lr: Any = None,
    total: float | None = None,
) -> tuple[str, Curve]:
    """The path that an `lr_scheduler_type` and its `lr_scheduler_kwargs` draw, and the curve with its traps.

    The warm-up is in updates, or below 1 a share of the run, which transformers rounds up to whole updates.
    Raises `RecipeError` for an unknown type or option and for what the language cannot say.

    >>> curve("cosine_with_min_lr", {"min_lr_rate": 0.1}, 0.06)[0]
    'warmup(0.06) >> cosine(to=0.1)'
    """
    if not isinstance(kind, str) or kind not in CURVES:
        raise RecipeError(
            f"lr_scheduler_type: {kind!r} is no curve that transformers knows{near(kind, CURVES)}"
        )
    make, known = CURVES[kind]
    asked = Curve(_options(options), warm, lr, total)
    for key in asked.options:
        if key not in known:
            raise RecipeError(f"lr_scheduler_kwargs: {kind} takes no {key!r}{near(key, known)}")
    if 0 < warm < 1:
        if total is None:
            asked.traps.append(
                f"The warm-up of {warm:g} of the run is rounded to whole updates there, and not in étude; "
                f"say the total for the same curve to the last digit."
            )
        else:
            asked.warm = math.ceil(total * warm)
    return make(asked), asked


def _options(value: Any) -> dict[str, Any]:
    """`lr_scheduler_kwargs` as a mapping; transformers also takes JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise RecipeError(f"lr_scheduler_kwargs: got {value!r}, which is not JSON: {error}") from None
    if value is not None and not isinstance(value, Mapping):
        raise RecipeError(f"lr_scheduler_kwargs: got {value!r}; write key: value lines under it")
    return {key: option for key, option in (value or {}).items() if option is not None}


def _constant(asked: Curve) -> str:
    if asked.warm:
        asked.traps.append("constant ignores its warm-up; constant_with_warmup has one.")
    return "hold()"


def _controlled(asked: Curve) -> str:
    asked.traps.append(
        "The rate follows the evaluations: that is a controller and no schedule. The text holds the peak; "
        "étude's own controller comes with a later release."
    )
    floor = asked.options.get("min_lr", 0)
    if asked.lr is not None and not isinstance(floor, list | tuple) and read("min_lr", floor) >= asked.lr:
        asked.traps.append(
            f"Its min_lr, {floor:g}, is not below the peak: transformers would never lower the rate."
        )
    return "hold()"


def _greedy(asked: Curve) -> str:
    # GreedyLR's own default lies above the rates of fine-tuning.
    asked.options = {"min_lr": 1e-3, **asked.options}
    return _controlled(asked)


def _linear(asked: Curve) -> str:
    return asked.warmed([Piece("linear", end=NOTHING)])


def _held(asked: Curve) -> str:
    return asked.warmed([Piece("hold")])


def _polynomial(asked: Curve) -> str:
    end, power = asked.level("lr_end", asked.number("lr_end", 1e-7)), asked.number("power", 1.0)
    if power in (0, 1):
        return asked.warmed([Piece("linear", end=end) if power else Piece("hold")])
    return asked.warmed([Piece("poly", end=end, options=(f"power={power!r}",))])


def _inverse_sqrt(asked: Curve) -> str:
    asked.traps.append("inverse_sqrt has no end: the last updates still train at a good part of the peak.")
    # Without a time scale transformers takes the warm-up's length, as inv_sqrt() does, or 10,000.
    scale = asked.options.get("timescale", None if asked.warm else 10_000)
    written = () if scale is None else (f"timescale={read('timescale', scale, whole, low=1)}",)
    return asked.warmed([Piece("inv_sqrt", options=written)])


_WAVES = ("num_cycles", "min_lr", "min_lr_rate")
_STAGES = ("num_decay_steps", "num_stable_steps", "min_lr_ratio", "num_cycles", "warmup_type", "decay_type")
_PLATEAU = (
    "mode",
    "factor",
    "patience",
    "threshold",
    "threshold_mode",
    "cooldown",
    "min_lr",
    "eps",
    "verbose",
)
_GREEDY = (*_PLATEAU, "warmup", "max_lr", "smooth", "window_size", "reset_start")

# lr_scheduler_type -> how it is drawn, and the lr_scheduler_kwargs that it takes.
CURVES: dict[str, tuple[Callable[[Curve], str], tuple[str, ...]]] = {
    "linear": (_linear, ()),
    "cosine": (cosine, ("num_cycles",)),
    "cosine_with_restarts": (restarts, ("num_cycles",)),
    "polynomial": (_polynomial, ("lr_end", "power")),
    "constant": (_constant, ()),
    "constant_with_warmup": (_held, ()),
    "inverse_sqrt": (_inverse_sqrt, ("timescale",)),
    "cosine_with_min_lr": (floored, _WAVES),
    "cosine_warmup_with_min_lr": (early, (*_WAVES, "warmup_lr_rate")),
    "warmup_stable_decay": (stages, _STAGES),
    "reduce_lr_on_plateau": (_controlled, _PLATEAU),
    "greedy": (_greedy, _GREEDY),
}
CONTROLLERS = ("reduce_lr_on_plateau", "greedy")
