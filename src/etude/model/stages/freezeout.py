"""FreezeOut: layers that cool down to 0 one after the other, from the bottom up, and are frozen there."""

from dataclasses import dataclass
from typing import Any

from etude.core.namespace import plain
from etude.core.path import Path
from etude.core.shapes import cosine, frozen
from etude.errors import PlanError, near
from etude.model.ladder import Ladder
from etude.model.rungs import Key, key
from etude.model.stages.unfreezing import rows

POWERS = {"linear": 1, "cubic": 3}


@dataclass(frozen=True, slots=True)
class FreezeOut:
    """What `freezeout` makes."""

    t0: int | float
    spacing: str
    scaled: bool

    def __str__(self) -> str:
        spacing = "" if self.spacing == "cubic" else f', spacing="{self.spacing}"'
        return f"freezeout({self.t0!r}{spacing}{'' if self.scaled else ', scaled=False'})"

    __repr__ = __str__

    def ends(self, count: int) -> list[float]:
        """When each of `count` rows of rungs freezes, from the bottom up, as shares of the run."""
        power = POWERS[self.spacing]
        first = self.t0 ** (1 / power)
        inner = [(first + (1 - first) * i / (count - 1)) ** power for i in range(1, count - 1)]
        return [self.t0, *inner, 1.0] if count > 1 else [1.0]

    def gates(self, ladder: Ladder) -> dict[Key, Path]:
        """The gate of every rung, by its tower and depth."""
        gates = {}
        bottom_up = list(reversed(rows(self, ladder)))
        for row, end in zip(bottom_up, self.ends(len(bottom_up)), strict=True):
            scaled = {"start": 1 / end} if self.scaled else {}
            gate = cosine() if end == 1 else cosine(end, **scaled) >> frozen()
            gates |= {key(rung): gate for rung in row}
        return gates


def freezeout(t0: Any = 0.5, *, spacing: str = "cubic", scaled: bool = True) -> FreezeOut:
    """Progressive freezing: layer i follows its own cosine to 0 at t_i, then is frozen; the lowest at `t0`.

    t_i goes from `t0` to 1 at the head, in equal steps ("linear") or in equal steps of its cube root
    ("cubic"), which gives the upper layers more time: f_i(t) = ½·(1 + cos(πt/t_i)), times 1/t_i where
    `scaled`, so that every layer has the same area. The cosine is the schedule here: give the plan a number
    as its rate, or a warm-up alone.

    Source: Brock et al., FreezeOut, arXiv 1706.04983; the authors take "cubic", scaled, t0 = 0.8³ = 0.512.
    Use: to save up to a fifth of the time of long runs; in the paper ResNets lose nothing by it.
    Avoid: in search of better weights; there DenseNets lose 3% and VGG nets are not even faster.

    >>> freezeout(0.5).ends(4)
    [0.5, 0.6415455353805126, 0.8075618319071783, 1.0]
    """
    share = plain(t0)
    if share is None or not 0 < share < 1:
        raise PlanError(
            f"freezeout(t0={t0!r}) takes the share of the run at which the lowest layer freezes: 0.5"
        )
    if spacing not in POWERS:
        raise PlanError(f"freezeout(spacing={spacing!r}) is not known{near(str(spacing), POWERS)}")
    return FreezeOut(share, spacing, bool(scaled))
