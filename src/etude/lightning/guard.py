"""Controllers of updates in a fit: what they read before the optimizer steps, and what is done then."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer

from etude.control.controller import Controller, Restore
from etude.errors import PlanError
from etude.torch.guard import Share, carry_out, shown, watched
from etude.torch.scheduler import LRScheduler
from etude.torch.statistics import Statistics


class Guard:
    """Reads the loss and the gradient norm of every update, where a controller reads them."""

    def __init__(self, controllers: Sequence[Controller]):
        self.watched = watched(controllers)
        self._losses: list[torch.Tensor] = []
        self._statistics = Statistics()
        self._share = Share()

    def begin(self, module: torch.nn.Module, batch: Any) -> None:
        """A batch begins, and with the first one of a window an update."""
        if self.watched and not self._losses:
            self._statistics.keep(module)
            self._share.begin()
        self._share.add(batch)

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
        loss, norm, examples = self._together(trainer, float(sum(self._losses)), norm, self._share.examples)
        self._losses.clear()
        scaled, share = _scaler(trainer) is not None, self._share.of(examples)
        if not (seen := shown(self.watched, loss, norm, scaled=scaled, share=share)):
            return
        asked = scheduler.observe(seen, alike=True)
        if back := [one for one in asked if isinstance(one, Restore)]:
            raise PlanError(f"a controller asks to go back, which a fit cannot do: {back[0].reason}")
        ended = scheduler.last_epoch >= scheduler.driver.total
        carry_out(asked, norm, parameters, scheduler, self._statistics, ended=ended)

    def _together(self, trainer: Trainer, *read: float) -> Sequence[float]:
        """The means over all processes, so that each goes the same way."""
        if trainer.world_size == 1:
            return read
        mine = torch.tensor(read, dtype=torch.float64, device=trainer.strategy.root_device)
        return trainer.strategy.reduce(mine, reduce_op="mean").tolist()


def _scaler(trainer: Trainer) -> torch.amp.GradScaler | None:
    return getattr(trainer.strategy.precision_plugin, "scaler", None)
