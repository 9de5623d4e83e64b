"""The guard in a fit: it drops and clips updates, and refuses to roll back."""

import math
from itertools import pairwise

import pytest

pytest.importorskip("lightning", reason="the fits are Lightning's")

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

import etude.lightning
from etude.control.spike import spike
from etude.errors import PlanError
from etude.lightning import LearningRateControl

pytestmark = pytest.mark.filterwarnings("ignore:.*(num_workers|`training_step`|litlogger).*")


class Net(LightningModule):
    """Least squares; `factors` multiply the losses, by the number of the batch."""

    def __init__(self, factors, optimizer=torch.optim.SGD):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)
        self.factors, self.optimizer, self.moved = factors, optimizer, []

    def training_step(self, batch, batch_idx):
        (x,) = batch
        return (self.layer(x) - x.sum(1, keepdim=True)).square().mean() * self.factors.get(batch_idx, 1.0)

    def configure_optimizers(self):
        return etude.lightning.configure_optimizers(self, 0.01, optimizer=self.optimizer, weight_decay=0.1)

    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.parameters()]).clone()


class Watch(Callback):
    """The weights and the clock after every batch."""

    def on_fit_start(self, trainer, module):
        self.seen = [(module.weights(), 0)]

    def on_train_batch_end(self, trainer, module, *_):
        self.seen.append((module.weights(), trainer.lr_scheduler_configs[0].scheduler.last_epoch))


def fitted(net, *controllers, **keys):
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    data = torch.utils.data.TensorDataset(torch.randn(160, 4, generator=torch.Generator().manual_seed(1)))
    control, watch = LearningRateControl(*controllers), Watch()
    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks=[control, watch], **quiet, **keys)
    trainer.fit(net, DataLoader(data, batch_size=4))
    return watch.seen, trainer.lr_scheduler_configs[0].scheduler


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_an_update_of_nan_is_dropped_and_the_clock_stands(optimizer):
    seen, scheduler = fitted(Net({5: math.nan}, optimizer), spike())
    assert [t for _, t in seen] == [0, 1, 2, 3, 4, 5, 5, *range(6, 40)]
    assert torch.equal(seen[5][0], seen[6][0])
    assert not torch.equal(seen[6][0], seen[7][0])
    assert scheduler.driver.edits == ()


def test_a_dropped_update_leaves_no_statistics_of_its_batch():
    net = Net({5: math.nan})
    net.layer = torch.nn.Sequential(torch.nn.BatchNorm1d(4), net.layer)
    seen, _ = fitted(net, spike())
    assert torch.equal(seen[5][0], seen[6][0])
    assert int(net.layer[0].num_batches_tracked) == 39
    net = Net({5: math.nan, 9: math.nan})
    net.layer = torch.nn.Sequential(torch.nn.BatchNorm1d(4), net.layer)
    fitted(net, spike(), accumulate_grad_batches=2)
    assert int(net.layer[0].num_batches_tracked) == 36


def test_without_the_guard_the_same_update_ruins_the_weights():
    seen, _ = fitted(Net({5: math.nan}))
    assert seen[-1][0].isnan().all()


def test_a_fault_in_one_part_of_an_accumulated_update_drops_all_of_it():
    seen, scheduler = fitted(Net({11: math.nan}), spike(), accumulate_grad_batches=2)
    assert torch.equal(seen[10][0], seen[12][0])
    assert scheduler.last_epoch == 19
    assert len(scheduler.driver.memory["spike"]["read"]["train_loss"]) == 19


def test_a_spike_is_clipped():
    """Far above the band the clip shrinks to its middle; here the loss falls, and the band is wide."""
    seen, scheduler = fitted(Net({30: 1e4}), spike("clip"))
    moves = [float((b[0] - a[0]).norm()) for a, b in pairwise(seen)]
    read = [math.exp(x) for x in scheduler.driver.memory["spike"]["read"]["grad_norm"]]
    assert moves[30] == pytest.approx(0.01 * read[30], rel=0.05)  # the rest is decay
    assert read[30] < 1e3, "the gradient itself had 1e4 × as much"
    assert scheduler.last_epoch == 40


@pytest.mark.parametrize("policy", ["skip", "clip"])
def test_a_quiet_fit_is_the_same_with_the_guard_and_without_it(policy):
    plain, _ = fitted(Net({}))
    guarded, scheduler = fitted(Net({}), spike(policy))
    assert len(scheduler.driver.memory["spike"]["read"]["train_loss"]) == 40
    assert all(torch.equal(a[0], b[0]) for a, b in zip(plain, guarded, strict=True))


def test_nothing_but_nan_ends_the_fit():
    seen, scheduler = fitted(Net(dict.fromkeys(range(8, 99), math.nan)), spike(in_a_row=4))
    assert scheduler.last_epoch == scheduler.driver.total == 8
    assert len(seen) == 1 + 12
    assert seen[-1][0].isfinite().all()


def test_a_guard_that_may_roll_back_is_refused():
    with pytest.raises(PlanError, match="spike may roll back, which a fit cannot do"):
        LearningRateControl(spike("rollback"))


def test_the_small_last_batch_of_an_epoch_is_no_spike():
    """37 examples in batches of 4: the last has one, whose loss is 50 times the others'."""
    net = Net({9: 50.0})
    data = torch.utils.data.TensorDataset(torch.randn(37, 4, generator=torch.Generator().manual_seed(1)))
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    control = LearningRateControl(spike(warmup=4))
    trainer = Trainer(accelerator="cpu", max_epochs=3, callbacks=[control], **quiet)
    trainer.fit(net, DataLoader(data, batch_size=4))
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert scheduler.last_epoch == 30
    assert len(scheduler.driver.memory["spike"]["read"]["train_loss"]) == 27
