"""A schedule as the `learning_rate` of optax's own optimizers, inside jit."""

# ruff: noqa: E402  # what the tests are about may not be installed

import numpy as np
import pytest

optax = pytest.importorskip("optax", reason="needs optax")

import jax
import jax.numpy as jnp

import etude
from etude.errors import PlanError
from etude.optax import schedule

TEXT = "2e-3 * (warmup(0.1) >> hold(0.2) >> cosine(to=0.01))"


def moved(optimizer, updates):
    """How far each update of a jitted loop moves a weight whose gradient is 1."""

    @jax.jit
    def step(params, state):
        change, state = optimizer.update({"w": jnp.ones(())}, state, params)
        return optax.apply_updates(params, change), state

    params = {"w": jnp.zeros(())}
    state = optimizer.init(params)
    found = [0.0]
    for _ in range(updates):
        params, state = step(params, state)
        found.append(float(params["w"]))
    return -np.diff(found)


@pytest.mark.parametrize("tick", [0, 0.5, 1])
@pytest.mark.parametrize("total", [40, 36.7])
def test_the_weights_move_by_the_rates_of_the_plan(tick, total):
    rates = etude.Plan({"lr": TEXT}, tick=tick).over(total)
    found = moved(optax.sgd(schedule(rates)), 45)
    assert found == pytest.approx([rates.at(k)["lr"][0] for k in range(45)], abs=3e-9)
    assert max(found) > 1.9e-3


def test_a_curve_is_read_at_a_tick():
    curve = etude.parse(TEXT).over(40)
    for tick in (0, 0.5, 1):
        rates = etude.Plan({"lr": TEXT}, tick=tick).over(40)
        mine = [float(schedule(curve, tick=tick)(k)) for k in range(40)]
        assert mine == pytest.approx([row[0] for row in rates.matrix()], rel=1e-12)
    assert float(schedule(curve)(0)) == 2e-3 / 8


def test_it_agrees_with_optax_at_tick_0():
    theirs = optax.warmup_cosine_decay_schedule(0.0, 2e-3, 100, 1000, 2e-5)
    mine = schedule(etude.parse("2e-3 * (warmup(100) >> cosine(to=0.01))").over(1000), tick=0)
    counts = jnp.arange(1200)
    assert np.allclose(jax.vmap(mine)(counts), jax.vmap(theirs)(counts), rtol=2e-6, atol=1e-10)


def test_it_works_in_scan_and_for_arrays_of_counts():
    rate = schedule(etude.parse(TEXT).over(40))
    host = [float(rate(k)) for k in range(40)]
    _, scanned = jax.lax.scan(lambda k, _: (k + 1, rate(k)), jnp.int32(0), length=40)
    assert scanned.tolist() == pytest.approx(host, rel=1e-6, abs=1e-7 * max(host))
    assert rate(jnp.arange(40).reshape(8, 5)).shape == (8, 5)
    assert rate(np.arange(40)).tolist() == host


def test_single_updates_differ_at_the_end_of_a_run_of_20_million():
    rates = etude.Plan({"lr": "hold(19_999_000) >> linear()"}).over(20_000_000)
    rate = jax.jit(schedule(rates))
    found = [float(rate(jnp.int32(19_999_000 + i))) for i in range(1000)]
    assert found == pytest.approx([rates.at(19_999_000 + i)["lr"][0] for i in range(1000)], abs=1e-7)
    assert len(set(found)) == 1000


def test_edits_made_before_are_in_the_schedule():
    rates = etude.Plan({"lr": TEXT}).over(40).edit(etude.Scale(10.5, 0.5)).edit(etude.Stretch(20, 60))
    assert moved(optax.sgd(schedule(rates)), 60) == pytest.approx(
        [row[0] for row in rates.matrix()], abs=3e-9
    )


def test_one_group_of_several_and_other_hyper_parameters():
    groups = [etude.Group("body", gate="frozen(0.5) >> hold(start=1)"), etude.Group("head", scale={"lr": 10})]
    rates = etude.Plan({"lr": TEXT, "momentum": "0.9 * hold()"}, groups).over(40)
    rows = rates.matrix()
    for i, name in enumerate(("body", "head")):
        assert moved(optax.sgd(schedule(rates, group=name)), 40) == pytest.approx(
            [r[i] for r in rows], abs=3e-8
        )
    assert float(schedule(rates, "momentum", group="head")(jnp.int32(3))) == pytest.approx(0.9)


def test_what_the_plan_has_not_is_refused():
    rates = etude.Plan({"lr": TEXT}, [etude.Group("body"), etude.Group("head")]).over(40)
    with pytest.raises(PlanError, match="write group='body'"):
        schedule(rates)
    with pytest.raises(PlanError, match="no group 'heat'; did you mean 'head'"):
        schedule(rates, group="heat")
    with pytest.raises(PlanError, match="no 'weight_decay'"):
        schedule(rates, "weight_decay", group="head")
