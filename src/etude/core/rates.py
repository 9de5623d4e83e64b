"""A plan bound to a run: every rate of every group at any time, a pure function of plan, time and edits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from etude.core.curve import Curve, curve
from etude.core.edit import Edit, Rollback, edit_from_json
from etude.core.length import Span
from etude.core.line import Line, line
from etude.core.passage import Passage, Share, standing
from etude.core.path import Path
from etude.core.plan import Group, Plan
from etude.core.shapes import SHAPES
from etude.errors import PlanError, ScheduleError


class Regime(NamedTuple):
    """What is in force for updates that begin at `at` or later, until the next edit."""

    at: float
    total: float
    curves: dict[str, Curve]
    gates: tuple[Line | None, ...]
    control: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Rates:
    """The rates of a run; `edit` gives new ones, nothing changes in place.

    Asked for an update [begin, end] it answers with the product of the design's equation, in group order:
    peak × shape(t) × gate(t) × (scale × control), at t = begin + tick × (end - begin).
    """

    plan: Plan
    span: Span
    edits: tuple[Edit, ...] = ()
    regimes: tuple[Regime, ...] = field(default=(), repr=False, compare=False)

    __hash__ = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not self.regimes:
            object.__setattr__(self, "regimes", self._replayed(self.edits))

    def _first(self) -> Regime:
        curves = {hyper: curve(schedule, self.span) for hyper, schedule in self.plan.hypers.items()}
        drawn: dict[Path | None, Line | None] = {None: None}
        for group in self.plan.groups:
            if group.gate is not None and group.gate not in drawn:
                drawn[group.gate] = _gate(group.name, group.gate, self.span)
        gates = tuple(drawn[group.gate] for group in self.plan.groups)
        for hyper, one in curves.items():
            for index, path in enumerate(one.lines):
                if path.waiting and (hyper, index) != ("lr", 0):
                    raise ScheduleError(
                        f"{self.plan.hypers[hyper].paths[index]}: in an open run only the first path of lr "
                        f"can be advanced; end the {hyper} path with its endless piece"
                    )
        for group, gate in zip(self.plan.groups, gates, strict=True):
            if gate is not None and gate.waiting:
                raise ScheduleError(
                    f"the gate of {group.name!r}, {group.gate}: end it with its endless piece"
                )
        ones = (1.0,) * len(self.plan.groups)
        return Regime(0.0, self.span.total, curves, gates, dict.fromkeys(curves, ones))

    def _replayed(self, edits: Sequence[Edit]) -> tuple[Regime, ...]:
        """The regimes in force after all edits; every edit opens one, and a rollback goes back along them."""
        opened: list[Regime] = [self._first()]
        follows = [-1]
        for one in edits:
            if isinstance(one, Rollback):
                opened.append(self._branch(opened, one))
                follows.append(one.keep)
            else:
                opened.append(self._next(opened[-1], one))
                follows.append(len(opened) - 2)
        chain: list[Regime] = []
        index = len(opened) - 1
        while index >= 0:
            chain.append(opened[index])
            index = follows[index]
        return tuple(reversed(chain))

    def _next(self, last: Regime, one: Edit) -> Regime:
        self._check_time(last, one)
        return one.act(last, tuple(group.name for group in self.plan.groups), self.span)

    def _branch(self, opened: Sequence[Regime], one: Rollback) -> Regime:
        self._check_time(opened[-1], one)
        if one.keep >= len(opened):
            raise ScheduleError(f"{one}: the list has {len(opened) - 1} edits, {one.keep} cannot be kept")
        kept = opened[one.keep]
        if kept.at > one.to:
            raise ScheduleError(f"{one}: an edit that is kept acts at {kept.at:g}, after the branch point")
        return kept._replace(at=one.to)

    def _check_time(self, last: Regime, one: Edit) -> None:
        what = f"{type(one).__name__} at {one.at:g}"
        if one.at < last.at:
            raise ScheduleError(
                f"{what} comes after an edit at {last.at:g}: edits follow the clock, each is made when the "
                f"clock is there, and only Rollback takes it back"
            )
        if one.at > last.total:
            raise ScheduleError(f"{what} lies after the end of the run at {last.total:g}")

    def edit(self, one: Edit) -> "Rates":
        """The rates with one more edit; raises `ScheduleError` where that makes no sense."""
        edits = (*self.edits, one)
        rollback = isinstance(one, Rollback)
        regimes = self._replayed(edits) if rollback else (*self.regimes, self._next(self.regimes[-1], one))
        return Rates(self.plan, self.span, edits, regimes)

    def joined(self, group: Group) -> "Rates":
        """The rates with one more group, the last; the edits so far act on it as on the others."""
        plan = Plan(self.plan.hypers, (*self.plan.groups, group), self.plan.tick)
        return Rates(plan, self.span, self.edits)

    @property
    def total(self) -> float:
        """Where the run ends on the planned clock, after all edits; infinite in an open run."""
        return self.regimes[-1].total

    def regime(self, begin: float) -> Regime:
        """What is in force for an update that begins at `begin`: the last regime with at <= begin."""
        return self.regimes[self._index(begin)]

    def _index(self, begin: float) -> int:
        for index in range(len(self.regimes) - 1, 0, -1):
            if self.regimes[index].at <= begin:
                return index
        return 0

    def passage(self, begin: float, end: float | None = None) -> Passage:
        """What holds for the update [begin, end], and after it for as long as only the clock changes."""
        index = self._index(begin)
        regime = self.regimes[index]
        t = self.time(begin, end, regime.total)
        distinct = {id(gate): gate for gate in regime.gates}
        stand = {key: standing(gate, begin, t) for key, gate in distinct.items()}
        kinds = {key: i for i, key in enumerate(distinct)}
        gates = tuple(one.gate for one in stand.values())
        of_group = tuple(kinds[id(gate)] for gate in regime.gates)
        alone = (0,) * len(regime.gates)
        shares = {}
        for hyper, drawn in regime.curves.items():
            scaled = zip(self.plan.scale(hyper), regime.control[hyper], strict=True)
            gated = hyper == "lr" and gates != (1.0,)
            shares[hyper] = Share(
                drawn,
                gates if gated else (1.0,),
                of_group if gated else alone,
                tuple(scale * control for scale, control in scaled),
            )
        edges = [one.end for one in stand.values()]
        if index + 1 < len(self.regimes):
            edges.append(self.regimes[index + 1].at)
        return Passage(
            max([-math.inf if index == 0 else regime.at, *(one.begin for one in stand.values())]),
            min(edges),
            regime.total,
            tuple(stand[id(gate)].trains for gate in regime.gates),
            shares,
        )

    def time(self, begin: float, end: float | None, total: float) -> float:
        """When the update [begin, end] is read; an update without an end takes one, or what is left."""
        if end is None:
            end = max(begin, min(begin + 1, total))
        return begin + self.plan.tick * (end - begin)

    def values(self, hyper: str, begin: float, end: float | None = None) -> list[float]:
        """One hyper-parameter of every group for the update [begin, end]."""
        passage = self.passage(begin, end)
        return passage.shares[hyper].values(self.time(begin, end, passage.total))

    def at(self, begin: float, end: float | None = None) -> dict[str, list[float]]:
        """Every hyper-parameter of every group for the update [begin, end]; `end` is begin + 1 if omitted."""
        passage = self.passage(begin, end)
        t = self.time(begin, end, passage.total)
        return {hyper: share.values(t) for hyper, share in passage.shares.items()}

    def open(self, begin: float) -> list[bool]:
        """Whether each group trains in an update that begins at `begin`: its gate says it, never its rate."""
        return list(self.passage(begin).open)

    def matrix(self, hyper: str = "lr") -> list[list[float]]:
        """One row per update of the run, one value per group; raises `ScheduleError` for an open run."""
        if math.isinf(self.total):
            raise ScheduleError("an open run has no last update: ask for single updates with at(begin)")
        rows, passage = [], self.passage(0)
        for k in range(math.ceil(self.total - 1e-9)):
            end = min(k + 1, self.total)
            t = self.time(k, end, self.total)
            if not (passage.begin <= k and t < passage.end):
                passage = self.passage(k, end)
            rows.append(passage.shares[hyper].values(t))
        return rows

    def state(self) -> dict[str, Any]:
        """Span, plan, groups and edits as strict JSON."""
        total = None if math.isinf(self.span.total) else self.span.total
        return {
            "span": {**self.span._asdict(), "total": total},
            "plan": self.plan.text,
            "groups": [group.as_json() for group in self.plan.groups],
            "edits": [one.as_json() for one in self.edits],
        }


def _gate(name: str, gate: Path, run: Span) -> Line:
    """The line of a group's gate; raises `PlanError` if it does not fit the run."""
    fewer = "shorten the stages that make it, or take fewer, as in unfreeze(…, stages=4)"
    try:
        found = line(gate, run)
    except ScheduleError as error:
        raise PlanError(f"the gate of group {name!r} does not fit the run: {error}; {fewer}") from None
    trains = [row for row in found.rows if not SHAPES[row.shape].gate_only]
    if trains and not any(row.end > row.begin for row in trains):
        raise PlanError(f"group {name!r} would thaw when the run is over, by its gate {gate}: {fewer}")
    return found


def rates_from_state(state: Mapping[str, Any]) -> Rates:
    """The rates whose `state` this is; raises an `EtudeError` for texts and edits that cannot be read."""
    hypers = {hyper: text for hyper, text in state["plan"].items() if hyper != "tick"}
    groups = [Group(g["name"], tuple(g["params"]), g["scale"], g["gate"]) for g in state["groups"]]
    span = {**state["span"], "total": math.inf if state["span"]["total"] is None else state["span"]["total"]}
    rates = Plan(hypers, groups, state["plan"]["tick"]).over(**span)
    for one in state["edits"]:
        rates = rates.edit(edit_from_json(one))
    return rates
