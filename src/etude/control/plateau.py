"""Lower the rate when a metric has not improved for a number of readings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.control.controller import controller
from etude.control.cut import lowered
from etude.control.improvement import Improving
from etude.control.jump import MOST, jumped
from etude.control.watching import at_least, between, check, whole
from etude.core.edit import Scale


@controller
def plateau(
    metric: str = "eval_loss",
    factor: float = 0.5,
    patience: int = 3,
    *,
    cooldown: int = 0,
    min: float = 0.01,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    greater_is_better: bool | None = None,
    spike: float | None = 6.0,
    groups: str = "*",
    name: str = "plateau",
) -> "Plateau":
    """Multiply the rate by `factor` after `patience` readings in a row that are not better than the best.

    Better is a gain of more than `threshold` × |best| ("rel") or `threshold` ("abs"), in the direction that
    the metric's name says unless `greater_is_better` is given; both are right for negative metrics. After a
    cut, `cooldown` readings do not count. The product of all cuts never falls below `min`, a share of what
    the schedule says; so a warm-up, a decay and the rates of the groups stay as they are, times that product.
    A reading that is not finite counts for nothing: `spike` is there for those.

    A single reading that is worse than the one before by more than `spike` × the usual change from reading
    to reading, and by more than half of all that has been gained, begins anew: what follows is compared with
    it, not with a best from before (pytorch#30873). Until a reading is better there is no other spike, so
    that a run which diverges is lowered. None compares with the best for ever.

    `groups` is a name pattern, to lower the rate of some groups alone. Raises `ScheduleError` for an option
    that makes no sense. The rule of torch's, Keras's and optax's ReduceLROnPlateau; their patience differs by
    one (`docs/semantics.md`): torch's patience P is étude's P + 1.

    >>> one = plateau("eval_loss", patience=2)
    >>> state = one.init()
    >>> for t, loss in enumerate([0.9, 0.7, 0.8, math.nan, 0.75], start=1):
    ...     state, edit = one.update(state, float(t), {"eval_loss": loss})
    >>> edit.by, edit.reason
    (0.5, 'eval_loss 0.75: 2 readings without improvement on 0.7')
    """
    return Plateau(
        metric, factor, patience, cooldown, min, spike, groups,
        threshold=threshold, threshold_mode=threshold_mode, greater_is_better=greater_is_better, name=name,
    )  # fmt: skip


@dataclass(frozen=True)
class Plateau(Improving):
    """The controller that `plateau` makes."""

    word: ClassVar[str] = "plateau"
    factor: float
    patience: int
    cooldown: int
    min: float
    spike: float | None
    groups: str

    def __post_init__(self) -> None:
        super().__post_init__()
        between("plateau", "factor", self.factor, 0, 1)
        wrong = isinstance(self.patience, int) and self.patience == 0
        check("plateau", "patience", self.patience, not wrong, "1 or more: torch's patience=0 is étude's 1")
        whole("plateau", "patience", self.patience, 1)
        whole("plateau", "cooldown", self.cooldown, 0)
        at_least("plateau", "min", self.min, 0)
        check("plateau", "min", self.min, self.min < 1, "a share of the schedule, below 1")
        if self.spike is not None:
            at_least("plateau", "spike", self.spike, 1)

    def init(self) -> dict[str, Any]:
        """Nothing read, nothing cut."""
        return {
            "best": None,
            "bad": 0,
            "cooldown": 0,
            "level": 1.0,
            "first": None,
            "last": None,
            "changes": [],
            "spiked": False,
        }

    def update(
        self, state: Mapping[str, Any], t: float, reading: Mapping[str, float]
    ) -> tuple[dict[str, Any], Scale | None]:
        """Count readings that are not better; `Scale` at the one that makes it `patience`."""
        value = reading[self.metric]
        if not math.isfinite(value):
            return dict(state), None
        after = self._followed(state, value)
        after["cooldown"] = max(state["cooldown"] - 1, 0)
        if state["cooldown"] > 0:
            after["bad"] = 0
        if after["bad"] < self.patience:
            return after, None
        reason = self.waited(value, after["bad"], after["best"])
        by, level = lowered(state["level"], self.factor, self.min)
        after |= {"bad": 0, "cooldown": self.cooldown, "level": level}
        if level == state["level"]:
            return after, None
        return after, Scale(t, by, groups=self.groups, author=self.name, reason=reason)

    def _followed(self, state: Mapping[str, Any], value: float) -> dict[str, Any]:
        """The state with a reading taken in: a better one, a bad one, or a spike, which begins anew."""
        best, last = state["best"], state["last"]
        after = {**state, "last": value}
        if best is None or last is None:
            return after | {"best": value, "first": value, "bad": 0}
        gained = self.gain(best, state["first"])
        worse = self.gain(last, value)
        times = None if state["spiked"] else self.spike
        if times is not None and jumped(worse, state["changes"], gained, times):
            return after | {"best": value, "bad": 0, "spiked": True}
        after["changes"] = [*state["changes"], abs(value - last)][-MOST:]
        if self.better(value, best):
            return after | {"best": value, "bad": 0, "spiked": False}
        return after | {"bad": state["bad"] + 1}
