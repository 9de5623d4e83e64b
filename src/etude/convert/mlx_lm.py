"""mlx-lm's LoRA configuration in the language of schedules.

Read from mlx-lm 0.32.2, `tuner/utils.py`, `build_schedule`, and `lora.py`; the schedules are those of mlx
0.32.4, `optimizers/schedulers.py`. Update k is read at k.
"""

from collections.abc import Callable, Mapping
from typing import Any

from etude.convert.converted import Converted, foreign
from etude.convert.parts import mapping, one_of
from etude.convert.pieces import PEAK, Level, Piece, fit, path
from etude.convert.product import product
from etude.convert.ratios import left_after
from etude.convert.values import read, whole
from etude.errors import RecipeError


def _knows(said: Any) -> bool:
    if not isinstance(said, Mapping):
        return False
    schedule = said.get("lr_schedule")
    if isinstance(schedule, Mapping):
        return {"name", "arguments"} <= set(schedule)
    return "iters" in said and bool({"learning_rate", "lora_parameters", "fine_tune_type"} & set(said))


@foreign("mlx-lm", _knows)
def mlx_lm(said: Mapping[str, Any], total: float | None = None, lr: float | None = None) -> Converted:
    """mlx-lm's configuration of a LoRA run, with its `lr_schedule`.

    The run has `iters` batches (1000 if it says nothing), `grad_accumulation_steps` to an update. `lr` takes
    the place of the first of the schedule's arguments, which is its peak. Raises `RecipeError` for a schedule
    that mlx has not.

    >>> schedule = {"name": "cosine_decay", "warmup": 100, "arguments": [1e-5, 899, 1e-7]}
    >>> mlx_lm({"lr_schedule": schedule, "iters": 1000}).hypers["lr"]
    '1e-05 * (warmup(100) >> hold(1) >> cosine(899, to=1e-07/1e-05))'
    """
    every = read("grad_accumulation_steps", said.get("grad_accumulation_steps") or 1, whole, low=1)
    traps = []
    if every > 1:
        traps.append(f"iters counts batches, {every} to an update; the schedule's own lengths count updates.")
    if total is None:
        total = read("iters", said.get("iters", 1000), whole, low=1) // every
    if schedule := mapping("lr_schedule", said.get("lr_schedule")):
        peak, pieces = _schedule(schedule, total, lr, traps)
        if "learning_rate" in said and read("learning_rate", said["learning_rate"]) != peak:
            traps.append(f"learning_rate is never used beside an lr_schedule, whose peak is {peak:g}.")
    else:
        peak, pieces = read("learning_rate", lr or said.get("learning_rate", 1e-5)), [Piece("hold")]
    hypers = {"lr": product(peak, path(fit(pieces, total)))}
    if said.get("optimizer") == "adamw":
        config = mapping("optimizer_config", said.get("optimizer_config"))
        decay = mapping("adamw", config.get("adamw")).get("weight_decay", 0.01)
        hypers["weight_decay"] = repr(read("weight_decay", decay))
    return Converted(hypers, tuple(traps), total=total)


def _schedule(
    said: Mapping[str, Any], total: float, lr: float | None, traps: list[str]
) -> tuple[float, list[Piece]]:
    name, arguments = one_of("lr_schedule name", said.get("name"), SCHEDULES), said.get("arguments")
    draw, known = SCHEDULES[name]
    least = len(known) - (name == "cosine_decay")
    if not isinstance(arguments, list) or not least <= len(arguments) <= len(known):
        raise RecipeError(f"lr_schedule: {name} takes arguments: [{', '.join(known)}], got {arguments!r}")
    numbers = [read(key, value) for key, value in zip(known, arguments, strict=False)]
    if lr is not None:
        numbers[0] = lr
    peak = max(numbers[0], numbers[1] if name == "linear_schedule" else 0)
    if not peak:
        raise RecipeError(f"lr_schedule: {name} has no rate above 0")
    warm = read("warmup", said.get("warmup") or 0, whole)
    if not warm:
        return peak, draw(numbers, peak, total)
    init, first = Level(read("warmup_init", said.get("warmup_init") or 0), peak), Level(numbers[0], peak)
    traps.append(
        f"mlx-lm joins the schedule at {warm + 1}, so that update {warm} and the next have the same rate."
    )
    rise = Piece("linear" if init.rate or first.ratio != 1 else "warmup", warm, init, first)
    left = total - warm - 1
    return peak, [rise, Piece("hold", 1, first, first), *(draw(numbers, peak, left) if left > 0 else [])]


def _cosine(numbers: list[float], peak: float, left: float) -> list[Piece]:
    floor = Level(numbers[2] if len(numbers) > 2 else 0.0, peak)
    return [Piece("cosine", numbers[1], Level(numbers[0], peak), floor), Piece("hold", None, floor, floor)]


def _linear(numbers: list[float], peak: float, left: float) -> list[Piece]:
    start, end = (Level(rate, peak) for rate in numbers[:2])
    return [Piece("linear", numbers[2], start, end), Piece("hold", None, end, end)]


def _exponential(numbers: list[float], peak: float, left: float) -> list[Piece]:
    return [Piece("exp", None, PEAK, Level(left_after("decay_rate", numbers[1], left)))]


def _stairs(numbers: list[float], peak: float, left: float) -> list[Piece]:
    every = read("step_size", numbers[2], whole, low=1)
    return [Piece(f"step(by={numbers[1]!r}, every={every})")]


# name -> how it is drawn, and its arguments in their order; the last of cosine_decay may be left out.
SCHEDULES: dict[str, tuple[Callable[[list[float], float, float], list[Piece]], tuple[str, ...]]] = {
    "cosine_decay": (_cosine, ("init", "decay_steps", "end")),
    "linear_schedule": (_linear, ("init", "end", "steps")),
    "exponential_decay": (_exponential, ("init", "decay_rate")),
    "step_decay": (_stairs, ("init", "decay_rate", "step_size")),
}
