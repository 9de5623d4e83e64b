"""What a pytree tells of its parameters, in the spellings of the libraries that make such trees."""

# what the tests are about may not be installed

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("optax", reason="needs optax")

import etude
from etude.errors import PlanError
from etude.model.leaf import decays
from etude.optax import leaves


def array(*shape):
    return np.zeros(shape, np.float32)


def block(width=4):
    """One block of a transformer as Flax's linen names its parameters."""
    return {
        "LayerNorm_0": {"scale": array(width), "bias": array(width)},
        "attention": {"query": {"kernel": array(width, 2, 2), "bias": array(2, 2)}},
        "Dense_0": {"kernel": array(width, width), "bias": array(width)},
        "Dense_1": {"kernel": array(width, width), "bias": array(width)},
    }


@pytest.fixture
def encoder():
    return {
        "params": {
            "embed": {"embedding": array(10, 4)},
            **{f"encoderblock_{i}": block() for i in range(12)},
            "final_norm": {"scale": array(4), "bias": array(4)},
            "head": {"kernel": array(4, 2), "bias": array(2)},
        }
    }


def test_a_linen_tree_has_its_blocks_in_a_chain(encoder):
    plan = etude.plan(leaves(encoder), 1e-3, layer_decay=0.9, weight_decay=0.1)
    rate = {name: group.scale["lr"] for group in plan.groups for name in group.params}
    assert rate["params.encoderblock.11.Dense.0.kernel"] == 1
    assert rate["params.encoderblock.2.Dense.1.bias"] == pytest.approx(0.9**9)
    assert rate["params.embed.embedding"] == pytest.approx(0.9**12)
    assert rate["params.final_norm.scale"] == 1


def test_kinds_are_guessed_well_enough_to_tell_what_decays(encoder):
    decayed = {leaf.name.removeprefix("params.") for leaf in leaves(encoder) if decays(leaf)}
    inside = {
        f"encoderblock.{i}.{part}.kernel"
        for i in range(12)
        for part in ("Dense.0", "Dense.1", "attention.query")
    }
    assert decayed == {"embed.embedding", "head.kernel", *inside}


@pytest.mark.parametrize(
    ("tree", "kinds"),
    [
        ({"Conv_0": {"kernel": array(3, 3, 4, 8), "bias": array(8)}}, {"Conv", "Linear"}),
        ({"mlp/~/linear_0": {"w": array(4, 4), "b": array(4)}}, {"Linear"}),
        ({"layer_norm": {"scale": array(4), "offset": array(4)}}, {"Norm"}),
        ({"layers": [{"ln_1": {"weight": array(4), "bias": array(4)}}]}, {"Norm"}),
        ({"mystery": {"table": array(4, 4)}}, {""}),
    ],
)
def test_kinds(tree, kinds):
    assert {leaf.module for leaf in leaves(tree)} == kinds


def test_the_variables_of_nnx_are_named_without_their_last_step():
    tree = {"layers": [{"kernel": {"value": array(4, 4)}}, {"kernel": {"value": array(4, 4)}}]}
    assert [leaf.name for leaf in leaves(tree)] == ["layers.0.kernel", "layers.1.kernel"]


def test_one_name_for_two_arrays_is_refused():
    with pytest.raises(PlanError, match=r"two arrays of this tree are called block\.1"):
        leaves({"block": {"1": array(2)}, "block.1": array(2)})


def test_what_does_not_train_is_in_no_group(encoder):
    found = leaves(encoder, trainable=lambda name: ".embed." not in name)
    plan = etude.plan(found, 1e-3, layer_decay=0.9)
    assert not any("embed" in name for group in plan.groups for name in group.params)


def test_the_order_is_that_in_which_dictionaries_were_filled():
    """An embedding without the name of one: it comes before the blocks, so it stands below them."""
    blocks = {
        f"block_{i}": {"up": {"kernel": array(4, 4)}, "down": {"kernel": array(4, 4)}} for i in range(2)
    }
    tree = {"model": {"stem": {"kernel": array(4, 4)}, **blocks}, "classifier": {"kernel": array(4, 2)}}
    assert leaves(tree)[0].name == "model.stem.kernel"
    plan = etude.plan(leaves(tree), 1e-3, layer_decay=0.5, head=3)
    rate = {name: group.scale["lr"] for group in plan.groups for name in group.params}
    assert (rate["model.stem.kernel"], rate["model.block.1.down.kernel"], rate["classifier.kernel"]) == (
        0.25,
        1,
        3,
    )
    assert [leaf.name for leaf in leaves([{"b": array(2), "a": array(2)}, array(2)])] == ["0.b", "0.a", "1"]


def test_without_optax_it_says_what_to_install():
    code = "import sys; sys.modules['optax'] = None\nimport etude.optax"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtra: not installed: optax; write: pip install 'etude[optax]'" in outcome.stderr
