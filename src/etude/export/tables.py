"""From the rates of a run to tables by the number of the update, in which the written code looks things up.

Which row is in force is settled here, by asking the plan at every update beside a boundary. So the code knows
neither edits nor regimes, and a row is found by comparing whole numbers.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from etude.core.line import Line
from etude.core.rates import Rates, Regime
from etude.core.shapes import SHAPES
from etude.errors import EtudeError, ScheduleError

# What every target has a place for; another hyper-parameter is refused.
HYPERS = ("lr", "weight_decay", "momentum")


class Row(NamedTuple):
    """From update `first` on: a piece that began at `begin` and goes from level `a` to `b` in `length`."""

    first: int
    begin: float
    length: float
    a: float
    b: float
    shape: str
    options: tuple[tuple[str, Any], ...] = ()


Rows = tuple[Row, ...]


class Value(NamedTuple):
    """A hyper-parameter of a group: its peak times the paths of these names."""

    peak: float
    paths: tuple[str, ...]


class Tables(NamedTuple):
    """A run as numbers. `values` holds per hyper-parameter one `Value` per group, in group order.

    `updates` is the number of updates, None in an open run; `params` are the names of each group's
    parameters, empty tuples where the plan does not say them.
    """

    rates: Rates
    paths: dict[str, Rows]
    values: dict[str, dict[str, Value]]
    params: dict[str, tuple[str, ...]]
    updates: int | None

    @property
    def tick(self) -> float:
        return self.rates.plan.tick

    @property
    def grouped(self) -> bool:
        """Whether groups have to be told apart: there are several, or their parameters are known."""
        return len(self.params) > 1 or any(self.params.values())

    @property
    def words(self) -> set[str]:
        """The words that the paths use."""
        return {row.shape for rows in self.paths.values() for row in rows}

    @property
    def freezes(self) -> bool:
        """Whether a gate keeps a group from training for a while."""
        return any(SHAPES[word].gate_only for word in self.words)

    def constant(self, hyper: str) -> bool:
        """Whether every group has one value of a hyper-parameter throughout."""
        return not any(value.paths for value in self.values[hyper].values())


def tabulate(rates: Rates) -> Tables:
    """The tables of a run.

    Raises `ScheduleError` for an open run that waits to be told its end and for one without an update, and
    `EtudeError` for a hyper-parameter that the targets have no place for.
    """
    plan = rates.plan
    if unknown := [hyper for hyper in plan.hypers if hyper not in HYPERS]:
        raise EtudeError(f"no code is written for a schedule of {unknown[0]!r}; known: {', '.join(HYPERS)}")
    updates = None if math.isinf(rates.total) else math.ceil(rates.total - 1e-9)
    if updates == 0:
        raise ScheduleError("this run was stopped before its first update: there are no rates to write")
    names = _Names()
    gates = [_gate(rates, i) for i in range(len(plan.groups))]
    values: dict[str, dict[str, Value]] = {}
    for hyper, schedule in plan.hypers.items():
        lines = len(schedule.paths)
        shared = [_rows(rates, [r.curves[hyper].lines[i] for r in rates.regimes]) for i in range(lines)]
        values[hyper] = {}
        for i, (group, scale) in enumerate(zip(plan.groups, plan.scale(hyper), strict=True)):
            found = [(f"{hyper}_path", rows) for rows in shared]
            found += [("gate", gates[i])] if hyper == "lr" and gates[i] else []
            found += [("edits", _control(rates, hyper, i))]
            moving = [(kind, rows) for kind, rows in found if not _still(rows)]
            peak = math.prod((rows[0].a for _, rows in found if _still(rows)), start=schedule.peak * scale)
            values[hyper][group.name] = Value(peak, tuple(names.of(kind, rows) for kind, rows in moving))
    return Tables(rates, names.paths, values, {g.name: g.params for g in plan.groups}, updates)


class _Names:
    """One name for equal rows: `LR_PATH`, then `LR_PATH_2`."""

    def __init__(self) -> None:
        self.paths: dict[str, Rows] = {}

    def of(self, kind: str, rows: Rows) -> str:
        for name, known in self.paths.items():
            if known == rows:
                return name
        taken = sum(name.startswith(kind.upper()) for name in self.paths)
        name = kind.upper() + (f"_{taken + 1}" if taken else "")
        self.paths[name] = rows
        return name


def _still(rows: Rows) -> bool:
    return len(rows) == 1 and rows[0].shape == "hold"


def _control(rates: Rates, hyper: str, group: int) -> Rows:
    rows: list[Row] = []
    for begin, _, i in _windows(rates):
        by = rates.regimes[i].control[hyper][group]
        if not rows or rows[-1].a != by:
            rows.append(Row(begin, 0, math.inf, by, by, "hold"))
    return tuple(rows)


def _gate(rates: Rates, group: int) -> Rows:
    lines = [regime.gates[group] for regime in rates.regimes]
    return _rows(rates, [line for line in lines if line is not None])


def _windows(rates: Rates) -> Iterator[tuple[int, float, int]]:
    """(first update, end, number of the regime) for each regime that an update begins in."""
    ends = [min(regime.at, rates.total) for regime in rates.regimes[1:]] + [rates.total]
    for i, (regime, end) in enumerate(zip(rates.regimes, ends, strict=True)):
        begin = math.ceil(regime.at)
        if begin < end - 1e-9:
            yield begin, end, i


def _rows(rates: Rates, lines: Sequence[Line]) -> Rows:
    """One path through all regimes, `lines` being what it is in each; no rows if there are no lines."""
    rows: list[Row] = []
    for begin, end, i in _windows(rates) if lines else ():
        line, regime = lines[i], rates.regimes[i]
        if line.waiting and regime is rates.regimes[-1]:
            waiting = " >> ".join(map(str, line.waiting))
            raise ScheduleError(
                f"{waiting} in this open run waits to be told when it begins: give the run a length, or write"
                f" the code after Advance(at); an open run that goes on with its endless piece can be written"
            )
        for k in _beside_boundaries(line, regime, begin, end):
            row = _row(line, regime, rates.plan.tick, k)
            if not rows or not _same(row, rows[-1]):
                rows.append(row)
    return tuple(rows)


def _beside_boundaries(line: Line, regime: Regime, begin: int, end: float) -> list[int]:
    """The updates at which another row may come into force, and the last one, which may be cut."""
    marks = [row.begin for row in line.rows] + [row.end for row in line.rows] + [regime.total]
    near = {math.ceil(t) + d for t in marks if math.isfinite(t) for d in (-1, 0, 1)}
    return sorted(k for k in {begin} | near if begin <= k < end - 1e-9)


def _same(row: Row, last: Row) -> bool:
    return row[1:] == last[1:] or (row.shape == last.shape == "hold" and row.a == last.a)


def _row(line: Line, regime: Regime, tick: float, k: int) -> Row:
    """What is in force in update `k`, which begins at time k and may be cut at the end of the run."""
    t = k + tick * (max(k, min(k + 1, regime.total)) - k)
    row, at_begin = line.row(t), line.row(k)
    if SHAPES[at_begin.shape].gate_only:
        return Row(k, 0, math.inf, 0.0, 0.0, at_begin.shape)
    if row.end <= row.begin or SHAPES[row.shape].gate_only:
        level = line.level(t)
        return Row(k, 0, math.inf, level, level, "hold")
    begin = row.begin if t == k + tick else k + tick - (t - row.begin)
    return Row(k, begin, row.end - row.begin, row.a, row.b, row.shape, row.params)
