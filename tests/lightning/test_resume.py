"""A fit that is killed and goes on: who trains, the rates and the weights are those of the straight fit."""

import pytest

pytest.importorskip("lightning", reason="the fits are Lightning's")

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

import etude.lightning
from etude import Group, Plan, Stretch, early_stop
from etude.errors import EtudeError, PlanMismatch
from etude.lightning import LearningRateControl

pytestmark = pytest.mark.filterwarnings("ignore:.*(num_workers|val_dataloader|not resumable|litlogger).*")

GATES = {"emb": "frozen(20) >> hold(start=1)", "body": "frozen(10) >> hold(start=1)", "head": None}
UPDATES = 30


class KilledError(Exception):
    """The end of a process."""


class Net(LightningModule):
    """Three layers that thaw one after the other, under AdamW, on a loss that is not flat."""

    def __init__(self, losses=None, lr="0.05 * (warmup(0.1) >> cosine())", on_mismatch=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.randn(3)) for name in GATES})
        groups = [Group(name, (f"layers.{name}",), gate=gate) for name, gate in GATES.items()]
        self.plan, self.losses, self.on_mismatch = Plan({"lr": lr}, groups), losses, on_mismatch

    def training_step(self, batch, batch_idx):
        return sum((w - i).pow(2).sum() for i, w in enumerate(map(self.layers.get, GATES)))

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.losses[self.trainer.global_step])

    def configure_optimizers(self):
        return etude.lightning.configure_optimizers(self, self.plan, on_mismatch=self.on_mismatch)


class Watch(Callback):
    """For every update: who trains, the rates, the weights after it. Saves and dies after `die` updates."""

    def __init__(self, path=None, die=None):
        self.rows, self.path, self.die = {}, path, die

    def on_before_optimizer_step(self, trainer, net, optimizer):
        self.trains = [w.requires_grad for w in map(net.layers.get, GATES)]
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def on_train_batch_end(self, trainer, net, *_):
        weights = [w.tolist() for w in map(net.layers.get, GATES)]
        self.rows[trainer.global_step] = (self.trains, self.rates, weights)

    def on_train_batch_start(self, trainer, net, *_):
        if trainer.global_step == self.die:
            trainer.save_checkpoint(self.path)
            raise KilledError


def fit(net, watch, *callbacks, path=None, updates=UPDATES, **given):
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=updates,
        num_sanity_val_steps=0,
        callbacks=[*callbacks, watch],
        **quiet,
        **given,
    )
    loader = DataLoader(torch.zeros(1))
    val = None if net.losses is None else DataLoader(torch.zeros(1))
    trainer.fit(net, loader, val, ckpt_path=path, weights_only=True)
    return watch.rows


@pytest.fixture(scope="module")
def straight():
    return fit(Net(), Watch())


def test_stages_follow_the_clock(straight):
    trains = [straight[k + 1][0] for k in range(UPDATES)]
    assert trains == [[k >= 20, k >= 10, True] for k in range(UPDATES)]
    assert all(straight[k + 1][1] == Net().plan.over(UPDATES).at(k)["lr"] for k in range(UPDATES))
    assert straight[1][2][1] == straight[10][2][1] != straight[11][2][1]


@pytest.mark.parametrize("stop", [1, 5, 10, 15, 20, 25])
def test_pain_18_unfreezing_survives_a_kill(tmp_path, straight, stop):
    path = tmp_path / "killed.ckpt"
    first = Watch(path, stop)
    with pytest.raises(KilledError):
        fit(Net(), first)
    saved = torch.load(path, weights_only=True)
    assert saved["optimizer_states"][0]["state"]
    assert saved["lr_schedulers"][0]["last_epoch"] == stop
    again = fit(Net(), Watch(), path=path)
    assert list(again) == list(range(stop + 1, UPDATES + 1))
    assert first.rows | again == straight


def test_pain_34_patience_is_not_lost(tmp_path):
    losses = [None, 1.0, 1.1, 1.2, 1.3, 0.5, 0.4]
    control = LearningRateControl(early_stop("val_loss", patience=3))
    first = Watch(tmp_path / "killed.ckpt", 3)
    with pytest.raises(KilledError):
        fit(Net(losses), first, control)
    again = fit(Net(losses), Watch(), control, path=first.path)
    assert list(again) == [4]


def test_a_fit_that_a_controller_ended_is_not_trained_beyond_its_end(tmp_path):
    losses = [None, 1.0, 1.1, 1.2, 1.3]
    control = LearningRateControl(early_stop("val_loss", patience=2))

    class Keep(Callback):
        def on_fit_end(self, trainer, net):
            trainer.save_checkpoint(tmp_path / "ended.ckpt")

    assert list(fit(Net(losses), Watch(), control, Keep())) == [1, 2, 3]
    net, watch = Net(losses), Watch()
    with pytest.raises(EtudeError, match=r"has ended at 3, by Stop\(at=3.0, author='early_stop'"):
        fit(net, watch, control, path=tmp_path / "ended.ckpt")
    assert watch.rows == {}


def test_a_finished_fit_that_is_resumed_does_nothing(tmp_path):
    """From a checkpoint after its last batch too, where Lightning has still to end the epoch."""

    class Keep(Callback):
        def on_train_batch_end(self, trainer, net, *_):
            trainer.save_checkpoint(tmp_path / "last.ckpt")

    fit(Net(), Watch(), LearningRateControl(), Keep())
    assert fit(Net(), Watch(), LearningRateControl(), path=tmp_path / "last.ckpt") == {}


def test_pain_2_a_longer_fit_asks_what_is_meant(tmp_path):
    first = Watch(tmp_path / "killed.ckpt", 15)
    with pytest.raises(KilledError):
        fit(Net(), first)
    with pytest.raises(PlanMismatch, match=r"span total: 30\.0 in the checkpoint, 60\.0 here"):
        fit(Net(), Watch(), path=first.path, updates=60)
    longer = Net(on_mismatch=lambda t, total: Stretch(t, total))
    rows = fit(longer, Watch(), LearningRateControl(), path=first.path, updates=60)
    rates = longer.plan.over(30).edit(Stretch(15, 60))
    assert list(rows) == list(range(16, 61))
    assert [rows[k + 1][1] for k in range(15, 60)] == [rates.at(k)["lr"] for k in range(15, 60)]
    kept = fit(Net(on_mismatch="checkpoint"), Watch(), LearningRateControl(), path=first.path, updates=60)
    assert list(kept) == list(range(16, 31))


def test_pain_47_another_rate_is_shown_beside_the_checkpoints(tmp_path):
    first = Watch(tmp_path / "killed.ckpt", 15)
    with pytest.raises(KilledError):
        fit(Net(), first)
    with pytest.raises(PlanMismatch, match=r"lr: 0\.05 \* .* in the checkpoint, 0\.01 \* .* here"):
        fit(Net(lr="0.01 * hold()"), Watch(), path=first.path)
