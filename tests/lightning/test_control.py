"""What controllers read in a fit, and when; and what a fit cannot do for them, which is said."""

import math

import pytest

pytest.importorskip("lightning", reason="the fits are Lightning's")

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

import etude.lightning
from etude import Stretch, extend, plateau, spike
from etude.errors import PlanError, ScheduleError
from etude.lightning import LearningRateControl

pytestmark = pytest.mark.filterwarnings("ignore:.*(num_workers|val_dataloader|`training_step`|litlogger).*")


class Net(LightningModule):
    """A weight whose loss in the `bad` batches is NaN; logs a loss of validation and one of training."""

    def __init__(self, bad=(), logs="val_loss"):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.bad, self.logs, self.batches = bad, logs, 0

    def training_step(self, batch, batch_idx):
        self.batches += 1
        self.log("train_loss_epoch", float(self.current_epoch), on_step=False, on_epoch=True)
        return self.weight.sum() * (math.nan if self.batches - 1 in self.bad else 1.0)

    def validation_step(self, batch, batch_idx):
        self.log(self.logs, 1.0)

    def configure_optimizers(self):
        return etude.lightning.configure_optimizers(self, "0.1 * linear()", optimizer=torch.optim.SGD)


class Manual(Net):
    """The same in a manual loop, which steps the scheduler or forgets it."""

    def __init__(self, steps, optimizers=1, **given):
        super().__init__(**given)
        self.automatic_optimization = False
        self.steps, self.count = steps, optimizers

    def training_step(self, batch, batch_idx):
        first = self.optimizers(use_pl_optimizer=True)
        for optimizer in first if isinstance(first, list) else [first]:
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()
        if self.steps:
            self.lr_schedulers().step()

    def configure_optimizers(self):
        made = super().configure_optimizers()
        others = [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(self.count - 1)]
        return [made["optimizer"], *others], [made["lr_scheduler"]]


class Notes:
    """Notes every reading in its memory."""

    def __init__(self, metric):
        self.name, self.reads = f"notes of {metric}", (metric,)

    def init(self):
        return {"read": []}

    def update(self, state, t, reading):
        return {"read": [*state["read"], [t, reading[self.reads[0]]]]}, None


def fit(net, *controllers, val=1, epochs=2, **given):
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    control = LearningRateControl(*controllers)
    trainer = Trainer(accelerator="cpu", max_epochs=epochs, callbacks=[control], **quiet, **given)
    loader = None if val is None else DataLoader(torch.zeros(val))
    trainer.fit(net, DataLoader(torch.zeros(8)), loader)
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    return trainer.global_step, scheduler.last_epoch, scheduler.driver


def read(driver, metric):
    return driver.memory[f"notes of {metric}"]["read"]


# --- when a reading is made --------------------------------------------------------------------------------


def test_a_validation_between_two_updates_is_read_once():
    _, t, driver = fit(Net(), Notes("val_loss"), epochs=1, val_check_interval=1, accumulate_grad_batches=4)
    assert t == 2
    assert [at for at, _ in read(driver, "val_loss")] == [0, 1, 2]


def test_where_every_update_between_two_validations_is_dropped_there_is_nothing_new_to_read():
    _, t, driver = fit(Net(bad=range(3, 7)), Notes("val_loss"), spike(), epochs=1, val_check_interval=2)
    assert t == 4
    assert [at for at, _ in read(driver, "val_loss")] == [2, 3, 4]


def test_what_only_the_training_logs_is_read_once_an_epoch_beside_the_validation():
    """And is that of the epoch itself, in the middle of which the validation has that of the one before."""
    both = Notes("val_loss"), Notes("train_loss_epoch")
    _, _, driver = fit(Net(), *both, epochs=3, val_check_interval=4)
    assert [at for at, _ in read(driver, "val_loss")] == [4, 8, 12, 16, 20, 24]
    assert read(driver, "train_loss_epoch") == [[8, 0.0], [16, 1.0], [24, 2.0]]


@pytest.mark.parametrize("sanity", [0, 2])
def test_a_validation_every_other_epoch_is_read_then(sanity):
    both = Notes("val_loss"), Notes("train_loss_epoch")
    _, _, driver = fit(Net(), *both, epochs=4, check_val_every_n_epoch=2, num_sanity_val_steps=sanity)
    assert [at for at, _ in read(driver, "val_loss")] == [16, 32]
    assert [at for at, _ in read(driver, "train_loss_epoch")] == [8, 16, 24, 32]


# --- what nobody logs --------------------------------------------------------------------------------------


def test_a_trainers_name_for_the_metric_is_found_out_by_the_sanity_check():
    net = Net()
    with pytest.raises(ScheduleError, match="no metric 'eval_loss' was logged; did you mean 'val_loss'"):
        fit(net, plateau())
    assert net.batches == 0


@pytest.mark.parametrize("given", [{"val": None}, {"limit_val_batches": 0}])
def test_a_metric_of_a_validation_that_there_is_not_is_refused_before_the_fit(given):
    net = Net()
    with pytest.raises(PlanError, match="reads 'val_loss', and this fit has no validation"):
        fit(net, plateau("val_loss"), **given)
    assert net.batches == 0


@pytest.mark.parametrize("val", [None, 0, 1])
def test_a_metric_that_nobody_logs_is_named_after_the_first_epoch(val):
    net = Net()
    with pytest.raises(ScheduleError, match="no metric 'accuracy' was logged"):
        fit(net, plateau("accuracy"), val=val)
    assert net.batches == 8


# --- what a fit cannot do ----------------------------------------------------------------------------------


def test_a_controller_that_makes_the_run_longer_is_refused_at_once():
    with pytest.raises(PlanError, match="extend makes the run longer, which a fit cannot do"):
        LearningRateControl(extend("val_loss"))


def test_an_edit_that_lets_the_run_outlast_the_fit_is_refused():
    class Longer(Notes):
        def update(self, state, t, reading):
            return dict(state), Stretch(t, 24.0)

    with pytest.raises(ScheduleError, match="go on until 24, and the fit ends after 16 updates"):
        fit(Net(), Longer("val_loss"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("plateau", "'plateau' is no controller"),
        (plateau, r"write etude.plateau\(\)"),
        ([plateau()], "no con"),
    ],
)
def test_what_is_no_controller_is_refused_with_words(given, said):
    with pytest.raises(ScheduleError, match=said):
        LearningRateControl(given)


def test_a_manual_loop_has_its_readings_too():
    made, t, driver = fit(Manual(True, bad=[5]), Notes("val_loss"), spike())
    assert (made, t) == (16, 15)
    assert [at for at, _ in read(driver, "val_loss")] == [7, 15]


def test_a_manual_loop_that_forgets_the_scheduler_is_told_so():
    net = Manual(False)
    with pytest.raises(PlanError, match=r"self\.lr_schedulers\(\)\.step\(\) after each optimizer"):
        fit(net)
    assert net.batches == 1


def test_two_optimizers_are_refused():
    with pytest.raises(PlanError, match="has 2 optimizers, and étude sets the rates of one"):
        fit(Manual(True, optimizers=2), plateau("val_loss"))
