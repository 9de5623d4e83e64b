"""From strokes to a line on the clock: a pen draws rows, each with the level it starts and ends at.

Strokes and rows are kept apart because an edit draws the strokes that are left again, from another time and
another level.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
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

    def level(self, t: Any, xp: Any) -> Any:
        """The level at time `t` (number or array); outside [begin, end] that of the nearer end."""
        span = self.end - self.begin
        if span <= 0:
            return self.b + 0.0 * t
        e = t - self.begin
        e = xp.where(e > 0, e, 0.0 * t)
        e = xp.where(e < span, e, span + 0.0 * t)
        return SHAPES[self.shape].formula(self.a, self.b, e / span, e, xp, **dict(self.params))


@dataclass(frozen=True, slots=True)
class Line:
    """One path on the clock of a run: its rows, and in an open run the pieces that wait for the end."""

    rows: tuple[Row, ...]
    waiting: tuple[Word | Repeat, ...] = ()

    @property
    def end(self) -> float:
        return self.rows[-1].end

    def row(self, t: float) -> Row:
        """The row in force at time `t`; at a boundary the later one, after the end the last."""
        return self.rows[max(bisect_right(self.rows, t, key=_begin) - 1, 0)]

    def level(self, t: Any, xp: Any) -> Any:
        """The level at time `t`, a number or an array of any shape."""
        if xp is SCALARS:
            return self.row(t).level(t, xp)
        level = self.rows[0].level(t, xp)
        for row in self.rows[1:]:
            level = xp.where(t < row.begin, level, row.level(t, xp))
        return level

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
        index = max(bisect_right(self.rows, at, key=_begin) - 1, 0)
        level = self.rows[index].level(at, SCALARS)
        left = [row.stroke for row in self.rows[index + 1 :]]
        if self.waiting and left:  # the endless piece is still to come, and what waits for its end waits on
            return Line(draw(left, at, level), self.waiting)
        left = left or late_strokes(self.waiting, at, run)
        if not any(stroke.length > 0 for stroke in left):
            raise ScheduleError(
                f"at {at:g} the schedule is in its last piece: there is no next piece to advance to"
            )
        return Line(draw(left, at, level))


def _begin(row: Row) -> float:
    return row.begin


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
        params = _timed(stroke, left)
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


def _timed(stroke: Stroke, begin: float) -> Options:
    """A stroke's options; a time scale that was not said is the time at which the piece begins."""
    options = dict(stroke.options)
    for name in SHAPES[stroke.shape].lengths:
        if options[name] is None:
            options[name] = begin
        if not options[name] > 0:
            raise ScheduleError(
                f"{stroke.shape}() at the very start of the run has no {name} to go by: "
                f"write {stroke.shape}({name}=1000), or put a warm-up before it"
            )
    return tuple(options.items())


def _end_level(stroke: Stroke, params: Options, a: float, length: float) -> float:
    if stroke.to is not None:
        return stroke.to
    if length <= 0:
        return a
    e = length if math.isfinite(length) else 0.0
    return SHAPES[stroke.shape].formula(a, a, 1.0, e, SCALARS, **dict(params))
