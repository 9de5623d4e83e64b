"""timm's arguments, from a command line or its args.yaml, in the language of schedules."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from etude.convert.commandline import flags
from etude.convert.converted import Converted, foreign
from etude.convert.parts import one_of
from etude.convert.pieces import PEAK, Piece, path
from etude.convert.product import product
from etude.convert.timm import curves
from etude.convert.timm.asked import Asked
from etude.convert.timm.measured import level_at, while_warming, within_epochs
from etude.convert.timm.stages import rsqrt, wsd
from etude.convert.values import read
from etude.errors import RecipeError

CURVES: dict[str, Callable[[Asked], list[Piece]]] = {
    "cosine": curves.cosine,
    "poly": curves.poly,
    "tanh": curves.tanh,
    "step": curves.step,
    "multistep": curves.multistep,
    "constant": curves.constant,
}
STAGES: dict[str, Callable[[Asked], list[list[Piece]]]] = {"wsd": wsd, "rsqrt": rsqrt}
# These make the run as long as their cycles and the cooldown take.
CYCLES = ("cosine", "poly", "tanh")
MOST_EPOCHS = 1e9
_FLAGS = re.compile(
    r"--(?:sched|sched-on-updates|warmup-epochs|decay-milestones|lr-cycle-\w+|cooldown-epochs)\b"
)
_SWITCHES = (
    "sched_on_updates",
    "warmup_prefix",
    "amp",
    "pretrained",
    "model_ema",
    "channels_last",
    "pin_mem",
)
_SHORT = {"dr": "decay_rate", "b": "batch_size"}


def _knows(said: Any) -> bool:
    if isinstance(said, str):
        return bool(_FLAGS.search(said))
    return (
        isinstance(said, Mapping)
        and "sched" in said
        and bool({"epochs", "warmup_epochs", "decay_rate"} & set(said))
    )


@foreign("timm", _knows)
def timm(said: Mapping[str, Any] | str, total: float | None = None, lr: float | None = None) -> Converted:
    """timm's arguments: the command line of its training script, or the args.yaml that it writes.

    Lengths are in epochs, as timm counts them. Raises `RecipeError` for what the arguments leave open and for
    what the language cannot say.

    >>> timm("train.py --sched cosine --lr 1e-3 --warmup-lr 0 --warmup-prefix --epochs 100").hypers["lr"]
    '0.001 * (warmup("5ep") >> cosine())'
    """
    named = flags(said, _SWITCHES, ("decay_milestones", "lr_noise")) if isinstance(said, str) else said
    args = {_SHORT.get(key, key): value for key, value in named.items() if value not in (None, "None")}
    asked = Asked(args, _peak(args, lr))
    kind = str(args.get("sched", "cosine"))
    paths, epochs = _paths(asked, kind)
    if args.get("lr_noise"):
        most = asked.number("lr_noise_pct")
        asked.traps.append(
            f"lr_noise moves the rate at random, by up to {most:.0%}; étude has no noise: it is left out."
        )
    settings = _layers(asked)
    hypers = {"lr": product(asked.peak, *paths), "weight_decay": repr(asked.number("weight_decay"))}
    if not asked.by_update and (off := within_epochs(product(1, *paths), epochs)):
        asked.traps.append(
            f"timm changes the rate once an epoch, étude at every update: within an epoch they differ by up "
            f"to {off:.2%} of the peak; --sched-on-updates is the same as étude."
        )
    return Converted(hypers, tuple(asked.traps), settings, total=total)


def _peak(args: Mapping[str, Any], lr: float | None) -> float:
    if lr is None and "lr" not in args:
        base, size = (
            read("lr_base", args.get("lr_base", 0.1)),
            read("lr_base_size", args.get("lr_base_size", 256)),
        )
        raise RecipeError(
            f"lr is not said, so timm multiplies lr_base={base:g} with the global batch over {size:g}, or "
            "with its root for Adam and Lamb; work it out and say lr"
        )
    if not (peak := read("lr", args["lr"] if lr is None else lr)):
        raise RecipeError(f"lr: got {peak!r}; a peak is above 0")
    return peak


def _paths(asked: Asked, kind: str) -> tuple[list[str], float]:
    """The paths whose product is the schedule, and how many epochs the run takes."""
    if not 0 < (epochs := asked.number("epochs")) < MOST_EPOCHS:
        raise RecipeError(f"epochs: got {epochs:g}; write a number above 0 that a run may have")
    if kind == "none":
        return ["hold()"], epochs
    if kind in STAGES:
        epochs += asked.warm * asked.prefix + asked.number("cooldown_epochs")
        return [path(pieces) for pieces in STAGES[kind](asked)], epochs
    if kind == "plateau":
        raise RecipeError("sched: plateau follows the evaluations; it is a controller and no schedule")
    shape, rise = CURVES[one_of("sched", kind, [*CURVES, *STAGES])](asked), asked.rise()
    if kind in CYCLES:
        times, grow = int(asked.number("lr_cycle_limit")), asked.number("lr_cycle_mul")
        epochs = sum(epochs * grow**i for i in range(max(1, times))) + asked.number("cooldown_epochs")
    if asked.prefix:
        asked.traps.append(
            f"warmup_prefix adds the warm-up to the run: timm trains {epochs + asked.warm:g} epochs."
        )
        return [path([*rise, *shape])], epochs + asked.warm
    if not rise or kind == "constant":
        return [path([*rise, *shape])], epochs
    return _cut_out(asked, kind, path(shape), path([*rise, Piece("hold", None, PEAK, PEAK)]), epochs), epochs


def _cut_out(asked: Asked, kind: str, shape: str, rise: str, epochs: float) -> list[str]:
    """The curve from the first epoch on, times a warm-up: the same as timm's once that is over."""
    if asked.warm >= epochs:
        raise RecipeError(f"the warm-up takes {asked.warm:g} of {epochs:g} epochs; shorten it")
    reached = level_at(shape, epochs, asked.warm)
    off = while_warming(shape, rise, epochs, asked.warm, reached if kind == "tanh" else 1.0)
    if reached < 1 or off:
        asked.traps.append(
            "Without warmup_prefix the warm-up is cut out of the curve, so that the peak is never used "
            f"and the rate is {reached:.2%} of lr after it; the text is the same from there on, and before "
            f"off by up to {off:.2%}."
        )
    return [shape, rise]


def _layers(asked: Asked) -> dict[str, Any]:
    if "layer_decay" not in asked.said:
        return {}
    decay = read("layer_decay", asked.said["layer_decay"])
    if not 0 < decay <= 1:
        raise RecipeError(f"layer_decay: got {decay!r}; a ratio between two layers is above 0 and at most 1")
    settings: dict[str, Any] = {"layer_decay": decay, "convention": "beit"}
    asked.traps.append("timm counts a final norm to the last block; étude puts it above, at the peak.")
    if lowest := read("layer_decay_min_scale", asked.said.get("layer_decay_min_scale", 0.0)):
        settings["min_scale"] = lowest
    if still := read("layer_decay_no_opt_scale", asked.said.get("layer_decay_no_opt_scale", 0.0)):
        asked.traps.append(
            f"layer_decay_no_opt_scale={still:g} freezes what would train at less than that, and the text "
            f"leaves it out: name those layers with freeze=."
        )
    return settings
