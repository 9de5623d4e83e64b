"""Controllers of updates in a trainer: what they read before the optimizer steps, and what is done then."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from etude.control.controller import Action, Clip, Controller, Discard, Restore
from etude.control.reading import READINGS
from etude.errors import EtudeError
from etude.trainer import processes

if TYPE_CHECKING:
    from etude.trainer.attachment import Attachment

HOOKS = ("training_step", "_get_grad_norm")


def refuse_restoring(controllers: Sequence[Controller]) -> None:
    """Raise `EtudeError` for a controller that may ask a trainer to go back to a checkpoint."""
    for one in controllers:
        if Restore in getattr(one, "asks", ()):
            raise EtudeError(
                f"{one.name} may roll back, which a trainer's loop cannot do: it never goes back. "
                f"Write policy='skip' or 'clip' without rollbacks, or train with etude finetune"
            )


class Guard:
    """Reads the loss and the gradient norm of every update, where a controller reads them.

    `asked` has what the controllers asked for, each with the time and the reason.
    """

    def __init__(self, attached: "Attachment"):
        self.attached = attached
        read = {metric for one in attached.controllers for metric in one.reads}
        self.watched = tuple(metric for metric in READINGS if metric in read)
        self.asked: list[tuple[float, Action]] = []
        self._losses: list[torch.Tensor] = []
        self._norm: Any = math.nan

    def take_over(self) -> None:
        """Put the hooks into the trainer, if they are needed."""
        trainer = self.attached.trainer
        self._theirs = {name: getattr(trainer, name) for name in HOOKS if self.watched}
        for name in self._theirs:
            setattr(trainer, name, getattr(self, name))

    def let_go(self) -> None:
        """Give the trainer its own methods back."""
        for name, theirs in self._theirs.items():
            setattr(self.attached.trainer, name, theirs)

    def training_step(self, *args: Any, **keys: Any) -> torch.Tensor:
        """The trainer's own; its loss, a share of the update's mean, is kept."""
        loss = self._theirs["training_step"](*args, **keys)
        self._losses.append(loss)
        return loss

    def _get_grad_norm(self, *args: Any, **keys: Any) -> Any:
        """The trainer's own; it gives the norm before clipping, and is kept."""
        self._norm = self._theirs["_get_grad_norm"](*args, **keys)
        return self._norm

    def begin(self) -> None:
        """An update begins."""
        self._losses.clear()
        self.attached.scheduler.drop(False)

    def ask(self) -> None:
        """Let the controllers decide about the update whose gradients are there, and do what they ask."""
        if not self.watched:
            return
        attached, trainer = self.attached, self.attached.trainer
        found = processes.mean({"train_loss": float(sum(self._losses)), "grad_norm": float(self._norm)})
        scaled = trainer.accelerator.scaler is not None
        if scaled and math.isfinite(found["train_loss"]) and not math.isfinite(found["grad_norm"]):
            return  # an overflow, which GradScaler skips by itself
        asked = attached.scheduler.observe({metric: found[metric] for metric in self.watched}, alike=True)
        attached.do(asked)
        if attached.left <= 0 or any(isinstance(one, Discard) for one in asked):
            self._drop()
        elif limits := [one.norm for one in asked if isinstance(one, Clip)]:
            self._clip(min(limits), found["grad_norm"])

    def _drop(self) -> None:
        """An optimizer passes over a parameter without a gradient: its moments and its decay stand still."""
        for parameter in self._parameters():
            parameter.grad = None
        self.attached.scheduler.drop()

    def _clip(self, limit: float, norm: float) -> None:
        largest = self.attached.trainer.args.max_grad_norm
        now = min(norm, largest) if largest and largest > 0 else norm
        gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, min(1.0, limit / now))

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [one for group in self.attached.trainer.optimizer.param_groups for one in group["params"]]
