"""Keras' configurations against keras itself, which computes in float32, in a process of its own.

A process has one back end; numpy's is the fast one for single numbers.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from etude import Plan
from etude.convert.converted import recognised
from etude.convert.keras.configs import keras
from etude.errors import RecipeError

pytestmark = pytest.mark.skipif(find_spec("keras") is None, reason="keras")

UPDATES = 97


def config(name, **config):
    return {"class_name": name, "config": config}


CURVES = [
    *(
        ("CosineDecay", {"initial_learning_rate": 1e-3, "decay_steps": steps, **floor, **warm})
        for steps in (1, 60, 87, 97, 500)
        for floor in ({}, {"alpha": 0.1})
        for warm in ({}, {"warmup_target": 2e-3, "warmup_steps": 10}, {"warmup_target": 2e-3})
    ),
    *(
        (name, {"initial_learning_rate": 1e-3, "decay_steps": 20, "decay_rate": rate, "staircase": staircase})
        for name in ("ExponentialDecay", "InverseTimeDecay")
        for rate in (0.5, 1.0, 1.1)
        for staircase in (False, True)
    ),
    ("InverseTimeDecay", {"initial_learning_rate": 1e-3, "decay_steps": 20, "decay_rate": 0.0}),
    *(
        ("PolynomialDecay", {"initial_learning_rate": 1e-3, "decay_steps": steps, "power": power, **end})
        for steps in (60, 97)
        for power in (0.5, 1.0, 2.0)
        for end in ({}, {"end_learning_rate": 0.0}, {"end_learning_rate": 1e-2})
    ),
    *(
        (
            "PolynomialDecay",
            {"initial_learning_rate": 1e-3, "decay_steps": 19.4, "power": power, "cycle": True},
        )
        for power in (0.5, 1.0, 2.0)
    ),
    ("PolynomialDecay", {"initial_learning_rate": 1e-3, "decay_steps": 20, "cycle": True}),
    ("PiecewiseConstantDecay", {"boundaries": [30], "values": [1e-3, 1e-4]}),
    ("PiecewiseConstantDecay", {"boundaries": [30, 60], "values": [1e-3, 1e-4, 1e-5]}),
    ("PiecewiseConstantDecay", {"boundaries": [30, 60], "values": [1e-4, 1e-3, 0.0]}),
    ("PiecewiseConstantDecay", {"boundaries": [9.5, 60.0], "values": [1e-3, 5e-4, 2e-4]}),
    *(
        (
            "CosineDecayRestarts",
            {
                "initial_learning_rate": 1e-3,
                "first_decay_steps": 20,
                "t_mul": grow,
                "m_mul": fade,
                "alpha": floor,
            },
        )
        for grow in (1.0, 1.5, 2.0)
        for fade in (1.0, 0.5)
        for floor in (0.0, 0.1)
    ),
]

WORKER = """
import json, sys
import keras
from keras.optimizers import schedules

def curve(name, config):
    schedule = getattr(schedules, name)(**config)
    return schedules.serialize(schedule), schedule.get_config(), [float(schedule(k)) for k in range(97)]

schedule = schedules.CosineDecay(1e-2, 400, warmup_target=1.0, warmup_steps=40)
sgd = keras.optimizers.SGD(schedule, gradient_accumulation_steps=4)
weight = keras.Variable([0.0])
sgd.build([weight])
moved = []
for _ in range(110):
    before = float(weight[0])
    for _ in range(4):
        sgd.apply([keras.ops.ones((1,))])
    moved.append(before - float(weight[0]))
adam = keras.optimizers.AdamW(schedules.CosineDecay(1e-3, 97), weight_decay=0.05)
json.dump({
    "curves": [curve(*one) for one in json.load(sys.stdin)],
    "moved": moved,
    "sgd": keras.optimizers.serialize(sgd),
    "adam": [keras.optimizers.serialize(adam), adam.get_config()],
    "plain": keras.optimizers.SGD(0.125).get_config(),
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def real():
    """What keras says: each curve's two configurations and its rates, and optimizers with a schedule."""
    run = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=json.dumps(CURVES),
        env=os.environ | {"KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


def rates(converted, updates=UPDATES):
    plan = Plan(converted.hypers, tick=converted.tick).over(updates)
    return [plan.at(k)["lr"][0] for k in range(updates)]


@pytest.mark.parametrize("i", range(len(CURVES)), ids=[f"{name}-{i}" for i, (name, _) in enumerate(CURVES)])
def test_curves(real, i):
    serialized, plain, expected = real["curves"][i]
    assert len(set(expected)) > 1 or CURVES[i][1].get("decay_rate") in (0.0, 1.0)
    for said in (serialized, plain):
        assert recognised(said) == ["keras"]
        found = rates(keras(said, total=UPDATES))
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * max(expected))


def test_decay_steps_does_not_count_the_warmup():
    converted = keras(
        config("CosineDecay", initial_learning_rate=0.0, decay_steps=90, warmup_target=1e-3, warmup_steps=10)
    )
    assert converted.total == 100
    assert any("the run has 100 updates, not 90" in warning for warning in converted.warnings)
    unused = keras(config("CosineDecay", initial_learning_rate=1e-3, decay_steps=90, warmup_steps=10))
    assert any("without a warmup_target" in warning for warning in unused.warnings)


def test_an_end_above_the_rate_is_a_rise():
    converted = keras(config("PolynomialDecay", initial_learning_rate=2e-5, decay_steps=97))
    assert any("rises from 2e-05 to end_learning_rate=0.0001" in warning for warning in converted.warnings)
    assert rates(converted)[-1] > 9e-5


def test_a_boundary_still_has_the_old_rate():
    converted = keras(config("PiecewiseConstantDecay", boundaries=[30, 60], values=[1e-3, 1e-4, 1e-5]))
    assert converted.hypers["lr"] == "0.001 * multistep(at=(31, 61))"
    assert any("update 30 still has the old rate" in warning for warning in converted.warnings)


def test_restarts_that_end_high_say_so():
    said = config("CosineDecayRestarts", initial_learning_rate=1e-3, first_decay_steps=20)
    assert keras(said, total=140).hypers["lr"] == "0.001 * repeat(cosine(20, start=1), 3, stretch=2.0)"
    assert not keras(said, total=140).warnings
    assert f"{rates(keras(said, total=120), 120)[-1] / 1e-3:.1%}" == "16.1%"
    assert any(
        "at 14.6% of the peak; one of 140 updates" in warning for warning in keras(said, total=120).warnings
    )
    said["config"] |= {"alpha": 0.1, "m_mul": 0.5}
    assert any("stays where it is" in warning for warning in keras(said, total=140).warnings)


def test_an_optimizer_and_what_stands_around_it(real):
    serialized, plain = real["adam"]
    around = [{"optimizer": serialized, "loss": "mse"}, {"compile_config": {"optimizer": serialized}}]
    for said in (serialized, plain, *around):
        assert recognised(said) == ["keras"]
        converted = keras(said)
        assert converted.hypers["lr"] == "0.001 * (cosine(97) >> hold())"
        assert converted.hypers["weight_decay"] == "0.05"
    assert recognised(real["plain"]) == ["keras"]
    assert keras(real["plain"]).hypers == {"lr": "0.125 * hold()"}


def test_accumulated_batches_in_a_real_optimizer(real):
    converted = keras(real["sgd"])
    assert converted.tick == 0.75
    assert converted.total == 110
    assert rates(converted, 110) == pytest.approx(real["moved"], abs=1e-5)
    assert any("4 to an update" in warning for warning in converted.warnings)


def test_another_peak():
    said = config("PiecewiseConstantDecay", boundaries=[30], values=[1e-3, 1e-4])
    assert rates(keras(said, total=97, lr=1e-2))[::50] == pytest.approx([1e-2, 1e-3])
    said = config(
        "CosineDecay", initial_learning_rate=0.0, decay_steps=90, warmup_target=1e-3, warmup_steps=10
    )
    assert max(rates(keras(said, total=97, lr=1e-2))) == 1e-2


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (config("CosineDecay", decay_steps=9), "initial_learning_rate is not said"),
        (config("CosineDecay", initial_learning_rate=0, decay_steps=9), "above 0"),
        (config("CosineDecay", initial_learning_rate=1, decay_steps=0), "decay_steps: got 0"),
        (config("ExponentialDecay", initial_learning_rate=1, decay_steps=9, decay_rate=0.9), "has no end"),
        (config("ExponentialDecay", initial_learning_rate=1, decay_steps=9, decay_rate=0), "leaves nothing"),
        (config("CosineDecayRestarts", initial_learning_rate=1, first_decay_steps=9), "has no end"),
        (config("PolynomialDecay", initial_learning_rate=1, decay_steps=9, power=0), "write hold"),
        (config("PiecewiseConstantDecay", boundaries=[3], values=[1]), "one value more"),
        (config("PiecewiseConstantDecay", boundaries=3, values=[1]), "write a list"),
        (config("Adam", learning_rate=config("Mine")), "'Mine' is no schedule of Keras"),
    ],
)
def test_what_cannot_be_said(said, message):
    with pytest.raises(RecipeError, match=message):
        keras(said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            config("PolynomialDecay", initial_learning_rate=1, decay_steps=200, power=2),
            "no part of that curve",
        ),
        (
            config("InverseTimeDecay", initial_learning_rate=1, decay_steps=1, decay_rate=1, staircase=True),
            "stairs are too many",
        ),
        (
            config("PolynomialDecay", initial_learning_rate=1, decay_steps=1, cycle=True),
            "cycles are too many",
        ),
        (
            config("CosineDecayRestarts", initial_learning_rate=1, first_decay_steps=0.1, t_mul=1),
            "more than 1000 cycles",
        ),
        (
            config("CosineDecayRestarts", initial_learning_rate=1, first_decay_steps=2, t_mul=0.5),
            "have no end",
        ),
        (
            config("ExponentialDecay", initial_learning_rate=1, decay_steps=1, decay_rate=1e-4),
            "leaves nothing after 194",
        ),
    ],
)
def test_what_cannot_be_said_of_such_a_run(said, message):
    with pytest.raises(RecipeError, match=message):
        keras(said, total=UPDATES * 2)
