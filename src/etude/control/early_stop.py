"""Early stopping: end the run when a metric has not improved for a number of readings, or has diverged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.control.controller import controller
from etude.control.improvement import Improving
from etude.control.watching import at_least, whole
from etude.core.edit import Stop


@controller
def early_stop(
    metric: str = "eval_loss",
    patience: int = 3,
    *,
    greater_is_better: bool | None = None,
    threshold: float = 0.0,
    threshold_mode: str = "abs",
    divergence: float | None = None,
    below: float | None = None,
    name: str = "early_stop",
) -> "EarlyStop":
    """End the run after `patience` readings of `metric` in a row that are not better than the best so far.

    Better means by more than `threshold`, in the metric's own unit, or with `threshold_mode="rel"` as a share
    of the best; the metric's name says in which direction, unless `greater_is_better` does. A reading that is
    not finite is never better. Prechelt, "Early stopping, but when?" (1998), criterion UP.

    With `divergence` the run ends at once at a reading that is not finite, or worse than the best by more
    than `divergence` × |best|: 3 is a loss of four times the best. With `below` the readings that count are
    those below it, whether better or not: `early_stop("grad_norm", 100, below=0.01)` ends a run whose
    gradients have gone (as GradES does for single matrices: Wen et al., arXiv:2509.01842). A single large
    gradient is no reason to end a run; `spike` clips it or drops it.

    Raises `ScheduleError` for an option that makes no sense.

    >>> stop = early_stop("eval_loss", patience=2)
    >>> state = stop.init()
    >>> for t, loss in enumerate([0.9, 0.7, 0.8, 0.75], start=1):
    ...     state, edit = stop.update(state, float(t), {"eval_loss": loss})
    >>> edit
    Stop(at=4.0, author='early_stop', reason='eval_loss 0.75: 2 readings without improvement on 0.7')
    """
    return EarlyStop(
        metric, patience, divergence, below,
        threshold=threshold, threshold_mode=threshold_mode, greater_is_better=greater_is_better, name=name,
    )  # fmt: skip


@dataclass(frozen=True)
class EarlyStop(Improving):
    """The controller that `early_stop` makes."""

    word: ClassVar[str] = "early_stop"
    patience: int
    divergence: float | None
    below: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("early_stop", "patience", self.patience, 1)
        for name in ("divergence", "below"):
            if (value := getattr(self, name)) is not None:
                at_least("early_stop", name, value, 0)

    def init(self) -> dict[str, Any]:
        """No best reading yet, none that counts."""
        return {"best": None, "bad": 0}

    def update(
        self, state: Mapping[str, Any], t: float, reading: Mapping[str, float]
    ) -> tuple[dict[str, Any], Stop | None]:
        """Count readings without improvement; `Stop` at the one that makes it `patience`."""
        value, best = reading[self.metric], state["best"]
        better = self.better(value, best)
        after = {"best": value if better else best, "bad": state["bad"] + 1}
        if self._diverged(value, best):
            return after, self._stop(t, f"{self.metric} {value:.6g} has diverged: the best was {best}")
        if self.below is None and better:
            return {**after, "bad": 0}, None
        if self.below is not None and not value < self.below:
            return {**after, "bad": 0}, None
        if after["bad"] < self.patience:
            return after, None
        if self.below is None:
            return after, self._stop(t, self.waited(value, after["bad"], best))
        return after, self._stop(
            t, f"{self.metric} {value:.6g}: {after['bad']} in a row below {self.below:g}"
        )

    def _diverged(self, value: float, best: float | None) -> bool:
        if self.divergence is None:
            return False
        if not math.isfinite(value):
            return True
        return best is not None and self.gain(best, value) > self.divergence * abs(best)

    def _stop(self, t: float, reason: str) -> Stop:
        return Stop(t, author=self.name, reason=reason)
