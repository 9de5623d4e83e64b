"""Python text as ruff lays it out: brackets on one line where they fit, else one item a line."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

WIDTH = 110


class Brackets(NamedTuple):
    """An expression in brackets: `name(…)`, `"key": […]`, `(…)`; items are texts or brackets themselves."""

    opening: str
    items: Sequence["str | Brackets"]
    closing: str


def literal(value: Any, before: str = "") -> "str | Brackets":
    """A Python literal, its name before it; infinity is `math.inf`."""
    if isinstance(value, (tuple, list)):
        opening, closing = "()" if isinstance(value, tuple) else "[]"
        return Brackets(before + opening, [literal(one) for one in value], closing)
    if isinstance(value, float):
        return before + ("math.inf" if value == float("inf") else repr(value))
    return before + (quoted(value) if isinstance(value, str) else repr(value))


def quoted(text: str) -> str:
    """A text in double quotes, whatever stands in it, as ruff would write it."""
    return repr(text) if '"' in text else '"' + repr("'" + text)[2:-1] + '"'


def laid(expression: "str | Brackets", depth: int = 0, tail: str = "") -> str:
    """The expression at an indentation of `depth` spaces, with what follows it on its last line."""
    line = flat(expression)
    if isinstance(expression, str) or depth + len(line) + len(tail) <= WIDTH:
        return " " * depth + line + tail
    return exploded(expression, depth, tail)


def exploded(expression: Brackets, depth: int = 0, tail: str = "") -> str:
    """The expression with one item a line."""
    inner = [laid(item, depth + 4, ",") for item in expression.items]
    return "\n".join([" " * depth + expression.opening, *inner, " " * depth + expression.closing + tail])


def flat(expression: "str | Brackets") -> str:
    """The expression on one line."""
    if isinstance(expression, str):
        return expression
    inside = ", ".join(map(flat, expression.items))
    alone = "," if expression.opening.endswith("(") and _is_tuple(expression) else ""
    return expression.opening + inside + alone + expression.closing


def _is_tuple(expression: Brackets) -> bool:
    return len(expression.items) == 1 and not expression.opening[:-1].isidentifier()


def comment(lines: Iterable[str]) -> str:
    """Lines of code as a comment."""
    return "\n".join(f"# {line}" for line in lines)
