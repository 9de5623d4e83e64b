"""Recipes that say how high: Noam's peak, and a factor on a whole schedule."""

from typing import Any

from etude.core import shapes
from etude.core.named.recipe import above, recipe, whole
from etude.core.path import Schedule, as_schedule


@recipe
def noam(d_model: int = 512, warmup: int = 4000, factor: float = 1.0) -> Schedule:
    """The first Transformer's schedule with its peak: up in a straight line, then as one over √t.

    The rate is factor · d_model^-½ · min(t^-½, t·warmup^-1.5) with t counted from 1, as a plan samples it at
    tick=1; its peak is factor · (d_model · warmup)^-½.

    Source: Vaswani et al., arXiv 1706.03762; the annotated Transformer's `rate`.
    Use: to reproduce a Transformer that was trained from scratch with it.
    Avoid: for fine-tuning: its peak comes from the width of the model alone, 7e-4 for the defaults, some
    20 times the usual rate of a pretrained encoder.

    >>> noam()
    0.0006987712429686843 * (warmup(4000) >> inv_sqrt())
    >>> noam(d_model=256, warmup=2500)
    0.00125 * (warmup(2500) >> inv_sqrt())
    """
    rise = whole(warmup, "noam(warmup=…)")
    width, times = whole(d_model, "noam(d_model=…)"), above(0, factor, "noam(factor=…)")
    return times * (width * rise) ** -0.5 * (shapes.warmup(rise) >> shapes.inv_sqrt())


@recipe
def temperature(schedule: Any, t: float = 1.0) -> Schedule:
    """A whole schedule times a number: above 1 bolder, below 1 more careful.

    Source: no paper; guides that speak of a schedule's temperature mean a factor on its peak, and this is it.
    Use: to try one schedule at several heights.
    Avoid: next to a peak of its own that is also tuned: two numbers then say one thing.

    >>> from etude import linear
    >>> temperature(2e-5 * linear(), 2)
    4e-05 * linear()
    >>> temperature("2e-5 * linear()", 0.5)
    1e-05 * linear()
    """
    return above(0, t, "temperature(t=…)") * as_schedule(schedule)
