"""What Python source leaves open: arguments that are not literal, and the error that names them."""

from collections.abc import Mapping
from typing import Any

from etude.convert.source import Call, Unknown
from etude.errors import RecipeError


def unknown(value: Any) -> str:
    """What in a value is not literal, with its line; empty if all of it is.

    >>> unknown([1, Unknown("args.lr", 3)])
    'args.lr (line 3)'
    """
    if isinstance(value, Unknown):
        return f"{value.text} (line {value.line})"
    if isinstance(value, Call):
        return f"{value.name}(…) (line {value.line})"
    if isinstance(value, list | dict):
        return next(filter(None, map(unknown, value.values() if isinstance(value, dict) else value)), "")
    return ""


def literal(call: Call, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call; raises `RecipeError` that lists all that are not literal."""
    if open_ones := {key: found for key, value in options.items() if (found := unknown(value))}:
        listed = ", ".join(f"{key} = {found}" for key, found in open_ones.items())
        raise RecipeError(
            f"{call.name} (line {call.line}) is read and not run, and what it is given is not literal: "
            f"{listed}; write the number in its place, or say the run's length (--total) or "
            f"the peak (--lr) if it is that"
        )
    return dict(options)
