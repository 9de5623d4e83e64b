"""What would go unnoticed in a fit, and is said: before the first update wherever it can be known then."""

from collections.abc import Iterable, Sequence

from lightning.pytorch import Trainer

from etude.control.controller import Controller
from etude.control.driver import Driver
from etude.control.improvement import Improving
from etude.control.reading import READINGS
from etude.control.target import Target
from etude.core.length import TOLERANCE
from etude.errors import EtudeError, PlanError, ScheduleError, near
from etude.torch.scheduler import LRScheduler

VALIDATION = ("val", "eval")
"""How the names of a validation's metrics begin, by habit."""


def refuse_foreign_rates(trainer: Trainer, controllers: Sequence[Controller]) -> None:
    """Raise `PlanError` where étude does not own all rates, update by update, with these controllers."""
    configs = trainer.lr_scheduler_configs
    scheduler = configs[0].scheduler if len(configs) == 1 else None
    if not isinstance(scheduler, LRScheduler):
        raise PlanError(
            "LearningRateControl needs étude's schedule: in the module's configure_optimizers write "
            "return etude.lightning.configure_optimizers(self, lr=…)"
        )
    if len(trainer.optimizers) != 1:
        raise PlanError(
            f"this module has {len(trainer.optimizers)} optimizers, and étude sets the rates of one: write "
            f"one with a group for each part, groups=[…], or leave LearningRateControl out"
        )
    (config,) = configs
    if (config.interval, config.frequency) != ("step", 1):
        raise PlanError(
            f"the scheduler is called every {config.frequency} {config.interval}; its plan counts "
            f'updates: write {{"scheduler": scheduler, "interval": "step"}}'
        )
    if controllers and scheduler.driver.controllers != controllers:
        raise PlanError("the scheduler has other controllers; give them all to LearningRateControl(…)")


def refuse_without_validation(trainer: Trainer, wanted: Iterable[str]) -> None:
    """Raise `PlanError` for a metric of a validation where the fit has none."""
    for metric in wanted:
        if metric.startswith(VALIDATION) and not trainer.enable_validation:
            raise PlanError(
                f"a controller reads {metric!r}, and this fit has no validation: give fit a loader for "
                f"it and the module a validation_step, and leave limit_val_batches=0 out"
            )


def refuse_misspelt(wanted: Iterable[str], found: Iterable[str]) -> None:
    """Raise `ScheduleError` for a metric by whose name a validation's is meant, which it has not logged."""
    for metric in wanted:
        if metric not in found and metric.startswith(VALIDATION) and "did you mean" in near(metric, found):
            raise missing(metric, found)


def missing(metric: str, found: Iterable[str]) -> ScheduleError:
    """The error for a metric that is not among those found."""
    return ScheduleError(f"no metric {metric!r} was logged{near(metric, found)}")


def refuse_ended(trainer: Trainer, scheduler: LRScheduler) -> None:
    """Raise `EtudeError` where the checkpoint's run has ended before the fit, by a `Stop` perhaps."""
    driver = scheduler.driver
    if driver.total <= scheduler.last_epoch < trainer.estimated_stepping_batches:
        last = driver.edits[-1] if driver.edits else "the plan"
        raise EtudeError(f"this run has ended at {driver.total:g}, by {last}: nothing is left to train")


def refuse_standing_clock(trainer: Trainer, updates: int, steps: int) -> None:
    """Raise `PlanError` where updates have been made since there were so many, and no steps of the clock."""
    if trainer.global_step > updates and trainer.lr_scheduler_configs[0].scheduler._step_count == steps:
        raise PlanError(
            "an update was made and the scheduler was not stepped, so its clock stands still: in a manual "
            "loop write self.lr_schedulers().step() after each optimizer.step()"
        )


def refuse_outlasting(trainer: Trainer, driver: Driver) -> None:
    """Raise `ScheduleError` where an edit lets the run go on beyond the end of the fit."""
    if driver.total <= driver.rates.span.total + TOLERANCE:
        return
    most = trainer.estimated_stepping_batches
    if driver.total > most + TOLERANCE:
        raise ScheduleError(
            f"{driver.edits[-1]} lets the run go on until {driver.total:g}, and the fit ends after {most} "
            f"updates: give it the longest run that there may be, and end it sooner"
        )


def refuse_logged(trainer: Trainer, controllers: Iterable[Controller]) -> None:
    """Raise where a module logs by the name of a reading of updates what is to be read by evaluations."""
    results = trainer._results or {}  # the log of the epoch under way: no public property has it so early
    logged = {entry.meta.name for entry in results.values()}
    for one in controllers:
        both = logged.intersection(READINGS, one.reads)
        if both and isinstance(one, Improving | Target):
            (metric,) = both
            raise PlanError(
                f"{one.name} reads {metric!r}, which is that of every update here, and the module logs "
                f"something by this name: log it as {metric + '_epoch'!r} and let "
                f"{one.name} read that, or leave {metric!r} out of the log"
            )
