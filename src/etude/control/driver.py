"""The driver: the one owner of an optimizer's rates, and the only object that has a state."""

import glob
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from etude.control import agreement
from etude.control.ahead import NO_BLOCK, Ahead
from etude.control.controller import Action, Controller, Discard, Restore, checked
from etude.control.resuming import FORMAT, kinds, remembered, resumed
from etude.control.sink import Sink, Write
from etude.core.edit import Edit, Rollback, Scale, Stop
from etude.core.namespace import number, plain
from etude.core.plan import Group, Plan
from etude.core.rates import Rates
from etude.errors import EtudeError, EtudeWarning, ForeignChange, PlanError, ScheduleError, near

FOREIGN = ("raise", "adopt", "restore")

Writers = list[tuple[Write, Callable[[float], Sequence[float]]]]
"""For each hyper-parameter the sink's `write`, and what gives it the levels at a time."""


class _Bound(NamedTuple):
    """The writers of a stretch of `rates` in which only the clock changes: begin >= since, t < until."""

    rates: Rates | None
    since: float
    until: float
    total: float
    tick: float
    writers: Writers


UNBOUND = _Bound(None, math.inf, -math.inf, math.inf, 0.0, [])


class Driver:
    """Writes the rates of a run into one optimizer, and asks controllers after each reading.

    It has no counter: `apply(begin)` writes what the plan and the edits say for an update that begins at
    `begin`, so that asking twice, out of order or after a resume makes no difference. `foreign` says what
    happens when another hand changed a rate: "raise" `ForeignChange`, "adopt" it as a `Scale`, or "restore"
    the plan's. `metrics` names what readings will have, if that is known: `check_metrics`.

    A run of several processes gives `gather`, a function that gives all of them what each one puts in, in
    one order (`etude.torch.processes.gather`). At every reading they then compare their rates, decide on the
    mean of what they have read, and do what the first of them decides. `reduce` makes one reading of theirs
    in another way.
    """

    def __init__(
        self,
        rates: Rates,
        sink: Sink | None = None,
        controllers: Sequence[Controller] = (),
        *,
        reduce: Callable[[dict[str, float]], dict[str, float]] | None = None,
        gather: agreement.Gather | None = None,
        foreign: str = "raise",
        metrics: Iterable[str] | None = None,
    ):
        if foreign not in FOREIGN:
            raise EtudeError(
                f"foreign={foreign!r} is not known; write one of {', '.join(map(repr, FOREIGN))}"
            )
        if not isinstance(rates, Rates):
            raise PlanError(
                f"Driver takes a plan that is bound to its run, got {type(rates).__name__}: "
                f"write Driver(plan.over(total), …)"
            )
        if sink is not None:
            _check_groups(rates.plan, sink)
        self.rates = rates
        self.sink = sink
        self.controllers = checked(controllers)
        self._check_matches()
        self.memory = {one.name: one.init() for one in self.controllers}
        self.reduce = reduce
        self.gather = gather
        self.foreign = foreign
        if metrics is not None:
            self.check_metrics(metrics)
        self._read: dict[str, float] = {}
        self._unbind()

    def _unbind(self) -> None:
        self._bound = UNBOUND
        self._block = NO_BLOCK
        self._ahead = Ahead()
        self._open: tuple[bool, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What is bound writes into this driver's optimizer; a copy binds to its own.
        return {**self.__dict__, "_bound": UNBOUND, "_block": NO_BLOCK, "_ahead": Ahead(), "_open": None}

    @property
    def total(self) -> float:
        """Where the run ends on the planned clock, after all edits; the loop ends there."""
        return self.rates.total

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Every edit so far, in order."""
        return self.rates.edits

    def at(self, begin: float, end: float | None = None) -> dict[str, list[float]]:
        """What `apply` would write, per hyper-parameter and group; changes nothing."""
        return self.rates.at(begin, end)

    def apply(self, begin: float, end: float | None = None) -> None:
        """Write the rates of the update [begin, end] and whether each group trains; before its first forward.

        `end` is begin + 1 if it is not given. Raises `ForeignChange` as `foreign` says.
        """
        block = self._block
        i = begin - block.first
        if not 0 <= i < block.count or i.__class__ is not int or block.rates is not self.rates:
            return self._apply_alone(begin, end)
        if end is not None and end != begin + 1:
            return self._apply_alone(begin, end)
        try:
            for write, levels, width in block.tables:
                write(levels, i * width)
        except ForeignChange as change:
            self._settle(begin, end, change)

    def _apply_alone(self, begin: float, end: float | None) -> None:
        """Write an update that was not computed ahead; if it is time for that, compute the next ones."""
        if isinstance(begin, float) and begin.is_integer():
            return self.apply(int(begin), end)
        rates, since, until, total, tick, writers = self._bound
        stop = end if end is not None else begin + 1 if begin + 1 < total else max(begin, total)
        t = begin + tick * (stop - begin)
        if rates is not self.rates or begin < since or t >= until:
            t, writers = self._bind(begin, end)
        block = self._ahead.block(begin, end)
        if block is not None:
            self._block = block
            return self.apply(begin, end)
        try:
            for write, levels in writers:
                write(levels(t), 0)
        except ForeignChange as change:
            self._settle(begin, end, change)

    def _bind(self, begin: float, end: float | None) -> tuple[float, Writers]:
        """Writers for a new passage: after an edit, or where a path or a gate comes to its next word."""
        sink = self._written_to()
        passage = self.rates.passage(begin, end)
        if passage.open != self._open:
            sink.open(passage.open)
            self._open = passage.open
        t = self.rates.time(begin, end, passage.total)
        writers, since, until = [], passage.begin, passage.end
        shares = {hyper: share.merged() for hyper, share in passage.shares.items()}
        for hyper, share in shares.items():
            levels, first, last = share.reader(t)
            writers.append((sink.bind(hyper, share.scales, share.kinds), levels))
            since, until = max(since, first), min(until, last)
        self._bound = _Bound(self.rates, since, until, passage.total, self.rates.plan.tick, writers)
        self._ahead.enter(self.rates, passage._replace(shares=shares), [write for write, _ in writers])
        self._block = NO_BLOCK
        return t, writers

    def _settle(self, begin: float, end: float | None, change: ForeignChange) -> None:
        """Deal with what another hand wrote as `foreign` says, and write the whole update again."""
        if self.foreign == "raise":
            raise change
        if self.foreign == "adopt":
            self._adopt(begin, change)
        self.apply(begin, end)

    def _written_to(self) -> Sink:
        if self.sink is None:
            raise EtudeError(
                "this driver has no sink: give it one, as in Driver(rates, etude.torch.sink(optimizer))"
            )
        return self.sink

    def _adopt(self, begin: float, change: ForeignChange) -> None:
        held = self._written_to().groups
        planned = {
            name or str(i): group.name
            for i, (name, group) in enumerate(zip(held, self.rates.plan.groups, strict=True))
        }
        for group, old, new in change.changes:
            if old == 0:
                raise change
            reason = f"{change.hyper} of {group} was changed from {old:.6g} to {new:.6g}"
            pattern = glob.escape(planned[group])
            self.edit(Scale(begin, new / old, change.hyper, pattern, author="foreign", reason=reason))

    def read(self, hyper: str = "lr") -> list[float]:
        """What the optimizer will really use, in group order: the log, and the check of the first law."""
        return self._written_to().read(hyper)

    def check_metrics(self, known: Iterable[str]) -> None:
        """Raise `ScheduleError` for a controller that reads what is not among the `known` names.

        For whoever knows, before the first update, what the readings of a run will have.
        """
        known = [known] if isinstance(known, str) else list(known)
        for one in self.controllers:
            for metric in one.reads:
                if metric not in known:
                    raise ScheduleError(
                        f"{one.name} reads {metric!r}, which no reading has{near(metric, known)}"
                    )

    def observe(self, t: float, reading: Mapping[str, float], *, alike: bool = False) -> tuple[Action, ...]:
        """Hand a reading to the controllers; `t` is where the clock stands, where the next update begins.

        A controller is asked once for each reading that has all it reads. Their edits take effect at once;
        what they ask of the loop is returned. Of several processes each one calls this, with what it has
        read, if anything; one that is `alike` on all of them, to the last bit, needs no word between them.
        A reading after the run's end asks nobody, and warns. Raises `ScheduleError` for a second reading of
        one metric at one time, one that is no number, and one that has a part of what a controller reads;
        `EtudeError` on every process where their rates or times are not the same.
        """
        gather, reduce = (None, None) if alike else (self.gather, self.reduce)
        t, seen = float(number(t, "observe(t, …)")), self._numbers(reading)
        if gather is not None:
            shown = agreement.shown(self.rates, t, self.sink)
            seen = agreement.checked(gather((shown, seen)), seen if reduce else None)
        if reduce is not None:
            seen = reduce(seen)
        for metric in seen:
            if metric in self._read and t <= self._read[metric]:
                raise ScheduleError(
                    f"a reading of {metric!r} at {t:g} comes after one at {self._read[metric]:g}: there is "
                    f"one reading per metric and time; forget that of an update which is not made, as in "
                    f"driver.forget([{metric!r}])"
                )
        if t > self.total and (t >= self.total + 1 or self._stopped()):
            self._say_over(t)
            return ()
        now = min(t, self.total)  # the last update of a run may be a part of one
        memory, answers = self._decided(now, seen)
        if gather is not None:
            memory, answers = gather((memory, answers))[0]
        self._read |= dict.fromkeys(seen, t)
        self.memory = memory
        for one in answers:
            if isinstance(one, Edit):
                self.edit(one)
            elif isinstance(one, Discard) and one.end:
                self.edit(Stop(now, author=one.author, reason=one.reason))
        return tuple(one for one in answers if not isinstance(one, Edit))

    def _numbers(self, reading: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of a reading; raises `ScheduleError` for what a controller reads and is none."""
        if not isinstance(reading, Mapping):
            raise ScheduleError(
                f'observe(t, reading) takes a reading such as {{"eval_loss": 0.6}}, got {reading!r}'
            )
        found = {metric: plain(value) for metric, value in reading.items()}
        for one in self.controllers:
            for metric in one.reads:
                if metric in found and found[metric] is None:
                    raise ScheduleError(
                        f"{one.name} reads {metric!r}, of which the reading is {reading[metric]!r}: no number"
                    )
        return {metric: float(value) for metric, value in found.items() if value is not None}

    def _decided(self, t: float, seen: dict[str, float]) -> tuple[dict[str, Any], list[Edit | Action]]:
        """The memory after a reading, and the answers; each controller sees the edits of those before it.

        Nothing follows a `Stop`. Where the update that the reading is of is not made, only those have read it
        that ask so.
        """
        rates, memory, answers = self.rates, dict(self.memory), []
        against = {}
        for one in self.controllers:
            if not all(metric in seen for metric in one.reads):
                self._check_whole(one, seen)
                continue
            asked: Callable[..., Any] = one.update
            if getattr(one, "sees_rates", False):
                asked = partial(asked, rates=rates)
            memory[one.name], answer = asked(memory[one.name], t, seen)
            if isinstance(answer, Discard | Restore):
                against[one.name] = answer
            if answer is None or (isinstance(answer, Edit) and any(isinstance(a, Stop) for a in answers)):
                continue
            answers.append(answer)
            if isinstance(answer, Edit):
                rates = rates.edit(answer)
        if against:
            return self.memory | {name: memory[name] for name in against}, list(against.values())
        return memory, answers

    def _check_whole(self, one: Controller, seen: Mapping[str, float]) -> None:
        """Raise `ScheduleError` if a reading has a part of what a controller reads, which asks it never."""
        if there := [metric for metric in one.reads if metric in seen]:
            missing = [metric for metric in one.reads if metric not in seen]
            raise ScheduleError(
                f"{one.name} reads {' and '.join(one.reads)} together, and this reading has no "
                f"{' and '.join(missing)} beside {' and '.join(there)}: give it both, or a controller that "
                f"reads one, as in etude.spike(norm=None)"
            )

    def _check_matches(self) -> None:
        """Raise `ScheduleError` for a controller of groups that the plan does not have."""
        at = self.edits[-1].at if self.edits else 0
        for one in self.controllers:
            if (groups := getattr(one, "groups", None)) is not None:
                try:
                    self.rates.edit(Scale(at, 1.0, groups=groups))
                except ScheduleError as error:
                    raise ScheduleError(f"{one.name}(groups={groups!r}): {error}") from None

    def _stopped(self) -> bool:
        """Whether a `Stop` has ended the run."""
        return any(isinstance(one, Stop) and one.at == self.total for one in self.edits)

    def _say_over(self, t: float) -> None:
        warnings.warn(
            f"the run has ended at {self.total:g}, and a reading at {t:g} is one of no update of it: no "
            f"controller is asked any more",
            EtudeWarning,
            stacklevel=3,
        )

    def forget(self, metrics: Iterable[str]) -> None:
        """Let these be read again at the same time: the update that they were read of is not made."""
        gone = set(metrics)
        self._read = {metric: t for metric, t in self._read.items() if metric not in gone}

    def edit(self, one: Edit) -> None:
        """Change the rates from `one.at` on; raises `ScheduleError` where that makes no sense."""
        self.rates = self.rates.edit(one)
        if isinstance(one, Rollback):
            self._read = {metric: t for metric, t in self._read.items() if t <= one.to}

    def add_group(self, group: Group, params: Iterable[Any], begin: float) -> None:
        """Let parameters join a run that is under way, as a last group; the next update begins at `begin`.

        `params` are the parameters themselves, `group.params` their names. From now on the group gets its
        multiplier × the shape where it is, as if it had been there from the beginning. Where a whole model
        is known beforehand a gate does the same and needs no new group. Raises `PlanError` for a name that is
        taken.
        """
        sink = self._written_to()
        rates = self.rates.joined(group)
        values = {hyper: row[-1] for hyper, row in rates.at(begin).items()}
        sink.add(group, params, values)
        self.rates = rates
        self._open = None
        self.apply(begin)

    def state_dict(self) -> dict[str, Any]:
        """Plan, span, groups, edits and the controllers' memory, as strict JSON; there is no clock in it."""
        memory = {"controllers": dict(self.memory), "kinds": kinds(self.controllers)}
        return {"etude": FORMAT, **self.rates.state(), **memory}

    def load_state_dict(self, state: Mapping[str, Any], on_mismatch: str | None = None) -> None:
        """Go on from what `state_dict` gave.

        If its span, plan or groups are not this driver's own it raises `PlanMismatch`, which lists each field
        with both values, unless `on_mismatch` says which to go by: "checkpoint" (its plan, span and edits) or
        "recipe" (this driver's plan and span, none of the edits, and controllers that begin anew). One that
        was not there, is of another kind or reads another metric begins anew in any case.
        """
        before, self.rates = self.rates, resumed(state, self.rates, on_mismatch)
        went_on = self.rates is not before  # what is remembered is of the edits, and goes with them
        self.memory = remembered(state if went_on else {"controllers": {}}, self.controllers)
        self._read = {}
        self._unbind()


def _check_groups(plan: Plan, sink: Sink) -> None:
    if not hasattr(sink, "bind"):
        raise PlanError(
            f"Driver takes a sink second, as in etude.torch.sink(optimizer); got {type(sink).__name__}"
        )
    ours, theirs = [group.name for group in plan.groups], list(sink.groups)
    if len(ours) != len(theirs):
        raise PlanError(
            f"the plan has {len(ours)} groups ({', '.join(ours)}), the optimizer has {len(theirs)}: "
            f"build the optimizer from plan.torch_groups(model)"
        )
    if any(theirs) and ours != theirs:
        raise PlanError(f"the plan's groups are {', '.join(ours)}; the optimizer's are {', '.join(theirs)}")
