"""A rise along a logarithm, for which the language has no word, by straight lines."""

import math
from itertools import pairwise

from etude.convert.pieces import PEAK, Level, Piece

# The lines stay this near, in levels.
NEAR = 0.01


def logarithm(updates: int, low: Level) -> tuple[list[Piece], float]:
    """Straight lines from `low` to 1 along log(1 + n)/log(updates), n = 0 … updates - 1, and their error.

    The error is the largest of any update, in levels.

    >>> lines, off = logarithm(100, Level(0.0))
    >>> len(lines), f"{off:.4f}"
    (9, '0.0098')
    """
    ends = [0]
    while (begin := ends[-1]) < updates - 1:
        reach = updates - 1 - begin
        while _off(begin, begin + reach, updates) > NEAR:
            reach -= max(1, reach // 20)
        ends.append(begin + reach)
    inner = [
        Level(round(low.ratio + (1 - low.ratio) * math.log1p(n) / math.log(updates), 5)) for n in ends[1:-1]
    ]
    levels = [low, *inner, PEAK]
    lines = [
        Piece("linear", end - begin, a, b)
        for (begin, a), (end, b) in pairwise(zip(ends, levels, strict=True))
    ]
    worst = max(_off(begin, end, updates) for begin, end in pairwise(ends))
    return lines, worst * (1 - low.ratio) + 5e-6


def _off(begin: int, end: int, updates: int) -> float:
    """How far a straight line from n = begin to end is below the logarithm, at the worst whole n."""
    slope = (math.log1p(end) - math.log1p(begin)) / (end - begin)
    worst = int(1 / slope) - 1  # the two are furthest apart where they are parallel, here or one later
    inside = [n for n in (worst, worst + 1) if begin < n < end]
    return max(
        [math.log1p(n) - math.log1p(begin) - slope * (n - begin) for n in inside], default=0.0
    ) / math.log(updates)
