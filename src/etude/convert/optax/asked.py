"""What a call of an optax schedule asks for, and rates on their way to levels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.convert.pieces import Level, Piece
from etude.convert.values import number, read
from etude.errors import RecipeError


@dataclass
class Asked:
    """The arguments of one call by name; `left` is the time it has, None where nobody said the run's length.

    Pieces are drawn in rates (`Level` of a peak of 1); `levels` makes them ratios once the peak is known.
    """

    name: str
    line: int
    said: Mapping[str, Any]
    left: float | None = None
    traps: list[str] = field(default_factory=list)

    def number(self, key: str, usual: float | None = None, low: float = 0) -> float:
        """A number of at least `low`."""
        value = self.said.get(key, usual)
        if value is None:
            raise RecipeError(f"{self.name} (line {self.line}): {key} is not said; write its number")
        return read(key, value, number, low)

    def count(self, key: str, usual: float | None = None) -> float:
        """A number of updates; optax takes a negative one as none."""
        return max(0.0, self.number(key, usual, -math.inf))

    def rest(self) -> float:
        """The time that the call has; raises `RecipeError` where nobody said it."""
        if self.left is None:
            raise RecipeError(
                f"{self.name} (line {self.line}) has no end; say how many updates the run has, total=…"
            )
        return self.left


def held(rate: float, over: float | None = None) -> Piece:
    """A rate that stays."""
    return Piece("hold", over, Level(rate), Level(rate))


def ramp(over: float, start: float, end: float) -> Piece:
    """A straight line between two rates."""
    return Piece("linear" if start else "warmup", over, Level(start), Level(end))


def ending(begin: float, *pieces: Piece) -> list[Piece]:
    """Pieces that begin after a while and whose last rate stays; those without a length are left out."""
    first, last = pieces[0].start.rate, pieces[-1].end
    drawn = [held(first, begin), *pieces, held(last.rate if last else first)]
    return [piece for piece in drawn if piece.over != 0]


def levels(pieces: list[Piece], peak: float) -> list[Piece]:
    """Pieces in rates as pieces in levels of the peak."""
    return [
        piece._replace(start=_level(piece.start.rate, peak), end=piece.end and _level(piece.end.rate, peak))
        for piece in pieces
    ]


def _level(rate: float, peak: float) -> Level:
    # A rate that somebody wrote is shown beside the peak, one that was computed as the ratio that it is.
    ratio = float(f"{rate / peak:.6g}")
    written = len(repr(rate)) <= 8
    return (
        Level(ratio) if not written and math.isclose(ratio, rate / peak, rel_tol=1e-15) else Level(rate, peak)
    )
