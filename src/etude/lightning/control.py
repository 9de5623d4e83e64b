"""The callback: it logs the rates, hands evaluations to the controllers, and ends the run with the plan."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from etude.control.controller import Controller
from etude.control.improvement import Improving
from etude.control.reading import READINGS
from etude.control.target import Target
from etude.errors import PlanError, ScheduleError, near
from etude.lightning.guard import Guard
from etude.torch.guard import refuse_restoring
from etude.torch.scheduler import LRScheduler


class LearningRateControl(Callback):
    """Logs `lr/<group>` for every group, and lets controllers change the rates after each evaluation.

    For a module whose `configure_optimizers` is étude's. An evaluation is the end of a validation, or of an
    epoch where there is none; the readings are `trainer.callback_metrics`. A controller of "train_loss" and
    "grad_norm", such as `spike`, is asked before every update, and may have it dropped or clipped. When the
    plan ends, by itself or by a `Stop`, the fit ends. Raises `ScheduleError` for a metric which a controller
    reads and an evaluation lacks, for a misspelt one of the validation already after Lightning's sanity
    check; and `PlanError` before the fit where étude does not own the rates of the one optimizer, and for a
    controller that would roll back; and before the first update for one that waits for a better "train_loss"
    or "grad_norm", of which there is one in every update, where the module logs another by this name.

    >>> from etude import early_stop
    >>> LearningRateControl(early_stop("val_loss")).controllers[0].reads
    ('val_loss',)
    """

    def __init__(self, *controllers: Controller):
        refuse_restoring(controllers, "a fit")
        self.controllers = controllers
        self.guard = Guard(controllers)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what would go unnoticed: another's rates, a schedule by epochs, idle controllers."""
        if len(trainer.lr_scheduler_configs) != 1 or not isinstance(_scheduler(trainer), LRScheduler):
            raise PlanError(
                "LearningRateControl needs étude's schedule: in the module's configure_optimizers write "
                "return etude.lightning.configure_optimizers(self, lr=…)"
            )
        config = trainer.lr_scheduler_configs[0]
        if (config.interval, config.frequency) != ("step", 1):
            raise PlanError(
                f"the scheduler is called every {config.frequency} {config.interval}; its plan counts "
                f'updates: write {{"scheduler": scheduler, "interval": "step"}}'
            )
        if self.controllers and _scheduler(trainer).driver.controllers != self.controllers:
            raise PlanError("the scheduler has other controllers; give them all to LearningRateControl(…)")

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name a misspelt metric of the validation before the first update; others are not logged yet."""
        found = trainer.callback_metrics
        for metric in self._wanted():
            if metric not in found and metric.startswith("val") and "did you mean" in near(metric, found):
                raise _missing(metric, found)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates that the update under way will use, as often as the trainer logs; begin its guard."""
        self.guard.begin(pl_module)
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
        self._refuse_logged(trainer)
        self.guard.ask(trainer, _scheduler(trainer), optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the fit at the end of the plan."""
        _end(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the metrics to the controllers."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._observe(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same where there is no validation."""
        if not trainer.enable_validation:
            self._observe(trainer)

    def _observe(self, trainer: Trainer) -> None:
        found = trainer.callback_metrics
        wanted = self._wanted()
        for metric in wanted:
            if metric not in found:
                raise _missing(metric, found)
        if wanted:
            _scheduler(trainer).observe({metric: float(found[metric]) for metric in wanted})
        _end(trainer)

    def _refuse_logged(self, trainer: Trainer) -> None:
        """Raise where a module logs by the name of a reading of updates what is to be read by evaluations."""
        results = trainer._results or {}  # the log of the epoch under way: no public property has it so early
        logged = {entry.meta.name for entry in results.values()}
        for one in self.controllers:
            both = logged.intersection(READINGS, one.reads)
            if both and isinstance(one, Improving | Target):
                (metric,) = both
                raise PlanError(
                    f"{one.name} reads {metric!r}, which is that of every update here, and the module logs "
                    f"something by this name: log it as {metric + '_epoch'!r} and let "
                    f"{one.name} read that, or leave {metric!r} out of the log"
                )

    def _wanted(self) -> list[str]:
        return sorted({metric for one in self.controllers for metric in one.reads} - set(READINGS))


def _missing(metric: str, found: Iterable[str]) -> ScheduleError:
    return ScheduleError(f"no metric {metric!r} was logged{near(metric, found)}")


def _scheduler(trainer: Trainer) -> Any:
    return trainer.lr_scheduler_configs[0].scheduler


def _end(trainer: Trainer) -> None:
    scheduler = _scheduler(trainer)
    if scheduler.last_epoch >= scheduler.driver.total:
        trainer.should_stop = True
