"""A running robust band: the median of what was read, and how far readings usually lie from it."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

# The median absolute deviation × this is the standard deviation, where readings are normal.
NORMAL = 1.4826


class Band(NamedTuple):
    """Where readings lie: half of them above `middle`, and about two thirds within one `width` of it."""

    middle: float
    width: float

    def z(self, value: float) -> float:
        """How many widths a reading lies above the middle."""
        return (value - self.middle) / self.width

    def at(self, z: float) -> float:
        """The reading that lies `z` widths above the middle."""
        return self.middle + z * self.width


def band(readings: Sequence[float], least: float) -> Band:
    """The band of the readings (at least one): their median, and 1.4826 × their median absolute deviation.

    Half of the readings may be anything and move it by little, where one outlier would carry a mean and a
    standard deviation away with it. `least` is the smallest width, above 0: equal readings have none of their
    own. Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993); Leys et al., "Detecting outliers"
    (2013).

    >>> found = band([1.0, 1.1, 0.9, 1.2, 50.0], least=0.01)
    >>> round(found.middle, 6), round(found.width, 6), round(found.z(50.0))
    (1.1, 0.14826, 330)
    """
    middle = statistics.median(readings)
    deviation = statistics.median(abs(reading - middle) for reading in readings)
    return Band(middle, max(NORMAL * deviation, least))
