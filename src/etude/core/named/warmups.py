"""Warm-ups: the way up that may stand before any recipe, and how long it need be."""

from typing import Any

from etude.core import shapes
from etude.core.length import is_zero, length
from etude.core.named.recipe import above, chosen, recipe
from etude.core.path import Path
from etude.errors import ScheduleError

RISES = {
    "linear": shapes.warmup,
    "cosine": shapes.cosine,
    "exp": shapes.exp_warmup,
    "sqrt": shapes.sqrt,
    "square": shapes.square,
}


def warmed(path: Path, over: Any, shape: str = "linear", start: Any = 0) -> Path:
    """A path after a warm-up of length `over` from level `start`; without one if the length is 0.

    `shape` is "linear", "cosine", "exp", "sqrt" or "square".

    >>> warmed(shapes.linear(), 0.1, "square", 0.2)
    square(0.1, to=1, start=0.2) >> linear()
    """
    rise = chosen(shape, RISES, "warmup_shape=")
    if length(over, "warmup") is None:
        raise ScheduleError("warmup= takes a length: write warmup=0.1, warmup=500, or warmup=0 for none")
    return path if is_zero(over) else rise(over, start=start, to=1) >> path


@recipe
def untuned_warmup(beta2: float = 0.999) -> Path:
    """A linear warm-up of 2/(1 - β2) updates: as long as Adam's second moment needs to settle, and no longer.

    Source: Ma & Yarats, arXiv 1910.04209, who find it as good as RAdam's rectification.
    Use: before any decay, where Adam is used and nobody wants to tune the warm-up.
    Avoid: in a run shorter than some three times its length (2000 updates at β2 = 0.999): take a share of the
    run instead, as in warmup(0.1).

    >>> from etude import linear
    >>> untuned_warmup() >> linear()
    warmup(2000) >> linear()
    >>> untuned_warmup(beta2=0.99) >> linear()
    warmup(200) >> linear()
    """
    beta2 = above(0, beta2, "untuned_warmup(beta2=…)")
    if beta2 >= 1:
        raise ScheduleError(f"untuned_warmup(beta2=…) takes a number below 1, got {beta2!r}")
    return shapes.warmup(max(1, round(2 / (1 - beta2))))
