"""A schedule that an MLX optimizer calls with its own step."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from etude.core.curve import Curve
from etude.core.rates import Rates
from etude.core.sampling import schedule_of


def schedule(
    rates: Curve | Rates, hyper: str = "lr", *, group: str | None = None, tick: float = 0.5
) -> Callable[[mx.array], Any]:
    """A callable of the optimizer's step, for the `learning_rate` of any MLX optimizer, also compiled.

    `rates` is a curve (`etude.parse(text).over(total)`), read at `tick` of each update, or a plan over a run,
    which has its own tick and knows its edits; of a plan with several groups one is named by `group`, and
    `optimizer` gives each its own. Raises `PlanError` for a group or a hyper-parameter that the plan has not.

    >>> import etude
    >>> rate = schedule(etude.parse("2e-5 * (warmup(0.1) >> cosine(to=0.01))").over(1000))
    >>> [f"{rate(mx.array(k, mx.uint64)).item():.3g}" for k in (0, 100, 999)]
    ['1e-07', '2e-05', '2e-07']
    """
    value = schedule_of(rates, hyper, group, tick)
    # MLX counts in unsigned integers, in which what lies before the first update has no number.
    return lambda step: value(step.astype(mx.int64))
