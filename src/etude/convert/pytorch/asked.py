"""What is asked of a scheduler of torch: its arguments, the rate it starts from, the updates it has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.convert.pieces import NOTHING, Level
from etude.convert.values import read, whole
from etude.errors import RecipeError

REQUIRED = object()  # the default of an argument that has none


@dataclass
class Asked:
    """A scheduler that is being drawn: its arguments, the rate it starts from, the updates it has.

    `rate` and `updates` are None where nobody said them; `traps` is shared by all schedulers of a source.
    """

    options: Mapping[str, Any]
    rate: float | None = None
    updates: float | None = None
    traps: list[str] = field(default_factory=list)

    def number(self, key: str, low: float = 0) -> float:
        """An argument that is a number."""
        return read(key, self.options[key], low=low)

    def whole(self, key: str, low: int = 1) -> int:
        """An argument that is a whole number."""
        return read(key, self.options[key], whole, low=low)

    def positive(self, key: str) -> float:
        """An argument that is a number above 0."""
        value = self.number(key)
        if not value:
            raise RecipeError(f"{key}: got {self.options[key]!r}; must be above 0")
        return value

    def floor(self) -> Level:
        """`eta_min` as a level of the rate."""
        floor = self.number("eta_min")
        if not floor:
            return NOTHING
        if not self.rate:
            raise RecipeError(
                f"eta_min: {floor!r} is a rate, and levels are ratios of the peak: say the peak, lr"
            )
        self.traps.append(
            f"eta_min={floor:g} is one rate for all groups, to which a group with a lower one rises in "
            f"torch; in étude every group ends at {floor / self.rate:g} of its own peak."
        )
        return Level(floor, self.rate)
