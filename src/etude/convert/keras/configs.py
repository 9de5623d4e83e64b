"""Keras' configurations of schedules and optimizers in the language of schedules."""

from collections.abc import Callable, Mapping
from typing import Any

from etude.convert.converted import Converted, foreign
from etude.convert.keras.asked import Asked
from etude.convert.keras.restarts import cosine_decay_restarts
from etude.convert.keras.schedules import (
    cosine_decay,
    exponential_decay,
    inverse_time_decay,
    piecewise_constant,
    polynomial_decay,
)
from etude.convert.pieces import Piece, fit, path
from etude.convert.product import product
from etude.convert.values import read, whole
from etude.errors import RecipeError, near

# The class, how it is drawn, the default of its `name`.
SCHEDULES: dict[str, tuple[Callable[[Asked], tuple[float, list[Piece]]], str]] = {
    "CosineDecay": (cosine_decay, "CosineDecay"),
    "CosineDecayRestarts": (cosine_decay_restarts, "SGDRDecay"),
    "ExponentialDecay": (exponential_decay, "ExponentialDecay"),
    "InverseTimeDecay": (inverse_time_decay, "InverseTimeDecay"),
    "PolynomialDecay": (polynomial_decay, "PolynomialDecay"),
    "PiecewiseConstantDecay": (piecewise_constant, "PiecewiseConstant"),
}
# A key that only one of them has, for a configuration whose `name` was changed.
TELLING = {
    "first_decay_steps": "CosineDecayRestarts",
    "warmup_target": "CosineDecay",
    "end_learning_rate": "PolynomialDecay",
    "boundaries": "PiecewiseConstantDecay",
}


def _knows(said: Any) -> bool:
    optimizer, schedule = _parts(said)
    return schedule is not None or "use_ema" in optimizer


def _parts(said: Any) -> tuple[Mapping[str, Any], tuple[str, Mapping[str, Any]] | None]:
    """The optimizer's configuration, empty if there is none, and the schedule's class and configuration."""
    if isinstance(said, Mapping):
        for key in ("compile_config", "optimizer"):
            if isinstance(said.get(key), Mapping) and _parts(said[key]) != ({}, None):
                return _parts(said[key])
        if found := _schedule(said):
            return {}, found
        config = said.get("config", said)
        if isinstance(config, Mapping) and "learning_rate" in config and "type" not in said:
            return config, _schedule(config["learning_rate"])
    return {}, None


def _schedule(said: Any) -> tuple[str, Mapping[str, Any]] | None:
    if not isinstance(said, Mapping):
        return None
    if str(said.get("class_name")) in SCHEDULES and isinstance(said.get("config"), Mapping):
        return said["class_name"], said["config"]
    for name, (_, usual) in SCHEDULES.items():
        if said.get("name") == usual and {"initial_learning_rate", "boundaries"} & set(said):
            return name, said
    return next(((name, said) for key, name in TELLING.items() if key in said), None)


@foreign("keras", _knows)
def keras(said: Mapping[str, Any], total: float | None = None, lr: float | None = None) -> Converted:
    """Keras' schedule or optimizer as `serialize` or `get_config` gives it, alone or in a saved model.

    Decays without an end, and restarts, need `total`, the number of updates. Raises `RecipeError` for
    schedules that are not Keras' own and for what the language cannot say.

    >>> rise = {"initial_learning_rate": 0.0, "warmup_target": 1e-3, "warmup_steps": 100}
    >>> keras({"class_name": "CosineDecay", "config": {**rise, "decay_steps": 900}}).hypers["lr"]
    '0.001 * (warmup(100) >> cosine(900) >> hold())'
    """
    optimizer, found = _parts(said)
    batches = read(
        "gradient_accumulation_steps", optimizer.get("gradient_accumulation_steps") or 1, whole, low=1
    )
    if found is None:
        rate = optimizer.get("learning_rate") if lr is None else lr
        if isinstance(rate, Mapping):
            name = str(rate.get("class_name", rate.get("name")))
            raise RecipeError(f"{name!r} is no schedule of Keras' own{near(name, SCHEDULES)}")
        asked = Asked("learning_rate", {"learning_rate": rate}, total=total)
        peak, pieces = asked.number("learning_rate"), [Piece("hold")]
    else:
        name, config = found
        asked = Asked(name, config, batches, total, lr)
        peak, pieces = SCHEDULES[name][0](asked)
        if batches > 1:
            asked.traps.append(
                f"Keras reads a schedule by batches, {batches} to an update and the last of them when the "
                f"weights change: lengths are divided, and tick is {1 - 1 / batches:.4g}."
            )
    end = asked.total if asked.total is not None else asked.end
    hypers = {"lr": product(peak, path(pieces if end is None or total is None else fit(pieces, end)))}
    if optimizer.get("weight_decay") is not None:
        hypers["weight_decay"] = repr(read("weight_decay", optimizer["weight_decay"]))
    tick = 1 - 1 / batches if found else 0
    return Converted(hypers, tuple(asked.traps), tick=tick, total=end)
