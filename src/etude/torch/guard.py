"""What the loop of every host does with an update that controllers read before it is made."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from etude.control.controller import Action, Clip, Controller, Discard, Restore
from etude.control.reading import READINGS, SHARE
from etude.errors import PlanError
from etude.torch.scheduler import LRScheduler
from etude.torch.statistics import Statistics


def watched(controllers: Iterable[Controller]) -> tuple[str, ...]:
    """Those of the readings of every update that a controller reads."""
    read = {metric for one in controllers for metric in one.reads}
    return tuple(metric for metric in READINGS if metric in read)


class Share:
    """What part of a whole update the one under way is: its examples, over the most that one has had."""

    def __init__(self) -> None:
        self.examples = 0
        self._most = 0.0

    def begin(self) -> None:
        """An update begins."""
        self.examples = 0

    def add(self, batch: Any) -> None:
        """Count the examples of a batch: the rows of its first tensor; without a tensor none."""
        parts = tree_leaves(dict(batch) if isinstance(batch, Mapping) else batch)
        self.examples += next((len(one) for one in parts if isinstance(one, torch.Tensor) and one.ndim), 0)

    def of(self, examples: float) -> float:
        """The share of an update of so many examples, the mean over the processes."""
        self._most = max(self._most, examples)
        return examples / self._most if self._most else 1.0


def shown(
    metrics: Iterable[str], loss: float, norm: float, *, scaled: bool, share: float = 1.0
) -> dict[str, float]:
    """What controllers are shown of an update, and nothing of one whose gradients overflow in fp16.

    Such an update is for GradScaler (`scaled` says whether there is one): it skips the update by itself, and
    lowers the scale. `share` is said where it is below 1.

    >>> shown(["grad_norm"], 0.7, math.inf, scaled=False), shown(["grad_norm"], 0.7, math.inf, scaled=True)
    ({'grad_norm': inf}, {})
    """
    if scaled and math.isfinite(loss) and not math.isfinite(norm):
        return {}
    read = dict(zip(READINGS, (loss, norm), strict=True))
    return {metric: read[metric] for metric in metrics} | ({SHARE: share} if share < 1 else {})


def clip(
    asked: Iterable[Action],
    norm: float | torch.Tensor,
    parameters: Iterable[torch.Tensor],
    largest: float | None = None,
) -> None:
    """Scale the gradients down to the least norm that a `Clip` among `asked` wants, if there is one.

    `norm` is theirs before the host clipped them to `largest`, if it does; gradients below stay.
    """
    limits = [one.norm for one in asked if isinstance(one, Clip)]
    if not limits:
        return
    now = min(float(norm), largest) if largest is not None and largest > 0 else float(norm)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_mul_(gradients, min(1.0, min(limits) / now))


def carry_out(
    asked: Sequence[Action],
    norm: float,
    parameters: Sequence[torch.Tensor],
    scheduler: LRScheduler,
    statistics: Statistics,
    *,
    ended: bool,
    largest: float | None = None,
) -> None:
    """Drop the update or clip it in a host that steps in any case; `ended`: the run ends where it begins."""
    if ended or any(isinstance(one, Discard) for one in asked):
        for parameter in parameters:
            parameter.grad = None  # an optimizer passes over it: moments and decay stand still
        statistics.put_back()
        scheduler.drop()
    else:
        clip(asked, norm, parameters, largest)


def refuse_restoring(controllers: Iterable[Controller], loop: str) -> None:
    """Raise `PlanError` for a controller that may ask a loop to go back to a checkpoint."""
    for one in controllers:
        if Restore in getattr(one, "asks", ()):
            raise PlanError(
                f"{one.name} may roll back, which {loop} cannot do: it never goes back. Write policy='skip' "
                f"or 'clip' without rollbacks, or train with etude finetune"
            )
