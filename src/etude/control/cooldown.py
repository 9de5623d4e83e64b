"""Start the decay when a metric stalls: the late-bound end of a warm-up, stable, decay run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.control.controller import controller
from etude.control.improvement import Improving
from etude.control.watching import whole
from etude.core.edit import Advance
from etude.core.shapes import SHAPES

if TYPE_CHECKING:
    from etude.core.rates import Rates


@controller
def cooldown(
    metric: str = "eval_loss",
    patience: int = 3,
    *,
    threshold: float = 1e-3,
    threshold_mode: str = "rel",
    greater_is_better: bool | None = None,
    name: str = "cooldown",
) -> "Cooldown":
    """Start the decay now, when `patience` readings in a row are not better than the best so far.

    For a schedule with a stable part, `warmup(…) >> hold() >> linear(0.2)`, also in an open run: the shape
    leaves its stable part for the next piece, whose length stays, so the run ends earlier (`Advance`). It
    happens once. While the shape rises or falls nothing counts, and where it already is in its last piece
    nothing is left to start. Better is a gain of more than `threshold` × |best| ("rel") or `threshold`
    ("abs"); a reading that is not finite counts for nothing. Raises `ScheduleError` for an option that makes
    no sense.

    A decay may begin at any time of a stable run: Hägele et al., "Scaling laws and compute-optimal training
    beyond fixed training durations" (arXiv:2405.18392).

    >>> one = cooldown("eval_loss", patience=2)
    >>> state = one.init()
    >>> for t, loss in enumerate([0.9, 0.7, 0.7, 0.71], start=1):
    ...     state, edit = one.update(state, float(t), {"eval_loss": loss})
    >>> edit
    Advance(at=4.0, author='cooldown', reason='eval_loss 0.71: 2 readings without improvement on 0.7')
    """
    return Cooldown(
        metric, patience,
        threshold=threshold, threshold_mode=threshold_mode, greater_is_better=greater_is_better, name=name,
    )  # fmt: skip


@dataclass(frozen=True)
class Cooldown(Improving):
    """The controller that `cooldown` makes."""

    word: ClassVar[str] = "cooldown"
    sees_rates: ClassVar[bool] = True
    patience: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("cooldown", "patience", self.patience, 1)

    def init(self) -> dict[str, Any]:
        """No best reading yet, none that counts, no decay started."""
        return {"best": None, "bad": 0, "done": False}

    def update(
        self,
        state: Mapping[str, Any],
        t: float,
        reading: Mapping[str, float],
        rates: "Rates | None" = None,
    ) -> tuple[dict[str, Any], Advance | None]:
        """Count readings without improvement; `Advance` at the one that makes it `patience`."""
        value, best = reading[self.metric], state["best"]
        if state["done"] or not math.isfinite(value):
            return dict(state), None
        if self.better(value, best):
            return {**state, "best": value, "bad": 0}, None
        stable, last = (True, False) if rates is None else _place(rates, t)
        if last:
            return {**state, "done": True}, None
        bad = state["bad"] + 1 if stable else 0
        if bad < self.patience:
            return {**state, "bad": bad}, None
        start = Advance(t, author=self.name, reason=self.waited(value, bad, best))
        return {**state, "bad": bad, "done": True}, start


def _place(rates: "Rates", t: float) -> tuple[bool, bool]:
    """Whether the shape of the rate is level at `t`, and whether it is in its last piece."""
    shape = rates.regime(t).curves["lr"].lines[0]
    row = shape.row(t)
    return row.a == row.b and not SHAPES[row.shape].turns, row is shape.rows[-1] and not shape.waiting
