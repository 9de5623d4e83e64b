"""What a Keras model tells of its parameters."""

# ruff: noqa: E402  # what the tests are about may not be installed

import subprocess
import sys

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs keras")

import etude
from etude.errors import PlanError
from etude.keras import leaves
from etude.model.leaf import decays


class Block(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.attention = keras.layers.MultiHeadAttention(2, 4)
        self.first, self.second = keras.layers.Dense(8), keras.layers.Dense(8)
        self.norm = keras.layers.LayerNormalization()

    def call(self, x):
        return self.norm(self.second(self.first(x + self.attention(x, x))))


class Encoder(keras.layers.Layer):
    def __init__(self, names, **options):
        super().__init__(**options)
        self.embed = keras.layers.Embedding(10, 8)
        self.blocks = [Block(name=name) for name in names]

    def call(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return keras.ops.mean(x, axis=1)


def classifier(*names):
    x = keras.Input((5,), dtype="int32")
    return keras.Model(x, keras.layers.Dense(2, name="classifier")(Encoder(names, name="encoder")(x)))


@pytest.mark.parametrize("names", [(None,) * 3, ("layer_0", "layer_1", "layer_2")])
def test_blocks_embeddings_and_head_are_found_whatever_keras_numbers(names):
    """A second model of one process has other automatic numbers, and the same names here."""
    rates = []
    for _ in range(2):
        plan = etude.plan(leaves(classifier(*names)), 1e-3, layer_decay=0.5, head=4)
        rates.append({name: group.scale["lr"] for group in plan.groups for name in group.params})
    assert rates[0] == rates[1]
    list_name = "layer" if names[0] else "block"
    for i in range(3):
        assert rates[0][f"encoder.{list_name}.{i}.dense.1.kernel"] == 0.5 ** (2 - i)
        assert rates[0][f"encoder.{list_name}.{i}.layer_normalization.gamma"] == 0.5 ** (2 - i)
    assert rates[0]["encoder.embedding.embeddings"] == 0.5**3
    assert rates[0]["classifier.bias"] == 4


def test_biases_and_norms_do_not_decay():
    decayed = {leaf.name for leaf in leaves(classifier("layer_0", "layer_1")) if decays(leaf)}
    inside = ("attention_output", "key", "query", "value")
    assert decayed == {
        "encoder.embedding.embeddings",
        "classifier.kernel",
        *(f"encoder.layer.{i}.dense.{j}.kernel" for i in (0, 1) for j in (0, 1)),
        *(f"encoder.layer.{i}.multi_head_attention.{part}.kernel" for i in (0, 1) for part in inside),
    }


@pytest.mark.parametrize(
    ("layer", "kind", "count"),
    [
        (keras.layers.Conv2D(2, 3), "Conv", 2),
        (keras.layers.Conv2DTranspose(2, 3), "Conv", 2),
        (keras.layers.BatchNormalization(), "Norm", 2),
        (keras.layers.RMSNormalization(), "Norm", 1),
        (keras.layers.PReLU(), "PReLU", 1),
    ],
)
def test_kinds(layer, kind, count):
    layer(np.ones((1, 4, 4, 3), np.float32))
    x = keras.Input((4, 4, 3))
    found = leaves(keras.Model(x, layer(x)))
    assert [leaf.module for leaf in found] == [kind] * count


def test_what_is_frozen_is_there_and_does_not_train():
    model = classifier("layer_0", "layer_1")
    before = {leaf.name for leaf in leaves(model)}
    model.get_layer("encoder").embed.trainable = False
    assert {leaf.name for leaf in leaves(model)} == before
    assert [leaf.name for leaf in leaves(model) if not leaf.trainable] == ["encoder.embedding.embeddings"]


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(PlanError, match="build it"):
        leaves(keras.Sequential([keras.layers.Dense(2)]))


def test_two_parameters_of_one_name_are_refused():
    class Twins(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.one, self.other = keras.layers.Dense(2, name="twin"), keras.layers.Dense(2, name="twin")

        def call(self, x):
            return self.one(x) + self.other(x)

    x = keras.Input((2,))
    with pytest.raises(PlanError, match=r"two parameters are called .*twin\.kernel"):
        leaves(keras.Model(x, Twins()(x)))


def test_without_keras_it_says_what_to_install():
    code = "import sys; sys.modules['keras'] = None\nimport etude.keras"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtra: not installed: keras; write: pip install 'etude[keras]'" in outcome.stderr
