"""A line at many times at once: numpy in blocks, every other array library as one traceable expression."""

import math
from collections.abc import Sequence
from typing import Any

from etude.core.line import Line, Row

# A block and the few arrays that a formula makes of it stay in the processor's second cache.
BLOCK = 8192


def in_blocks(peak: float, lines: Sequence[Line], t: Any, np: Any) -> Any:
    """Peak times the product of all lines at a numpy array of times, a block at a time, in float64."""
    flat = t.reshape(-1)
    out = np.empty(flat.shape)
    for begin in range(0, flat.size, BLOCK):
        times = flat[begin : begin + BLOCK]
        low, high = times.min(), times.max()
        product = levels(lines[0], times, low, high, np)
        for line in lines[1:]:
            product = product * levels(line, times, low, high, np)
        np.multiply(product, peak, out=out[begin : begin + BLOCK])
    return out.reshape(t.shape)


def levels(line: Line, t: Any, low: Any, high: Any, np: Any) -> Any:
    """The levels at an array of times between `low` and `high`."""
    first, last = line.index(low), line.index(high)
    if first == last:
        return _row_levels(line.rows[first], t, low, high, np)
    rows = np.fromiter((row.begin for row in line.rows), float).searchsorted(t, side="right") - 1
    out = np.empty(t.shape)
    for index in range(first, last + 1):
        chosen = np.maximum(rows, 0) == index
        if chosen.any():
            out[chosen] = _row_levels(line.rows[index], t[chosen], low, high, np)
    return out


def _row_levels(row: Row, t: Any, low: Any, high: Any, np: Any) -> Any:
    span = row.end - row.begin
    if span <= 0:
        return row.b
    e = np.subtract(t, row.begin, dtype=float)
    if low < row.begin:
        e = np.maximum(e, 0.0)
    if high < row.end:
        return row.formula(e, np)
    return np.where(e < span, row.formula(np.minimum(e, span), np), row.b)


def traced(line: Line, t: Any, xp: Any) -> Any:
    """The levels at times that may be traced, without a branch on them; in the precision of the library.

    Whole beginnings are subtracted while a time is still an integer: single precision counts updates only to
    2^24. Where a row is not in force its formula is asked in its middle, so that no gradient is NaN.
    """
    marks = [(row, *_since(t, row.begin, xp)) for row in line.rows if row.end > row.begin]
    begun = [after for _, after, _ in marks]
    over = [] if math.isinf(line.end) else [_since(t, line.end, xp)[0]]
    level = line.rows[0].a
    for i, (row, after, e) in enumerate(marks):
        inside = after
        for later in (begun + over)[i + 1 : i + 2]:
            inside = inside & ~later
        middle = (row.end - row.begin) / 2 if math.isfinite(row.end) else 1.0
        level = xp.where(after, row.formula(xp.where(inside, e, middle), xp), level)
    return xp.where(over[0], line.rows[-1].b, level) if over else level


def _since(t: Any, begin: float, xp: Any) -> tuple[Any, Any]:
    """Whether `begin` has come at time `t`, and how long ago; of no meaning, but finite, if it has not."""
    whole = math.floor(begin)
    rest = begin - whole
    after = t >= whole
    e = xp.where(after, t, whole) - whole
    if hasattr(xp, "cast"):  # keras on TensorFlow does not mix integers and floats
        e = xp.cast(e, "float32")
    return (after & (e >= rest), e - rest) if rest else (after, e)
