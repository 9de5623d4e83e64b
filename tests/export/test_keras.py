"""Keras: every rate as an array, and what a real fit uses, in an interpreter without étude."""

import math
from importlib.util import find_spec
from itertools import pairwise

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("keras") is None or find_spec("jax") is None,
    reason="the written code is for Keras, here on jax",
)

SCRIPT = """
import keras
import numpy as np
from keras import ops

for name in CODES:
    module = load(name)
    k = ops.arange(UPDATES[name])
    found = {}
    for hyper in ("LR", "WEIGHT_DECAY", "MOMENTUM"):
        if not hasattr(module, hyper):
            continue
        table = getattr(module, hyper)
        groups = table.values() if isinstance(table, dict) else [table]
        columns = [ops.broadcast_to(module.value(one, k), k.shape).tolist() for one in groups]
        found[hyper.lower()] = list(zip(*columns))
    results[name] = found

keras.config.set_floatx("float64")  # so that what a weight moves by is its rate to the seventh digit

@keras.saving.register_keras_serializable("test")
class Probe(keras.layers.Layer):
    def __init__(self, names="", **options):
        super().__init__(**options)
        self.names = names

    def build(self, shape):
        for name in self.names:
            setattr(self, name, self.add_weight(shape=(), initializer="ones", name=name))

    def call(self, x):
        return x + sum(getattr(self, name) for name in self.names)

    def get_config(self):
        return {**super().get_config(), "names": self.names}

@keras.saving.register_keras_serializable("test")
def total(truth, said):
    return ops.sum(said)

class Watch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        self.model.jax_state_sync()
        self.weights.append([float(w) for w in self.model.trainable_variables])

def model(names, optimizer):
    made = keras.Sequential([keras.layers.Input((1,)), Probe(names, name="probe")], name="net")
    made.compile(optimizer, loss=total)
    return made

def fit(made, updates):
    watch = Watch()
    start = [float(w) for w in made.trainable_variables]
    x = np.ones((updates, 1))
    made.fit(x, x, batch_size=1, epochs=1, shuffle=False, verbose=0, callbacks=[watch])
    return [start, *watch.weights]

golden = model("a", keras.optimizers.SGD(load("golden").Schedule()))
results["golden weights"] = fit(golden, 60)
golden.save("golden.keras")
results["golden weights"] += fit(keras.models.load_model("golden.keras"), 37)[1:]

for name in ("groups, all scheduled", "frozen for good"):
    results[name + " weights"] = fit(model("abc", load(name).Optimizer()), 97)
both = model("a", load("decay and momentum").Optimizer())
results["both weights"] = fit(both, 97)
results["given beta"] = both.optimizer.beta_1

# Layers that Keras named itself, by its own count.
keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(2)])
dense = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(2), keras.layers.Dense(1)])
optimizer = load("named by Keras").Optimizer()
optimizer.build(dense.trainable_variables)
results["found groups"] = [optimizer.groups[v.path] for v in dense.trainable_variables]
try:
    load("groups").Optimizer().build(dense.trainable_variables)
except ValueError as error:
    results["missed"] = str(error)
"""


@pytest.fixture(scope="module")
def rates(runs):
    from etude import Group, Plan

    kernels = Group("kernels", ("sequential.dense.0.kernel", "sequential.dense.1.kernel"))
    biases = Group("biases", ("sequential.dense.0.bias", "sequential.dense.1.bias"))
    return {**runs("net/probe/"), "named by Keras": Plan({"lr": 1e-3}, [kernels, biases]).over(97)}


@pytest.fixture(scope="module")
def used(rates, elsewhere, updates):
    script = f"UPDATES = {updates(rates)}\n{SCRIPT}"
    return elsewhere(rates, "keras", script, KERAS_BACKEND="jax", JAX_ENABLE_X64="1")


def test_a_run_of_one_group(simple, rates, used, every_value):
    every_value(rates[simple], used[simple])


def test_a_run_of_groups(grouped, rates, used, every_value):
    every_value(rates[grouped], used[grouped])


def test_a_saved_model_goes_on_with_the_schedule(rates, used, same):
    weights = [w for (w,) in used["golden weights"]]
    moved = [[before - after] for before, after in pairwise(weights)]
    same(rates["golden"], "lr", moved, 1e-6)


def adam(rates, group, start):
    """What Keras's Adam makes of a weight whose gradient is 1, with the plan's values in float64."""
    w, m, v, weights = start, 0.0, 0.0, [start]
    for k in range(97):
        values = {hyper: rates.values(hyper, k)[group] for hyper in rates.plan.hypers}
        beta = values.get("momentum", 0.9)
        w -= w * values.get("weight_decay", 0.0) * values["lr"]
        m, v = m + (1 - m) * (1 - beta), v + (1 - v) * (1 - 0.999)
        step = values["lr"] * math.sqrt(1 - 0.999 ** (k + 1)) / (1 - beta ** (k + 1))
        w -= step * m / (math.sqrt(v) + 1e-7)
        weights.append(w)
    return weights


@pytest.mark.parametrize("name", ["groups, all scheduled", "frozen for good"])
def test_a_real_fit_uses_every_groups_own_values(name, rates, used):
    for group, column in ((0, 0), (0, 1), (1, 2)):
        found = [row[column] for row in used[name + " weights"]]
        assert found == pytest.approx(adam(rates[name], group, 1.0), rel=1e-6)
        assert found[-1] != 1.0


def test_a_real_fit_uses_decay_and_momentum_without_groups(rates, used):
    assert used["given beta"] == 0.9
    found = [row[0] for row in used["both weights"]]
    assert found == pytest.approx(adam(rates["decay and momentum"], 0, 1.0), rel=1e-6)


def test_variables_that_keras_named_are_found(used):
    assert used["found groups"] == ["kernels", "biases"] * 2


def test_a_variable_in_no_group_is_named(used):
    assert used["missed"].startswith("in no group: ['sequential")
