"""What every comparison shares: two groups, a plan's rate in each update of a run, and what counts as equal.

A peer's rates are rows, one an update, of one rate a group. étude samples at tick 0 unless a test says
otherwise, as the peers do.
"""

from collections.abc import Callable, Sequence

import pytest

from etude import Group, Plan

PEAK = 3e-3
SCALES = (1.0, 0.25)

Rows = Sequence[Sequence[float]]
Formula = Callable[[int], float | Sequence[float]]  # an update's number -> level, for all groups or for each


def plan_rates(text, total, updates=None, *, tick=0, hyper="lr", peak=PEAK, scales=SCALES, gates=()):
    """The rates, or the values of another hyper-parameter, of `updates` updates of a run of `total`."""
    gates = [*gates, *(None for _ in scales[len(gates) :])]
    groups = [
        Group(f"g{i}", scale={hyper: scale}, gate=gate)
        for i, (scale, gate) in enumerate(zip(scales, gates, strict=True))
    ]
    rates = Plan({"lr": 1, hyper: f"{peak} * ({text})"}, groups, tick=tick).over(total)
    return [rates.at(k)[hyper] for k in range(total if updates is None else updates)]


def same(found: Rows, expected: Rows, within: float, peak: float, what: str) -> None:
    """Every rate of every update is the other's, to a share of the peak or of a rate above it."""
    assert len(found) == len(expected) > 0, what
    for k, (row, other) in enumerate(zip(found, expected, strict=True)):
        assert len(row) == len(other) > 0, what
        for a, b in zip(row, other, strict=True):
            assert abs(a - b) <= within * max(peak, abs(b)), f"{what}, update {k}: {row} and {other}"


@pytest.fixture(scope="session")
def ours():
    return plan_rates


@pytest.fixture(scope="session")
def agree():
    """`agree(theirs, text, total)`: étude's text gives the peer's rates in every update that it has."""

    def check(theirs, text, total, *, within=1e-12, **plan):
        mine = plan_rates(text, total, len(theirs), **plan)
        same(mine, theirs, within, plan.get("peak", PEAK), f"{text} over {total}")

    return check


@pytest.fixture(scope="session")
def differ():
    """An accepted difference, by the exact formula of each side.

    `theirs` follows the formula `they`, étude's `text` follows `we`, and the two are not the same; `again`,
    if there is one, is the text that gives theirs. A formula gives levels: shares of each group's own peak.
    """

    def check(
        theirs, they, text, we, total, *,
        again=None, again_tick=0, again_gates=(), again_total=None, within=1e-12, **plan,
    ):  # fmt: skip
        peak, scales = plan.get("peak", PEAK), plan.get("scales", SCALES)

        def rows(formula: Formula) -> Rows:
            levels = [formula(k) for k in range(len(theirs))]
            each = [[level] * len(scales) if isinstance(level, (int, float)) else level for level in levels]
            return [[peak * s * x for s, x in zip(scales, row, strict=True)] for row in each]

        same(theirs, rows(they), within, peak, "the peer's formula")
        mine = plan_rates(text, total, len(theirs), **plan)
        same(mine, rows(we), 1e-12, peak, f"the formula of {text} over {total}")
        with pytest.raises(AssertionError):  # a difference that is no more has no place in the list
            same(mine, theirs, 10 * within, peak, text)
        if again is not None:
            plan |= {"tick": again_tick, "gates": again_gates}
            reproduced = plan_rates(again, again_total or total, len(theirs), **plan)
            same(reproduced, theirs, within, peak, f"{again} over {again_total or total}")

    return check
