"""The options of `etude.plan` on a Keras model."""

# ruff: noqa: E402  # what the tests are about may not be installed

import pytest

keras = pytest.importorskip("keras", reason="needs keras")

import etude
import etude.keras
from etude.errors import PlanError


def model():
    layers = [keras.layers.Dense(2, name=f"block_{i}", kernel_initializer="ones") for i in range(3)]
    return keras.Sequential([keras.Input((2,)), *layers])


def moved(**options):
    """How far one update of SGD with unit gradients moves each layer's bias, as a ratio of the rate."""
    net = model()
    plan = etude.plan(etude.keras.leaves(net), 0.25, **options)
    optimizer = etude.keras.optimizer(keras.optimizers.SGD(), plan.over(10), net)
    variables = net.trainable_variables
    optimizer.apply([keras.ops.ones(variable.shape) for variable in variables], variables)
    return [-float(keras.ops.convert_to_numpy(layer.bias)[0]) / 0.25 for layer in net.layers]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layer_decay": 0.5, "convention": "beit"}, [1 / 8, 1 / 4, 1 / 2]),
        ({"layer_decay": [0.5, 0.25, 0.125]}, [1 / 2, 1 / 4, 1 / 8]),
        ({"freeze": "layer.0"}, [0, 1, 1]),
        ({"stages": 'stage("layer.2", 0.5) >> stage()'}, [0, 0, 1]),
    ],
)
def test_options_reach_the_variables(options, expected):
    assert moved(**options) == pytest.approx(expected)


def test_one_optimizer_cannot_drive_a_part_alone():
    net = model()
    plan = etude.plan(etude.keras.leaves(net), 0.25, only="block.0")
    with pytest.raises(PlanError, match=r"in no group of the plan: .*block\.1\.kernel"):
        etude.keras.optimizer(keras.optimizers.SGD(), plan.over(10), net)
