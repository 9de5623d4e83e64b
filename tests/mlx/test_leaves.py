"""What an MLX model tells of its parameters."""

# what the tests are about may not be installed

import subprocess
import sys

import pytest

pytest.importorskip("mlx.core", reason="needs mlx")

import mlx.nn as nn

import etude
from etude.mlx import leaves
from etude.model.leaf import decays


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Module()
        self.body.embed = nn.Embedding(10, 8)
        self.body.encoder = nn.TransformerEncoder(3, 8, 2)
        self.head = nn.Linear(8, 2)


def test_blocks_embeddings_and_head_are_found():
    plan = etude.plan(leaves(Classifier()), 1e-3, layer_decay=0.5, head=4)
    rate = {name: group.scale["lr"] for group in plan.groups for name in group.params}
    assert rate["body.embed.weight"] == 0.5**3
    assert [rate[f"body.encoder.layers.{i}.linear1.bias"] for i in range(3)] == [0.25, 0.5, 1]
    assert rate["body.encoder.ln.weight"] == 1
    assert rate["head.weight"] == 4


def test_biases_and_norms_do_not_decay():
    decayed = {leaf.name.rpartition(".")[0] for leaf in leaves(Classifier()) if decays(leaf)}
    assert {"body.embed", "head", "body.encoder.layers.0.attention.query_proj"} <= decayed
    assert not any(".ln" in name for name in decayed)
    assert not any(decays(leaf) for leaf in leaves(Classifier()) if leaf.name.endswith("bias"))


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(1, 2, 3), "Conv"),
        (nn.ConvTranspose1d(1, 2, 3), "Conv"),
        (nn.BatchNorm(4), "Norm"),
        (nn.RMSNorm(4), "Norm"),
        (nn.QuantizedLinear(64, 64), "Linear"),
        (nn.PReLU(), "PReLU"),
    ],
)
def test_kinds(module, kind):
    found = leaves(nn.Sequential(module))
    assert found
    assert {leaf.module for leaf in found} == {kind}


def test_what_is_frozen_does_not_train():
    model = Classifier()
    model.body.embed.freeze()
    assert [leaf.name for leaf in leaves(model) if not leaf.trainable] == ["body.embed.weight"]
    assert not any(leaf.trainable for leaf in leaves(nn.Sequential(nn.QuantizedLinear(64, 64))))


def test_an_array_of_two_modules_is_one_parameter():
    model = Classifier()
    model.tail = model.head
    found = {leaf.name: leaf.tied_to for leaf in leaves(model)}
    assert found["head.weight"] is None
    assert found["tail.weight"] == "head.weight"


def test_without_mlx_it_says_what_to_install():
    code = "import sys; sys.modules['mlx'] = None\nimport etude.mlx"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtra: not installed: mlx; write: pip install 'etude[mlx]'" in outcome.stderr
