"""Several processes of one run: they act on the same reading, and have the same rates."""

import math
from collections.abc import Sequence

from accelerate.utils import gather_object

from etude.errors import EtudeError


def mean(reading: dict[str, float]) -> dict[str, float]:
    """The mean of a reading over all processes; of equal values, that value to the last bit."""
    every = gather_object([reading])
    return {metric: _mean([one[metric] for one in every]) for metric in reading}


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(set(values)) == 1 else math.fsum(values) / len(values)


def check_agreement(rates: dict[str, float]) -> None:
    """Raise `EtudeError` on every process if one of them has other rates."""
    every = gather_object([rates])
    for group, rate in every[0].items():
        found = [one.get(group) for one in every]
        if any(one != rate for one in found):
            raise EtudeError(
                f"the processes train {group} at different rates: {', '.join(f'{one}' for one in found)}; an "
                f"edit made by hand must be made on every process"
            )
