"""One update of a test, as the training makes it: accumulated, scaled, clipped, over all processes."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from etude.errors import EtudeError
from etude.finder.batches import moved
from etude.finder.losses import Loss
from etude.finder.processes import Processes
from etude.torch.modes import kept_modes


@dataclass
class Trainee:
    """What is trained in a test. `loss(model, batch)` is a mean over `count(batch)` examples or tokens.

    `autocast()` gives the context of every forward pass; `scaler` and `clip` (a gradient norm) are those of
    the training, if it has them.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    count: Callable[[Any], float]
    device: torch.device
    processes: Processes
    scaler: Any = None
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    clip: float | None = None
    _last: torch.Tensor | None = field(default=None, init=False, repr=False)

    def backward(self, window: Sequence[Any], counts: Sequence[float], total: float) -> float:
        """Gradients of the mean loss over `total` examples of all processes; this process's share of it."""
        shares, last = [], len(window) - 1
        for i, (batch, count) in enumerate(zip(window, counts, strict=True)):
            with nullcontext() if i == last else self._unsynchronised(), torch.enable_grad():
                with self.autocast():
                    loss = self.loss(self.model, moved(batch, self.device))
                if not loss.requires_grad:
                    raise EtudeError(
                        "the loss does not depend on any parameter that trains: return it with its graph, "
                        "outside torch.no_grad()"
                    )
                part = loss if count == total else loss * (count / total)
                # Several processes average their gradients; the mean over all examples is a sum of shares.
                whole = part if self.processes.count == 1 else part * self.processes.count
                (whole if self.scaler is None else self.scaler.scale(whole)).backward()
            shares.append(part.detach())
            # Until the next loss is there, as in a loop by hand: with its graph the C library would hand all
            # memory of the forward pass back to the system, and fault it in again, 8% of an update on a CPU.
            self._last = loss
        return sum(shares[1:], shares[0]).item()

    def step(self) -> bool:
        """Change the weights; False if the scaler found an overflow and left them as they are."""
        if self.clip is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            held = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(held, self.clip)
        made = True
        if self.scaler is None:
            self.optimizer.step()
        else:
            before = self.scaler.get_scale()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            made = self.scaler.get_scale() >= before
        self.optimizer.zero_grad(set_to_none=True)
        return made

    def _unsynchronised(self) -> AbstractContextManager[Any]:
        make = getattr(self.model, "no_sync", None)
        return nullcontext() if self.processes.count == 1 or make is None else make()

    @torch.no_grad()
    def mean_loss(self, batches: Iterator[Any]) -> float:
        """The mean loss over batches of held-out data, over all processes, in evaluation mode."""
        total = examples = 0.0
        with kept_modes(self.model):
            self.model.eval()
            for batch in batches:
                with self.autocast():
                    loss = self.loss(self.model, moved(batch, self.device)).item()
                count = self.count(batch)
                total, examples = total + loss * count, examples + count
        every = self.processes.gathered([total, examples])
        seen = math.fsum(examples for _, examples in every)
        if not seen:
            raise EtudeError("held_out is empty: the loader gave no batch")
        return math.fsum(total for total, _ in every) / seen


@contextmanager
def training_mode(model: torch.nn.Module) -> Iterator[None]:
    """In training mode, as the training will be; one that is already leaves its frozen parts as they are."""
    with kept_modes(model):
        if not model.training:
            model.train()
        yield
