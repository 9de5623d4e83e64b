"""What an update uses where its number is an array: the sampling of `Rates` inside jit, compile and scan.

`Rates.at(k)` answers for Python numbers. A framework that counts its updates in an array asks here and gets
expressions that it can trace: there is no branch on the number, and it stays whole until whole updates have
been subtracted from it, because k + ½ does not exist in single precision above 2^23.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from etude.core.curve import Curve
from etude.core.line import Line
from etude.core.namespace import namespace_of
from etude.core.rates import Rates, Regime
from etude.errors import PlanError, near

Sampled = Callable[[Any], Any]


def sampled(curve: Curve, tick: float = 0.5, total: float | None = None) -> Sampled:
    """The value that update k uses, as a function of k: a whole number or an array of them, 0 or more.

    An update covers [k, k + 1] and uses the curve at `begin + tick × (end - begin)`; the last one ends with
    the run, at `total` (the curve's own if it is not given). As in `Rates.at`.

    >>> from etude import cosine, warmup
    >>> rate = sampled((2e-5 * (warmup(0.1) >> cosine(to=0.01))).over(1000))
    >>> [f"{rate(k):.10g}" for k in (0, 99, 100, 999)]
    ['1e-07', '1.99e-05', '1.999998492e-05', '2.000150786e-07']
    """
    total = curve.total if total is None else total
    early = Curve(curve.peak, tuple(_moved(line, tick) for line in curve.lines), curve.total - tick)
    if math.isinf(total):
        return early
    last, end = math.floor(total), math.ceil(total)
    cut = curve(last + tick * (total - last)) if last < end else None
    if cut is None and all(line.end <= total for line in curve.lines):
        return early

    def value(k: Any) -> Any:
        xp = namespace_of(k)
        found = early(k) if cut is None else xp.where(k >= last, cut, early(k))
        return xp.where(k >= end, curve(k), found)

    return value


def _moved(line: Line, tick: float) -> Line:
    return Line(tuple(row._replace(begin=row.begin - tick, end=row.end - tick) for row in line.rows))


def schedule_of(
    rates: Curve | Rates, hyper: str = "lr", group: str | None = None, tick: float = 0.5
) -> Sampled:
    """One number's schedule as a function of k: of a curve, read at `tick`, or of one group of a plan.

    Raises `PlanError` for a group or a hyper-parameter that the plan has not, and where several groups leave
    open which is meant.
    """
    if isinstance(rates, Curve):
        return sampled(rates, tick)
    if hyper not in rates.plan.hypers:
        raise PlanError(f"the plan has no {hyper!r}{near(hyper, rates.plan.hypers)}")
    names = [one.name for one in rates.plan.groups]
    if group is None and len(names) > 1:
        raise PlanError(
            f"the plan has the groups {', '.join(names)}: write group={names[0]!r}, or give every group its "
            f"own optimizer"
        )
    if group is not None and group not in names:
        raise PlanError(f"the plan has no group {group!r}{near(group, names)}")
    index = 0 if group is None else names.index(group)
    of_groups = values(rates, hyper)
    return lambda k: of_groups(k)[index]


def level(rates: Rates, hyper: str = "lr") -> Sampled:
    """peak × shape of a hyper-parameter in update k, which all groups share, as a function of k."""
    parts = [sampled(one.curves[hyper], rates.plan.tick, one.total) for one in rates.regimes]

    def value(k: Any) -> Any:
        found = parts[0](k)
        for one, part in zip(rates.regimes[1:], parts[1:], strict=True):
            found = namespace_of(k).where(k >= math.ceil(one.at), part(k), found)
        return found

    return value


def values(rates: Rates, hyper: str = "lr") -> Callable[[Any], list[Any]]:
    """A hyper-parameter of every group in update k, as a function of k: `rates.values(hyper, k)`, traceable.

    >>> from etude import Group, Plan
    >>> groups = [Group("body", gate="frozen(2) >> hold(start=1)"), Group("head", scale={"lr": 10})]
    >>> rates = Plan({"lr": "1e-3 * linear()"}, groups, tick=0).over(10)
    >>> [values(rates)(k) for k in (0, 5)]
    [[0.0, 0.01], [0.0005, 0.005]]
    """
    parts, opened = [_row(rates, one, hyper) for one in rates.regimes], openings(rates)

    def of_groups(k: Any) -> list[Any]:
        xp, found = namespace_of(k), parts[0](k)
        for one, part in zip(rates.regimes[1:], parts[1:], strict=True):
            pairs = zip(part(k), found, strict=True)
            found = [xp.where(k >= math.ceil(one.at), new, old) for new, old in pairs]
        if hyper != "lr":
            return found
        return [
            value * flag if isinstance(flag, bool) else xp.where(flag, value, 0.0)
            for value, flag in zip(found, opened(k), strict=True)
        ]

    return of_groups


def _row(rates: Rates, regime: Regime, hyper: str) -> Callable[[Any], list[Any]]:
    """peak × shape × gate × (scale × control) of every group in one regime; equal gates are asked once."""
    tick, gates = rates.plan.tick, regime.gates if hyper == "lr" else (None,) * len(regime.gates)
    shape = sampled(regime.curves[hyper], tick, regime.total)
    kinds = {id(gate): gate for gate in gates}
    drawn = {
        key: None if gate is None else sampled(Curve(1.0, (gate,), regime.total), tick)
        for key, gate in kinds.items()
    }
    numbers = [a * b for a, b in zip(rates.plan.scale(hyper), regime.control[hyper], strict=True)]

    def row(k: Any) -> list[Any]:
        common = shape(k)
        gated = {key: common if gate is None else common * gate(k) for key, gate in drawn.items()}
        return [gated[id(gate)] * number for gate, number in zip(gates, numbers, strict=True)]

    return row


def openings(rates: Rates) -> Callable[[Any], list[Any]]:
    """Whether each group trains in update k, as a function of k: `rates.open(k)`, traceable.

    A group whose answer never changes gives Python's own True or False, for which nothing need be traced.
    """
    columns = _columns(rates)

    def of_groups(k: Any) -> list[Any]:
        where, found = namespace_of(k).where, []
        for steps in columns:
            flag: Any = steps[0][1]
            for mark, new in steps[1:]:
                flag = where(k >= mark, new, flag)
            found.append(flag)
        return found

    return of_groups


def counts(rates: Rates) -> Callable[[Any], list[Any]]:
    """How many updates each group has trained in before update k, as a function of k, traceable.

    It is k itself for a group that always trains. An optimizer that corrects the bias of its moments needs
    it: those of a group that thaws are new.
    """
    columns = _columns(rates)

    def of_groups(k: Any) -> list[Any]:
        where, found = namespace_of(k).where, []
        for steps in columns:
            count: Any = k if steps[0][1] else 0 * k
            for mark, opens in steps[1:]:
                since = where(k >= mark, k, mark) - mark
                count = count + since if opens else count - since
            found.append(count)
        return found

    return of_groups


def _columns(rates: Rates) -> list[list[tuple[int, bool]]]:
    """For each group the updates at which it begins to train or ceases to, the first being 0."""
    gates = [gate for one in rates.regimes for gate in one.gates if gate is not None]
    begins = [one.at for one in rates.regimes] + [row.begin for gate in gates for row in gate.rows]
    marks = sorted({max(math.ceil(begin), 0) for begin in (0, *begins) if math.isfinite(begin)})
    columns = []
    for column in zip(*(rates.open(mark) for mark in marks), strict=True):
        changed = (True, *(new != old for old, new in pairwise(column)))
        columns.append(
            [step for step, new in zip(zip(marks, column, strict=True), changed, strict=True) if new]
        )
    return columns
