"""The controllers of a recipe: `control: [plateau: {patience: 2}, spike]`, read, checked and made."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

import etude.control
from etude.control.controller import CONTROLLERS, Clip, Controller, Discard
from etude.control.early_stop import early_stop
from etude.control.reading import READINGS
from etude.errors import EtudeError, RecipeError, near
from etude.train.settings import scalar

Entries = list[dict[str, dict[str, Any]]]


def read(value: Any) -> Entries:
    """The controllers with their options, each a mapping of one name.

    >>> read(["spike", {"early_stop": {"patience": 2}}])
    [{'spike': {}}, {'early_stop': {'patience': 2}}]
    """
    if isinstance(value, str | Mapping):
        value = [value] if isinstance(value, str) else [{name: one} for name, one in value.items()]
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of controllers")
    entries = [_entry(one) for one in value]
    names = [options.get("name", name) for entry in entries for name, options in entry.items()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"has {' and '.join(twice)} twice; give one of them another name")
    for entry in entries:
        for name, options in entry.items():
            _made(name, options)
    return entries


Control = Annotated[Entries, BeforeValidator(read)]


def make(
    entries: Entries, patience: int | None, metrics: Mapping[str, bool], metric: str
) -> tuple[Controller, ...]:
    """The controllers of a run, those of its `control` and `patience`, which is early stopping.

    `metrics` says of each metric of an evaluation whether greater is better; a controller that is not told
    what to read reads `metric`. Raises `RecipeError` for a metric that nothing gives, with the near ones.
    """
    made = [_made(name, options, metrics, metric) for entry in entries for name, options in entry.items()]
    if patience is not None:
        if any("early_stop" in entry for entry in entries):
            raise RecipeError(f"patience: {patience} and control both say early_stop; write one of them")
        made.append(early_stop(metric, patience, greater_is_better=metrics[metric]))
    for one in made:
        _check_readings(one, metrics)
    return tuple(made)


def lines(controllers: Iterable[Controller]) -> list[str]:
    """A line for each controller, with all its settings and what it reads."""
    return [f"{one.name}: {_settings(one)}; reads {', '.join(one.reads)}" for one in controllers]


def _settings(one: Any) -> str:
    values = {key: value for key, value in vars(one).items() if key != "name" and value not in one.reads}
    return ", ".join(f"{key} {scalar(value)}" for key, value in values.items())


def _entry(one: Any) -> dict[str, dict[str, Any]]:
    if isinstance(one, str):
        one = {one: None}
    if not isinstance(one, Mapping) or len(one) != 1:
        raise ValueError(f"must have entries such as {{spike: {{policy: skip}}}}, and not {one!r}")
    ((name, options),) = one.items()
    if name not in _registry():
        raise ValueError(f"knows no controller {name!r}{near(str(name), _registry())}")
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"must give {name} its options as a mapping, and not {options!r}")
    return {name: {str(key): value for key, value in (options or {}).items()}}


def _registry() -> Mapping[str, Any]:
    for module in pkgutil.iter_modules(etude.control.__path__):
        importlib.import_module(f"etude.control.{module.name}")
    return CONTROLLERS


def _made(
    name: str, given: Mapping[str, Any], metrics: Mapping[str, bool] | None = None, metric: str = "loss"
) -> Controller:
    """The controller; without `metrics` only to see that its options are right."""
    maker, options = _registry()[name], dict(given)
    known = inspect.signature(maker).parameters
    for key in options:
        if key not in known:
            raise ValueError(f"gives {name} an unknown option {key!r}{near(key, known)}")
    if metrics is not None and "metric" in known:
        # The names of a Trainer's evaluations are taken as well; here an evaluation has no prefix.
        watched = str(options.get("metric") or known["metric"].default)
        if "metric" not in options and watched not in READINGS:
            watched = metric
        bare = watched.removeprefix("eval_")
        options["metric"] = bare if bare in metrics else watched
        if "greater_is_better" in known:
            options.setdefault("greater_is_better", metrics.get(options["metric"], False))
    try:
        return maker(**options)
    except (EtudeError, TypeError) as error:
        raise ValueError(f"is refused by {name}: {error}") from None


def _check_readings(one: Controller, metrics: Mapping[str, bool]) -> None:
    every = (*READINGS, *metrics)
    for reading in one.reads:
        if reading not in every:
            raise RecipeError(
                f"control: {one.name} reads {reading!r}, which nothing gives{near(reading, every)}"
            )
    of_updates = {reading in READINGS for reading in one.reads}
    if len(of_updates) > 1:
        raise RecipeError(
            f"control: {one.name} reads {' and '.join(one.reads)}: no reading has both, since "
            f"{', '.join(READINGS)} are of updates and {', '.join(metrics)} of evaluations"
        )
    if False in of_updates and {Discard, Clip} & set(getattr(one, "asks", ())):
        raise RecipeError(
            f"control: {one.name} drops or clips updates, and {', '.join(one.reads)} is read when they are "
            f"made; let it read {' or '.join(READINGS)}"
        )
