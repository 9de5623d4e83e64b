"""Controllers of updates in a fit: what they read before the optimizer steps, and what is done then."""

import math
from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer

from etude.control.controller import Clip, Controller, Discard, Restore
from etude.control.reading import READINGS
from etude.errors import PlanError
from etude.torch.scheduler import LRScheduler


def refuse_restoring(controllers: Sequence[Controller]) -> None:
    """Raise `PlanError` for a controller that may ask a fit to go back to a checkpoint."""
    for one in controllers:
        if Restore in getattr(one, "asks", ()):
            raise PlanError(
                f"{one.name} may roll back, which a fit cannot do: it never goes back. Write policy='skip' "
                f"or 'clip' without rollbacks, or train with etude finetune"
            )


class Guard:
    """Reads the loss and the gradient norm of every update, where a controller reads them."""

    def __init__(self, controllers: Sequence[Controller]):
        read = {metric for one in controllers for metric in one.reads}
        self.watched = tuple(metric for metric in READINGS if metric in read)
        self._losses: list[torch.Tensor] = []

    def backward(self, trainer: Trainer, loss: torch.Tensor) -> None:
        """Keep a loss, as it is about to be differentiated: a share of the mean of the update."""
        if self.watched:
            scaler = _scaler(trainer)
            self._losses.append(loss.detach() / (1.0 if scaler is None else scaler.get_scale()))

    def ask(self, trainer: Trainer, scheduler: LRScheduler, optimizer: torch.optim.Optimizer) -> None:
        """Let the controllers decide about the update whose gradients are there, and do what they ask."""
        if not self.watched:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        found = self._together(trainer, float(sum(self._losses)), norm)
        self._losses.clear()
        if _scaler(trainer) is not None and math.isfinite(found[0]) and not math.isfinite(found[1]):
            return  # an overflow, which GradScaler skips by itself
        read = dict(zip(READINGS, found, strict=True))
        asked = scheduler.observe({metric: read[metric] for metric in self.watched}, alike=True)
        if back := [one for one in asked if isinstance(one, Restore)]:
            raise PlanError(f"a controller asks to go back, which a fit cannot do: {back[0].reason}")
        if scheduler.last_epoch >= scheduler.driver.total or any(isinstance(one, Discard) for one in asked):
            for parameter in parameters:
                parameter.grad = None  # an optimizer passes over it: moments and decay stand still
            scheduler.drop()
        elif limits := [one.norm for one in asked if isinstance(one, Clip)]:
            gradients = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_mul_(gradients, min(1.0, min(limits) / found[1]))

    def _together(self, trainer: Trainer, loss: float, norm: float) -> tuple[float, float]:
        """The means over all processes, so that each goes the same way."""
        if trainer.world_size == 1:
            return loss, norm
        read = torch.tensor([loss, norm], dtype=torch.float64, device=trainer.strategy.root_device)
        loss, norm = trainer.strategy.reduce(read, reduce_op="mean").tolist()
        return loss, norm


def _scaler(trainer: Trainer) -> torch.amp.GradScaler | None:
    return getattr(trainer.strategy.precision_plugin, "scaler", None)
