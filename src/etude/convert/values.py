"""Numbers as configuration files write them: as numbers, or as texts that say one."""

import math
from collections.abc import Callable
from typing import Any

from etude.errors import RecipeError


def number(value: Any) -> float:
    """A finite float from a number or from a text that says one; `ValueError` for all else, also for a bool.

    >>> number("2e-5"), number(1)
    (2e-05, 1.0)
    """
    if (
        isinstance(value, bool)
        or value is None
        or not (isinstance(value, str) or hasattr(value, "__float__"))
    ):
        raise ValueError("must be a number")
    try:
        plain = float(value)
    except (TypeError, ValueError):
        raise ValueError("must be a number") from None
    if not math.isfinite(plain):
        raise ValueError("must be a finite number")
    return plain


def whole(value: Any) -> int:
    """An int from a whole number, also one written as 1e4; `ValueError` for all else.

    >>> whole("1e4")
    10000
    """
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return value.__index__()
    plain = number(value)
    if plain != int(plain):
        raise ValueError("must be a whole number")
    return int(plain)


def read(key: str, value: Any, kind: Callable[[Any], Any] = number, low: float | None = 0) -> Any:
    """What stands at a key, as a number of at least `low`; raises `RecipeError` with the key's name.

    >>> read("warmup_steps", "500", whole)
    500
    """
    try:
        plain = kind(value)
    except ValueError as error:
        raise RecipeError(f"{key}: got {value!r}; {error}") from None
    if low is not None and plain < low:
        raise RecipeError(f"{key}: got {value!r}; must be at least {low}")
    return plain
