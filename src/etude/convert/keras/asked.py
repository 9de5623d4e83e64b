"""What is asked of a schedule of Keras: its configuration, and the run in updates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.convert.pieces import Level, Piece
from etude.convert.values import number, read
from etude.errors import RecipeError


@dataclass
class Asked:
    """A schedule's name and configuration; `batches` make an update, `total` is in updates or None.

    `traps` are what its drawing found out, and `end` the update at which the schedule itself ends.
    """

    name: str
    config: Mapping[str, Any]
    batches: int = 1
    total: float | None = None
    lr: float | None = None
    traps: list[str] = field(default_factory=list)
    end: float | None = None

    def number(self, key: str, usual: float | None = None) -> float:
        """A number of 0 or more."""
        value = self.config.get(key)
        if value is None and usual is None:
            raise RecipeError(f"{self.name}: {key} is not said; write its number")
        return read(key, usual if value is None else value, number)

    def initial(self) -> float:
        """The `initial_learning_rate`, or the one that was asked for in its place."""
        return self.number("initial_learning_rate") if self.lr is None else self.lr

    def peak(self, rate: float) -> float:
        """A rate of which others are levels; raises `RecipeError` for 0."""
        if not rate:
            raise RecipeError(
                f"{self.name}: a peak of {rate!r} leaves nothing to be a ratio of; write one above 0"
            )
        return rate

    def updates(self, key: str) -> float:
        """A length above 0 in updates; Keras counts batches."""
        count = self.number(key)
        if not count:
            raise RecipeError(f"{key}: got {count!r}; must be above 0")
        return count / self.batches

    def run(self) -> float:
        """The run's length; raises `RecipeError` where nobody said it and the schedule has no end."""
        if self.total is None:
            raise RecipeError(f"{self.name} has no end; say how many updates the run has, total=…")
        return self.total

    def floor(self, key: str, level: Level) -> Level:
        """A level that is a rate in the configuration, with its trap."""
        if level.rate:
            self.traps.append(
                f"{key}={level.rate:g} is a rate: in étude every group has {level.ratio:g} of its peak there."
            )
        return level

    def closed(self, pieces: list[Piece], last: Level) -> list[Piece]:
        """Pieces after which the last level is held, as Keras does; their end is the schedule's."""
        self.end = sum(float(piece.over or 0) for piece in pieces)
        return [*pieces, Piece("hold", None, last, last)]
