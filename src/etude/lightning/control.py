"""The callback: it logs the rates, hands evaluations to the controllers, and ends the run with the plan."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from etude.control.controller import Controller, checked
from etude.control.extend import Extend
from etude.control.reading import READINGS
from etude.errors import PlanError
from etude.lightning import refusals
from etude.lightning.guard import Guard
from etude.torch.guard import refuse_restoring


class LearningRateControl(Callback):
    """Logs `lr/<group>` for every group, and lets controllers change the rates after each evaluation.

    For a module whose `configure_optimizers` is étude's. The readings are what a validation logs, at its end,
    and what only the training logs, at the end of each epoch. A controller of "train_loss" and "grad_norm",
    such as `spike`, is asked before every update, and may have it dropped or clipped. When the plan ends, by
    itself or by a `Stop`, the fit ends.

    Raises `ScheduleError` for a metric which a controller reads and nobody logs, for a misspelt one of the
    validation already after Lightning's sanity check, and for an edit that lets the run outlast the fit.
    Raises `PlanError` at once for a controller that would roll back or make the run longer; before the fit
    where étude does not own the rates of the one optimizer, and for a metric of a validation that there is
    not; before the first update for one that waits for a better "train_loss" or "grad_norm", of which there
    is one in every update, where the module logs another by this name; and before the second one for a
    manual loop that does not step the scheduler.

    >>> from etude import early_stop
    >>> LearningRateControl(early_stop("val_loss")).controllers[0].reads
    ('val_loss',)
    """

    def __init__(self, *controllers: Controller):
        self.controllers = checked(controllers)
        refuse_restoring(self.controllers, "a fit")
        for one in self.controllers:
            if isinstance(one, Extend):
                raise PlanError(
                    f"{one.name} makes the run longer, which a fit cannot do: it ends with its own "
                    f"max_epochs or max_steps. Give it the longest run and a controller that ends it, such "
                    f"as cooldown, or train with etude finetune"
                )
        self.guard = Guard(self.controllers)
        self._wanted = sorted({metric for one in self.controllers for metric in one.reads} - set(READINGS))
        self._forget()

    def _forget(self) -> None:
        self._validated: set[str] | None = None  # what validations log; None before the first one
        self._read: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what would go unnoticed: another's rates, a schedule by epochs, idle controllers."""
        refusals.refuse_foreign_rates(trainer, self.controllers)
        refusals.refuse_without_validation(trainer, self._wanted)
        self._forget()

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name a misspelt metric of the validation before the first update; others are not logged yet."""
        refusals.refuse_misspelt(self._wanted, trainer.callback_metrics)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to go on with a run that has ended."""
        refusals.refuse_ended(trainer, _scheduler(trainer))
        self._start = trainer.global_step, _scheduler(trainer)._step_count

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates that the update under way will use, as often as the trainer logs; begin its guard."""
        if not pl_module.automatic_optimization:
            refusals.refuse_standing_clock(trainer, *self._start)
        self.guard.begin(pl_module, batch)
        first = batch_idx % trainer.accumulate_grad_batches == 0
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
        if first and (trainer.global_step + 1) % every == 0:
            driver = _scheduler(trainer).driver
            names = [f"lr/{group.name}" for group in driver.rates.plan.groups]
            for logger in trainer.loggers:
                logger.log_metrics(dict(zip(names, driver.read("lr"), strict=True)), step=trainer.global_step)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Read the loss, where a controller reads those of updates."""
        self.guard.backward(trainer, loss)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Let these controllers drop or clip the update."""
        refusals.refuse_logged(trainer, self.controllers)
        self.guard.ask(trainer, _scheduler(trainer), optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the fit at the end of the plan."""
        _end(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand what the validation has logged to the controllers."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        # callback_metrics would have those of the last epoch's training as well
        found = trainer._results.metrics(on_step=False)["callback"] if trainer._results else {}
        if self._validated is None:
            refusals.refuse_misspelt(self._wanted, found)
        self._validated = (self._validated or set()) | found.keys()
        self._observe(trainer, found)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand them what no validation logs."""
        found, validated = trainer.callback_metrics, self._validated or set()
        missing = [metric for metric in self._wanted if metric not in validated and metric not in found]
        batches = trainer.num_val_batches  # empty before the first validation is prepared
        due = trainer.enable_validation and (any(batches) or not batches)
        if missing and (self._validated is not None or not due):
            raise refusals.missing(missing[0], found)
        self._observe(trainer, {metric: found[metric] for metric in found if metric not in validated})

    def _observe(self, trainer: Trainer, found: Mapping[str, torch.Tensor]) -> None:
        scheduler = _scheduler(trainer)
        t = scheduler.last_epoch
        # While the weights have not moved there is nothing new to be read.
        fresh = {m: float(found[m]) for m in self._wanted if m in found and t > self._read.get(m, -1)}
        if fresh:
            self._read |= dict.fromkeys(fresh, t)
            scheduler.observe(fresh)
        _end(trainer)


def _scheduler(trainer: Trainer) -> Any:
    return trainer.lr_scheduler_configs[0].scheduler


def _end(trainer: Trainer) -> None:
    scheduler = _scheduler(trainer)
    refusals.refuse_outlasting(trainer, scheduler.driver)
    if scheduler.last_epoch >= scheduler.driver.total:
        trainer.should_stop = True
