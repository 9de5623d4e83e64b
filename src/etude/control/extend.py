"""A longer run, where a metric still gets better at the end of the planned one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.control.controller import controller
from etude.control.improvement import Improving
from etude.control.watching import between, check
from etude.core.edit import Redraw, Stop, Stretch
from etude.core.length import TOLERANCE
from etude.core.text import parse

if TYPE_CHECKING:
    from etude.core.rates import Rates


@controller
def extend(
    metric: str = "eval_loss",
    by: float = 0.25,
    *,
    most: float = 1.5,
    margin: float = 0.1,
    to: float = 0.5,
    threshold: float = 0.01,
    threshold_mode: str = "rel",
    greater_is_better: bool | None = None,
    name: str = "extend",
) -> "Extend":
    """Let the run go on for `by` × its planned length, if a reading near its end is still a new best.

    Near is the last `margin` of the planned length. Before the end, what is left of the schedule takes that
    much longer (`Stretch`): the rate stays where it is, and falls more slowly. At the end the rate stays
    where it ended, or if that is below `to`, a share of the peak, it rises to that over the first tenth of
    the extension and falls again to where it ended (`Redraw`). The run never becomes longer than `most` × its
    planned length, and no longer at all once something has stopped it; at the end of a product of paths,
    whose other factors may have ended at 0, it stays as it is.

    Better is a gain of more than `threshold` × |best| ("rel") or `threshold` ("abs"); a metric nearly always
    gains a little while the rate falls, so the default asks for a hundredth. In an open run there is no end,
    and nothing happens. Raises `ScheduleError` for an option that makes no sense. To go on after a decay
    costs a second warm-up: Ibrahim et al., "Simple and scalable strategies to continually pre-train large
    language models" (arXiv:2403.08763).

    >>> from etude import Plan
    >>> one, rates = extend("eval_loss"), Plan({"lr": "2e-5 * linear()"}).over(1000)
    >>> state, edit = one.update(one.init(), 500.0, {"eval_loss": 0.9}, rates)
    >>> state, edit = one.update(state, 1000.0, {"eval_loss": 0.7}, rates)
    >>> edit.path, edit.total
    (linear(0.1, to=0.5) >> linear(), 1250.0)
    """
    return Extend(
        metric, by, most, margin, to,
        threshold=threshold, threshold_mode=threshold_mode, greater_is_better=greater_is_better, name=name,
    )  # fmt: skip


@dataclass(frozen=True)
class Extend(Improving):
    """The controller that `extend` makes."""

    word: ClassVar[str] = "extend"
    sees_rates: ClassVar[bool] = True
    by: float
    most: float
    margin: float
    to: float

    def __post_init__(self) -> None:
        super().__post_init__()
        between("extend", "by", self.by, 0, math.inf)
        between("extend", "most", self.most, 1, math.inf)
        between("extend", "margin", self.margin, 0, 1)
        between("extend", "to", self.to, 0, math.inf)
        check("extend", "to", self.to, self.to <= 1, "a share of the peak, at most 1")

    def init(self) -> dict[str, Any]:
        """No best reading yet."""
        return {"best": None}

    def update(
        self,
        state: Mapping[str, Any],
        t: float,
        reading: Mapping[str, float],
        rates: "Rates | None" = None,
    ) -> tuple[dict[str, Any], Stretch | Redraw | None]:
        """Remember the best reading; a longer run at one near the end that is better than the best before."""
        value, best = reading[self.metric], state["best"]
        if not self.better(value, best):
            return dict(state), None
        total = None if best is None or rates is None else self._total(rates, t)
        return {"best": value}, None if total is None else self._longer(rates, t, total, value, best)

    def _total(self, rates: "Rates", t: float) -> float | None:
        """Where the run would end, if it is at its end, nothing has stopped it and it may become longer."""
        old, planned = rates.total, rates.span.total
        stopped = any(isinstance(edit, Stop) and edit.at == old for edit in rates.edits)
        if stopped or math.isinf(planned) or t < old - self.margin * planned:
            return None
        total = min(old + self.by * planned, self.most * planned)
        return total if total > old + TOLERANCE else None

    def _longer(
        self, rates: Any, t: float, total: float, value: float, best: float
    ) -> Stretch | Redraw | None:
        before = t < rates.total - TOLERANCE
        where = "near the end" if before else "at the end"
        reason = f"{self.metric} {value:.6g} is better than {best:.6g} {where}: on to {total:.6g}"
        if before:
            return Stretch(t, total, author=self.name, reason=reason)
        shape, *others = rates.regime(t).curves["lr"].lines
        if others:
            return None
        level = shape.level(t)
        path = "hold()" if level >= self.to else f"linear(0.1, to={self.to!r}) >> linear(to={level!r})"
        return Redraw(t, parse(path), total, author=self.name, reason=reason)  # type: ignore[arg-type]
