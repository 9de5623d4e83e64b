"""Whether a reading is a spike: worse than the one before by far more than readings usually change."""

import statistics
from collections.abc import Sequence

FEWEST, MOST = 2, 9  # changes that make a judgement, changes that are kept


def jumped(loss: float, changes: Sequence[float], gained: float, times: float) -> bool:
    """Whether a reading that is worse than the last by `loss` is a spike.

    It is if `loss` is more than `times` the usual change from reading to reading (the median of `changes`,
    which says what is noise) and more than half of what has been `gained` since the first reading (which
    says what is small). Both are in the metric's own unit, so it does not matter where zero lies, nor what
    the unit is. With fewer than two changes, or where readings mostly stand still, nothing is usual yet.

    >>> jumped(4.5, changes=[0.2, 0.1, 0.2], gained=0.5, times=6)
    True
    >>> jumped(0.3, changes=[0.2, 0.1, 0.2], gained=0.5, times=6)
    False
    """
    if len(changes) < FEWEST or loss <= 0:
        return False
    usual = statistics.median(changes)
    return usual > 0 and loss > times * usual and loss > gained / 2
