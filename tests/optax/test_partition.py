"""Layer-wise rates: every group's weights move as the plan says, whatever optimizer moves them."""

# ruff: noqa: E402  # what the tests are about may not be installed

import functools

import numpy as np
import pytest

optax = pytest.importorskip("optax", reason="needs optax")

import jax
import jax.numpy as jnp

import etude
from etude.errors import PlanError
from etude.optax import leaves, partition

UPDATES = 12
SHAPE = "0.1 * (warmup(0.25) >> cosine(to=0.1))"


def params():
    blocks = {f"block_{i}": {"a": {"kernel": jnp.ones((2, 2))}, "b": {"bias": jnp.ones(2)}} for i in range(3)}
    body = {"embed": {"embedding": jnp.ones((3, 2))}, **blocks}
    return {"body": body, "head": {"kernel": jnp.ones((2, 1))}}


def planned(**options):
    return etude.plan(leaves(params()), SHAPE, layer_decay=0.5, head=4, **options)


def run(optimizer, tree=None, updates=UPDATES, gradient=1.0):
    """The weights before and after each update of a jitted loop with one gradient for all."""

    @jax.jit
    def step(tree, state):
        change, state = optimizer.update(
            jax.tree.map(lambda w: jnp.full_like(w, gradient), tree), state, tree
        )
        return optax.apply_updates(tree, change), state

    tree = params() if tree is None else tree
    state = optimizer.init(tree)
    seen = [tree]
    for _ in range(updates):
        tree, state = step(tree, state)
        seen.append(tree)
    assert step._cache_size() == 1
    return seen, state


def steps(seen, *path):
    """How far one weight moved in each update."""

    def first(tree):
        for key in path:
            tree = tree[key]
        return float(np.ravel(tree)[0])

    return -np.diff([first(tree) for tree in seen])


def peak(rates, k):
    """The rate of the last block in update k."""
    return next(
        rate
        for group, rate in zip(rates.plan.groups, rates.at(k)["lr"], strict=True)
        if group.scale["lr"] == 1
    )


WHERE = {
    ("body", "embed", "embedding"): 0.5**3,
    ("body", "block_0", "a", "kernel"): 0.5**2,
    ("body", "block_1", "b", "bias"): 0.5,
    ("body", "block_2", "a", "kernel"): 1,
    ("head", "kernel"): 4,
}


@pytest.mark.parametrize("tick", [0, 0.5])
def test_each_layer_moves_by_its_own_rate(tick):
    rates = planned(tick=tick).over(UPDATES)
    seen, state = run(partition(rates, params(), optax.sgd))
    for path, multiplier in WHERE.items():
        expected = [peak(rates, k) * multiplier for k in range(UPDATES)]
        assert steps(seen, *path) == pytest.approx(expected, abs=1e-6), path
    assert state.hypers["lr"].tolist() == pytest.approx(rates.at(UPDATES - 1)["lr"], rel=1e-6)


def test_adamw_gets_rates_and_weight_decay_of_each_group():
    """Beside optax's own: one adamw a leaf, its rate and its decay those of the plan."""
    rates = planned(weight_decay=0.3, tick=0).over(UPDATES)
    mine, _ = run(partition(rates, params(), functools.partial(optax.adamw, b2=0.9)), gradient=0.5)
    owner = {name: i for i, group in enumerate(rates.plan.groups) for name in group.params}
    for leaf in leaves(params()):
        rows = jnp.asarray(rates.matrix("lr"))[:, owner[leaf.name]]
        decay = rates.at(0)["weight_decay"][owner[leaf.name]]
        assert decay == (0 if leaf.name.endswith("bias") else 0.3)
        theirs = optax.adamw(lambda count, rows=rows: rows[count], b2=0.9, weight_decay=decay)
        other, _ = run(theirs, {"w": jnp.ones(leaf.shape)}, gradient=0.5)
        path = leaf.name.replace("block.", "block_").split(".")
        assert steps(mine, *path) == pytest.approx(steps(other, "w"), abs=1e-6), leaf.name


def test_weight_decay_and_momentum_follow_their_own_paths():
    hypers = {"lr": 0.1, "weight_decay": "0.5 * linear()", "momentum": "0.9 * linear()"}
    rates = etude.Plan(hypers, [etude.Group("all", ("w",))], tick=0).over(UPDATES)

    def sgdw(learning_rate, weight_decay, momentum):
        return optax.chain(
            optax.trace(momentum), optax.add_decayed_weights(weight_decay), optax.scale(-learning_rate)
        )

    seen, _ = run(partition(rates, {"w": jnp.ones(())}, sgdw), {"w": jnp.ones(())})
    weight, momentum = 1.0, 0.0
    for k in range(UPDATES):
        momentum = 0.9 * (1 - k / UPDATES) * momentum + 1
        weight -= 0.1 * (momentum + 0.5 * (1 - k / UPDATES) * weight)
        assert float(seen[k + 1]["w"]) == pytest.approx(weight, rel=1e-5)


def test_momentum_is_b1_where_an_optimizer_calls_it_so():
    rates = etude.Plan({"lr": 0.1, "momentum": 0.5}, [etude.Group("all", ("w",))]).over(UPDATES)
    mine, _ = run(partition(rates, {"w": jnp.ones(())}, optax.lion), {"w": jnp.ones(())}, gradient=0.3)
    theirs, _ = run(optax.lion(0.1, b1=0.5), {"w": jnp.ones(())}, gradient=0.3)
    assert [float(tree["w"]) for tree in mine] == pytest.approx([float(tree["w"]) for tree in theirs])


def sgdw(learning_rate, weight_decay):
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum=0.9))


def heedless(learning_rate, weight_decay):
    return optax.sgd(0.1, momentum=0.9)


@pytest.mark.parametrize("make", [optax.adamw, sgdw, heedless])
def test_a_frozen_group_stays_still_and_thaws_without_a_past(make):
    """Neither momentum, nor decay, nor Adam's own count of updates moves while it is frozen."""
    groups = [
        etude.Group("late", ("late",), gate="frozen(4) >> hold(start=1)"),
        etude.Group("early", ("early",), gate="hold(3) >> frozen()"),
        etude.Group("never", ("never",), gate="frozen()"),
        etude.Group("free", ("free",)),
    ]
    tree = {name: jnp.ones(2) for name in ("late", "early", "never", "free")}
    rates = etude.Plan({"lr": 0.1, "weight_decay": 0.2}, groups).over(UPDATES)
    seen, state = run(partition(rates, tree, make), tree, gradient=0.7)
    late, early, never, free = (steps(seen, name) for name in tree)
    assert np.all(late[:4] == 0)
    assert late[4:] == pytest.approx(free[: UPDATES - 4], abs=1e-6)
    assert early[:3] == pytest.approx(free[:3], abs=1e-6)
    assert np.all(early[3:] == 0)
    assert np.all(never == 0)
    assert np.all(free != 0)
    assert state.open.tolist() == [True, False, False, True]


def test_it_stands_in_a_chain_behind_what_looks_at_all_gradients():
    rates = planned().over(UPDATES)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), partition(rates, params(), optax.sgd))
    size = sum(leaf.size for leaf in leaves(params()))
    seen, _ = run(optimizer)
    expected = [peak(rates, k) * 4 * 0.5 / np.sqrt(size) for k in range(UPDATES)]
    assert steps(seen, "head", "kernel") == pytest.approx(expected, abs=1e-6)


def test_what_does_not_train_stays_still():
    def trains(name):
        return not name.startswith("body.embed")

    plan = etude.plan(leaves(params(), trains), SHAPE, layer_decay=0.5)
    seen, _ = run(partition(plan.over(UPDATES), params(), optax.sgd, trainable=trains))
    assert np.all(steps(seen, "body", "embed", "embedding") == 0)
    assert np.all(steps(seen, "body", "block_0", "b", "bias") > 0)


def test_another_tree_than_the_one_it_was_made_for_is_refused():
    optimizer = partition(planned().over(UPDATES), params(), optax.sgd)
    other = {**params(), "tail": jnp.ones(2)}
    with pytest.raises(PlanError, match="tail was not among the parameters"):
        optimizer.init(other)


def test_an_update_needs_no_parameters_where_its_optimizer_needs_none():
    rates = planned().over(UPDATES)
    optimizer = partition(rates, params(), optax.sgd)
    updates, _ = optimizer.update(params(), optimizer.init(params()))
    assert float(updates["head"]["kernel"][0, 0]) == pytest.approx(-4 * peak(rates, 0))
    assert jax.tree.structure(updates) == jax.tree.structure(params())


def test_extra_arguments_reach_every_group():
    rates = etude.Plan({"lr": 1.0}, [etude.Group("all", ("w",))]).over(UPDATES)
    optimizer = partition(
        rates, {"w": jnp.ones(2)}, lambda learning_rate: optax.polyak_sgd(scaling=learning_rate)
    )
    state = optimizer.init({"w": jnp.ones(2)})
    updates, _ = optimizer.update({"w": jnp.ones(2)}, state, {"w": jnp.ones(2)}, value=1.0)
    assert updates["w"].tolist() == pytest.approx([-0.5, -0.5], rel=1e-5)


def test_a_plan_of_other_parameters_is_refused():
    plan, tree = planned(), params()
    del tree["head"]
    with pytest.raises(PlanError, match=r"no head\.kernel; known: "):
        partition(plan, tree)
    tree["tail"] = jnp.ones(2)
    with pytest.raises(PlanError, match="head"):
        partition(plan, tree)
    with pytest.raises(PlanError, match="in no group of the plan: tail; plan etude"):
        partition(plan, {**params(), "tail": jnp.ones(2)})


def test_a_hyper_parameter_that_the_optimizer_has_not_is_refused():
    with pytest.raises(PlanError, match="sgd takes no 'weight_decay'"):
        partition(planned(weight_decay=0.1), params(), optax.sgd)
    assert partition(planned(weight_decay=0), params(), optax.sgd)
