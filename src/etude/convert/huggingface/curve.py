"""What is asked of a curve of transformers: its options, its warm-up, the run; and the traps on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.convert.pieces import NOTHING, PEAK, Level, Piece, fit, path
from etude.convert.values import read
from etude.errors import RecipeError, near


@dataclass
class Curve:
    """A curve that is being drawn. `traps` and `tick` are what its drawing found out.

    `warm` is a number of updates, a share of the run (below 1), or 0. `lr` is the rate by which absolute
    floors are divided and `total` the run's length in updates, None where nobody said.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    warm: float = 0
    lr: Any = None
    total: float | None = None
    traps: list[str] = field(default_factory=list)
    tick: float = 0

    @property
    def left(self) -> float | None:
        """Updates after the warm-up, None if that is not known."""
        return None if self.total is None or 0 < self.warm < 1 else self.total - self.warm

    def number(self, key: str, default: Any, low: float | None = 0) -> float:
        """An option that is a number."""
        return read(key, self.options.get(key, default), low=low)

    def one_of(self, key: str, known: Mapping[str, Any], usual: str) -> str:
        """An option that is one of the words of a table."""
        value = self.options.get(key, usual)
        if not isinstance(value, str) or value not in known:
            raise RecipeError(f"{key}: got {value!r}{near(value, known)}")
        return value

    def level(self, key: str, rate: float) -> Level:
        """An absolute rate as a level of the peak; raises `RecipeError` if it is not below it."""
        if not rate:
            return NOTHING
        if self.lr is None:
            raise RecipeError(
                f"{key}: {rate!r} is a rate, and levels are ratios of the peak: say the peak, lr"
            )
        peak = read("lr", self.lr)
        if rate >= peak:
            raise RecipeError(f"{key}: got {rate!r}, which is not below the peak, {peak!r}")
        self.traps.append(
            f"{key}={rate:g} is a rate, which transformers divides by the optimizer's own: every group ends "
            f"at {rate / peak:g} of its peak, in étude too."
        )
        return Level(rate, peak)

    def warmed(self, pieces: list[Piece]) -> str:
        """The path of a linear warm-up from 0 and what follows it; the warm-up alone if the run ends in "
        "it."""
        if not self.warm:
            return path(pieces)
        if not self.tick:
            self.traps.append(
                "The warm-up starts at 0 and updates are read at their beginning (tick: 0), so the first one "
                "trains nothing; with étude's own tick, 0.5, it does."
            )
        risen = Piece("warmup", self.warm if self.warm >= 1 else repr(self.warm), NOTHING, PEAK)
        if self.left is not None and self.left <= 0:
            return path(fit([risen], self.warm + self.left))
        return path([risen, *pieces])
