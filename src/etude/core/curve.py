"""A schedule over a run: a function of time on the planned clock."""

from dataclasses import dataclass
from typing import Any

from etude.core.length import Span
from etude.core.line import Line, line
from etude.core.namespace import SCALARS, namespace_of
from etude.core.path import Path, Schedule, words_of
from etude.core.shapes import SHAPES
from etude.core.vector import in_blocks, traced
from etude.errors import ScheduleError


@dataclass(frozen=True, slots=True, weakref_slot=True)  # jax.jit keeps a weak reference to what it compiles
class Curve:
    """A schedule over a run: a function of time on the planned clock, which knows no sampling.

    `curve(0)` and `curve(total)` are the written levels to the last bit; after the end the curve holds.
    """

    peak: int | float
    lines: tuple[Line, ...]
    total: float

    def __call__(self, t: Any) -> Any:
        """The value at time `t` in planned updates: a number for a number, an array for an array.

        Arrays of numpy, torch, jax, mlx and keras, also traced or compiled ones. numpy's answer is float64
        and that of single times, to the last bit where the words need no power; the others answer in their
        own precision, single as a rule.
        """
        xp = namespace_of(t)
        if xp is SCALARS:
            return self.value(t)
        if xp.__name__ == "numpy":
            return in_blocks(self.peak, self.lines, t, xp)
        if hasattr(xp, "convert_to_tensor"):
            t = xp.convert_to_tensor(t)  # keras counts its updates in a Variable
        value = traced(self.lines[0], t, xp)
        for factor in self.lines[1:]:
            value = value * traced(factor, t, xp)
        return self.peak * value

    def value(self, t: float) -> float:
        """The value at one time, a number."""
        value = self.lines[0].level(t)
        if len(self.lines) > 1:
            for factor in self.lines[1:]:
                value = value * factor.level(t)
        return self.peak * value

    def table(self) -> list[list[tuple[float, float, float, float, str, dict[str, float]]]]:
        """Per path the rows (begin, end, a, b, shape, params): times in planned updates, levels of the peak.

        >>> from etude import cosine, warmup
        >>> for row in (2e-5 * (warmup(0.1) >> cosine(to=0.01))).over(1000).table()[0]:
        ...     print(row)
        (0.0, 100.0, 0.0, 1.0, 'warmup', {})
        (100.0, 1000.0, 1.0, 0.01, 'cosine', {})
        """
        return [
            [
                (row.begin, row.end, row.a, row.b, row.shape, dict(row.params))
                for row in one.rows
                if row.end > row.begin or len(one.rows) == 1
            ]
            for one in self.lines
        ]

    def _repr_html_(self) -> str:
        from etude.report.notebook import curve_html

        return curve_html(self)


def curve(schedule: Schedule, run: Span) -> Curve:
    """The curve of a schedule over a run; `Schedule.over` is the way to it.

    Raises `ScheduleError` for a gate's word in a schedule and for pieces that do not fit the run.
    """
    for path in schedule.paths:
        refuse_gate_words(path)
    return Curve(schedule.peak, tuple(line(path, run) for path in schedule.paths), run.total)


def refuse_gate_words(path: Path) -> None:
    """Raise `ScheduleError` for a path that says whether a group trains where rates are spoken of."""
    for word in words_of(path):
        if SHAPES[word.name].gate_only:
            raise ScheduleError(
                f"{word} in {path}: a schedule speaks of rates; whether a group trains is said by its gate"
            )
