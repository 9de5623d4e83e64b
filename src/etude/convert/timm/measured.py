"""How far a text in epochs is from what timm does, in levels of the peak."""

from etude.core.path import Path, Schedule
from etude.core.text import parse

# Of a longer run so many epochs are looked at.
MOST = 2000
# Places in an epoch; the last is just before the next one begins.
PLACES = (0.25, 0.5, 0.75, 1 - 1e-6)


def within_epochs(text: str, epochs: float) -> float:
    """How far the curve moves within an epoch at most, where timm stays at the rate of the epoch's beginning.

    >>> round(within_epochs("cosine()", 10), 3)
    0.155
    """
    curve = _schedule(text).over(epochs, epoch=1)
    every = max(1, int(epochs) // MOST)
    moved = (
        abs(curve(epoch + place) - curve(epoch)) / (curve.peak or 1)
        for epoch in range(0, int(epochs), every)
        for place in PLACES
    )
    return max(moved, default=0.0)


def while_warming(shape: str, warmup: str, epochs: float, warm: float, target: float) -> float:
    """How far the product of two paths is from a straight line to `target` while the second warms up.

    >>> round(while_warming("cosine()", 'warmup("2ep") >> hold()', 10, 2, 1.0), 3)
    0.095
    """
    curve, rise = (_schedule(text).over(epochs, epoch=1) for text in (shape, warmup))
    start = rise(0)
    places = [warm * i / 1000 for i in range(1000)]
    return max(abs(start + (target - start) * t / warm - curve(t) * rise(t)) for t in places)


def level_at(shape: str, epochs: float, at: float) -> float:
    """The level of a path after so many epochs."""
    return _schedule(shape).over(epochs, epoch=1)(at)


def _schedule(text: str) -> Path | Schedule:
    return parse(text)
