"""Hugging Face: every rate that a real Trainer uses, in an interpreter without étude."""

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None or find_spec("accelerate") is None,
    reason="the written code is for its Trainer",
)

SCRIPT = """
import torch
from transformers import TrainingArguments

class Model(torch.nn.Module):
    def __init__(self, names):
        super().__init__()
        for name in names:
            setattr(self, name, torch.nn.Parameter(torch.ones(2)))

    def forward(self, x):
        return {"loss": sum((x.mean() * p).sin().sum() for p in self.parameters() if p.requires_grad)}

def trainer(module, seen, updates, resume=False, **options):
    grouped = hasattr(module, "GROUPS")
    model = Model([name for names in module.GROUPS.values() for name in names] if grouped else ["a", "bias"])
    args = TrainingArguments(
        "out", max_steps=updates, per_device_train_batch_size=1, use_cpu=True, report_to=[],
        disable_tqdm=True, logging_strategy="no", optim="adamw_torch", **{"save_strategy": "no", **options},
    )
    made = module.ScheduledTrainer(model, args, train_dataset=[{"x": torch.tensor([1.0])}] * 500)
    create = made.create_optimizer

    def watched(*given):
        if made.optimizer is not None:
            return create(*given)
        optimizer = create(*given)

        def note(*_):
            groups = optimizer.param_groups
            seen["lr"].append([g["lr"] for g in groups])
            seen["weight_decay"].append([g["weight_decay"] for g in groups])
            seen["momentum"].append([g["betas"][0] for g in groups])
            seen["open"].append([all(p.requires_grad for p in g["params"]) for g in groups])

        optimizer.register_step_pre_hook(note)
        return optimizer

    made.create_optimizer = watched
    return made

def empty():
    return {key: [] for key in ("lr", "weight_decay", "momentum", "open")}

for name in CODES:
    results[name] = empty()
    made = trainer(load(name), results[name], UPDATES[name])
    made.train()
    results[name]["said"] = made.lr_scheduler.get_last_lr()

# The same trainer once more: from the beginning.
results["again"] = empty()
made = trainer(load("groups"), results["again"], 97)
made.train()
made.train()

# Stopped after 40 updates, and gone on with from the checkpoint.
module = load("groups, all scheduled")
results["resumed"] = empty()
options = {"save_strategy": "steps", "save_steps": 40}
trainer(module, empty(), 97, **options).train()
trainer(module, results["resumed"], 97, **options).train(resume_from_checkpoint="out/checkpoint-40")

try:
    trainer(load("golden"), empty(), 50).train()
except ValueError as error:
    results["wrong length"] = str(error)
"""

SIMPLE = ["golden", "decay and momentum", "constant decay", "redrawn", "stopped"]
GROUPED = ["groups", "groups, all scheduled", "a group alone"]


@pytest.fixture(scope="module")
def rates(runs):
    return {name: rates for name, rates in runs().items() if name in SIMPLE + GROUPED}


@pytest.fixture(scope="module")
def used(rates, elsewhere, updates):
    return elsewhere(rates, "hf", f"UPDATES = {updates(rates)}\n{SCRIPT}")


@pytest.mark.parametrize("name", SIMPLE + GROUPED)
def test_every_value_of_a_run(name, rates, used, same):
    for hyper in rates[name].plan.hypers:
        same(rates[name], hyper, used[name][hyper], 1e-9)


@pytest.mark.parametrize("name", ["decay and momentum", "constant decay"])
def test_what_the_trainer_does_not_decay_stays_so(name, used):
    assert all(decay[0] > 0 and decay[1] == 0 for decay in used[name]["weight_decay"])


@pytest.mark.parametrize("name", GROUPED)
def test_groups_are_frozen_and_thawed(name, rates, used):
    assert used[name]["open"] == [rates[name].open(k) for k in range(97)]


def test_a_resumed_run_is_the_uninterrupted_one(used):
    whole = used["groups, all scheduled"]
    assert len(used["resumed"]["lr"]) == 57
    assert used["resumed"] == {key: whole[key][40:] for key in used["resumed"]}


def test_a_second_training_begins_anew(used):
    assert used["again"]["lr"] == used["groups"]["lr"] * 2


def test_a_run_of_another_length_is_refused(used):
    assert used["wrong length"] == "written for 97 updates: export it with --steps 50"
