"""The words of the language: one formula each, with where its pen starts and ends if nothing else is written.

A formula is `f(a, b, u, e, xp, …)`: from level `a` to level `b` as progress `u` goes from 0 to 1; `e` is the
time since the piece began in planned updates (finite also in an open run), `xp` the array functions of
`namespace`. Contract, tested for every word: f(u=0) is `a` and f(u=1) is `b` to the last bit, no `if` on `u`,
monotone to one ulp. To add a word, write one function here under `@word`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi
from typing import Any

from etude.core.length import is_zero, length
from etude.core.namespace import number
from etude.core.path import Path, Word
from etude.errors import ScheduleError, near


@dataclass(frozen=True, slots=True)
class Shape:
    """What the registry knows of a word.

    `start` and `to` are levels used when none is written, None for "where the pen is"; `takes_to` tells
    whether `to=` may be written and `needs_to` whether it must. `options` are the formula's own parameters
    with their defaults; those in `lengths` are lengths. An `endless` word may last for ever in an open run;
    a `positive` one needs levels above 0; a `gate_only` one speaks of whether a group trains.
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
    options: Mapping[str, Any]
    lengths: frozenset[str]

    @property
    def example(self) -> str:
        """The shortest thing that may be written with the word."""
        return f"{self.name}({'0.1' if self.needs_over else ''}{'to=0.01' if self.needs_to else ''})"


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
    lengths: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Path]]:
    """Register a formula as a word; what is defined is the word itself, which makes a `Path` of one piece."""

    def register(formula: Callable[..., Any]) -> Callable[..., Path]:
        keywords = [p for p in inspect.signature(formula).parameters.values() if p.kind is p.KEYWORD_ONLY]
        shape = Shape(
            formula.__name__, formula, start, to, takes_to, needs_to, needs_over, endless, positive,
            gate_only, {p.name: p.default for p in keywords}, frozenset(lengths),
        )  # fmt: skip
        SHAPES[shape.name] = shape
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
            if key in values and not (values[key] is None and default is None)
        }
        kept = tuple((key, value) for key, value in written.items() if value != defaults[key])
        return Path((Word(shape.name, reach, kept),))

    make.__name__ = make.__qualname__ = shape.name
    make.__doc__ = shape.formula.__doc__
    make.__module__ = __name__
    make.__wrapped__ = shape.formula  # type: ignore[attr-defined]  # doctest and inspect find the source
    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [over, *(parameter(key, parameter.KEYWORD_ONLY, default=value) for key, value in defaults.items())],
        return_annotation=Path,
    )
    return make


def _checked(shape: Shape, key: str, value: Any) -> Any:
    what = f"{shape.name}({key}=…)"
    if key in shape.lengths:
        checked = length(value, f"{shape.name} {key}")
        if is_zero(checked):
            raise ScheduleError(f"{what} takes a length above 0, got {value!r}")
        return checked
    level = number(value, what)
    if level < 0 or (level == 0 and (shape.positive or key in shape.options)):
        raise ScheduleError(
            f"{what} takes a number {'above 0' if level == 0 else 'of 0 or more'}, got {value!r}"
        )
    return level


def mix(a: Any, b: Any, w: Any) -> Any:
    """From `a` (w=0) to `b` (w=1), both to the last bit; `a + (b - a) * w` would miss `b`."""
    return a * (1 - w) + b * w


@word(to=None, takes_to=False, endless=True)
def hold(a, b, u, e, xp):
    """Stay at the level where the pen is: f = a.

    >>> (2e-5 * hold()).over(1000)(500)
    2e-05
    """
    return a + 0.0 * u


@word()
def linear(a, b, u, e, xp):
    """In a straight line to a level, 0 if nothing else is said: f = a + (b - a)·u.

    The decay of Devlin et al. (BERT, arXiv 1810.04805); run to zero it matches or beats cosine on ten tasks
    in Defazio et al. (arXiv 2310.07831).

    >>> s = 2e-5 * linear()
    >>> [s.over(1000)(t) for t in (0, 500, 1000)]
    [2e-05, 1e-05, 0.0]
    """
    return mix(a, b, u)


@word(start=0.0, to=1.0, needs_over=True)
def warmup(a, b, u, e, xp):
    """In a straight line from 0 up to the peak: f = u. Its length must be said.

    >>> s = 2e-5 * (warmup(0.1) >> hold())
    >>> [s.over(1000)(t) for t in (0, 50, 100)]
    [0.0, 1e-05, 2e-05]
    """
    return mix(a, b, u)


@word()
def cosine(a, b, u, e, xp):
    """Along half a cosine wave, flat at both ends: f = b + (a - b)·(1 + cos πu)/2.

    Loshchilov & Hutter (SGDR, arXiv 1608.03983).

    >>> s = 2e-5 * (warmup(0.1) >> cosine(to=0.01))
    >>> [f"{s.over(1000)(t):.3g}" for t in (100, 550, 1000)]
    ['2e-05', '1.01e-05', '2e-07']
    """
    return mix(b, a, 0.5 + 0.5 * xp.cos(u * pi))


@word()
def poly(a, b, u, e, xp, *, power=2.0):
    """Along a power of what remains: f = b + (a - b)·(1 - u)^power; 1 is linear, above 1 falls early.

    As `PolynomialLR` in torch and `get_polynomial_decay_schedule_with_warmup` in transformers.

    >>> (1e-3 * poly(power=2)).over(100)(50)
    0.00025
    """
    return mix(b, a, (1 - u) ** power)


@word(needs_to=True, to=None, positive=True)
def exp(a, b, u, e, xp):
    """By equal ratios in equal times: f = a·(b/a)^u. Both levels lie above 0, so the target must be said.

    A decay by its final ratio cannot die as one by a factor per update does; a rising one is the learning
    rate range test (Smith, arXiv 1506.01186).

    >>> sweep = exp(start=1e-7, to=10).over(99)
    >>> [f"{sweep(k):.2g}" for k in (0, 33, 66, 99)]
    ['1e-07', '4.6e-05', '0.022', '10']
    """
    # Drawn from both ends: a ** (1 - u) * b ** u wavers by 18 units in the last place.
    return mix(a * (b / a) ** u, b * (a / b) ** (1 - u), u)


@word()
def sqrt(a, b, u, e, xp):
    """Along 1 - √u: steep at first, the cooldown of WSD: f = a + (b - a)·√u.

    Hägele et al. (arXiv 2405.18392) found it the best short cooldown after a constant phase.

    >>> s = 3e-4 * (warmup(500) >> hold() >> sqrt(0.2))
    >>> [f"{s.over(10_000)(t):.2e}" for t in (500, 8_000, 8_500, 10_000)]
    ['3.00e-04', '3.00e-04', '1.50e-04', '0.00e+00']
    """
    return mix(a, b, xp.sqrt(u))


@word(to=None, takes_to=False, endless=True, lengths=("timescale",))
def inv_sqrt(a, b, u, e, xp, *, timescale=None):
    """As one over the square root of time, without an end: f = a·√(timescale / (timescale + e)).

    `timescale` is a length; if it is not said it is the time at which the piece begins, so that the rate goes
    as 1/√t from there on (Vaswani et al., arXiv 1706.03762; Raffel et al., T5, arXiv 1910.10683).

    >>> s = 1e-3 * (warmup(100) >> inv_sqrt())
    >>> [f"{s.over(10_000)(t):.1e}" for t in (100, 400, 10_000)]
    ['1.0e-03', '5.0e-04', '1.0e-04']
    """
    return a * xp.sqrt(timescale / (timescale + e))


@word(start=0.0, takes_to=False, endless=True, gate_only=True)
def frozen(a, b, u, e, xp):
    """Not training at all: level 0 and `requires_grad` false; only in a group's gate, never in a schedule.

    `frozen(0.3) >> warmup(0.05) >> hold()` thaws a group at 30% of the run (Howard & Ruder, ULMFiT, arXiv
    1801.06146); `cosine(0.5) >> frozen()` freezes it at the half (Brock et al., FreezeOut, arXiv 1706.04983).

    >>> frozen(0.1) >> hold(start=1)
    frozen(0.1) >> hold(start=1)
    """
    return 0.0 * u
