"""What makes a formula a word of the language: the registry, and how a word's brackets are read."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.core.length import Length, is_zero, length
from etude.core.namespace import number
from etude.core.path import Path, Word
from etude.errors import ScheduleError, near

Settle = Callable[[dict[str, Any], float, float], dict[str, Any]]
"""(options, begin, length in updates) -> the options as the formula takes them, once the piece is drawn."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the registry knows of a word.

    `start` and `to` are levels used when none is written, None for "where the pen is"; `takes_to` tells
    whether `to=` may be written and `needs_to` whether it must. `options` are the formula's own parameters
    with their defaults; those in `lengths` are lengths (`milestones` several of them), those in `levels`
    levels. `settle` completes them once the piece has its place. An `endless` word may last for ever in an
    open run; a `positive` one needs levels above 0; a `gate_only` one speaks of whether a group trains; one
    that `turns` is not monotone. `example` is the shortest thing that may be written with the word.
    """

    name: str
    formula: Callable[..., Any]
    start: float | None
    to: float | None
    takes_to: bool
    needs_to: bool
    needs_over: bool
    endless: bool
    positive: bool
    gate_only: bool
    turns: bool
    options: Mapping[str, Any]
    lengths: frozenset[str]
    milestones: frozenset[str]
    levels: frozenset[str]
    signed: frozenset[str]
    check: Callable[[Mapping[str, Any]], str | None] | None
    settle: Settle | None
    example: str


SHAPES: dict[str, Shape] = {}


def word(
    *,
    start: float | None = None,
    to: float | None = 0.0,
    takes_to: bool = True,
    needs_to: bool = False,
    needs_over: bool = False,
    endless: bool = False,
    positive: bool = False,
    gate_only: bool = False,
    turns: bool = False,
    lengths: tuple[str, ...] = (),
    milestones: tuple[str, ...] = (),
    levels: tuple[str, ...] = (),
    signed: tuple[str, ...] = (),
    check: Callable[[Mapping[str, Any]], str | None] | None = None,
    settle: Settle | None = None,
    example: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Path]]:
    """Register a formula as a word; what is defined is the word itself, which makes a `Path` of one piece.

    `check` gets the options that were written and says what is wrong with them, or None. A parameter of the
    formula that begins with an underscore is for `settle` alone.
    """

    def register(formula: Callable[..., Any]) -> Callable[..., Path]:
        keywords = [p for p in inspect.signature(formula).parameters.values() if p.kind is p.KEYWORD_ONLY]
        options = {p.name: p.default for p in keywords if not p.name.startswith("_")}
        name = formula.__name__
        brackets = ("0.1" if needs_over else "") + ("to=0.01" if needs_to else "")
        shape = Shape(
            name, formula, start, to, takes_to, needs_to, needs_over, endless, positive, gate_only, turns,
            options, frozenset(lengths), frozenset(milestones), frozenset(levels), frozenset(signed),
            check, settle, example or f"{name}({brackets})",
        )  # fmt: skip
        SHAPES[name] = shape
        return _constructor(shape)

    return register


def _constructor(shape: Shape) -> Callable[..., Path]:
    allowed = {"to": shape.takes_to, "start": not shape.gate_only}
    levels = {key: getattr(shape, key) for key in allowed if allowed[key]}
    defaults = levels | dict(shape.options)
    parameter = inspect.Parameter
    over = parameter(
        "over", parameter.POSITIONAL_OR_KEYWORD, default=parameter.empty if shape.needs_over else None
    )

    def make(*args: Any, **values: Any) -> Path:
        if len(args) > 1 or (args and "over" in values):
            raise ScheduleError(f"{shape.name}(…) takes one length, got {', '.join(map(repr, args))}")
        reach = length(args[0] if args else values.pop("over", None), f"{shape.name} over")
        if reach is None and shape.needs_over:
            raise ScheduleError(
                f"{shape.name}() needs a length: write {shape.name}(0.1) or {shape.name}(500)"
            )
        for key in values:
            if key not in defaults:
                raise ScheduleError(f"{shape.name}(…) knows no {key!r}{near(key, ['over', *defaults])}")
        if shape.needs_to and values.get("to") is None:
            raise ScheduleError(f"{shape.name}(…) needs a target: write {shape.example}")
        written = {
            key: _checked(shape, key, values[key])
            for key, default in defaults.items()
            if key in values and not (values[key] is None and default in (None, inspect.Parameter.empty))
        }
        for key, default in shape.options.items():
            if default is inspect.Parameter.empty and written.get(key) in (None, ()):
                raise ScheduleError(f"{shape.name}(…) needs {key}=: write for example {shape.example}")
        if shape.check and (wrong := shape.check({**shape.options, **written})):
            raise ScheduleError(f"{shape.name}(…) {wrong}: write for example {shape.example}")
        kept = tuple((key, value) for key, value in written.items() if value != defaults[key])
        return Path((Word(shape.name, reach, kept),))

    make.__name__ = make.__qualname__ = shape.name
    make.__doc__ = shape.formula.__doc__
    make.__module__ = shape.formula.__module__
    make.__wrapped__ = shape.formula  # type: ignore[attr-defined]  # doctest and inspect find the source
    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [over, *(parameter(key, parameter.KEYWORD_ONLY, default=value) for key, value in defaults.items())],
        return_annotation=Path,
    )
    return make


def _checked(shape: Shape, key: str, value: Any) -> Any:
    what = f"{shape.name}({key}=…)"
    if key in shape.milestones:
        several = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(_positive_length(what, one) for one in several)
    if key in shape.lengths:
        return _positive_length(what, value)
    level = number(value, what)
    if key in shape.signed:
        return level
    if level < 0 or (level == 0 and (shape.positive or key in shape.options.keys() - shape.levels)):
        raise ScheduleError(
            f"{what} takes a number {'above 0' if level == 0 else 'of 0 or more'}, got {value!r}"
        )
    return level


def _positive_length(what: str, value: Any) -> Length:
    checked = length(value, what)
    if checked is None or is_zero(checked):
        raise ScheduleError(f"{what} takes a length above 0, got {value!r}")
    return checked
