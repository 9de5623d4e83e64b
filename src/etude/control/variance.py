"""Lower the rate when the loss varies more from update to update than it did."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from etude.control.band import NORMAL, band
from etude.control.controller import controller
from etude.control.cut import lowered
from etude.control.watching import Watching, at_least, between, check, whole
from etude.core.edit import Scale

OUTLYING = 3.0  # a change from one update to the next counts as at most so many times the usual one
SMALLEST = 1e-12  # losses that do not vary at all have no logarithm


@controller
def variance(
    metric: str = "train_loss",
    factor: float = 0.5,
    *,
    z: float = 4.0,
    window: int = 32,
    history: int = 16,
    warmup: int = 4,
    cooldown: int = 1,
    min: float = 0.1,
    groups: str = "*",
    name: str = "variance",
) -> "Variance":
    """Multiply the rate by `factor` when the variance of the loss is above its running band.

    The losses of `window` updates have one variance, from the differences of neighbours, ½ mean (xᵢ₊₁ - xᵢ)²,
    which a falling loss does not raise (von Neumann, 1941); a difference beyond 3 × the usual one counts as
    that, so that a single spike does not make a variance: it is the business of `spike`. The band is that of
    the logarithms of the last `history` variances, once there are `warmup`: median and median absolute
    deviation, at least √(3 / window), which is what chance alone gives. A variance more than `z` widths above
    the middle lowers the rate. After a cut, `cooldown` windows do not count. The product of all cuts never
    falls below `min`, a share of what the schedule says.

    The noise of the loss grows with the rate (functional scaling laws, arXiv:2602.06797), which is why a
    lower rate is the answer. A reading that is not finite is left out. Raises `ScheduleError` for an option
    that makes no sense.

    >>> one = variance("train_loss", window=4, warmup=2)
    >>> state, losses = one.init(), [0.5, 0.6, 0.5, 0.6] * 3 + [0.5, 1.5, 0.5, 1.5]
    >>> for t, loss in enumerate(losses, start=1):
    ...     state, edit = one.update(state, float(t), {"train_loss": loss})
    >>> edit.by, edit.reason
    (0.5, 'train_loss varies by 0.707 over 4 updates, 0.0707 was usual')
    """
    return Variance(metric, factor, z, window, history, warmup, cooldown, min, groups, name)


@dataclass(frozen=True)
class Variance(Watching):
    """The controller that `variance` makes."""

    word: ClassVar[str] = "variance"
    factor: float
    z: float
    window: int
    history: int
    warmup: int
    cooldown: int
    min: float
    groups: str
    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        between("variance", "factor", self.factor, 0, 1)
        between("variance", "z", self.z, 0, math.inf)
        for name, least in (("window", 4), ("history", 2), ("warmup", 2)):
            whole("variance", name, getattr(self, name), least, "windows" if least == 2 else "updates")
        whole("variance", "cooldown", self.cooldown, 0, "windows")
        check("variance", "warmup", self.warmup, self.warmup <= self.history, f"at most {self.history}")
        at_least("variance", "min", self.min, 0)
        check("variance", "min", self.min, self.min < 1, "a share of the schedule, below 1")

    def init(self) -> dict[str, Any]:
        """Nothing read, nothing cut."""
        return {"read": [], "variances": [], "cooldown": 0, "level": 1.0}

    def update(
        self, state: Mapping[str, Any], t: float, reading: Mapping[str, float]
    ) -> tuple[dict[str, Any], Scale | None]:
        """Take a reading in; at the end of a window, `Scale` if its variance is above the band."""
        value = reading[self.metric]
        if not math.isfinite(value):
            return dict(state), None
        read = [*state["read"], value]
        if len(read) < self.window:
            return {**state, "read": read}, None
        found, known = math.log(max(variation(read), SMALLEST)), state["variances"]
        usual = band(known or [found], math.sqrt(3 / self.window))
        edge = usual.at(self.z) if len(known) >= self.warmup else math.inf
        after = {
            **state,
            "read": [],
            "variances": [*known, found][-self.history :],
            "cooldown": max(state["cooldown"] - 1, 0),
        }
        by, level = lowered(state["level"], self.factor, self.min)
        if found <= edge or state["cooldown"] > 0 or level == state["level"]:
            return after, None
        reason = (
            f"{self.metric} varies by {math.exp(found / 2):.3g} over {self.window} updates, "
            f"{math.exp(usual.middle / 2):.3g} was usual"
        )
        after |= {"cooldown": self.cooldown, "level": level}
        return after, Scale(t, by, groups=self.groups, author=self.name, reason=reason)


def variation(losses: Sequence[float]) -> float:
    """The variance of losses about their trend, from the differences of neighbours; outliers are clipped.

    >>> round(variation([5.0, 4.9, 4.4, 4.3, 3.8, 3.7]), 4)
    0.0426
    """
    changes = [abs(after - before) for before, after in pairwise(losses)]
    most = OUTLYING * NORMAL * statistics.median(changes)
    return statistics.fmean(min(change, most) ** 2 for change in changes) / 2
