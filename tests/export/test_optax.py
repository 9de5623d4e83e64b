"""optax: every rate inside jit, and what real update steps use, in an interpreter without étude."""

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("optax") is None, reason="the written code is for optax")

SCRIPT = """
import jax
import jax.numpy as jnp
import optax

for name in CODES:
    module = load(name)
    k = jnp.arange(UPDATES[name])
    found = {}
    for hyper in ("LR", "WEIGHT_DECAY", "MOMENTUM"):
        if not hasattr(module, hyper):
            continue
        table = getattr(module, hyper)
        groups = table.values() if isinstance(table, dict) else [table]
        columns = [jax.vmap(jax.jit(lambda k, one=one: module.value(one, k)))(k).tolist() for one in groups]
        found[hyper.lower()] = list(zip(*columns))
    results[name] = found

def train(optimizer, params, read):
    state = optimizer.init(params)
    seen = []

    @jax.jit
    def step(params, state, k):
        gradients = jax.grad(lambda p: sum(jnp.sin((k + 1) * x).sum() for x in jax.tree.leaves(p)))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    weights, moments = [], []
    for k in range(97):
        weights.append(jax.tree.map(lambda x: x.tolist(), params))
        params, state = step(params, state, k)
        seen.append(jax.tree.map(float, read(state)))
    return seen, weights

one = train(optax.inject_hyperparams(optax.sgd)(load("golden").lr), {"a": jnp.ones(2)},
            lambda state: [state.hyperparams["learning_rate"]])
results["used golden"] = one[0]

module = load("groups, all scheduled")
names = list(module.GROUPS)
hypers = {"lr": "learning_rate", "weight_decay": "weight_decay", "momentum": "b1"}
tree = {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(2)}
groups = train(module.optimizer, tree, lambda state: {
    hyper: [state.inner_states[name].inner_state.hyperparams[key] for name in names]
    for hyper, key in hypers.items()
})
results["used groups"] = {hyper: [row[hyper] for row in groups[0]] for hyper in hypers}
results["weights"] = groups[1]

both = train(load("decay and momentum").optimizer, {"a": jnp.ones(2)}, lambda state: {
    hyper: [state.hyperparams[key]] for hyper, key in hypers.items()
})
results["used both"] = {hyper: [row[hyper] for row in both[0]] for hyper in hypers}

# A tree in Flax's spelling, planned in étude's.
spelt = load("spelt")
w = {"w": 1.0}
results["labels"] = spelt.labels(
    {"block": {"kernel": 1.0}, "block_1": {"kernel": 1.0}, "layers": [w, w], "Dense_0": {"w": {"value": 1.0}}}
)
try:
    spelt.labels({"new": 1.0})
except ValueError as error:
    results["missed"] = str(error)
"""


@pytest.fixture(scope="module")
def rates(runs):
    from etude import Group, Plan

    spelt = [
        Group("blocks", ("block.0.kernel", "block.1.kernel")),
        Group("top", ("layers.0.w", "layers.1.w", "Dense_0.w")),
    ]
    return {**runs(), "spelt": Plan({"lr": 1.0}, spelt).over(97)}


@pytest.fixture(scope="module")
def used(rates, elsewhere, updates):
    return elsewhere(rates, "optax", f"UPDATES = {updates(rates)}\n{SCRIPT}")


def test_a_run_of_one_group(simple, rates, used, every_value):
    every_value(rates[simple], used[simple])


def test_a_run_of_groups(grouped, rates, used, every_value):
    every_value(rates[grouped], used[grouped])


def test_real_steps_use_them(rates, used, same, every_value):
    same(rates["golden"], "lr", used["used golden"], 1e-6)
    every_value(rates["groups, all scheduled"], used["used groups"])
    every_value(rates["decay and momentum"], used["used both"])


def test_a_frozen_group_does_not_move_and_its_moments_begin_when_it_thaws(used):
    weights = used["weights"]
    assert weights[0]["a"] == weights[29]["a"] != weights[60]["a"]
    assert weights[0]["c"] != weights[1]["c"]
    # The first update of an Adam that has noted nothing is its rate, whatever the gradient.
    moved = abs(weights[31]["a"][0] - weights[30]["a"][0])
    assert moved == pytest.approx(used["used groups"]["lr"][30][0], rel=0.01)


def test_names_of_flax_and_of_étude_are_one(used):
    assert used["labels"] == {
        "block": {"kernel": "blocks"},
        "block_1": {"kernel": "blocks"},
        "layers": [{"w": "top"}, {"w": "top"}],
        "Dense_0": {"w": {"value": "top"}},
    }


def test_an_array_in_no_group_is_named(used):
    assert used["missed"] == "in no group: ['new']"
