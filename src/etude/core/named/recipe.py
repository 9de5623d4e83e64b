"""What makes a function a recipe: the registry, and messages for what was written in its brackets."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from etude.core.namespace import number
from etude.core.path import Path, Schedule
from etude.errors import ScheduleError, near

P = ParamSpec("P")
R = TypeVar("R", Path, Schedule)
V = TypeVar("V")

NAMED: dict[str, Callable[..., Path | Schedule]] = {}


def recipe(function: Callable[P, R]) -> Callable[P, R]:
    """Register a recipe: a function that returns a `Path`, or a `Schedule` where a peak belongs to it."""
    name, signature = function.__name__, inspect.signature(function)

    @wraps(function)
    def make(*args: P.args, **values: P.kwargs) -> R:
        for key in values:
            if key not in signature.parameters:
                raise ScheduleError(f"{name}(…) knows no {key!r}{near(key, signature.parameters)}")
        try:
            signature.bind(*args, **values)
        except TypeError as error:
            known = ", ".join(str(p).partition(":")[0] for p in signature.parameters.values())
            raise ScheduleError(f"{name}(…): {error}; it takes {known}") from None
        return function(*args, **values)

    NAMED[name] = make
    return make


def chosen(value: Any, known: Mapping[Any, V], what: str) -> V:
    """What `known` has for a value; raises `ScheduleError` with the near names for one that it has not."""
    if not isinstance(value, (str, int)) or value not in known:
        raise ScheduleError(f"{what} takes one of {', '.join(map(repr, known))}, got {value!r}")
    return known[value]


def above(least: float, value: Any, what: str) -> int | float:
    """`value` as a number above `least`; raises `ScheduleError` for any other."""
    found = number(value, what)
    if found <= least:
        raise ScheduleError(f"{what} takes a number above {least:g}, got {value!r}")
    return found


def whole(value: Any, what: str) -> int:
    """`value` as a whole number of 1 or more; raises `ScheduleError` for any other."""
    found = number(value, what)
    if not isinstance(found, int) or found < 1:
        raise ScheduleError(f"{what} takes a whole number of 1 or more, got {value!r}")
    return found
