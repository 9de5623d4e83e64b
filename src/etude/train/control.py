"""The controllers of a recipe: `control: [plateau: {patience: 2}, spike]`, read, checked and made."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

import etude.control
from etude.control.controller import CONTROLLERS, Clip, Controller, Discard
from etude.control.driver import Driver
from etude.control.early_stop import early_stop
from etude.control.reading import READINGS
from etude.errors import EtudeError, RecipeError, near
from etude.train.settings import scalar

Entries = list[dict[str, dict[str, Any]]]


def read(value: Any) -> Entries:
    """The controllers with their options, each a mapping of one name; raises `RecipeError`.

    >>> read(["spike", {"early_stop": {"patience": 2}}])
    [{'spike': {}}, {'early_stop': {'patience': 2}}]
    """
    entries = _entries(value)
    names = [_name(entry) for entry in entries]
    for i, (name, entry) in enumerate(zip(names, entries, strict=True), 1):
        ((kind, options),) = entry.items()
        try:
            _made(kind, options)
        except RecipeError as error:
            raise RecipeError(f"control, entry {i}: {error}") from None
        if name in names[: i - 1]:
            nameable = "name" in inspect.signature(_registry()[kind]).parameters
            advice = f"give one of them another name, as in {{{kind}: {{name: second}}}}"
            raise RecipeError(f"control has {name} twice; {advice if nameable else 'write it once'}")
    return entries


def changed(value: Any, changes: Mapping[str, Any]) -> Entries:
    """The controllers of a recipe with the options of some changed, by name; a new name joins them.

    >>> changed(["spike", {"plateau": {"patience": 5, "factor": 0.3}}], {"plateau": {"patience": 2}})
    [{'spike': {}}, {'plateau': {'patience': 2, 'factor': 0.3}}]
    """
    entries = {_name(entry): entry for entry in _entries(value)}
    for name, options in changes.items():
        ((kind, before),) = entries.get(name, {name: {}}).items()
        ((_, own),) = _entry({kind: options}).items()
        entries[name] = {kind: before | own}
    return list(entries.values())


Control = Annotated[Entries, BeforeValidator(read)]


def make(
    entries: Entries, patience: int | None, metrics: Mapping[str, bool], metric: str
) -> tuple[Controller, ...]:
    """The controllers of a run, those of its `control` and `patience`, which is early stopping.

    `metrics` says of each metric of an evaluation whether greater is better; a controller that is not told
    what to read reads `metric`. Raises `RecipeError` for a metric that nothing gives, with the near ones.
    """
    made = [_made(kind, options, metrics, metric) for entry in entries for kind, options in entry.items()]
    if patience is not None:
        if any("early_stop" in (kind, _name(entry)) for entry in entries for kind in entry):
            raise RecipeError(f"patience: {patience} and control both say early_stop; write one of them")
        made.append(early_stop(metric, patience, greater_is_better=metrics[metric]))
    for one in made:
        _check_readings(one, metrics)
    return tuple(made)


def lines(controllers: Iterable[Controller]) -> list[str]:
    """A line for each controller, with all its settings and what it reads."""
    return [f"{one.name}: {_settings(one)}; reads {', '.join(one.reads)}" for one in controllers]


def since(then: Mapping[str, Any], driver: Driver) -> list[str]:
    """A line for each controller that a resumed run has and its checkpoint had not, or the other way round.

    `then` is the memory in the checkpoint. One that reads another metric than then has nothing to remember.
    """
    gone = [f"{name}: is gone" for name in then if name not in driver.memory]
    shown = zip(driver.controllers, lines(driver.controllers), strict=True)
    return gone + [
        f"{line}; {'begins anew' if one.name in then else 'is new'}"
        for one, line in shown
        if driver.memory[one.name] != then.get(one.name)
    ]


def _settings(one: Any) -> str:
    values = {key: value for key, value in vars(one).items() if key != "name" and value not in one.reads}
    return ", ".join(f"{key} {scalar(value)}" for key, value in values.items())


def _entries(value: Any) -> Entries:
    if value is None or isinstance(value, str | Mapping):
        value = [value] if isinstance(value, str) else [{name: one} for name, one in (value or {}).items()]
    if not isinstance(value, list | tuple):
        raise RecipeError(f"control must be a list of controllers, as in [spike], and not {value!r}")
    return [_entry(one) for one in value]


def _name(entry: Mapping[str, Mapping[str, Any]]) -> Any:
    ((kind, options),) = entry.items()
    return options.get("name", kind)


def _entry(one: Any) -> dict[str, dict[str, Any]]:
    if isinstance(one, str):
        one = {one: None}
    if isinstance(one, Controller):
        raise RecipeError(
            f"control takes controllers by name, with their options, as in "
            f'control=[{{"plateau": {{"patience": 2}}}}], and not one that is made: {one!r}'
        )
    if not isinstance(one, Mapping) or len(one) != 1:
        raise RecipeError(f"control must have entries such as {{spike: {{policy: skip}}}}, and not {one!r}")
    ((name, options),) = one.items()
    if name not in _registry():
        raise RecipeError(f"control knows no controller {name!r}{near(str(name), _registry())}")
    if options is not None and not isinstance(options, Mapping):
        raise RecipeError(f"control must give {name} its options as a mapping, and not {options!r}")
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
            raise RecipeError(f"{name} has no option {key!r}{near(key, known)}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in options:
            raise RecipeError(f"{name} needs {key}, as in {{{name}: {{{key}: 0.9}}}}")
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
    except EtudeError as error:
        raise RecipeError(str(error)) from None
    except TypeError as error:
        raise RecipeError(f"{name}: {error}") from None


def _check_readings(one: Controller, metrics: Mapping[str, bool]) -> None:
    every = (*READINGS, *metrics)
    for reading in one.reads:
        if reading not in every:
            bare = reading.partition("_")[2]  # validation_loss
            close = f"; did you mean {bare!r}?" if bare in metrics else near(reading, every)
            raise RecipeError(f"control: {one.name} reads {reading!r}, which nothing gives{close}")
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
