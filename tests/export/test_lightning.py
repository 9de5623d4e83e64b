"""Lightning: every rate that a real fit uses, in an interpreter without étude."""

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("lightning") is None, reason="the written code is for Lightning")

SCRIPT = """
import logging, warnings
import torch
from lightning import LightningModule, Trainer

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
KEYS = ("lr", "weight_decay", "momentum", "open")

def model(module, seen):
    grouped = hasattr(module, "GROUPS")
    parameters = [name for names in module.GROUPS.values() for name in names] if grouped else ["a"]

    class Model(LightningModule):
        def __init__(self):
            super().__init__()
            for name in parameters:
                setattr(self, name, torch.nn.Parameter(torch.ones(2)))

        def training_step(self, batch):
            return sum((batch[0].mean() * p).sin().sum() for p in self.parameters() if p.requires_grad)

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(module.param_groups(self) if grouped else self.parameters())

            def note(*_):
                groups = optimizer.param_groups
                seen["lr"].append([g["lr"] for g in groups])
                seen["weight_decay"].append([g["weight_decay"] for g in groups])
                seen["momentum"].append([g["betas"][0] for g in groups])
                seen["open"].append([all(p.requires_grad for p in g["params"]) for g in groups])

            optimizer.register_step_pre_hook(note)
            return module.configured(optimizer)

    return Model()

def fit(name, seen, updates, path=None, save=None):
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(400, 1)), batch_size=2)
    trainer = Trainer(
        max_steps=updates, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(model(load(name), seen), data, ckpt_path=path)
    if save:
        trainer.save_checkpoint(save)

for name in CODES:
    results[name] = {key: [] for key in KEYS}
    fit(name, results[name], UPDATES[name])

results["resumed"] = {key: [] for key in KEYS}
fit("groups, all scheduled", {key: [] for key in KEYS}, 20, save="at.ckpt")
fit("groups, all scheduled", results["resumed"], 97, path="at.ckpt")
"""

NAMES = ["golden", "decay and momentum", "redrawn", "groups", "groups, all scheduled"]


@pytest.fixture(scope="module")
def rates(runs):
    return {name: rates for name, rates in runs().items() if name in NAMES}


@pytest.fixture(scope="module")
def used(rates, elsewhere, updates):
    return elsewhere(rates, "lightning", f"UPDATES = {updates(rates)}\n{SCRIPT}")


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_a_run(name, rates, used, same):
    for hyper in rates[name].plan.hypers:
        same(rates[name], hyper, used[name][hyper], 1e-9)
    assert used[name]["open"] == [rates[name].open(k) for k in range(len(used[name]["open"]))]


def test_a_resumed_run_is_the_uninterrupted_one(used):
    whole = used["groups, all scheduled"]
    assert len(used["resumed"]["lr"]) == 77
    assert used["resumed"] == {key: whole[key][20:] for key in used["resumed"]}
