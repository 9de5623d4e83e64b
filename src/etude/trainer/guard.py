"""Controllers of updates in a trainer: what they read before the optimizer steps, and what is done then."""

import math
from typing import TYPE_CHECKING, Any

import torch

from etude.control.controller import Action
from etude.torch.guard import Share, carry_out, shown, watched
from etude.torch.statistics import Statistics
from etude.trainer import processes

if TYPE_CHECKING:
    from etude.trainer.attachment import Attachment

HOOKS = ("training_step", "_get_grad_norm")


class Guard:
    """Reads the loss and the gradient norm of every update, where a controller reads them.

    `asked` has what the controllers asked for, each with the time and the reason.
    """

    def __init__(self, attached: "Attachment"):
        self.attached = attached
        self.watched = watched(attached.controllers)
        self.asked: list[tuple[float, Action]] = []
        self._losses: list[torch.Tensor] = []
        self._norm: Any = math.nan
        self._statistics = Statistics()
        self._share = Share()

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
        self._share.add(args[1] if len(args) > 1 else keys["inputs"])
        self._losses.append(loss)
        return loss

    def _get_grad_norm(self, *args: Any, **keys: Any) -> Any:
        """The trainer's own; it gives the norm before clipping, and is kept."""
        self._norm = self._theirs["_get_grad_norm"](*args, **keys)
        return self._norm

    def begin(self) -> None:
        """An update begins."""
        self._losses.clear()
        self._share.begin()
        self.attached.scheduler.drop(False)
        if self.watched:
            self._statistics.keep(self.attached.trainer.model)

    def ask(self) -> None:
        """Let the controllers decide about the update whose gradients are there, and do what they ask."""
        if not self.watched:
            return
        attached, trainer = self.attached, self.attached.trainer
        read = {"train_loss": float(sum(self._losses)), "grad_norm": float(self._norm)}
        found = processes.mean(read | {"examples": float(self._share.examples)})
        loss, norm, share = found["train_loss"], found["grad_norm"], self._share.of(found["examples"])
        scaled = trainer.accelerator.scaler is not None
        if not (seen := shown(self.watched, loss, norm, scaled=scaled, share=share)):
            return
        asked = attached.scheduler.observe(seen, alike=True)
        attached.do(asked)
        parameters = [one for group in trainer.optimizer.param_groups for one in group["params"]]
        ended, largest = attached.left <= 0, trainer.args.max_grad_norm
        carry_out(asked, norm, parameters, attached.scheduler, self._statistics, ended=ended, largest=largest)
