"""What an update uses where its number is an array: the same as `Rates` says for single numbers."""

import itertools

import numpy as np
import pytest

from etude import Advance, Group, Plan, Redraw, Rollback, Scale, Stop, Stretch, parse
from etude.core.sampling import counts, level, openings, sampled, schedule_of, values
from etude.errors import PlanError

GROUPS = [
    Group("late", gate=parse('frozen("29.2up") >> warmup(0.1) >> hold()')),
    Group("plain", scale={"lr": 10, "weight_decay": 0.5}),
    Group("early", gate=parse('cosine("50.2up") >> frozen()')),
    Group("never", gate=parse("frozen()")),
]
HYPERS = {
    "lr": "1e-3 * (warmup(0.1) >> hold(0.3) >> cosine(to=0.01)) * hold()",
    "weight_decay": "0.1 * linear()",
}
EDITS = {
    "none": (),
    "scales": (Scale(20.3, 0.5), Scale(30, 0.5, "weight_decay"), Scale(40, 3, groups="plain")),
    "advance": (Advance(20),),
    "stretch": (Stretch(50, 150.5),),
    "stop": (Stop(60),),
    "branch": (Scale(20, 0.5), Scale(40, 0.5), Rollback(50, 30, 1), Redraw(60, parse("linear()"), 120.5)),
}
UPDATES = list(range(160))
runs = pytest.mark.parametrize(
    ("tick", "total", "edits"), list(itertools.product((0, 0.5, 1), (100, 97.6), EDITS)), ids=str
)


def planned(tick, total, edits):
    rates = Plan(HYPERS, GROUPS, tick).over(total)
    for edit in EDITS[edits]:
        rates = rates.edit(edit)
    return rates


@runs
def test_values_are_those_of_the_rates_past_the_end_too(tick, total, edits):
    rates = planned(tick, total, edits)
    for hyper in HYPERS:
        exact = [rates.values(hyper, k) for k in UPDATES]
        top = np.max(exact)
        single = [values(rates, hyper)(k) for k in UPDATES]
        assert np.allclose(single, exact, rtol=1e-13, atol=1e-13 * top)
        several = np.stack(np.broadcast_arrays(*values(rates, hyper)(np.array(UPDATES))), axis=1)
        assert np.allclose(several, exact, rtol=1e-13, atol=1e-13 * top)


@runs
def test_gates_open_where_the_rates_say(tick, total, edits):
    rates = planned(tick, total, edits)
    exact = [rates.open(k) for k in UPDATES]
    assert [openings(rates)(k) for k in UPDATES] == exact
    assert openings(rates)(0)[1] is True
    assert openings(rates)(0)[3] is False
    made = np.cumsum([[0] * 4, *exact], axis=0)[:-1]
    assert [counts(rates)(k) for k in UPDATES] == made.tolist()
    assert np.stack(np.broadcast_arrays(*counts(rates)(np.array(UPDATES))), axis=1).tolist() == made.tolist()


@pytest.mark.parametrize("edits", EDITS)
def test_they_can_be_traced(edits):
    jax = pytest.importorskip("jax", reason="needs jax")
    rates = planned(0.5, 97.6, edits)

    @jax.jit
    @jax.vmap
    def everything(k):
        return values(rates)(k), openings(rates)(k), counts(rates)(k), level(rates)(k)

    found, flags, made, shared = everything(jax.numpy.array(UPDATES))
    exact = np.array([rates.values("lr", k) for k in UPDATES])
    assert np.allclose(np.stack(found, axis=1), exact, rtol=1e-6, atol=1e-8)
    assert np.stack(flags, axis=1).tolist() == [rates.open(k) for k in UPDATES]
    assert np.stack(made, axis=1).tolist() == [counts(rates)(k) for k in UPDATES]
    assert np.asarray(shared) == pytest.approx([level(rates)(k) for k in UPDATES], abs=1e-9)


def test_the_level_is_what_groups_without_a_gate_share():
    rates = Plan(HYPERS, [Group("one")]).over(97.6).edit(Redraw(50, parse("linear()"), 80))
    for hyper in HYPERS:
        assert [level(rates, hyper)(k) for k in UPDATES] == [
            row[0] for row in map(values(rates, hyper), UPDATES)
        ]


def test_a_curve_of_an_open_run():
    rate = sampled(parse("warmup(10) >> inv_sqrt()").over(float("inf")), tick=1)
    assert [rate(k) for k in (0, 9, 39)] == [0.1, 1, 0.5]


def test_one_schedule_of_several_is_named():
    rates = planned(0.5, 100, "none")
    assert schedule_of(rates, "weight_decay", "plain")(10) == rates.values("weight_decay", 10)[1]
    assert schedule_of(rates, group="early")(60) == 0
    with pytest.raises(PlanError, match="write group='late'"):
        schedule_of(rates)
    with pytest.raises(PlanError, match="no group 'plane'; did you mean 'plain'"):
        schedule_of(rates, group="plane")
    with pytest.raises(PlanError, match="no 'momentum'"):
        schedule_of(rates, "momentum", "plain")
