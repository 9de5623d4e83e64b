"""When a sweep has diverged: decided point by point, by a small pure state machine."""

import math
from itertools import pairwise
from statistics import median
from typing import NamedTuple

FACTOR, POINTS, DECAY, RECENT = 4.0, 10, 0.9, 3


class Watch(NamedTuple):
    """What the watch remembers, plain enough for JSON.

    `mean / weight` is the smoothed loss, an exponential mean corrected for its start (Adam's correction,
    arXiv 1412.6980); `best` its lowest so far.
    """

    losses: tuple[float, ...] = ()
    mean: float = 0.0
    weight: float = 0.0
    best: float = math.inf


def watch(state: Watch, loss: float, *, factor: float = FACTOR, points: int = POINTS) -> tuple[Watch, str]:
    """The next state after one more point of a sweep, and why the sweep must stop ("" if it goes on).

    NaN and infinity stop at once. Otherwise nothing stops before point number `points`; then the median of
    the last three losses does, if it lies above `factor` times the best smoothed loss: one bad batch is no
    divergence. For losses near zero or below, "four times" means three times its size above it, and ten times
    the median change from point to point at least. Several processes reduce the loss first, so all of them
    decide alike.

    Source: the 4 × best of fastai and Lightning, whose exponential mean (β = 0.98) still remembers the losses
    of 50 points ago.

    >>> state, reason = Watch(), ""
    >>> for loss in [0.7] * 10 + [0.6, 0.5, 9.0, 0.5, 3.5, 6.0]:
    ...     state, reason = watch(state, loss)
    >>> len(state.losses), reason
    (16, 'the loss, 3.5, is over 4 × its best, 0.66')
    >>> watch(Watch(), float("nan"))[1]
    'the loss is NaN'
    """
    losses = (*state.losses, loss)
    if not math.isfinite(loss):
        return state._replace(losses=losses), f"the loss is {'NaN' if math.isnan(loss) else 'infinite'}"
    mean = DECAY * state.mean + (1 - DECAY) * loss
    weight = DECAY * state.weight + (1 - DECAY)
    best = min(state.best, mean / weight)
    state = Watch(losses, mean, weight, best)
    if len(losses) < max(points, RECENT):
        return state, ""
    present, noise = median(losses[-RECENT:]), median(abs(b - a) for a, b in pairwise(losses))
    if present <= best + max((factor - 1) * abs(best), 10 * noise):
        return state, ""
    return state, f"the loss, {present:.3g}, is over {factor:g} × its best, {best:.3g}"
