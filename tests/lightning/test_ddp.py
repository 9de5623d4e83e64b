"""Two processes under Lightning: equal rates, readings that are one, and thawed layers that stay in step."""

import json
import time
from dataclasses import dataclass, replace

import pytest

pytest.importorskip("lightning", reason="the fits are Lightning's")

import torch
import torch._dynamo  # loaded before the fork, as the next two are: each process would take seconds for it
import torch.distributed.fsdp
import torch.distributed.tensor
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader

import etude.lightning
from etude import Group, Plan, Scale
from etude.lightning import LearningRateControl

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:.*(num_workers|litlogger|fork).*"),
]

UPDATES = 8
PLAN = Plan(
    {"lr": "0.1 * (warmup(0.2) >> cosine(to=0.1))"},
    [
        Group("body", ("body.weight", "body.bias"), gate="frozen(3) >> hold(start=1)"),
        Group("head", ("head.weight",)),
    ],
)


@dataclass(frozen=True)
class Halve:
    """Halve the rate after every reading that is not below the best."""

    name: str = "halve"
    reads: tuple[str, ...] = ("val_loss",)

    def init(self):
        return {"best": None}

    def update(self, state, t, reading):
        value = reading["val_loss"]
        if state["best"] is None or value < state["best"]:
            return {"best": value}, None
        return dict(state), Scale(t, 0.5, author=self.name, reason=f"{value:g}")


class Net(LightningModule):
    def __init__(self, plan=PLAN):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.plan = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1, bias=False), plan

    def training_step(self, batch, batch_idx):
        return self.head(self.body(batch)).square().mean()

    def validation_step(self, batch, batch_idx):
        """Each process alone would cut the rate at another time."""
        own = [[1.0, 0.8, 0.9, 0.7], [1.0, 0.8, 0.9, 0.9]][self.global_rank]
        self.log("val_loss", own[self.trainer.global_step // 2 % 4 - 1])

    def configure_optimizers(self):
        return etude.lightning.configure_optimizers(self, self.plan)


class Watch(Callback):
    def __init__(self, folder):
        self.folder, self.used, self.weights = folder, [], []

    def on_before_optimizer_step(self, trainer, net, optimizer):
        self.used.append([group["lr"] for group in optimizer.param_groups])

    def on_train_batch_end(self, trainer, net, *_):
        self.weights.append([w.tolist() for w in net.parameters()])

    def on_fit_end(self, trainer, net):
        edits = [[edit.at, edit.reason] for edit in net.lr_schedulers().driver.edits]
        result = {"used": self.used, "weights": self.weights, "edits": edits}
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(result))


def fit(net, folder, devices=2, **given):
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", **given)
    trainer = Trainer(
        accelerator="cpu", devices=devices, strategy=strategy, max_epochs=1, num_sanity_val_steps=0,
        val_check_interval=2, callbacks=[LearningRateControl(Halve()), Watch(folder)], **quiet,
    )  # fmt: skip
    examples = torch.randn(16, 2, generator=torch.Generator().manual_seed(1))
    trainer.fit(net, DataLoader(examples, batch_size=1), DataLoader(examples[:2]))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(devices)]


def test_pains_1_19_and_31_two_processes_are_one(tmp_path):
    """A layer that thaws after DDP has wrapped the model stays the same on both."""
    began = time.monotonic()
    first, second = fit(Net(), tmp_path, find_unused_parameters=True)
    assert time.monotonic() - began < 60
    assert first == second
    assert first["edits"] == [[6.0, "0.9"]]
    rates = PLAN.over(UPDATES).edit(Scale(6, 0.5))
    assert first["used"] == [rates.at(k)["lr"] for k in range(UPDATES)]
    body = [weights[0] for weights in first["weights"]]
    assert body[0] == body[2] != body[3]


def test_gates_need_a_ddp_that_looks_for_unused_parameters(tmp_path):
    with pytest.raises(
        ProcessRaisedException, match=r"PlanError: DDP .*\(body have gates\).*_parameters_true"
    ):
        fit(Net(), tmp_path, devices=1)


def test_without_gates_plain_ddp_will_do(tmp_path):
    groups = [replace(PLAN.groups[0], gate=None), PLAN.groups[1]]
    (alone,) = fit(Net(Plan(PLAN.hypers, groups)), tmp_path, devices=1)
    assert len(alone["used"]) == 16
