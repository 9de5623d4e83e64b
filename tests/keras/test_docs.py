"""The code of docs/keras.md runs as it is printed."""

# ruff: noqa: E402  # what the tests are about may not be installed

import re
from pathlib import Path

import pytest

keras = pytest.importorskip("keras", reason="needs keras")

import numpy as np

import etude

PAGE = (Path(__file__).parents[2] / "docs/keras.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.filterwarnings("ignore:.*__array__ implementation:DeprecationWarning")


class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.up, self.down = keras.layers.Dense(4), keras.layers.Dense(4)

    def call(self, x):
        return x + self.down(self.up(x))


class Encoder(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="encoder")
        self.stem, self.blocks = keras.layers.Dense(4), [Block(), Block()]

    def call(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


def test_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2, activation="softmax", name="classifier")(Encoder()(inputs))
    names = {
        "etude": etude, "keras": keras, "model": keras.Model(inputs, outputs), "batch_size": 4, "epochs": 2,
        "steps_per_epoch": 5, "x": np.ones((20, 3), np.float32), "y": np.zeros(20, np.int32),
    }  # fmt: skip
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        before = keras.ops.convert_to_numpy(names["model"].trainable_variables[0])
        exec(
            block.replace("epochs,", "epochs, verbose=0,").replace("epochs)\n", "epochs, verbose=0)\n", 1),
            names,
        )
        assert int(names["model"].optimizer.iterations) == (8 if "validation_split" in block else 10)
        assert np.isfinite(before).all()
        assert not np.array_equal(keras.ops.convert_to_numpy(names["model"].trainable_variables[0]), before)
    assert (tmp_path / "run" / "driver.json").exists()
