"""Real fits: what each update used, by how far the weights moved; accumulation, readings, end, log."""

import csv
import importlib
import math
import sys
import warnings
from dataclasses import dataclass

import pytest

pytest.importorskip("lightning", reason="the fits are Lightning's")

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch.utils.data import DataLoader, IterableDataset

import etude
import etude.lightning
from etude import Plan, Scale, Stop, early_stop, spike, target, variance
from etude.errors import EtudeWarning, MissingExtra, PlanError, ScheduleError
from etude.lightning import LearningRateControl
from etude.torch import LRScheduler

pytestmark = pytest.mark.filterwarnings("ignore:.*(num_workers|val_dataloader|`training_step`|litlogger).*")

LR = "0.1 * (warmup(0.2) >> cosine(to=0.1))"


class Net(LightningModule):
    """A body and a head at ten times its rate; under SGD a weight moves by exactly its rate."""

    def __init__(self, lr=LR, losses=(), overflows=(), **given):
        super().__init__()
        self.body, self.head = (torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
        self.rate, self.losses, self.overflows = lr, iter(losses), overflows
        self.given = {"groups": [("head", {"lr_scale": 10})]} | given
        self.batches = 0

    def training_step(self, batch, batch_idx):
        self.batches += 1
        return (self.body + self.head).sum() * (math.inf if self.batches - 1 in self.overflows else 1.0)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", 0.0 if self.trainer.sanity_checking else next(self.losses))

    def configure_optimizers(self):
        return etude.lightning.configure_optimizers(self, self.rate, optimizer=torch.optim.SGD, **self.given)


class Watch(Callback):
    """The rates that the optimizer has when an update is made, and how far the weights then moved."""

    def __init__(self):
        self.used, self.moved, self.before = [], [], None

    def on_train_batch_start(self, trainer, net, batch, batch_idx):
        self.before = [net.body.item(), net.head.item()]

    def on_before_optimizer_step(self, trainer, net, optimizer):
        self.used.append([group["lr"] for group in optimizer.param_groups])

    def on_train_batch_end(self, trainer, net, outputs, batch, batch_idx):
        self.moved.append([a - b.item() for a, b in zip(self.before, (net.body, net.head), strict=True)])


def fit(net, *callbacks, batches=8, epochs=1, data=None, val=None, **given):
    watch = Watch()
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = Trainer(
        **quiet | {"accelerator": "cpu", "max_epochs": epochs, "callbacks": [*callbacks, watch]} | given
    )
    loader = DataLoader(torch.zeros(batches)) if data is None else data
    trainer.fit(net, loader, None if val is None else DataLoader(torch.zeros(val)))
    watch.trainer, watch.scheduler = trainer, trainer.lr_scheduler_configs[0].scheduler
    watch.names = [group.name for group in watch.scheduler.driver.rates.plan.groups]
    return watch


def planned(total, lr=LR):
    groups = [etude.Group("all"), etude.Group("head", scale={"lr": 10})]
    rates = Plan({"lr": lr}, groups).over(total)
    return [rates.at(k)["lr"] for k in range(math.ceil(total))]


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
        return dict(state), Scale(t, 0.5, author=self.name)


def test_every_update_moves_the_weights_by_the_plans_rates():
    done = fit(Net(), batches=7, epochs=2)
    assert done.used == planned(14)
    for moved, rates in zip(done.moved, planned(14), strict=True):
        assert moved == pytest.approx(rates, rel=1e-9)


@pytest.mark.parametrize(("accumulate", "total"), [(2, 8), (3, 6), (8, 2)])
def test_pain_4_batches_that_accumulate_are_one_update(accumulate, total):
    done = fit(Net(), LearningRateControl(), batches=7, epochs=2, accumulate_grad_batches=accumulate)
    assert done.used == planned(total)
    assert done.trainer.global_step == done.scheduler.last_epoch == total


def test_a_limit_on_updates_is_the_plans_length():
    done = fit(Net(), batches=7, epochs=2, max_steps=9)
    assert done.used == planned(9)


@pytest.mark.parametrize("updates", [6, 12])
def test_an_open_run_goes_on_until_it_is_stopped(updates):
    class Halt(Callback):
        def on_train_batch_end(self, trainer, net, *_):
            if trainer.global_step == updates - 2:
                net.lr_schedulers().edit(Stop(updates))

    done = fit(Net("0.1 * (warmup(4) >> hold())"), Halt(), LearningRateControl(), epochs=-1)
    assert len(done.used) == updates
    assert done.used[-1] == pytest.approx([0.1, 1.0])


def test_data_without_a_length_needs_max_steps():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([torch.zeros(1)] * 50)

    with pytest.raises(PlanError, match="Trainer\\(max_steps=…\\)"):
        fit(Net(), data=DataLoader(Stream()), epochs=2)
    assert fit(Net(), data=DataLoader(Stream()), max_steps=9).used == planned(9)


def test_a_whole_plan_may_be_given_and_is_complete():
    plan = Plan({"lr": LR}, [etude.Group("a", ("body",)), etude.Group("b", ("head",), {"lr": 10})])
    net = Net(plan)
    net.given = {}
    assert fit(net, batches=7).used == planned(7)
    with pytest.raises(PlanError, match="groups must be said when it is made"):
        fit(Net(plan))


# --- readings ----------------------------------------------------------------------------------------------


def test_evaluations_reach_the_controllers_and_the_sanity_check_does_not():
    losses = [0.5, 0.6, 0.4, 0.45]
    done = fit(Net(losses=losses), LearningRateControl(Halve()), batches=8, val=1, val_check_interval=2)
    row = planned(8)
    halved = [[rate * by for rate in row[k]] for k, by in enumerate([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])]
    assert done.used == halved
    assert [edit.at for edit in done.scheduler.driver.edits] == [4, 8]
    assert done.scheduler.driver.memory == {"halve": {"best": pytest.approx(0.4)}}


def test_a_controller_ends_the_fit():
    net = Net(losses=[0.5, 0.6, 0.7, 0.8])
    done = fit(net, LearningRateControl(early_stop("val_loss", patience=2)), val=1, val_check_interval=2)
    assert len(done.used) == done.trainer.global_step == done.scheduler.driver.total == 6


class Logs(Net):
    """Logs a loss of 1 for the epoch."""

    name = "train_loss_epoch"

    def training_step(self, batch, batch_idx):
        self.log(self.name, 1.0, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


def test_without_a_validation_an_epoch_is_the_evaluation():
    stop = early_stop("train_loss_epoch", patience=2)
    assert len(fit(Logs(), LearningRateControl(stop), batches=3, epochs=9).used) == 9


@pytest.mark.parametrize("one", [early_stop("train_loss", patience=2), target(0.1, "train_loss")])
def test_the_log_of_an_epoch_is_not_mistaken_for_the_loss_of_an_update(one):
    net = Logs()
    net.name = "train_loss"
    before = [parameter.clone() for parameter in net.parameters()]
    said = rf"{one.name} reads 'train_loss', .* log it as 'train_loss_epoch' and let {one.name} read that"
    with pytest.raises(PlanError, match=said):
        fit(net, LearningRateControl(one), batches=3, epochs=9)
    assert all(map(torch.equal, net.parameters(), before))


def test_a_module_may_log_the_loss_that_the_guard_reads():
    net = Logs()
    net.name = "train_loss"
    assert len(fit(net, LearningRateControl(spike(), variance()), batches=3, epochs=2).used) == 6


def test_pain_33_a_metric_that_nobody_logs_is_named():
    with pytest.raises(ScheduleError, match="no metric 'val_los' was logged; did you mean 'val_loss'"):
        fit(Net(losses=[1.0]), LearningRateControl(early_stop("val_los")), val=1)


def test_a_person_ends_the_fit():
    class Person(Callback):
        def on_train_batch_end(self, trainer, net, *_):
            if trainer.global_step == 3:
                net.lr_schedulers().edit(Stop(5, reason="seen enough"))

    done = fit(Net(), Person(), LearningRateControl(), batches=9, epochs=3)
    assert done.used == planned(27)[:5]


# --- the log -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_rates_of_all_groups_are_logged_for_the_update_that_uses_them(tmp_path, accumulate):
    logger = CSVLogger(tmp_path)
    done = fit(
        Net(),
        LearningRateControl(),
        batches=12,
        logger=logger,
        log_every_n_steps=2,
        accumulate_grad_batches=accumulate,
    )
    with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [f"lr/{name}" for name in done.names]
    assert set(rows[0]) == {"step", *columns}
    assert [int(row["step"]) for row in rows] == list(range(1, 12 // accumulate, 2))
    for row in rows:
        assert [float(row[column]) for column in columns] == done.used[int(row["step"])]


def test_lightnings_own_monitor_reads_the_same(tmp_path):
    monitor = LearningRateMonitor("step")
    done = fit(Net(), monitor, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    rates = zip(*done.used, strict=True)
    assert monitor.lrs == {f"lr-SGD/{name}": list(row) for name, row in zip(done.names, rates, strict=True)}


# --- what would go unnoticed -------------------------------------------------------------------------------


def test_pain_9_a_plan_of_updates_that_is_stepped_by_epochs_is_refused():
    class Epochs(Net):
        def configure_optimizers(self):
            made = super().configure_optimizers()
            return [made["optimizer"]], [made["lr_scheduler"]["scheduler"]]

    with pytest.raises(PlanError, match="every 1 epoch; its plan counts updates"):
        fit(Epochs(), LearningRateControl())


def test_a_module_without_etude_is_refused():
    class Own(Net):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    with pytest.raises(PlanError, match="configure_optimizers write return etude"):
        fit(Own(), LearningRateControl())


def test_controllers_that_no_driver_has_are_refused():
    class Own(Net):
        def configure_optimizers(self):
            plan = etude.plan(self, LR)
            optimizer = torch.optim.SGD(plan.torch_groups(self))
            scheduler = LRScheduler(optimizer, plan.over(8))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    assert len(fit(Own(), LearningRateControl()).used) == 8
    with pytest.raises(PlanError, match="give them all to LearningRateControl"):
        fit(Own(), LearningRateControl(early_stop("val_loss")))


def test_pain_16_an_update_that_overflows_does_not_move_the_clock():
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EtudeWarning)
        done = fit(
            Net(overflows=(2, 5)), plugins=MixedPrecision("16-mixed", "cpu", scaler), batches=8, epochs=1
        )
    made = [rates for rates, moved in zip(done.used, done.moved, strict=True) if moved != [0, 0]]
    assert made == planned(8)[:6]
    assert done.scheduler.last_epoch == 6


class Missing:
    """Finds nothing where Lightning should be."""

    def find_spec(self, name, path=None, target=None):
        if name == "lightning":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_where_lightning_is_not_installed_it_is_said_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("lightning", "etude.lightning"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(MissingExtra, match=r"lightning; write: pip install 'etude\[lightning\]'"):
        importlib.import_module("etude.lightning")
