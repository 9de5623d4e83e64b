"""torch: every rate that a real optimizer uses, in an interpreter without étude."""

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="the written code is for torch")

SCRIPT = """
import torch

class Model(torch.nn.Module):
    def __init__(self, names):
        super().__init__()
        for name in names:
            setattr(self, name, torch.nn.Parameter(torch.ones(2, dtype=torch.float64)))

def made(module, optimizer=torch.optim.AdamW):
    names = [name for names in getattr(module, "GROUPS", {"all": ["a"]}).values() for name in names]
    model = Model(names)
    given = module.param_groups(model) if hasattr(module, "GROUPS") else model.parameters()
    optimizer = optimizer(given)
    return model, optimizer, module.Schedule(optimizer)

def watched(model, optimizer, seen):
    def note(*_):
        groups = optimizer.param_groups
        seen["lr"].append([g["lr"] for g in groups])
        seen["weight_decay"].append([g["weight_decay"] for g in groups])
        seen["momentum"].append([g["betas"][0] for g in groups])
        seen["open"].append([all(p.requires_grad for p in g["params"]) for g in groups])
        seen["weights"].append([p.tolist() for p in model.parameters()])
    optimizer.register_step_pre_hook(note)

def train(model, optimizer, scheduler, updates, begin=0):
    for k in range(begin, updates):
        loss = sum(((k + 1) * p).sin().sum() for p in model.parameters() if p.requires_grad)
        if torch.is_tensor(loss):  # else all of it is frozen
            loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()

for name in CODES:
    seen = {key: [] for key in ("lr", "weight_decay", "momentum", "open", "weights")}
    run = made(load(name))
    watched(run[0], run[1], seen)
    train(*run, UPDATES[name])
    results[name] = seen

# A run that is stopped and goes on: optimizer and scheduler as a checkpoint has them.
module = load("groups, all scheduled")
seen = {key: [] for key in ("lr", "weight_decay", "momentum", "open", "weights")}
run = made(module)
watched(*run[:2], seen)
train(*run, 40)
later = made(module)
later[0].load_state_dict(run[0].state_dict())
later[1].load_state_dict(run[1].state_dict())
later[2].load_state_dict(run[2].state_dict())
seen["open after loading"] = [[p.requires_grad for p in g["params"]] for g in later[1].param_groups]
watched(*later[:2], seen)
train(*later, 97, begin=40)
results["resumed"] = seen

# What is in no group is not trained silently.
try:
    module.param_groups(Model("abcd"))
except ValueError as error:
    results["missed"] = str(error)
"""


@pytest.fixture(scope="module")
def rates(runs):
    return runs()


@pytest.fixture(scope="module")
def used(rates, elsewhere, updates):
    return elsewhere(rates, "torch", f"UPDATES = {updates(rates)}\n{SCRIPT}")


def every_value(rates, used, same):
    for hyper in rates.plan.hypers:
        same(rates, hyper, used[hyper], 1e-9)
    assert used["open"] == [rates.open(k) for k in range(len(used["open"]))]


def test_a_run_of_one_group(simple, rates, used, same):
    every_value(rates[simple], used[simple], same)


def test_a_run_of_groups(grouped, rates, used, same):
    every_value(rates[grouped], used[grouped], same)


def test_a_frozen_group_does_not_move_and_a_thawed_one_does(rates, used):
    weights = used["groups"]["weights"]
    frozen = rates["groups"].open(0).index(False)
    assert frozen == 0
    assert weights[0][:2] == weights[29][:2]
    assert weights[29][0] != weights[60][0] != weights[90][0]
    assert weights[0][2] != weights[1][2]


def test_a_resumed_run_is_the_uninterrupted_one(used):
    assert used["resumed"].pop("open after loading") == [[True, True], [True]]
    assert len(used["resumed"]["lr"]) == 97
    assert used["resumed"] == used["groups, all scheduled"]


def test_a_parameter_in_no_group_is_named(used):
    assert used["missed"] == "in no group: ['d']"
