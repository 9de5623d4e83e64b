"""A schedule that optax calls with its own count of updates."""

from collections.abc import Callable
from typing import Any

from etude.core.curve import Curve
from etude.core.rates import Rates
from etude.core.sampling import schedule_of


def schedule(
    rates: Curve | Rates, hyper: str = "lr", *, group: str | None = None, tick: float = 0.5
) -> Callable[[Any], Any]:
    """A callable of the count of updates, for the `learning_rate` of any optax optimizer, also inside jit.

    `rates` is a curve (`etude.parse(text).over(total)`), read at `tick` of each update, or a plan over a run,
    which has its own tick and knows its edits; of a plan with several groups one is named by `group`, and
    `partition` gives each its own. Counts may be Python numbers or arrays of any shape; array answers are in
    single precision. Raises `PlanError` for a group or a hyper-parameter that the plan has not.

    >>> import etude
    >>> rate = schedule(etude.parse("2e-5 * (warmup(0.1) >> cosine(to=0.01))").over(1000))
    >>> [f"{rate(k):.3g}" for k in (0, 100, 999)]
    ['1e-07', '2e-05', '2e-07']
    """
    return schedule_of(rates, hyper, group, tick)
