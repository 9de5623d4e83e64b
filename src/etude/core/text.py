"""Text to schedule: `parse(str(s)) == s`. A whitelist over Python's own syntax tree; nothing is evaluated."""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from etude.core.path import Path, Schedule, as_schedule, repeat
from etude.errors import ScheduleError, near

# Far beyond any schedule a person writes, far below what exhausts Python's own parser.
LONGEST = 20_000


def parse(text: str) -> Path | Schedule:
    """The path or schedule that a text says; a bare number is held.

    Knows the words of `shapes`, `repeat`, the recipes of `named` (a text keeps the words that they stand
    for), `>>`, `*`, and numbers with `*`, `/` and a leading minus. Raises `ScheduleError` for everything
    else, with the place and what to write.

    >>> parse("2e-5 * (warmup(0.1) >> linear())").over(1000)(550)
    1e-05
    >>> parse("cosin()")
    Traceback (most recent call last):
    etude.errors.ScheduleError: cosin() in 'cosin()' is no word of the language; did you mean 'cosine'?
    """
    if not isinstance(text, str):
        raise ScheduleError(f"parse takes a text, got {type(text).__name__}")
    if len(text) > LONGEST:
        raise ScheduleError(f"this schedule has {len(text)} characters; at most {LONGEST} are read")
    try:
        value = _factor(ast.parse(text.strip(), mode="eval").body, text)
    except SyntaxError as error:
        raise ScheduleError(
            f"{_shown(text)} is no schedule: {error.msg}; write for example 2e-5 * (warmup(0.1) >> cosine())"
        ) from None
    except ScheduleError:
        raise
    except (RecursionError, MemoryError):
        raise ScheduleError(f"{_shown(text)} is nested too deeply to be a schedule") from None
    except (OverflowError, ValueError) as error:
        raise ScheduleError(f"{_shown(text)} is no schedule: {error}") from None
    return value if isinstance(value, Path) else as_schedule(value)


def _shown(text: str | None) -> str:
    """A text as an error quotes it: the beginning of a long one."""
    text = text or ""
    return repr(text if len(text) <= 200 else text[:200] + "…")


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value=int() | float() | str() as value) if not isinstance(value, bool):
            return value
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(_value(element, text) for element in elements)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_factor(operand, text)
        case ast.BinOp(left=left, op=ast.RShift(), right=right):
            return _after(_value(left, text), _value(right, text), text)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _factor(left, text) * _factor(right, text)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _quotient(_factor(left, text), _factor(right, text), text)
        case ast.BinOp(left=left, right=right) if not isinstance(_factor(left, text), (int, float)):
            return _value(left, text) + _factor(right, text)  # raises: what may be done with a schedule
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return _call(name, [_value(arg, text) for arg in args], _keywords(keywords, text), text)
        case ast.Name(id=name):
            raise ScheduleError(
                f"{name} in {_shown(text)}: a word has brackets: write {_example(name, text)}"
            )
    raise ScheduleError(
        f"{_shown(ast.get_source_segment(text.strip(), node))} in {_shown(text)} is not of the language: "
        f"it knows words with brackets, >>, *, and numbers with * / and a leading minus"
    )


def _after(left: Any, right: Any, text: str) -> Any:
    if isinstance(left, (int, float, str)) and not isinstance(right, (Path, Schedule)):
        raise ScheduleError(
            f"{left!r} >> {right!r} in {_shown(text)}: >> joins paths; write a number as number * path"
        )
    return left >> right


def _factor(node: ast.expr, text: str) -> Any:
    value = _value(node, text)
    if isinstance(value, tuple):
        raise ScheduleError(
            f"{value} in {_shown(text)} stands where a number or a word belongs: several lengths are written "
            f"in the brackets of a word, as in multistep(at=(0.5, 0.75))"
        )
    if isinstance(value, str):
        raise ScheduleError(
            f"the text {_shown(value)} in {_shown(text)} stands where a number or a word belongs: lengths "
            f'such as "6%" and "2ep" are written in the brackets of a word'
        )
    return value


def _quotient(left: Any, right: Any, text: str) -> Any:
    if right == 0:
        raise ScheduleError(f"{left} / {right} in {_shown(text)} divides by zero")
    return left / right


def _keywords(keywords: list[ast.keyword], text: str) -> dict[str, Any]:
    if any(keyword.arg is None for keyword in keywords):
        raise ScheduleError(f"** in {_shown(text)} is not of the language: write each parameter by its name")
    return {str(keyword.arg): _value(keyword.value, text) for keyword in keywords}


def _example(name: str, text: str) -> str:
    """The shortest use of a word; raises `ScheduleError`, with the near ones, if there is no such word."""
    from etude.core.shapes import SHAPES

    if name == "repeat":
        return "repeat(cosine(start=1), 3)"
    if name in SHAPES:
        return SHAPES[name].example
    if name in _recipes():
        return f"{name}()"
    words = near(name, [*SHAPES, "repeat"])
    recipes = near(name, _recipes())
    if "did you mean" not in words:
        words = recipes if "did you mean" in recipes else f"{words}, and the recipes of `etude gallery`"
    raise ScheduleError(f"{name}() in {_shown(text)} is no word of the language{words}")


def _recipes() -> Mapping[str, Callable[..., Path | Schedule]]:
    from etude.core.named import NAMED  # few texts need them

    return NAMED


def _call(name: str, args: list[Any], keywords: dict[str, Any], text: str) -> Path | Schedule:
    from etude.core import shapes

    _example(name, text)
    make = repeat if name == "repeat" else getattr(shapes, name, None) or _recipes()[name]
    try:
        return make(*args, **keywords)
    except TypeError as error:
        raise ScheduleError(f"{name}(…) in {_shown(text)}: {error}") from None
