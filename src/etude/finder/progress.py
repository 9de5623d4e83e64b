"""How far a range test is."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from etude.finder.suggestion import written


class Point(NamedTuple):
    """A point that was just made: `made` of the `points` of a sweep, itself one of `sweeps`; from 1."""

    sweep: int
    sweeps: int
    made: int
    points: int
    rate: float
    loss: float

    def __str__(self) -> str:
        """The same in words.

        >>> print(Point(2, 3, 31, 100, 1.2e-5, 0.93141))
        sweep 2 of 3: 31 of 100 rates, 1.2e-5, loss 0.9314
        """
        where = f"sweep {self.sweep} of {self.sweeps}: {self.made} of {self.points} rates"
        return f"{where}, {written(self.rate)}, loss {self.loss:.4g}"


Progress = Callable[[Point], None]


def teller(
    progress: Progress | None, sweep: int, sweeps: int, rates: Sequence[float]
) -> Callable[[int, float], None] | None:
    """What tells `progress` of each point of one of the sweeps."""
    if progress is None:
        return None
    return lambda made, loss: progress(Point(sweep, sweeps, made, len(rates), rates[made - 1], loss))
