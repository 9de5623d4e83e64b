"""Levels ahead of the loop: while it goes from one update to the next, those to come are computed together.

A rate is a function of time, so it may be known beforehand: to the last bit what `Rates.at` says.
"""

import math
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from etude.control.sink import Write
from etude.core.exact import levels
from etude.core.passage import Passage
from etude.core.rates import Rates

RUN_UP = 16  # updates in a row before any is computed ahead
FEWEST, MOST = 8, 2048  # updates in a block
NUMBERS = 1 << 14  # levels in a block, of all hyper-parameters


@dataclass(frozen=True, slots=True)
class Block:
    """The updates first, first + 1, …, `count` of them, of `rates`.

    For each writer it has the levels of one update after the other, and how many an update has.
    """

    rates: Rates | None
    first: int
    count: int
    tables: list[tuple[Write, list[float], int]]


NO_BLOCK = Block(None, 0, 0, [])


class Ahead:
    """Computes the updates to come, if whoever trains has imported numpy; never beyond the end of a passage.

    It first watches the loop go from one whole update to the next, and a block is at most four times as long
    as what it has seen: a loop that jumps about, or is edited all the time, pays little for it.
    """

    def __init__(self) -> None:
        self._rates: Rates | None = None
        self._seen = 0
        self._following = math.nan

    def enter(self, rates: Rates, passage: Passage, writes: Sequence[Write]) -> None:
        """From now on the updates are those of `passage`."""
        if rates is not self._rates:
            self._seen = 0
        self._rates = rates
        self._passage = passage
        self._writes = writes

    def block(self, begin: float, end: float | None) -> Block | None:
        """A block that begins with the update [begin, end], about to be made, if it is time for one."""
        if end is not None and end != begin + 1:
            self._seen = 0
        elif begin == self._following:
            self._seen += 1
        elif begin != self._following - 1:
            self._seen = 1
        self._following = begin + 1
        if self._seen <= RUN_UP or not 0 <= begin < 2**52 or begin != int(begin):
            return None
        made = self._made(int(begin))
        if made is not None:
            # Who asks for the update that follows the block has made all that are in it.
            self._seen += made.count - 1
            self._following = begin + made.count
        return made

    def _made(self, first: int) -> Block | None:
        np, rates, shares = sys.modules.get("numpy"), self._rates, self._passage.shares.values()
        if np is None or rates is None:
            return None
        most = min(4 * self._seen, MOST, NUMBERS // sum(len(share.gates) for share in shares))
        # Only whole updates: the last of a run may be cut.
        last = int(min(first + most, self._passage.total))
        times = np.arange(first, last, dtype=float) + rates.plan.tick
        count = bisect_left(times, self._passage.end)
        if count < FEWEST:
            return None
        tables = [
            (write, levels(share, times[:count], np).ravel().tolist(), len(share.gates))
            for write, share in zip(self._writes, shares, strict=True)
        ]
        return Block(rates, first, count, tables)
