"""What the controllers say of an update between its gradients and its step: make it, clip it, or drop it."""

from dataclasses import dataclass
from typing import Any

import torch

from etude.control.controller import Action, Discard, Restore
from etude.control.driver import Driver
from etude.errors import EtudeError
from etude.torch.guard import shown, watched
from etude.torch.statistics import Statistics

# GradScaler begins at 2^16 and halves: after so many halvings no overflow is a matter of its scale.
MOST_OVERFLOWS = 40


@dataclass
class Guard:
    """Asks the driver's controllers about each update; costs nothing where none of them reads updates."""

    driver: Driver
    accelerator: Any

    def __post_init__(self) -> None:
        self.watched = watched(self.driver.controllers)
        self._overflows = 0
        self._statistics = Statistics()

    def begin(self, model: torch.nn.Module) -> None:
        """An update begins."""
        if self.watched:
            self._statistics.keep(model)

    def dropped(self) -> None:
        """The update is not made, and what its forward passes have written is undone."""
        self._statistics.put_back()

    def ask(
        self, begin: float, end: float, share: float, loss: torch.Tensor, norm: torch.Tensor
    ) -> tuple[Action, ...]:
        """What the controllers ask about the update [begin, end]; their edits act on it already.

        `share` is its part of a whole update, `loss` this process's part of the mean loss, `norm` that of all
        gradients; every process gets the same answers, though the loss of only one of them is at fault.
        """
        if not self.watched:
            return ()
        scaled = self.accelerator.scaler is not None
        if not (seen := shown(self.watched, *self._together(loss, norm), scaled=scaled, share=share)):
            return ()
        rates = self.driver.rates
        actions = self.driver.observe(begin, seen, alike=True)
        if any(isinstance(one, Discard | Restore) for one in actions):
            self.driver.forget(seen)
        if self.driver.rates is not rates:
            self.driver.apply(begin, end)
        return actions

    def _together(self, share: torch.Tensor, norm: torch.Tensor) -> list[float]:
        """The sum of the shares and the mean of the norms, the same to the last bit on every process."""
        processes = self.accelerator.num_processes
        read = torch.stack([share.float(), norm.float() / processes])
        if processes > 1:
            read = self.accelerator.reduce(read, reduction="sum")
        return read.tolist()

    def overflowed(self, skipped: bool) -> None:
        """Count the updates that GradScaler skipped in a row; raises `EtudeError` where that has no end."""
        self._overflows = self._overflows + 1 if skipped else 0
        if self._overflows < MOST_OVERFLOWS:
            return
        raise EtudeError(
            f"{MOST_OVERFLOWS} updates in a row overflowed in fp16 and were skipped, the last at a scale of "
            f"{self.accelerator.scaler.get_scale():g}: the gradients are not finite at any scale. The last "
            f"checkpoint is good; go on from it with a lower lr, or write precision: bf16"
        )
