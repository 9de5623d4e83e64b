"""MLX: every rate as an array, and what real optimizers use, in an interpreter without étude."""

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("mlx") is None, reason="the written code is for MLX")

SCRIPT = """
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

for name in CODES:
    module = load(name)
    k = mx.arange(UPDATES[name]).astype(mx.uint64)
    found = {}
    for hyper in ("LR", "WEIGHT_DECAY", "MOMENTUM"):
        if not hasattr(module, hyper):
            continue
        table = getattr(module, hyper)
        groups = table.values() if isinstance(table, dict) else [table]
        columns = [mx.broadcast_to(module.value(one, k), k.shape).tolist() for one in groups]
        found[hyper.lower()] = list(zip(*columns))
    results[name] = found

class Model(nn.Module):
    def __init__(self, names, dtype=mx.float32):
        super().__init__()
        for name in names:
            setattr(self, name, mx.ones(2, dtype))

def train(optimizer, model, read, compiled=False):
    seen, weights = [], []

    def step(k):
        def loss(model):
            return sum(mx.sin((k + 1) * p).sum() for p in model.parameters().values())

        optimizer.update(model, nn.value_and_grad(model, loss)(model)[1])

    state = [model.state, optimizer.state]
    run = mx.compile(step, inputs=state, outputs=state) if compiled else step
    optimizer.init(model.trainable_parameters())
    for k in range(97):
        weights.append({name: x.tolist() for name, x in model.parameters().items()})
        run(mx.array(k))
        mx.eval(state)
        seen.append(read(optimizer))
    return seen, weights

golden = load("golden")
for compiled in (False, True):
    key = "used golden" + ", compiled" * compiled
    results[key] = train(optim.SGD(golden.lr), Model("a"), lambda o: [o.learning_rate.item()], compiled)[0]

def read(optimizer):
    return [[o.learning_rate.item(), o.weight_decay.item(), o.betas[0].item()] for o in optimizer.optimizers]

rows, results["weights"] = train(load("groups, all scheduled").optimizer, Model("abc"), read)
hypers = ("lr", "weight_decay", "momentum")
results["used groups"] = {
    hyper: [[one[i] for one in row] for row in rows] for i, hyper in enumerate(hypers)
}
again = load("groups, all scheduled").optimizer
_, results["weights, compiled"] = train(again, Model("abc"), lambda o: 0, compiled=True)

half = Model("abc", mx.bfloat16)
train(load("groups, all scheduled").optimizer, half, lambda o: 0)
results["type"] = str(half.c.dtype)
"""


@pytest.fixture(scope="module")
def rates(runs):
    return runs()


@pytest.fixture(scope="module")
def used(rates, elsewhere, updates):
    return elsewhere(rates, "mlx", f"UPDATES = {updates(rates)}\n{SCRIPT}")


def test_a_run_of_one_group(simple, rates, used, every_value):
    every_value(rates[simple], used[simple])


def test_a_run_of_groups(grouped, rates, used, every_value):
    every_value(rates[grouped], used[grouped])


def test_real_optimizers_use_them(rates, used, same, every_value):
    same(rates["golden"], "lr", used["used golden"], 1e-6)
    same(rates["golden"], "lr", used["used golden, compiled"], 1e-6)
    every_value(rates["groups, all scheduled"], used["used groups"])


@pytest.mark.parametrize("kind", ["weights", "weights, compiled"])
def test_a_frozen_group_does_not_move_and_its_moments_begin_when_it_thaws(kind, used):
    weights = used[kind]
    assert weights[0]["a"] == weights[29]["a"] != weights[60]["a"]
    assert weights[0]["c"] != weights[1]["c"]
    # The first update of an Adam that has noted nothing, and corrects no bias.
    rate, beta = (used["used groups"][hyper][30][0] for hyper in ("lr", "momentum"))
    moved = abs(weights[31]["a"][0] - weights[30]["a"][0])
    assert moved == pytest.approx(rate * (1 - beta) / 0.001**0.5, rel=0.02)


def test_compiled_steps_are_the_same(used):
    for k in (1, 40, 96):
        for name in "abc":
            assert used["weights"][k][name] == pytest.approx(used["weights, compiled"][k][name], rel=1e-4)


def test_weights_keep_their_precision(used):
    assert used["type"] == "mlx.core.bfloat16"
