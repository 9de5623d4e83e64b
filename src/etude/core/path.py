"""Paths and schedules as values: pieces that a pen draws one after the other, and their products.

Nothing here knows a run. A `Path` becomes numbers in `curve`, once it is told how long the run is.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.core.length import Length, is_zero, length
from etude.core.namespace import number, plain
from etude.errors import ScheduleError

if TYPE_CHECKING:
    from etude.core.curve import Curve

# More pieces than any run needs; a text that asks for a thousand million of them is a slip.
MOST_PIECES = 10_000


class Operators:
    """What paths and schedules share: `over`, the notebook's picture, and the operators that mean nothing."""

    __array_ufunc__: ClassVar[None] = None  # numpy scalars leave `np.float64(2e-5) * path` to us

    def over(self, total: float, epoch: Any = None, batch: Any = None, tokens: Any = None) -> "Curve":
        """The curve over a run of `total` planned updates (`math.inf` for an open run).

        `epoch`, `batch` and `tokens` say how many planned updates make an epoch and how many examples and
        tokens a planned update holds; lengths such as `"2ep"` need them. Raises `ScheduleError` when the
        pieces are longer or shorter than the run.
        """
        from etude.core.curve import curve
        from etude.core.length import span

        return curve(as_schedule(self), span(total, epoch, batch, tokens))

    def _repr_html_(self) -> str:
        from etude.report.notebook import schedule_html

        return schedule_html(as_schedule(self))

    def _meaningless(self, other: Any) -> Any:
        factor = plain(other)
        if factor is not None:
            instead = f"a number is a factor: write {factor!r} * ({self})"
        elif isinstance(self, Path) and isinstance(other, Path):
            instead = (
                f"write {self} >> {other} for one after the other, ({self}) * ({other}) for their product"
            )
        else:
            instead = "write `a >> b` for one path after the other, `number * a` or `a * b` for a product"
        raise ScheduleError(
            f"{self} and {_text(other)} cannot be added, subtracted, divided or raised; {instead}"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __rtruediv__ = __pow__ = __rpow__ = _meaningless
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __matmul__ = __lshift__ = _meaningless

    def __truediv__(self, other: Any) -> Any:
        divisor = plain(other)
        if divisor is None:
            return self._meaningless(other)
        raise ScheduleError(f"{self} / {divisor!r}: write 1 / {divisor!r} * ({self})")

    def __neg__(self) -> Any:
        raise ScheduleError(f"a rate is never negative: write {self} without the minus")

    def __rrshift__(self, other: Any) -> Any:
        factor = plain(other)
        if factor is None:
            raise ScheduleError(f"{other!r} >> {self}: only a path can come before a path")
        raise ScheduleError(
            f"{factor!r} >> {self}: a number is a factor, not a piece: write {factor!r} * ({self})"
        )


def _text(value: Any) -> str:
    found = plain(value)
    return str(value) if isinstance(value, Operators) else repr(value if found is None else found)


@dataclass(frozen=True, slots=True)
class Word:
    """One piece: a word of the language with what was written in its brackets, defaults left out."""

    name: str
    over: Length
    values: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        brackets = [] if self.over is None else [_literal(self.over)]
        brackets += [f"{key}={_literal(value)}" for key, value in self.values]
        return f"{self.name}({', '.join(brackets)})"


@dataclass(frozen=True, slots=True)
class Repeat:
    """One piece: `times` copies of a path, each `stretch` times as long, `fade` times as high as the last."""

    path: "Path"
    times: int
    over: Length
    stretch: int | float
    fade: int | float

    def __str__(self) -> str:
        brackets = [str(self.path), str(self.times)]
        brackets += [] if self.over is None else [f"over={_literal(self.over)}"]
        brackets += [f"{key}={value!r}" for key in ("stretch", "fade") if (value := getattr(self, key)) != 1]
        return f"repeat({', '.join(brackets)})"


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    return f'"{value}"' if isinstance(value, str) else repr(value)


@dataclass(frozen=True, slots=True)
class Path(Operators):
    """A continuous path of levels: a pen starts at 1, the peak, and each piece moves it from where it is."""

    pieces: tuple[Word | Repeat, ...]

    def __str__(self) -> str:
        return " >> ".join(map(str, self.pieces))

    __repr__ = __str__

    def __rshift__(self, other: Any) -> "Path":
        if isinstance(other, Path):
            return Path(self.pieces + other.pieces)
        if isinstance(other, Schedule):
            raise ScheduleError(f"{self} >> {other}: {_regrouped(other.peak, self, other)}")
        raise ScheduleError(
            f"{self} >> {_text(other)}: only a path can follow a path, as in {self} >> hold()"
        )

    def __mul__(self, other: Any) -> "Schedule":
        return as_schedule(self) * other

    def __rmul__(self, other: Any) -> "Schedule":
        return _product(other, as_schedule(self))


def _regrouped(peak: int | float, path: Path, after: "Schedule") -> str:
    line = Schedule(peak, (path >> after.paths[0], *after.paths[1:]))
    if len(after.paths) > 1:
        return f"which factor goes on? Write the whole of each in brackets, as in {line}"
    return f"one number stands in front of the whole path: write {line}"


@dataclass(frozen=True, slots=True)
class Schedule(Operators):
    """A peak times one or more paths, each spanning the whole run; the first path is the shape."""

    peak: int | float
    paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        if self.peak < 0:
            raise ScheduleError(
                f"a rate is never negative: got the factor {self.peak!r}, write {-self.peak!r}"
            )

    def __str__(self) -> str:
        several = [str(path) if len(path.pieces) == 1 else f"({path})" for path in self.paths]
        return " * ".join([repr(self.peak), *several])

    __repr__ = __str__

    def __rshift__(self, other: Any) -> "Schedule":
        if isinstance(other, Schedule) and len(self.paths) == 1:
            raise ScheduleError(f"{self} >> {other}: {_regrouped(self.peak, self.paths[0], other)}")
        if len(self.paths) == 1 or not isinstance(other, Path):
            return Schedule(self.peak, (self.paths[0] >> other, *self.paths[1:]))
        line = Schedule(self.peak, (*self.paths[:-1], self.paths[-1] >> other))
        raise ScheduleError(
            f"{self} >> {other}: which factor goes on? Write the whole of each in brackets, as in {line}"
        )

    def __mul__(self, other: Any) -> "Schedule":
        return _product(self, other)

    def __rmul__(self, other: Any) -> "Schedule":
        return _product(other, self)


def _product(left: Any, right: Any) -> Schedule:
    peak: int | float = 1
    paths: tuple[Path, ...] = ()
    for factor in (left, right):
        if isinstance(factor, (Path, Schedule)):
            schedule = as_schedule(factor)
            peak, paths = peak * schedule.peak, paths + schedule.paths
        else:
            peak = peak * number(factor, "a factor of a schedule")
    return Schedule(number(peak, "the peak of a schedule"), paths)


def as_schedule(value: Any) -> Schedule:
    """A schedule from whatever stands for one: a number (held), a path (peak 1), a schedule, or their text.

    >>> as_schedule(0.01)
    0.01 * hold()
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, Path):
        return Schedule(1, (value,))
    if isinstance(value, str):
        from etude.core.text import parse

        return as_schedule(parse(value))
    return Schedule(number(value, "a schedule"), (HOLD,))


def words_of(path: Path) -> Iterator[Word]:
    """Every word of a path in the order it is written, those inside `repeat` once.

    >>> from etude.core.text import parse
    >>> [word.name for word in words_of(parse("warmup(0.1) >> repeat(cosine(start=1), 3)"))]
    ['warmup', 'cosine']
    """
    for piece in path.pieces:
        if isinstance(piece, Word):
            yield piece
        else:
            yield from words_of(piece.path)


HOLD = Path((Word("hold", None, ()),))


def repeat(path: Any, times: int, over: Any = None, *, stretch: Any = 1, fade: Any = 1) -> Path:
    """Copies of a path, one after the other: f = fade^i·path in copy i, which is stretch^i times as long.

    A fraction inside `path` is a fraction of its copy. If every length in `path` is absolute the copies have
    those lengths; otherwise they share `over`, or what is left of the span.

    Source: Loshchilov & Hutter, SGDR, arXiv 1608.03983, whose warm restarts are repeat(cosine(start=1), n,
    stretch=2).
    Use: for restarts, cycles and stairs that are to fill a run exactly; `fade` lowers each peak.
    Avoid: restarts as a default of a short fine-tuning: each puts the weights back under the peak.

    Raises `ScheduleError` for a schedule in place of a path and for `times`, `stretch` or `fade` below their
    range.

    >>> from etude import cosine
    >>> restarts = repeat(cosine(start=1), 3, stretch=2).over(700)
    >>> [restarts(t) for t in (0, 50, 100, 200, 300)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """
    if isinstance(path, str):
        from etude.core.text import parse

        path = parse(path)
    if isinstance(path, Schedule):
        several = [repeat(one, times, over, stretch=stretch, fade=fade) for one in path.paths]
        line = Schedule(path.peak, tuple(several))
        raise ScheduleError(f"repeat({path}, …) takes a path, and the number goes outside: write {line}")
    if not isinstance(path, Path):
        raise ScheduleError(f"repeat({path!r}, …) takes a path, as in repeat(cosine(start=1), 3)")
    copies = plain(times)
    if not isinstance(copies, int) or copies < 1:
        raise ScheduleError(f"repeat(…, {times!r}) takes a whole number of copies, 1 or more")
    reach = length(over, "repeat over")
    if is_zero(reach):
        raise ScheduleError(f"repeat(…, over={_literal(reach)}) draws nothing: leave it out")
    if copies * _drawn(path) > MOST_PIECES:
        raise ScheduleError(f"{path} is repeated into more than {MOST_PIECES} pieces")
    slower, higher = _ratio("stretch", stretch, copies), _ratio("fade", fade, copies)
    return Path((Repeat(path, copies, reach, slower, higher),))


def _ratio(name: str, value: Any, times: int) -> int | float:
    ratio = number(value, f"repeat(…, {name}=…)")
    if ratio <= 0:
        raise ScheduleError(f"repeat(…, {name}={ratio!r}) takes a number above 0")
    if (times - 1) * abs(math.log(ratio)) > 690:
        raise ScheduleError(f"repeat(…, {name}={ratio!r}) passes 1e±300 before the last of {times} copies")
    return ratio


def _drawn(path: Path) -> int:
    """How many pieces a path has once its copies are drawn."""
    return sum(1 if isinstance(piece, Word) else piece.times * _drawn(piece.path) for piece in path.pieces)
