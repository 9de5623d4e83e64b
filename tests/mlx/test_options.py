"""The options of `etude.plan` on an MLX model."""

import pytest

pytest.importorskip("mlx.core", reason="needs mlx")

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

import etude
import etude.mlx
from etude.errors import PlanError


def model():
    return nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))


def moved(**options):
    """How far one update of SGD with unit gradients moves each layer's bias, as a ratio of the rate."""
    net = model()
    plan = etude.plan(etude.mlx.leaves(net), 0.25, **options)
    optimizer = etude.mlx.optimizer(plan.over(10), net, optim.SGD)
    before = [layer.bias[0].item() for layer in net.layers]
    optimizer.update(net, tree_map(mx.ones_like, net.trainable_parameters()))
    return [(b - layer.bias[0].item()) / 0.25 for b, layer in zip(before, net.layers, strict=True)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layer_decay": 0.5, "convention": "beit"}, [1 / 8, 1 / 4, 1 / 2]),
        ({"layer_decay": [0.5, 0.25, 0.125]}, [1 / 2, 1 / 4, 1 / 8]),
        ({"freeze": "layer.0"}, [0, 1, 1]),
        ({"stages": 'stage("layer.2", 0.5) >> stage()'}, [0, 0, 1]),
    ],
)
def test_options_reach_the_arrays(options, expected):
    assert moved(**options) == pytest.approx(expected, abs=1e-6)


def test_one_optimizer_cannot_drive_a_part_alone():
    net = model()
    plan = etude.plan(etude.mlx.leaves(net), 0.25, only=r"layers\.0")
    with pytest.raises(PlanError, match=r"in no group of the plan: layers\.1"):
        etude.mlx.optimizer(plan.over(10), net, optim.SGD)
