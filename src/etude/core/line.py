"""From strokes to a line on the clock: a pen draws rows, each with the level it starts and ends at.

Strokes and rows are kept apart because an edit draws the strokes that are left again, from another time and
another level.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from etude.core.length import TOLERANCE, Span, snap
from etude.core.namespace import SCALARS
from etude.core.path import Path, Repeat, Word
from etude.core.shapes import SHAPES
from etude.core.stroke import Options, Stroke, late_strokes, open_strokes, slower, strokes_of
from etude.errors import ScheduleError


class Row(NamedTuple):
    """A stroke where it was drawn: from level `a` at time `begin` to level `b` at `end`."""

    begin: float
    end: float
    a: float
    b: float
    shape: str
    params: Options
    stroke: Stroke

    def formula(self, e: Any, xp: Any) -> Any:
        """The level at `e` planned updates after the beginning, a number or an array inside the row."""
        word = SHAPES[self.shape].formula
        return word(self.a, self.b, e / (self.end - self.begin), e, xp, **dict(self.params))


@dataclass(frozen=True, slots=True)
class Line:
    """One path on the clock of a run: its rows, and in an open run the pieces that wait for the end."""

    rows: tuple[Row, ...]
    waiting: tuple[Word | Repeat, ...] = ()
    # The rows as `level` reads them, found once: it is asked in every update of a run.
    _begins: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _drawn: tuple[Any, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_begins", tuple(row.begin for row in self.rows))
        object.__setattr__(self, "_drawn", tuple(map(_drawn, self.rows)))

    def __reduce__(self) -> tuple[type["Line"], tuple[Any, ...]]:
        return Line, (self.rows, self.waiting)

    @property
    def end(self) -> float:
        return self.rows[-1].end

    def row(self, t: float) -> Row:
        """The row in force at time `t`; at a boundary the later one, after the end the last."""
        return self.rows[self.index(t)]

    def index(self, t: float) -> int:
        """The number of the row in force at time `t`."""
        return max(bisect_right(self._begins, t) - 1, 0)

    def within(self, t: float) -> tuple[Callable[[float], float], float, float]:
        """The level as a function of times near `t`, and from when until when it may be asked."""
        index = self.index(t)
        begin, span, a, b, formula, options = self._drawn[index]
        end = self.rows[index].end
        if t < begin:
            return self.level, -math.inf, begin
        if t - begin >= span:
            return self.level, end, math.inf
        told = partial(formula, **options) if options else formula
        return (lambda t: told(a, b, (t - begin) / span, t - begin, SCALARS)), begin, end

    def level(self, t: float) -> float:
        """The level at one time; before the first row that of its beginning, after the last of its end."""
        begin, span, a, b, formula, options = self._drawn[max(bisect_right(self._begins, t) - 1, 0)]
        e = t - begin
        if e < 0:
            e = 0.0
        if e >= span:
            return b
        return (
            formula(a, b, e / span, e, SCALARS, **options) if options else formula(a, b, e / span, e, SCALARS)
        )

    def stretched(self, at: float, old: float, total: float) -> "Line":
        """What lies between `at` and `old` takes until `total`; a row under way keeps its progress."""
        ratio = (total - at) / (old - at)

        def moved(t: float) -> float:
            return total if t == old else snap(at + (t - at) * ratio)

        rows = []
        for row in self.rows:
            if row.end <= at and row is not self.rows[-1]:
                continue
            stroke = row.stroke._replace(
                length=row.stroke.length * ratio, options=slower(row.shape, row.stroke.options, ratio)
            )
            params = slower(row.shape, row.params, ratio)
            rows.append(
                row._replace(begin=moved(row.begin), end=moved(row.end), params=params, stroke=stroke)
            )
        return Line(tuple(rows), self.waiting)

    def advanced(self, at: float, run: Span) -> "Line":
        """Leave the row in force at `at` for the strokes after it, drawn from the level it has there."""
        index = self.index(at)
        level = self.level(at)
        left = [row.stroke for row in self.rows[index + 1 :]]
        if self.waiting and left:  # the endless piece is still to come, and what waits for its end waits on
            return Line(draw(left, at, level), self.waiting)
        left = left or late_strokes(self.waiting, at, run)
        if not any(stroke.length > 0 for stroke in left):
            raise ScheduleError(
                f"at {at:g} the schedule is in its last piece: there is no next piece to advance to"
            )
        return Line(draw(left, at, level))


def _drawn(row: Row) -> tuple[Any, ...]:
    return row.begin, row.end - row.begin, row.a, row.b, SHAPES[row.shape].formula, dict(row.params)


def line(path: Path, run: Span, begin: float = 0.0, pen: float = 1.0) -> Line:
    """One path drawn over a run of `run.total` updates that starts at time `begin` and level `pen`."""
    if math.isinf(run.total):
        strokes, waiting = open_strokes(path, run)
        return Line(draw(strokes, begin, pen), waiting)
    return Line(draw(list(strokes_of(path, run, run.total)), begin, pen, begin + run.total))


def draw(strokes: Sequence[Stroke], begin: float, pen: float, end: float | None = None) -> tuple[Row, ...]:
    """Rows for strokes drawn from time `begin` and level `pen`; the last ends at `end` exactly, if given.

    Raises `ScheduleError` where a word meets a level it cannot start from or go to.
    """
    rows: list[Row] = []
    lengths: list[float] = []
    left = begin
    for index, stroke in enumerate(strokes):
        lengths.append(stroke.length)
        right = snap(begin + math.fsum(lengths))
        if end is not None and (index == len(strokes) - 1 or right > end - TOLERANCE):
            right = end
        params = _settled(stroke, left, right - left)
        a = pen if stroke.start is None else stroke.start
        b = _end_level(stroke, params, a, right - left)
        if SHAPES[stroke.shape].positive and min(a, b) <= 0:
            raise ScheduleError(
                f"{stroke.shape}(…) goes by ratios and needs levels above 0, got {a:g} to {b:g}: "
                f"write {stroke.shape}(start=0.01, to=…) or use linear"
            )
        rows.append(Row(left, right, a, b, stroke.shape, params, stroke))
        left, pen = right, b
    return tuple(rows)


def _settled(stroke: Stroke, begin: float, length: float) -> Options:
    """What the formula is told beyond its defaults, completed where the word completes it from its place."""
    word, options = SHAPES[stroke.shape], dict(stroke.options)
    if word.settle is not None and length > 0:
        try:
            options = word.settle(options, begin, length)
        except ScheduleError as error:
            raise ScheduleError(f"{stroke.shape}(): {error}") from None
    return tuple((name, value) for name, value in options.items() if value != word.options.get(name, ...))


def _end_level(stroke: Stroke, params: Options, a: float, length: float) -> float:
    if stroke.to is not None:
        return stroke.to
    if length <= 0:
        return a
    e, u = (length, 1.0) if math.isfinite(length) else (0.0, 0.0)
    return SHAPES[stroke.shape].formula(a, a, u, e, SCALARS, **dict(params))
