"""What equal ratios leave of a rate, and the fall that goes as one over time."""

import math

from etude.convert.pieces import length
from etude.core.length import LONGEST
from etude.errors import RecipeError


def left_after(key: str, ratio: float, periods: float) -> float:
    """The level after so many periods with a ratio each; raises `RecipeError` for what no float holds.

    >>> left_after("decay_rate", 0.5, 3)
    0.125
    >>> left_after("decay_rate", 0.5, 3000)
    Traceback (most recent call last):
    etude.errors.RecipeError: decay_rate: a ratio of 0.5 leaves nothing after 3000 periods; say a final one
    """
    if not ratio or abs(periods * math.log(ratio)) > 690:
        left = "leaves nothing" if ratio < 1 else "passes every number"
        raise RecipeError(f"{key}: a ratio of {ratio:g} {left} after {periods:g} periods; say a final one")
    return ratio**periods


def over_time(rate: float, every: float) -> str:
    """The word for a/(1 + rate·e/every); a fall too slow for any run is none.

    >>> over_time(0.5, 100), over_time(0, 100)
    ('inv_time(timescale=200)', 'hold()')
    """
    if rate * LONGEST <= every:
        return "hold()"
    return f"inv_time(timescale={length(every / rate)})"
