"""What may stand at the keys of a recipe that say which layer gets what, as types that pydantic checks.

They take what `etude.plan` takes, but for functions, which no recipe can hold, and give lists and mappings of
plain numbers and texts.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from etude.convert.values import number, whole
from etude.errors import EtudeError


def _ratio(value: Any) -> float:
    found = number(value)
    if found <= 0:
        raise ValueError("must be greater than 0")
    return found


def layer_decay(value: Any) -> Any:
    """One factor, a list of a ratio for each rung, or a mapping with one of these for each tower."""
    if isinstance(value, Mapping):
        return {str(tower): layer_decay(one) for tower, one in value.items()}
    if isinstance(value, list | tuple):
        return [_ratio(one) for one in value]
    if (found := _ratio(value)) > 1:
        raise ValueError("must be less than or equal to 1")
    return found


def convention(value: Any) -> str:
    """The name of a convention, with its numbers."""
    from etude.model.rates.convention import read

    return _as_said(lambda: (read(value), value.strip())[1])


def no_decay(value: Any) -> list[str]:
    """Kinds of parameters, in a list or with commas between."""
    from etude.model.leaf import listed

    written = _texts(value)
    _as_said(lambda: listed(written))
    return written


def freeze(value: Any) -> Any:
    """A rung, a depth, a regular expression, a mapping from towers to rungs, or a list of these."""
    if isinstance(value, list | tuple):
        return [freeze(one) for one in value]
    if isinstance(value, Mapping):
        return {str(tower): freeze(one) for tower, one in value.items()}
    if isinstance(value, str) and not value.strip().isdecimal():
        return value
    return whole(value)


def stages(value: Any) -> str:
    """The text of stages."""
    from etude.model.stages.gates import stages as read

    return _as_said(lambda: str(read(value)))


def new(value: Any) -> list[str]:
    """Names or regular expressions."""
    return [value] if isinstance(value, str) else _texts(value)


def groups(value: Any) -> list[dict[str, Any]]:
    """Settings by hand, each a mapping with its regular expression under `match`."""
    from etude.model.override import overrides

    if not isinstance(value, list | tuple):
        raise ValueError('must be a list, as in [{"match": "pooler", "lr_scale": 0.5}]')
    entries = []
    for one in value:
        pattern, settings = one if isinstance(one, list | tuple) and len(one) == 2 else (None, one)
        if not isinstance(settings, Mapping):
            raise ValueError('must have entries such as {"match": "pooler", "lr_scale": 0.5}')
        entry = dict(settings) if pattern is None else {"match": pattern, **settings}
        if not isinstance(entry.get("match"), str):
            raise ValueError("must have a regular expression as match in every entry")
        entries.append({key: _plain(key, one) for key, one in entry.items()})
    _as_said(lambda: overrides(entries, 1.0, 1.0))
    return entries


def _plain(key: str, value: Any) -> Any:
    if key == "depth" or isinstance(value, bool):
        return value
    return number(value) if key in ("lr", "lr_scale", "weight_decay") else str(value)


def _texts(value: Any) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple | set | frozenset) or not all(
        isinstance(one, str) for one in parts
    ):
        raise ValueError("must be a list of texts")
    return [part.strip() for part in parts]


def _as_said(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (EtudeError, AttributeError, TypeError) as error:
        raise ValueError(f"is not understood ({error})") from None


LayerDecay = Annotated[Any, BeforeValidator(layer_decay)]
Convention = Annotated[str, BeforeValidator(convention)]
NoDecay = Annotated[list[str], BeforeValidator(no_decay)]
Freeze = Annotated[Any, BeforeValidator(freeze)]
Stages = Annotated[str, BeforeValidator(stages)]
New = Annotated[list[str], BeforeValidator(new)]
Groups = Annotated[list[dict[str, Any]], BeforeValidator(groups)]
