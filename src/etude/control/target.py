"""End the run when a metric has reached what was wanted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.control import improvement
from etude.control.controller import controller
from etude.control.watching import Watching, check, whole
from etude.core.edit import Stop
from etude.core.namespace import number


@controller
def target(
    value: float,
    metric: str = "eval_loss",
    *,
    patience: int = 1,
    greater_is_better: bool | None = None,
    name: str = "target",
) -> "Target":
    """End the run at the first reading of `metric` that is `value` or better; a "time to accuracy" run.

    With `patience` only after so many in a row, for a metric that wavers. The metric's name says in which
    direction, unless `greater_is_better` does. A reading that is not finite counts for nothing. Raises
    `ScheduleError` for an option that makes no sense. Lightning's `EarlyStopping(stopping_threshold=…)`.

    >>> one = target(0.9, "eval_accuracy")
    >>> state, edit = one.update(one.init(), 40.0, {"eval_accuracy": 0.91})
    >>> edit
    Stop(at=40.0, author='target', reason='eval_accuracy 0.91 has reached 0.9')
    """
    if greater_is_better is None:
        greater_is_better = improvement.greater_is_better(str(metric))
    return Target(metric, value, patience, greater_is_better, name)


@dataclass(frozen=True)
class Target(Watching):
    """The controller that `target` makes."""

    word: ClassVar[str] = "target"
    value: float
    patience: int
    greater_is_better: bool
    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.value, "target(value=…)")
        check("target", "name", self.name, isinstance(self.name, str) and self.name, "a text")
        whole("target", "patience", self.patience, 1)

    def init(self) -> dict[str, Any]:
        """No reading has reached it."""
        return {"reached": 0}

    def update(
        self, state: Mapping[str, Any], t: float, reading: Mapping[str, float]
    ) -> tuple[dict[str, Any], Stop | None]:
        """Count readings that have reached it; `Stop` at the one that makes it `patience`."""
        found = reading[self.metric]
        if not math.isfinite(found):
            return dict(state), None
        over = found >= self.value if self.greater_is_better else found <= self.value
        reached = state["reached"] + 1 if over else 0
        if reached < self.patience:
            return {"reached": reached}, None
        reason = f"{self.metric} {found:.6g} has reached {self.value:g}"
        return {"reached": reached}, Stop(t, author=self.name, reason=reason)
