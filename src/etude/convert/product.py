"""A peak times the paths that a converter drew, as the text of a schedule."""

from etude.core.path import Path
from etude.core.text import parse


def product(peak: float | str, *paths: str) -> str:
    """The text of `peak * path * …`; each path spans the whole run, the first is the shape.

    `peak` is a number, or the product of numbers that it is, as text. Raises `ScheduleError` for what is no
    schedule.

    >>> product(2e-5, "warmup(0.1) >> linear()"), product("0.1 * 0.01", "hold()", "linear()")
    ('2e-05 * (warmup(0.1) >> linear())', '0.1 * 0.01 * hold() * linear()')
    """
    several = [path if _is_one_piece(path) else f"({path})" for path in paths]
    text = " * ".join([peak if isinstance(peak, str) else repr(peak), *several])
    parse(text)
    return text


def _is_one_piece(path: str) -> bool:
    drawn = parse(path)
    return isinstance(drawn, Path) and len(drawn.pieces) == 1
