"""The options of `etude.plan` on a pytree: conventions, LoRA+, freezing, a part alone."""

# ruff: noqa: E402  # what the tests are about may not be installed

import pytest

optax = pytest.importorskip("optax", reason="needs optax")

import jax
import jax.numpy as jnp

import etude
from etude.errors import PlanError
from etude.optax import leaves, partition


def params():
    block = {"a": {"kernel": jnp.ones((2, 2)), "lora_b": jnp.ones((2, 1))}, "b": {"bias": jnp.ones(2)}}
    body = {"embed": {"embedding": jnp.ones((3, 2))}, **{f"block_{i}": block for i in range(3)}}
    return {"body": body, "head": {"kernel": jnp.ones((2, 1))}}


def moved(**options):
    """How far two updates of SGD with unit gradients move the arrays, as ratios of the rate."""
    tree = params()
    optimizer = partition(etude.plan(leaves(tree), 0.25, **options).over(10), tree, optax.sgd)
    state = optimizer.init(tree)
    for _ in range(2):
        change, state = optimizer.update(jax.tree.map(jnp.ones_like, tree), state, tree)
        tree = optax.apply_updates(tree, change)
    body = tree["body"]
    layers = [body[f"block_{i}"]["a"][name] for i in range(3) for name in ("kernel", "lora_b")]
    arrays = body["embed"]["embedding"], *layers, tree["head"]["kernel"]
    return [(1 - float(array.ravel()[0])) / 0.5 for array in arrays]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layer_decay": 0.5, "convention": "beit"}, [1 / 16, 1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 2, 1 / 2, 1]),
        ({"layer_decay": 0.5, "lora_plus": 4, "head": 2}, [1 / 8, 1 / 4, 1, 1 / 2, 2, 1, 4, 2]),
        ({"freeze": ["layer.0", lambda leaf: "lora_b" in leaf.name]}, [0, 0, 0, 1, 0, 1, 0, 1]),
        ({"stages": "lp_ft(0.5)"}, [0] * 7 + [1]),
    ],
)
def test_options_reach_the_arrays(options, expected):
    assert moved(**options) == pytest.approx(expected)


def test_a_part_alone_leaves_the_rest_still_only_where_that_is_said():
    tree = params()
    plan = etude.plan(leaves(tree), 0.25, only="block_?")
    with pytest.raises(PlanError, match="in no group of the plan"):
        partition(plan.over(10), tree, optax.sgd)
    part = partition(plan.over(10), tree, optax.sgd, trainable=lambda name: ".block." in name)
    assert part.init(tree)
