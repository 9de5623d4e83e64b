"""Raise the rate while a metric gets better, lower it while it does not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from etude.control.controller import controller
from etude.control.improvement import Improving
from etude.control.watching import at_least, between, check, whole
from etude.core.edit import Scale


@controller
def greedy(
    metric: str = "eval_loss",
    factor: float = 0.8,
    patience: int = 2,
    *,
    cooldown: int = 0,
    min: float = 0.1,
    max: float = 2.0,
    smooth: int = 1,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    greater_is_better: bool | None = None,
    groups: str = "*",
    name: str = "greedy",
) -> "Greedy":
    """Raise the rate by 1 / `factor` after `patience` better readings in a row, lower it after as many bad.

    Better is a new best, by more than `threshold` × |best| ("rel") or `threshold` ("abs"). After a change
    `cooldown` readings do not count. What is read is the mean of the last `smooth` readings. The product of
    all changes stays between `min` and `max`, shares of what the schedule says. A reading that is not finite
    counts for nothing. Raises `ScheduleError` for an option that makes no sense.

    GreedyLR (arXiv:2512.14527), with what makes the one of transformers 5.23 unusable for fine-tuning
    changed. Its bounds are rates, 1e-3 and 1.0: from 2e-5 it never lowers the rate, and a run that keeps
    improving takes it to 1.0; here they are shares of the planned rate, 0.1 and 2. It drops changes below an
    absolute 1e-8, so that rates below 2e-7 stand still; here every change counts. It goes back to the first
    rate after 500 readings at its lower bound, a jump to the peak; here the rate stays at `min`. A patience P
    there is P + 1 here; a NaN there is a bad reading. It owns the rate, and so has no schedule; here it is a
    factor of one. Its 0.95 and 10 readings are made for a reading every update: with those, take
    `greedy("train_loss", 0.95, 10, smooth=50)`.

    >>> one = greedy("eval_loss", patience=2)
    >>> state = one.init()
    >>> for t, loss in enumerate([0.9, 0.7, 0.6, 0.65, 0.62], start=1):
    ...     state, edit = one.update(state, float(t), {"eval_loss": loss})
    ...     if edit:
    ...         print(t, edit.by, edit.reason)
    2 1.25 eval_loss 0.7: 2 in a row better than the best before
    5 0.8 eval_loss 0.62: 2 readings without improvement on 0.6
    """
    return Greedy(
        metric, factor, patience, cooldown, min, max, smooth, groups,
        threshold=threshold, threshold_mode=threshold_mode, greater_is_better=greater_is_better, name=name,
    )  # fmt: skip


@dataclass(frozen=True)
class Greedy(Improving):
    """The controller that `greedy` makes."""

    word: ClassVar[str] = "greedy"
    factor: float
    patience: int
    cooldown: int
    min: float
    max: float
    smooth: int
    groups: str

    def __post_init__(self) -> None:
        super().__post_init__()
        between("greedy", "factor", self.factor, 0, 1)
        whole("greedy", "patience", self.patience, 1)
        whole("greedy", "cooldown", self.cooldown, 0)
        whole("greedy", "smooth", self.smooth, 1)
        between("greedy", "min", self.min, 0, math.inf)
        check("greedy", "min", self.min, self.min <= 1, "a share of the schedule, at most 1")
        at_least("greedy", "max", self.max, 1)

    def init(self) -> dict[str, Any]:
        """Nothing read, nothing changed."""
        return {"best": None, "good": 0, "bad": 0, "cooldown": 0, "level": 1.0, "read": []}

    def update(
        self, state: Mapping[str, Any], t: float, reading: Mapping[str, float]
    ) -> tuple[dict[str, Any], Scale | None]:
        """Count better and bad readings in a row; `Scale` at the one that makes it `patience`."""
        if not math.isfinite(reading[self.metric]):
            return dict(state), None
        read = [*state["read"], reading[self.metric]][-self.smooth :]
        value, best = fmean(read), state["best"]
        better, waits = self.better(value, best), state["cooldown"] > 0
        after: dict[str, Any] = {
            **state,
            "best": value if better else best,
            "good": state["good"] + 1 if better and not waits else 0,
            "bad": 0 if better or waits else state["bad"] + 1,
            "cooldown": max(state["cooldown"] - 1, 0),
            "read": read,
        }
        if after["good"] >= self.patience:
            reason = f"{self.metric} {value:.6g}: {after['good']} in a row better than the best before"
            by = min(1 / self.factor, self.max / state["level"])
        elif after["bad"] >= self.patience:
            reason = self.waited(value, after["bad"], best)
            by = max(self.factor, self.min / state["level"])
        else:
            return after, None
        after |= {"good": 0, "bad": 0, "cooldown": self.cooldown, "level": state["level"] * by}
        if by == 1:
            return after, None
        return after, Scale(t, by, groups=self.groups, author=self.name, reason=reason)
