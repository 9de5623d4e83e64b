"""Numbers as users write them for rates: ratios of a peak, or absolute values that become such."""

import math
from typing import Any

from etude.core.namespace import plain
from etude.errors import PlanError


def finite(what: str, value: Any) -> float:
    """A finite number; `what` begins the message of a `PlanError` for anything else, also for a bool."""
    found = plain(value)
    if found is None:
        raise PlanError(f"{what} takes a number, got {value!r}")
    if not math.isfinite(found):
        raise PlanError(f"{what} takes a finite number, got {value}")
    return float(found)


def ratio(what: str, value: Any, instead: str = "write 10, or 1 for the same rate") -> float:
    """A ratio of the peak, above 0; raises `PlanError` with what to write `instead`.

    >>> ratio("head", 0)
    Traceback (most recent call last):
    etude.errors.PlanError: head=0 is no ratio of the peak: write 10, or 1 for the same rate
    """
    found = finite(what, value)
    if found <= 0:
        raise PlanError(f"{what}={found:g} is no ratio of the peak: {instead}")
    return found


def share(what: str, name: str, value: Any, peak: float) -> float:
    """An absolute value as a ratio of the plan's peak; raises `PlanError` where there is no peak to scale."""
    found = finite(f"{what}: {name}", value)
    if found < 0:
        raise PlanError(f"{what}: {name} is 0 or more, got {value!r}")
    if found and not peak:
        raise PlanError(
            f"{what}: {name}={found:g} is a multiple of the plan's {name}, which is 0; give the plan one"
        )
    return found / peak if found else 0.0
