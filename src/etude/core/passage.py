"""A passage: a stretch of a run in which no edit acts and no gate goes from one word to the next.

Within it every value of a hyper-parameter is level × gate(t) × (scale × control), in this order of
multiplication, where only the level and the gates that move depend on time.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from etude.core.curve import Curve
from etude.core.line import Line
from etude.core.shapes import SHAPES

Gate = float | Line
"""A gate within a passage: the level at which it stands, or the line along which it moves."""


class Share(NamedTuple):
    """One hyper-parameter: group i gets the curve times gate `kinds[i]` times `scales[i]`."""

    curve: Curve
    gates: tuple[Gate, ...]
    kinds: tuple[int, ...]
    scales: tuple[float, ...]

    def levels(self, t: float) -> list[float]:
        """Curve × gate at time `t`, one per kind."""
        level = self.curve.value(t)
        return [level * (gate if isinstance(gate, float) else gate.level(t)) for gate in self.gates]

    def merged(self) -> "Share":
        """The same values with fewer kinds: one for all groups whose gate stands open or shut."""
        standing = {
            kind: gate
            for kind, gate in enumerate(self.gates)
            if isinstance(gate, float) and gate in (0.0, 1.0)
        }
        if len(standing) < 2:
            return self
        moving = [kind for kind in range(len(self.gates)) if kind not in standing]
        place = {kind: i for i, kind in enumerate(moving, 1)}
        scales = (
            scale * standing.get(kind, 1.0) for kind, scale in zip(self.kinds, self.scales, strict=True)
        )
        kinds = tuple(place.get(kind, 0) for kind in self.kinds)
        return Share(self.curve, (1.0, *(self.gates[kind] for kind in moving)), kinds, tuple(scales))

    def reader(self, t: float) -> tuple[Callable[[float], Sequence[float]], float, float]:
        """`levels` for times near `t`, faster, and from when until when it may be asked."""
        lines = [line.within(t) for line in self.curve.lines]
        moving = [(i, gate.within(t)) for i, gate in enumerate(self.gates) if not isinstance(gate, float)]
        parts = [*lines, *(part for _, part in moving)]
        since, until = max(begin for _, begin, _ in parts), min(end for _, _, end in parts)
        peak, (first, *others) = self.curve.peak, (level for level, _, _ in lines)
        if not others and self.gates == (1.0,):
            return (lambda t: (peak * first(t),)), since, until
        gates = [1.0 if isinstance(gate, Line) else gate for gate in self.gates]
        movers = [(i, level) for i, (level, _, _) in moving]

        def levels(t: float) -> Sequence[float]:
            value = first(t)
            for factor in others:
                value = value * factor(t)
            for i, gate in movers:
                gates[i] = gate(t)
            value = peak * value
            return [value * gate for gate in gates]

        return levels, since, until

    def values(self, t: float) -> list[float]:
        """The hyper-parameter of every group at time `t`."""
        levels = self.levels(t)
        return [levels[kind] * scale for kind, scale in zip(self.kinds, self.scales, strict=True)]


class Passage(NamedTuple):
    """What holds for updates that begin at `begin` or later and are read before `end`.

    `total` is where the run ends, `open` tells whether each group trains, `shares` has the hyper-parameters.
    """

    begin: float
    end: float
    total: float
    open: tuple[bool, ...]
    shares: dict[str, Share]


class Standing(NamedTuple):
    """A gate where an update stands: its level or line, whether it trains, and when its word ends."""

    gate: Gate
    trains: bool
    begin: float
    end: float


ALWAYS = Standing(1.0, True, -math.inf, math.inf)


def standing(line: Line | None, begin: float, t: float) -> Standing:
    """A gate for an update that begins at `begin` and is read at `t`; None stands open throughout."""
    if line is None:
        return ALWAYS
    index = line.index(begin)
    row, last = line.rows[index], index == len(line.rows) - 1
    since, until = row.begin if index else -math.inf, math.inf if last else row.end
    if SHAPES[row.shape].gate_only:
        return Standing(0.0, False, since, until)
    still = row.shape == "hold" and t < until
    return Standing(float(row.a) if still else line, True, since, until)
