"""What is wished for a parameter, and what it comes to: its rate, its weight decay, when it trains."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from etude.core.path import Path
from etude.core.shapes import frozen
from etude.model.ladder import Placement
from etude.model.leaf import NO_DECAY, decays
from etude.model.override import Override
from etude.model.rates.multiplier import Multipliers
from etude.model.rungs import Key

FROZEN: Path = frozen()
LORA_B = {"lora_b", "lora_embedding_b"}


class Setting(NamedTuple):
    """What all parameters of a group share: ratios of the peaks, and the gate of its rate.

    What is frozen for good has the ratios 0.
    """

    lr: float
    weight_decay: float
    gate: Path | None = None


STILL = Setting(0.0, 0.0, FROZEN)


@dataclass(frozen=True)
class Wishes:
    """What the user asked for besides the depths.

    `overrides`, `frozen` and `only` go by a tensor's first name, `gates` by rung; `no_decay` are the kinds
    without weight decay, None where nothing decays; `lora_plus` is the rate of LoRA's B over that of A.
    """

    multipliers: Multipliers = field(default_factory=Multipliers)
    overrides: Mapping[str, Override] = field(default_factory=dict)
    no_decay: Collection[str] | None = NO_DECAY
    lora_plus: float = 1.0
    frozen: Collection[str] = ()
    gates: Mapping[Key, Path] = field(default_factory=dict)
    only: Collection[str] | None = None

    def gate(self, placement: Placement) -> Path | None:
        """When a parameter trains: by its override, or else never if it is frozen, or else by its stage."""
        override = self.overrides.get(placement.leaf.name)
        if override and override.freeze:
            return FROZEN
        if override and override.gate is not None:
            return override.gate
        if placement.leaf.name in self.frozen and not (override and override.freeze is False):
            return FROZEN
        return self.gates.get((placement.tower, placement.depth))

    def decay(self, placement: Placement) -> float:
        """Its weight decay as a ratio of the plan's; 1 for all where nothing decays, so that they join."""
        if self.no_decay is None:
            return 1.0
        if not decays(placement.leaf, self.no_decay):
            return 0.0
        override = self.overrides.get(placement.leaf.name)
        return 1.0 if override is None or override.weight_decay is None else override.weight_decay


def is_lora_b(placement: Placement) -> bool:
    """Whether a parameter belongs to the second matrix of LoRA, which begins at zero."""
    return any(part.lower() in LORA_B for name in placement.names for part in name.split("."))
