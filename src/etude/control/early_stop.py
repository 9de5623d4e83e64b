"""Early stopping: end the run when a metric has not improved for a number of readings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etude.control.controller import controller
from etude.core.edit import Stop
from etude.errors import ScheduleError


@controller
def early_stop(
    metric: str = "eval_loss", patience: int = 3, *, greater_is_better: bool = False, threshold: float = 0.0
) -> "EarlyStop":
    """End the run after `patience` readings of `metric` in a row that are not better than the best so far.

    Better means by more than `threshold`, in the metric's own unit. A reading that is not finite is never
    better. Raises `ScheduleError` for a patience below 1 or a negative threshold. Prechelt, "Early stopping,
    but when?" (1998), criterion UP.

    >>> stop = early_stop("eval_loss", patience=2)
    >>> state = stop.init()
    >>> for t, loss in enumerate([0.9, 0.7, 0.8, 0.75], start=1):
    ...     state, edit = stop.update(state, float(t), {"eval_loss": loss})
    >>> edit
    Stop(at=4.0, author='early_stop', reason='eval_loss 0.75: 2 readings without improvement on 0.7')
    """
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise ScheduleError(f"early_stop(patience={patience!r}) takes a number of readings, 1 or more")
    if not threshold >= 0:
        raise ScheduleError(f"early_stop(threshold={threshold!r}) takes a number of 0 or more")
    return EarlyStop(metric, patience, greater_is_better, threshold)


@dataclass(frozen=True)
class EarlyStop:
    """The controller that `early_stop` makes."""

    metric: str
    patience: int
    greater_is_better: bool
    threshold: float
    name: str = "early_stop"

    @property
    def reads(self) -> tuple[str, ...]:
        """The one metric it watches."""
        return (self.metric,)

    def init(self) -> dict[str, Any]:
        """No best reading yet, none without improvement."""
        return {"best": None, "bad": 0}

    def update(
        self, state: Mapping[str, Any], t: float, reading: Mapping[str, float]
    ) -> tuple[dict[str, Any], Stop | None]:
        """Count readings without improvement; `Stop` at the one that makes it `patience`."""
        value, best = reading[self.metric], state["best"]
        if math.isfinite(value) and (best is None or self._gain(value, best) > self.threshold):
            return {"best": value, "bad": 0}, None
        bad = state["bad"] + 1
        if bad < self.patience:
            return {"best": best, "bad": bad}, None
        lasting = "any" if best is None else f"{best:.6g}"
        reason = f"{self.metric} {value:.6g}: {bad} readings without improvement on {lasting}"
        return {"best": best, "bad": bad}, Stop(t, author=self.name, reason=reason)

    def _gain(self, value: float, best: float) -> float:
        return value - best if self.greater_is_better else best - value
