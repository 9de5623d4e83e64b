"""What timm's arguments ask for: the run in epochs, and rates as levels of the peak."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.convert.pieces import PEAK, Level, Piece
from etude.convert.values import number, read
from etude.errors import RecipeError

# Defaults of timm's train.py, 1.0.29.
USUAL = {
    "sched": "cosine", "epochs": 300, "warmup_epochs": 5, "cooldown_epochs": 0, "warmup_lr": 1e-5,
    "min_lr": 0.0, "decay_rate": 0.1, "decay_milestones": (90, 180, 270), "lr_cycle_mul": 1.0,
    "lr_cycle_decay": 0.5, "lr_cycle_limit": 1, "lr_k_decay": 1.0, "lr_noise_pct": 0.67, "weight_decay": 2e-5,
}  # fmt: skip


def epochs(count: float) -> str:
    """A number of epochs as a length.

    >>> epochs(5.0), epochs(2.5)
    ('"5ep"', '"2.5ep"')
    """
    return f'"{int(count) if float(count).is_integer() else count}ep"'


@dataclass
class Asked:
    """timm's arguments with the defaults of its training script; `traps` are what the drawing found out."""

    said: Mapping[str, Any]
    peak: float
    traps: list[str] = field(default_factory=list)

    def number(self, key: str, kind: Callable[[Any], Any] = number) -> Any:
        """An argument that is a number of 0 or more."""
        return read(key, self.said.get(key, USUAL.get(key)), kind)

    def flag(self, key: str) -> bool:
        """An argument that is on or off."""
        return str(self.said.get(key, False)).lower() in ("true", "1", "yes")

    @property
    def by_update(self) -> bool:
        """Whether timm changes the rate at every update, and not once an epoch."""
        return self.flag("sched_on_updates")

    @property
    def prefix(self) -> bool:
        """Whether the warm-up comes before the curve, and is not cut out of it."""
        return self.flag("warmup_prefix")

    @property
    def warm(self) -> float:
        """Epochs of warm-up."""
        return self.number("warmup_epochs")

    def level(self, key: str) -> Level:
        """A rate as a level of the peak."""
        rate = self.number(key)
        if rate > self.peak:
            raise RecipeError(f"{key}: got {rate!r}, which is above the peak, {self.peak!r}")
        return Level(rate, self.peak)

    def rise(self) -> list[Piece]:
        """The warm-up, from a rate to the peak."""
        if not self.warm:
            return []
        start = self.level("warmup_lr")
        if start.rate:
            self.traps.append(
                f"warmup_lr={start.rate:g} is a rate: in étude a group starts at {start.ratio:g} of its peak."
            )
        return [Piece("linear" if start.rate else "warmup", epochs(self.warm), start, PEAK)]

    def cooldown(self, floor: Level) -> list[Piece]:
        """The epochs at the floor after the curve."""
        count = self.number("cooldown_epochs")
        return [Piece("hold", epochs(count), floor, floor)] if count else []
