"""Megatron-LM's flags in the language of schedules.

Formulas from megatron-core 0.16.1, `optimizer_param_scheduler.py`; how the flags become its arguments from
Megatron-LM, `megatron/training/training.py`, `get_optimizer_param_scheduler`. It counts samples: after update
k it has seen k global batches, and an update is read at its beginning.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etude.convert.commandline import flags
from etude.convert.converted import Converted, foreign
from etude.convert.parts import one_of
from etude.convert.pieces import PEAK, Level, Piece, fit, length, path
from etude.convert.product import product
from etude.convert.values import number, read, whole
from etude.errors import RecipeError

FLAGS = ("lr_decay_style", "lr_warmup_iters", "lr_warmup_samples", "lr_decay_iters", "lr_decay_samples")
STYLES = ("constant", "linear", "cosine", "inverse-square-root", "WSD")
# --lr-wsd-decay-style -> the word; "exponential" is 2 · 0.5^u - 1, the fall of exp_warmup turned over.
ENDINGS = {"exponential": "exp_warmup", "linear": "linear", "cosine": "cosine", "minus_sqrt": "sqrt"}


@dataclass(frozen=True)
class Run:
    """What the flags say of a run: rates as levels of the peak, times in updates, None where nobody said."""

    floor: Level
    start: Level
    warm: float
    decay: float | None
    ending: float | None
    total: float | None


def _knows(said: Any) -> bool:
    if isinstance(said, str):
        return any(f"--{flag.replace('_', '-')}" in said for flag in FLAGS)
    return isinstance(said, Mapping) and any(flag in said for flag in FLAGS)


@foreign("megatron", _knows)
def megatron(said: Mapping[str, Any] | str, total: float | None = None, lr: float | None = None) -> Converted:
    """Megatron-LM's flags, as a command line, a launch script or a mapping of its arguments.

    Raises `RecipeError` for what the flags leave open and for curves that the language cannot say.

    >>> line = "--lr 3e-4 --min-lr 3e-5 --lr-warmup-iters 100 --lr-decay-style cosine --train-iters 1000"
    >>> megatron(line).hypers["lr"]
    '0.0003 * (warmup(100) >> cosine(900, to=3e-05/0.0003))'
    """
    args = flags(said) if isinstance(said, str) else said
    args = {key: value for key, value in args.items() if value not in (None, "None")}
    peak = read("lr", lr if lr is not None else args.get("lr"))
    if not peak:
        raise RecipeError(f"lr: got {peak!r}; a peak is above 0")
    run, traps = _run(args, peak, total)
    drawn = _warmup(run) + _decay(args, run, traps)
    fitted = drawn if run.total is None else fit(drawn, run.total)
    hypers = {"lr": product(peak, path(fitted))}
    if decay := _weight_decay(args):
        hypers["weight_decay"] = decay
    settings = _decoupled(args, run, traps)
    return Converted(hypers, tuple(traps), settings, total=run.total)


def _run(args: Mapping[str, Any], peak: float, total: float | None) -> tuple[Run, list[str]]:
    def told(name: str) -> float | None:
        return read(name, args[name]) / batch if name in args else None

    by_samples = "train_samples" in args and not args.get("train_iters")
    kind, batch = ("samples", _batch(args)) if by_samples else ("iters", 1)
    traps = []
    total = total or told(f"train_{kind}")
    decay = told(f"lr_decay_{kind}") or total
    warm = told(f"lr_warmup_{kind}") or 0
    if "lr_warmup_fraction" in args:
        if decay is None:
            raise RecipeError(
                "lr_warmup_fraction is a share of lr_decay_iters, which is not said; say the total"
            )
        warm = read("lr_warmup_fraction", args["lr_warmup_fraction"]) * decay
        traps.append(
            f"lr_warmup_fraction is a share of lr_decay_iters, here of {decay:g} updates, not of the run."
        )
    if decay is not None and warm >= decay:
        raise RecipeError(f"the warm-up takes {warm:g} of {decay:g} updates; Megatron wants it to be shorter")
    if by_samples:
        traps.append(
            f"The lengths are samples, here divided by the global batch, {batch}; with --rampup-batch-size "
            f"let the loop count examples, apply(begin, end)."
        )
    floor, start = (read(key, args.get(key, 0)) for key in ("min_lr", "lr_warmup_init"))
    for key, rate in {"min_lr": floor, "lr_warmup_init": start}.items():
        if rate > peak:
            raise RecipeError(f"{key}: got {rate!r}, which is above the peak, {peak!r}")
        if rate:
            traps.append(
                f"{key}={rate:g} is a rate: in étude every group has {rate / peak:g} of its own peak there."
            )
    if total is not None and decay is not None and total > decay and args.get("lr_decay_style") != "constant":
        traps.append(
            f"The decay ends at update {decay:g}; from there to {total:g} the floor, {floor:g}, is held."
        )
    if total is not None and decay is not None and total < decay:
        traps.append(f"The run ends at update {total:g}, before the decay does at {decay:g}.")
    ending = told(f"lr_wsd_decay_{kind}")
    return Run(Level(floor, peak), Level(start, peak), warm, decay, ending, total), traps


def _batch(args: Mapping[str, Any]) -> int:
    if "global_batch_size" not in args:
        raise RecipeError(
            "the lengths are samples, and global_batch_size is not said; write --global-batch-size 512"
        )
    return read("global_batch_size", args["global_batch_size"], whole, low=1)


def _warmup(run: Run) -> list[Piece]:
    return [Piece("linear" if run.start.rate else "warmup", run.warm, run.start, PEAK)] if run.warm else []


def _decay(args: Mapping[str, Any], run: Run, traps: list[str]) -> list[Piece]:
    style = one_of("lr_decay_style", args.get("lr_decay_style", "linear"), STYLES)
    if style == "constant":
        return [Piece("hold")]
    if style == "inverse-square-root":
        return _inverse_sqrt(run, traps)
    held = Piece("hold", None, run.floor, run.floor)
    left = None if run.decay is None else run.decay - run.warm
    if style == "WSD":
        return _stable(args, run, left, held)
    # Where the end is not known the decay takes what is left, and nothing follows it.
    return [Piece(style, left, PEAK, run.floor), *([] if left is None else [held])]


def _stable(args: Mapping[str, Any], run: Run, left: float | None, held: Piece) -> list[Piece]:
    ending = run.ending
    if not ending:
        raise RecipeError("lr_decay_style WSD needs lr_wsd_decay_iters: write the length of its last stage")
    style = one_of("lr_wsd_decay_style", args.get("lr_wsd_decay_style", "exponential"), ENDINGS)
    if left is not None and ending > left:
        raise RecipeError(
            f"lr_wsd_decay_iters takes {ending:g} of the {left:g} updates after the warm-up; shorten it"
        )
    options: tuple[str, ...] = ()
    if style == "exponential":
        options = (f"start=1, to={run.floor}, timescale={length(ending / math.log(2))}",)
    fall = Piece(ENDINGS[style], ending, PEAK, run.floor, options)
    stable = [Piece("hold", None if left is None else left - ending, PEAK, PEAK)] if left != ending else []
    return [*stable, fall, *([] if left is None else [held])]


def _inverse_sqrt(run: Run, traps: list[str]) -> list[Piece]:
    if not run.warm:
        raise RecipeError(
            "inverse-square-root without a warm-up falls to one over the root of the samples: after one "
            "update of 256 samples it is at a sixteenth of the peak; write --lr-warmup-iters"
        )
    held, squared = Piece("hold", None, run.floor, run.floor), run.floor.ratio**2
    if squared and (run.decay is None or run.warm / squared <= run.decay):
        return [Piece("inv_sqrt", run.warm / squared - run.warm, PEAK, run.floor), held]
    if run.decay is None or run.decay == run.total:
        traps.append(
            "inverse-square-root has no end: the last updates still train at a good part of the peak."
        )
        return [Piece("inv_sqrt", None, PEAK, None)]
    traps.append(
        f"After update {math.floor(run.decay)} the rate jumps down to the floor, {run.floor.rate:g}."
    )
    return [Piece("inv_sqrt", math.floor(run.decay) + 1 - run.warm, PEAK, None), held]


def _weight_decay(args: Mapping[str, Any]) -> str:
    known = ("constant", "linear", "cosine")
    style = one_of("weight_decay_incr_style", args.get("weight_decay_incr_style", "constant"), known)
    if style == "constant":
        return repr(read("weight_decay", args["weight_decay"])) if "weight_decay" in args else ""
    start, end = (read(key, args.get(key), number) for key in ("start_weight_decay", "end_weight_decay"))
    if start == end:
        return repr(end)
    return product(end, path([Piece(style, None, Level(start, end), PEAK)]))


def _decoupled(args: Mapping[str, Any], run: Run, traps: list[str]) -> dict[str, Any]:
    if "decoupled_lr" not in args:
        return {}
    rate = read("decoupled_lr", args["decoupled_lr"])
    floor = read("decoupled_min_lr", args.get("decoupled_min_lr", 0))
    if not math.isclose(floor, rate * run.floor.ratio, rel_tol=1e-9):
        traps.append(
            f"decoupled_min_lr={floor:g}: in étude embeddings and output layer end at the same share of "
            f"their peak as the rest, at {rate * run.floor.ratio:g}."
        )
    return {"groups": [("embedding|output_layer", {"lr": rate})]}
