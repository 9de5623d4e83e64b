"""Parts of a configuration that are mappings, lists and names, checked before they are read."""

from collections.abc import Collection, Mapping
from typing import Any

from etude.errors import RecipeError, near


def mapping(key: str, value: Any) -> dict[str, Any]:
    """A mapping, empty for None, without the values that are None.

    >>> mapping("optimizer_config", {"adamw": {}, "sgd": None})
    {'adamw': {}}
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RecipeError(f"{key}: got {value!r}; write key: value lines under it")
    return {str(name): part for name, part in value.items() if part is not None}


def listed(key: str, value: Any) -> list[Any]:
    """A list, empty for None."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise RecipeError(f"{key}: got {value!r}; write a list")
    return list(value)


def one_of(key: str, value: Any, known: Collection[str]) -> str:
    """A name out of those that are known.

    >>> one_of("sched", "cosin", ["cosine", "step"])
    Traceback (most recent call last):
    etude.errors.RecipeError: sched: got 'cosin'; did you mean 'cosine'?
    """
    if not isinstance(value, str) or value not in known:
        raise RecipeError(f"{key}: got {value!r}{near(str(value), known)}")
    return value
