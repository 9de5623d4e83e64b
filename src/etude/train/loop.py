"""The training loop: draw, apply the rates, go forward and back, clip, update; on Hugging Face Accelerate.

Accelerate does device, mixed precision and several processes. The driver stays outside `prepare` and is
applied by étude's clock: `t` is the examples that the present weights were trained on, over the planned
global batch. Losses and norms stay on the device and are fetched every `log_every` updates.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator

from etude.control.controller import Action, Discard, Restore
from etude.control.driver import Driver
from etude.torch.guard import clip
from etude.train.guard import Guard
from etude.train.order import Order, pieces


@dataclass
class Clock:
    """What the present weights were trained on, and by how many updates; `skipped` ones trained nothing."""

    examples: int = 0
    updates: int = 0
    skipped: int = 0


@dataclass
class Loop:
    """One process of a run. `losses(model, chosen)` gives a loss for each chosen example, on the device.

    `batch` counts examples per process and forward pass; `accumulate` of them make an update. `asked` is what
    the controllers asked for the last update; to restore a checkpoint is left to whoever has one.
    """

    accelerator: Accelerator
    model: Any
    optimizer: Any
    driver: Driver
    order: Order
    losses: Callable[[Any, Sequence[int]], torch.Tensor]
    batch: int
    accumulate: int = 1
    clip: float | None = 1.0
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.global_batch = self.batch * self.accumulate * self.accelerator.num_processes
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.guard = Guard(self.driver, self.accelerator)
        self.asked: tuple[Action, ...] = ()
        self.began = time.perf_counter()
        self._pending: list[tuple[dict[str, Any], torch.Tensor, torch.Tensor]] = []

    @property
    def planned_batch(self) -> float:
        """Examples in a planned update, the unit of the clock; a resumed run may go on with another batch."""
        return self.driver.rates.span.batch or self.global_batch

    @property
    def t(self) -> float:
        """The clock in planned updates."""
        return self.clock.examples / self.planned_batch

    @property
    def target(self) -> int:
        """The number of examples at which the run ends, as the edits so far have it."""
        return round(self.driver.total * self.planned_batch)

    @property
    def done(self) -> bool:
        """Whether the weights have been trained on all that was planned."""
        return self.clock.examples >= self.target

    @property
    def seconds(self) -> float:
        """Time since this process began training."""
        return time.perf_counter() - self.began

    def update(self) -> None:
        """One update: the next examples of the order, at the rates of the interval that they cover."""
        chosen = self.order.draw(min(self.global_batch, self.target - self.clock.examples))
        begin, end = self.t, (self.clock.examples + len(chosen)) / self.planned_batch
        self.driver.apply(begin, end)
        self.guard.begin(self.model)
        loss = self._backward(chosen)
        norm = self._clipped_norm()
        self.asked = self.guard.ask(begin, end, len(chosen) / self.global_batch, loss, norm)
        made = self._made(norm)
        self.optimizer.zero_grad(set_to_none=True)
        record = {
            "k": self.clock.updates,
            "t": [begin, end if made else begin],
            "rates": {"lr": self.driver.read("lr")},
            "skipped": not made,
            "seconds": round(self.seconds, 3),
        }
        self._pending.append((record, loss, norm))
        if made:
            self.clock.updates += 1
            self.clock.examples += len(chosen)
        else:
            self.clock.skipped += 1

    def _made(self, norm: torch.Tensor) -> bool:
        """Make the update, unless a controller drops it or an edit has ended the run where it begins."""
        scaler = self.accelerator.scaler
        if self.done or any(isinstance(one, Discard | Restore) for one in self.asked):
            if scaler is not None:
                scaler.update()  # it has seen these gradients, and wants that before the next ones
            self.guard.dropped()
            return False
        clip(self.asked, norm, self.parameters, self.clip)
        self.optimizer.step()
        made = not self.accelerator.optimizer_step_was_skipped
        self.guard.overflowed(not made)
        return made

    def _backward(self, chosen: Sequence[int]) -> torch.Tensor:
        """Gradients of the mean loss over all chosen examples; returns this process's share of that mean."""
        accelerator = self.accelerator
        mine = chosen[accelerator.process_index :: accelerator.num_processes]
        share = torch.zeros((), device=accelerator.device)
        # A process without an example goes through one with weight 0: the others wait for its gradients.
        parts = list(pieces(mine, self.batch)) or [chosen[:1]]
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = self.losses(self.model, part).float().sum() / len(chosen) * bool(mine)
                # Several processes average their gradients; the mean over all examples is a sum of shares.
                accelerator.backward(loss * accelerator.num_processes)
            share += loss.detach()
        return share

    def _clipped_norm(self) -> torch.Tensor:
        limit = float("inf") if self.clip is None else self.clip
        norm = self.accelerator.clip_grad_norm_(self.parameters, limit)
        return torch.as_tensor(norm, device=self.accelerator.device).detach()

    def fetch(self) -> list[dict[str, Any]]:
        """The records of the updates since the last fetch, with their losses and gradient norms."""
        if not self._pending:
            return []
        records = [record for record, _, _ in self._pending]
        losses = torch.stack([loss for _, loss, _ in self._pending])
        norms = torch.stack([norm.float() for _, _, norm in self._pending]).tolist()
        for record, loss, norm in zip(records, self._summed(losses).tolist(), norms, strict=True):
            record["loss"], record["grad_norm"] = loss, norm
        self._pending.clear()
        return records

    def _summed(self, shares: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return shares
        return self.accelerator.reduce(shares, reduction="sum")  # type: ignore[return-value]
