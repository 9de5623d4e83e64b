"""Several processes of one run: they act on the same reading, and have the same rates."""

from etude.control import agreement
from etude.errors import EtudeError
from etude.torch.processes import gather


def mean(reading: dict[str, float]) -> dict[str, float]:
    """The mean of a reading over all processes; of equal values, that value to the last bit."""
    return agreement.mean(gather(reading))


def check_agreement(rates: dict[str, float]) -> None:
    """Raise `EtudeError` on every process if one of them has other rates."""
    every = gather(rates)
    for group, rate in every[0].items():
        found = [one.get(group) for one in every]
        if any(one != rate for one in found):
            raise EtudeError(
                f"the processes train {group} at different rates: {', '.join(f'{one}' for one in found)}; an "
                f"edit made by hand must be made on every process"
            )
