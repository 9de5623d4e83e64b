"""The code of docs/mlx.md runs as it is printed."""

# ruff: noqa: E402  # what the tests are about may not be installed

import re
from pathlib import Path

import pytest

mx = pytest.importorskip("mlx.core", reason="needs mlx")

import functools

import mlx.nn as nn
import mlx.optimizers as optim

import etude

PAGE = (Path(__file__).parents[2] / "docs/mlx.md").read_text(encoding="utf-8")


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Module()
        self.body.embed = nn.Embedding(4, 4)
        self.body.layers = [nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(2)]
        self.head = nn.Linear(4, 2)

    def __call__(self, x):
        x = self.body.embed(x)
        for layer in self.body.layers:
            x = x + layer(x)
        return self.head(x)


def test_the_page(monkeypatch):
    monkeypatch.setattr(mx, "compile", lambda step, **state: step)  # on a CPU it calls g++ for half a minute
    model = Classifier()
    names = {
        "etude": etude, "functools": functools, "mx": mx, "nn": nn, "optim": optim, "model": model,
        "batches": [(mx.array([0, 1, 2]), mx.array([0, 1, 1]))] * 12, "evaluate": lambda model: 1.0,
        "loss": lambda model, x, y: nn.losses.cross_entropy(model(x), y, reduction="mean"),
    }  # fmt: skip
    before = mx.array(model.head.weight)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    assert names["k"] == 11
    assert names["driver"].read() == pytest.approx(names["driver"].at(11)["lr"], rel=1e-6)
    assert mx.abs(model.head.weight - before).max().item() > 1e-4
