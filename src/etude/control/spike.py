"""The guard: an update whose loss or gradient is not finite, or far above what was usual, is not made."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etude.control.band import Band, band
from etude.control.controller import Action, Clip, Discard, Restore, controller
from etude.control.reading import SHARE
from etude.control.watching import check, whole
from etude.core.length import TOLERANCE
from etude.core.namespace import number
from etude.errors import ScheduleError, near

POLICIES = ("skip", "clip", "rollback")
# The least width of a band, so that equal readings are not guarded against the smallest difference: a share
# of the highest level that the loss has had, and for the logarithm of the norm a factor of about e^(1/4).
LOSS_WIDTH, NORM_WIDTH = 0.1, 0.25
SMALLEST = 1e-12  # a gradient of 0 has no logarithm


@controller
def spike(
    policy: str = "skip",
    *,
    z: float = 6.0,
    window: int = 64,
    warmup: int = 20,
    rollbacks: int | None = None,
    scale: float = 0.5,
    ahead: int = 0,
    in_a_row: int = 20,
    loss: str | None = "train_loss",
    norm: str | None = "grad_norm",
) -> "Spike":
    """Guard each update before it is made: against a loss or gradient norm that is not finite, or a spike.

    A spike lies more than `z` widths above the running band of the last `window` updates that were made,
    once there are `warmup` of them: median and median absolute deviation of the loss, and of the logarithm
    of the norm. `policy` says what happens:

    - "skip": the update is dropped; its examples are drawn, the clock stays.
    - "clip": the gradient is clipped into the band, to exp(middle + z² / found z × width), as ZClip does on a
      mean and a deviation (Kumar et al., arXiv:2504.02507); the loss alone clips nothing. What is not finite
      is dropped.
    - "rollback": the run goes back to its last checkpoint, with the rate × `scale` from there on, and goes on
      with the data behind the spike and behind that of `ahead` updates more (PaLM skips some 200 to 500
      batches: Chowdhery et al., arXiv:2204.02311, §5.1); at most `rollbacks` times (3).

    An update of fewer examples than the others, such as the last of an epoch, scatters more than the band: of
    one whose reading has a "share" below 1 only what is not finite counts, and it does not enter the band.

    `in_a_row` updates dropped one after another are no accident: then the run goes back too if `rollbacks`
    were allowed (with "skip" and "clip" none are, unless you say so), and else ends. When the rollbacks are
    used up, the run goes back to its last checkpoint and ends there. `loss` and `norm` name the readings;
    None leaves one out. Raises `ScheduleError` for an option that makes no sense.

    >>> guard = spike("skip", norm=None, warmup=3)
    >>> state = guard.init()
    >>> for t, loss in enumerate([0.9, 0.8, 1.0, 0.9, 9.0, math.nan, 0.8]):
    ...     state, answer = guard.update(state, float(t), {"train_loss": loss})
    ...     if answer:
    ...         print(t, answer.reason)
    4 train_loss 9 is 90 widths above 0.9 of the last 4 updates
    5 train_loss is nan
    """
    if policy not in POLICIES:
        raise ScheduleError(f"spike(policy={policy!r}) is not known{near(str(policy), POLICIES)}")
    z, scale = float(number(z, "spike(z=…)")), float(number(scale, "spike(scale=…)"))
    check("spike", "z", z, z > 0, "a number above 0")
    check("spike", "scale", scale, 0 < scale <= 1, "a factor above 0, at most 1")
    for name, value in {"window": window, "warmup": warmup, "in_a_row": in_a_row}.items():
        whole("spike", name, value, 1, "updates")
    check("spike", "warmup", warmup, warmup <= window, f"at most window={window}")
    if loss is None and norm is None:
        raise ScheduleError("spike(loss=None, norm=None) reads nothing: leave one of them out")
    if rollbacks is None:
        rollbacks = 3 if policy == "rollback" else 0
    whole("spike", "rollbacks", rollbacks, 0, "rollbacks")
    whole("spike", "ahead", ahead, 0, "updates")
    if ahead and not rollbacks:
        raise ScheduleError(f"spike({policy!r}, ahead={ahead}) never goes back: write policy='rollback'")
    return Spike(policy, z, window, warmup, rollbacks, scale, ahead, in_a_row, loss, norm)


@dataclass(frozen=True)
class Spike:
    """The controller that `spike` makes."""

    policy: str
    z: float
    window: int
    warmup: int
    rollbacks: int
    scale: float
    ahead: int
    in_a_row: int
    loss: str | None
    norm: str | None
    name: str = "spike"

    @property
    def reads(self) -> tuple[str, ...]:
        """The readings of every update that it watches."""
        return tuple(metric for metric in (self.loss, self.norm) if metric is not None)

    @property
    def asks(self) -> tuple[type[Action], ...]:
        """What it may ask of the loop."""
        clips = (Clip,) if self.policy == "clip" else ()
        restores = (Restore,) if self.rollbacks or self.policy == "rollback" else ()
        return (Discard, *clips, *restores)

    def init(self) -> dict[str, Any]:
        """Nothing read, nothing dropped."""
        return {"read": {metric: [] for metric in self.reads}, "level": 0.0, "dropped": 0, "rollbacks": 0}

    def update(
        self, state: Mapping[str, Any], t: float, reading: Mapping[str, float]
    ) -> tuple[dict[str, Any], Action | None]:
        """Take a reading into the band, or say what is to be done about the update that it is of."""
        broken = [
            f"{metric} is {reading[metric]}" for metric in self.reads if not math.isfinite(reading[metric])
        ]
        if broken:
            return self._against(state, t, " and ".join(broken), self.policy == "rollback")
        if reading.get(SHARE, 1) < 1 - TOLERANCE:
            return {**state, "dropped": 0}, None
        values = {metric: self._value(metric, reading[metric]) for metric in self.reads}
        bands = self._bands(state)
        over = {metric: one.z(values[metric]) for metric, one in bands.items()}
        high = [metric for metric, z in over.items() if z > self.z]
        if not high:
            return self._taken(state, values), None
        reason = " and ".join(
            f"{metric} {reading[metric]:.4g} is {over[metric]:.3g} widths above "
            f"{self._said(metric, bands[metric].middle):.4g} of the last {len(state['read'][metric])} updates"
            for metric in high
        )
        if self.policy != "clip":
            return self._against(state, t, reason, self.policy == "rollback")
        clipped = {
            metric: bands[metric].at(self.z**2 / over[metric]) if metric in high else value
            for metric, value in values.items()
        }
        taken = self._taken(state, clipped)
        if self.norm not in high:
            return taken, None
        return taken, Clip(math.exp(clipped[self.norm]), reason, author=self.name)

    def _against(
        self, state: Mapping[str, Any], t: float, reason: str, back: bool
    ) -> tuple[dict[str, Any], Action]:
        """Drop the update or go back, and end the run where that has been done too often."""
        dropped = state["dropped"] + 1
        if not back and dropped < self.in_a_row:
            return {**state, "dropped": dropped}, Discard(reason, author=self.name)
        if not back:
            reason = f"{reason}; it is the last of {dropped} updates dropped in a row"
        after = {**state, "dropped": 0}
        if Restore not in self.asks:
            return after, Discard(reason, end=True, author=self.name)
        if state["rollbacks"] >= self.rollbacks:
            reason = f"{reason}; after {state['rollbacks']} rollbacks the run ends at its last checkpoint"
            return after, Restore(reason, end=True, author=self.name)
        after["rollbacks"] += 1
        return after, Restore(reason, by=self.scale, ahead=self.ahead, author=self.name)

    def _bands(self, state: Mapping[str, Any]) -> dict[str, Band]:
        """The band of each reading, none before the warm-up is over."""
        least = {self.loss: max(LOSS_WIDTH * state["level"], SMALLEST), self.norm: NORM_WIDTH}
        return {
            metric: band(read, least[metric])
            for metric, read in state["read"].items()
            if len(read) >= self.warmup
        }

    def _taken(self, state: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
        read = {metric: [*state["read"][metric], value][-self.window :] for metric, value in values.items()}
        level = state["level"]
        if self.loss is not None and len(read[self.loss]) >= self.warmup:
            level = max(level, abs(statistics.median(read[self.loss])))
        return {**state, "read": read, "level": level, "dropped": 0}

    def _value(self, metric: str, reading: float) -> float:
        """What the band is of: the loss, the logarithm of the norm."""
        return math.log(max(reading, SMALLEST)) if metric == self.norm else reading

    def _said(self, metric: str, value: float) -> float:
        return math.exp(value) if metric == self.norm else value
