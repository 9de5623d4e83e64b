"""A driver beside a jitted loop: its rates are data in the state, and edits compile nothing anew."""

# ruff: noqa: E402  # what the tests are about may not be installed

import pathlib
import subprocess
import sys

import numpy as np
import pytest

optax = pytest.importorskip("optax", reason="needs optax")

import jax
import jax.numpy as jnp

import etude
from etude.errors import EtudeError
from etude.optax import partition, put

GROUPS = [
    etude.Group("body", ("body",), gate="frozen(5) >> hold(start=1)"),
    etude.Group("head", ("head",), scale={"lr": 10}),
]
PLAN = etude.Plan({"lr": "0.01 * (warmup(4) >> hold(6) >> linear())", "weight_decay": 0.1}, GROUPS)


def tree():
    return {"body": jnp.ones(2), "head": jnp.ones(2)}


class Loop:
    """A jitted loop that counts how often it was traced."""

    def __init__(self, optimizer, params):
        self.traces, self.params, self.state = 0, params, optimizer.init(params)

        @jax.jit
        def step(params, state):
            self.traces += 1
            change, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
            return optax.apply_updates(params, change), state

        self.step = step

    def update(self):
        before = self.params
        self.params, self.state = self.step(self.params, self.state)
        return {name: float(before[name][0] - self.params[name][0]) for name in before}


def test_edits_act_on_the_next_update_and_compile_nothing():
    def sgdw(learning_rate, weight_decay):
        return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate))

    driver = etude.Driver(PLAN.over(20))
    loop = Loop(partition(PLAN, tree(), sgdw), tree())
    edits = {
        3: etude.Scale(3, 0.5),
        7: etude.Advance(7),
        9: etude.Scale(9, 2, "weight_decay"),
        10: etude.Scale(10, 3, "lr", "head"),
        12: etude.Stretch(12, 25),
    }
    moved = 0
    for k in range(25):
        if k in edits:
            driver.edit(edits[k])
        loop.state = put(loop.state, driver.at(k), driver.rates.open(k))
        held, weights = driver.at(k), {name: float(array[0]) for name, array in loop.params.items()}
        change = loop.update()
        for i, name in enumerate(("body", "head")):
            expected = held["lr"][i] * (1 + held["weight_decay"][i] * weights[name])
            assert change[name] == pytest.approx(expected, abs=2e-7), (k, name)
            moved += expected > 0
    assert moved == 45
    assert loop.traces == loop.step._cache_size() == 1


def test_controllers_drive_the_loop_through_the_state():
    halve = etude.Driver(PLAN.over(20))
    loop = Loop(partition(PLAN, tree()), tree())
    for k in range(10):
        if k == 6:
            halve.edit(etude.Scale(6, 0, groups="head", author="controller"))
        loop.state = put(loop.state, halve.at(k), halve.rates.open(k))
        change = loop.update()
        assert (change["head"] == 0) == (k >= 6)
        assert (change["body"] == 0) == (k < 5)


def test_rates_that_were_never_put_do_not_go_unnoticed():
    loop = Loop(partition(PLAN, tree()), tree())
    assert np.isnan(loop.update()["head"])


def test_inject_hyperparams_of_one_group():
    plan = etude.Plan({"lr": "0.5 * linear()", "momentum": "0.9 * linear()"}, tick=0)
    driver = etude.Driver(plan.over(10))
    make = optax.inject_hyperparams(optax.sgd)
    loop = Loop(optax.chain(optax.identity(), make(learning_rate=0.0, momentum=0.0)), {"w": jnp.ones(2)})
    momentum = 0.0
    for k in range(10):
        loop.state = put(loop.state, driver.at(k))
        momentum = 0.9 * (1 - k / 10) * momentum + 1
        assert loop.update()["w"] == pytest.approx(0.5 * (1 - k / 10) * momentum, rel=1e-5, abs=1e-6)
    assert loop.traces == 1


def test_values_may_be_handed_to_the_jitted_function():
    optimizer = partition(PLAN, tree(), optax.adamw)
    driver = etude.Driver(PLAN.over(20))

    @jax.jit
    def step(params, state, values, open):
        return optimizer.update(params, put(state, values, open), params)

    _, state = step(tree(), optimizer.init(tree()), driver.at(7), driver.rates.open(7))
    assert state.hypers["lr"].tolist() == pytest.approx([0.01, 0.1])
    with pytest.raises(EtudeError, match="inside jit would compile"):
        jax.jit(lambda state: put(state, driver.at(7), driver.rates.open(7)))(state)


def test_a_state_that_takes_no_rates_is_refused():
    values = etude.Plan({"lr": 0.1}).over(10).at(0)
    params = {"w": jnp.ones(2)}
    with pytest.raises(EtudeError, match=r"etude\.optax\.partition"):
        put(optax.adam(0.1).init(params), values)
    scheduled = optax.inject_hyperparams(optax.adam)(learning_rate=optax.constant_schedule(0.1))
    with pytest.raises(EtudeError, match="follows a schedule"):
        put(scheduled.init(params), values)
    one = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1).init(params)
    with pytest.raises(EtudeError, match="2 values of 'lr' for 1 groups"):
        put(one, {"lr": [0.1, 0.2]})
    with pytest.raises(EtudeError, match="no 'weight_decay'"):
        put(one, {"lr": [0.1], "weight_decay": [0.2]})
    assert put(one, {"lr": [0.1], "weight_decay": [0.0]})


def test_a_value_has_the_type_that_the_state_has():
    make = optax.inject_hyperparams(optax.sgd, hyperparam_dtype=jnp.bfloat16)
    state = put(make(learning_rate=0.5).init({"w": jnp.ones(2)}), {"lr": [0.1]})
    assert state.hyperparams["learning_rate"].dtype == jnp.bfloat16


def test_a_plan_that_freezes_needs_to_be_told_who_trains():
    state = partition(PLAN, tree()).init(tree())
    with pytest.raises(EtudeError, match=r"driver\.rates\.open\(k\)"):
        put(state, PLAN.over(20).at(0))


SHARDED = """
import jax, jax.numpy as jnp, optax, etude
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from etude.optax import partition, put
mesh = Mesh(jax.devices(), ("data",))
everywhere = NamedSharding(mesh, PartitionSpec())
params = jax.device_put({"body": jnp.ones(2), "head": jnp.ones(2)}, everywhere)
plan = etude.Plan({"lr": "0.1 * linear()"}, [etude.Group("body", ("body",)), etude.Group("head", ("head",))])
optimizer, rates = partition(plan, params), plan.over(10)
step = jax.jit(lambda params, state: optimizer.update(params, state, params))
state = jax.device_put(optimizer.init(params), everywhere)
for k in range(5):
    state = put(state, rates.at(k))
    assert state.hypers["lr"].sharding == everywhere
    _, state = step(params, state)
print(len(jax.devices()), step._cache_size())
"""


def test_rates_go_where_the_state_is_on_several_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    source = pathlib.Path(etude.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(source), **flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split() == ["2", "1"], run.stderr[-2000:]
