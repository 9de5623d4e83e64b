"""A longer warm-up, where the loss spikes during it or soon after."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.control.band import band
from etude.control.controller import controller
from etude.control.rewarmed import rewarmed
from etude.control.watching import Watching, between, check, whole
from etude.core.edit import Redraw

if TYPE_CHECKING:
    from etude.core.rates import Rates

# The least width of the band, as a share of its middle: equal losses have none of their own.
LEAST, SMALLEST = 0.1, 1e-12


@controller
def rewarm(
    metric: str = "train_loss",
    longer: float = 2.0,
    *,
    z: float = 6.0,
    scale: float = 0.5,
    near: float = 2.0,
    times: int = 2,
    window: int = 32,
    warmup: int = 8,
    name: str = "rewarm",
) -> "Rewarm":
    """Warm up again, and for longer, when the loss spikes in the warm-up or near it.

    Near is until `near` × the length of the warm-up. A spike lies more than `z` widths above the running
    band of the last `window` losses, once there are `warmup` of them: their median, and 1.4826 × their median
    absolute deviation or a tenth of the median. The rate falls to `scale` × where it is and rises in a line
    to the warm-up's end level, over `longer` × the length of the warm-up, at most over half of what is left;
    the rest of the schedule follows as written, in the time that remains, so that the run ends where it
    would have (`Redraw`). At most `times` times. A schedule that does not begin with a rise has no warm-up,
    and nothing happens; a reading that is not finite is left out.

    Early spikes come from a warm-up too short for the rate: Kalra and Barkeshli, "Why warmup the learning
    rate?" (arXiv:2406.09405); Gilmer et al. (arXiv:2110.04369). Raises `ScheduleError` for an option that
    makes no sense.

    >>> from etude import Plan
    >>> one, rates = rewarm("train_loss"), Plan({"lr": "2e-5 * (warmup(100) >> cosine())"}).over(1000)
    >>> state = one.init()
    >>> for t, loss in enumerate([2.3, 2.2, 2.3, 2.1, 2.2, 2.1, 2.0, 2.1, 2.0, 9.0], start=1):
    ...     state, edit = one.update(state, float(t), {"train_loss": loss}, rates)
    >>> edit.path
    linear(200, to=1.0, start=0.05) >> cosine()
    >>> edit.reason
    'train_loss 9 is 32.9 widths above 2.1, at level 0.1 of a warm-up of 100 updates'
    """
    return Rewarm(metric, longer, z, scale, near, times, window, warmup, name)


@dataclass(frozen=True)
class Rewarm(Watching):
    """The controller that `rewarm` makes."""

    word: ClassVar[str] = "rewarm"
    sees_rates: ClassVar[bool] = True
    longer: float
    z: float
    scale: float
    near: float
    times: int
    window: int
    warmup: int
    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("longer", 0), ("z", 0), ("scale", 0), ("near", 0)):
            between("rewarm", name, getattr(self, name), low, math.inf)
        check("rewarm", "scale", self.scale, self.scale <= 1, "a factor, at most 1")
        check("rewarm", "near", self.near, self.near >= 1, "1 or more: 1 is the end of the warm-up")
        whole("rewarm", "times", self.times, 1, "warm-ups")
        whole("rewarm", "warmup", self.warmup, 2)
        whole("rewarm", "window", self.window, self.warmup)

    def init(self) -> dict[str, Any]:
        """Nothing read, no warm-up made longer."""
        return {"read": [], "times": 0}

    def update(
        self,
        state: Mapping[str, Any],
        t: float,
        reading: Mapping[str, float],
        rates: "Rates | None" = None,
    ) -> tuple[dict[str, Any], Redraw | None]:
        """Take a loss into the band, or answer a spike with a longer warm-up."""
        value, read = reading[self.metric], state["read"]
        if not math.isfinite(value) or rates is None or state["times"] >= self.times:
            return dict(state), None
        if len(read) >= self.warmup:
            middle = statistics.median(read)
            usual = band(read, max(LEAST * abs(middle), SMALLEST))
            if usual.z(value) > self.z:
                found = rewarmed(rates, t, self.longer, self.scale, self.near)
                if found is None:
                    return dict(state), None
                said = f"{self.metric} {value:.4g} is {usual.z(value):.3g} widths above {middle:.4g}"
                edit = Redraw(t, found.path, rates.total, author=self.name, reason=f"{said}, {found.place}")
                return {"read": [], "times": state["times"] + 1}, edit
        return {**state, "read": [*read, value][-self.window :]}, None
