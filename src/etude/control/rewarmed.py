"""The shape of a rate with a longer warm-up, as a path to redraw it by."""

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from etude.core.line import Line, Row
from etude.core.path import Path
from etude.core.shapes import SHAPES
from etude.core.stroke import slower
from etude.core.text import parse

if TYPE_CHECKING:
    from etude.core.rates import Rates


class Rewarmed(NamedTuple):
    """The path from now to the end of the run, and where in the warm-up that is."""

    path: Path
    place: str


def rewarmed(rates: "Rates", t: float, longer: float, scale: float, near: float) -> Rewarmed | None:
    """A warm-up from `scale` × the present level, `longer` × as long as the one in force, and what follows.

    None where the shape does not begin with a rise, where `t` lies beyond `near` × that rise, and where the
    new warm-up would not end later than the one in force.
    """
    shape = rates.regime(t).curves["lr"].lines[0]
    rise = _rise(shape)
    if not rise:
        return None
    begin, end, top = rise[0].begin, rise[-1].end, rise[-1].b
    left = rates.total - t
    if t > begin + near * (end - begin) or left <= 0:
        return None
    length = min(longer * (end - begin), left / 2)
    if t + length <= end:
        return None
    level = shape.level(t)
    rest = shape.rows[len(rise) :]
    if not rest:
        return None
    ratio = 1.0 if math.isinf(left) else (left - length) / (rates.total - end)
    words = [f"linear({_length(length)}, start={level * scale!r}, to={top!r})"]
    words += [_word(row, ratio, row is rest[-1]) for row in rest]
    path = parse(" >> ".join([*words, *map(str, shape.waiting)]))
    place = f"at level {level:.3g} of a warm-up of {end - begin:g} updates"
    return Rewarmed(path, place)  # type: ignore[arg-type]  # pieces make a path


def rises(row: Row) -> bool:
    """Whether a row rises from its beginning to its end."""
    return row.b > row.a and not SHAPES[row.shape].turns


def _rise(shape: Line) -> Sequence[Row]:
    """The rows with which the shape rises from its beginning."""
    return list(takewhile(rises, shape.rows))


def _word(row: Row, ratio: float, last: bool) -> str:
    """A row as the word that draws it, `ratio` times as long; the last takes what is left."""
    shape, stroke = SHAPES[row.shape], row.stroke
    brackets = [] if last and not shape.needs_over else [_length((row.end - row.begin) * ratio)]
    if stroke.start is not None and stroke.start != shape.start:
        brackets.append(f"start={stroke.start!r}")
    if stroke.to is not None and stroke.to != shape.to and shape.takes_to:
        brackets.append(f"to={stroke.to!r}")
    for name, value in slower(row.shape, stroke.options, ratio):
        if value == shape.options.get(name):
            continue
        if name in shape.lengths:
            value = _length(value)
        elif name in shape.milestones:
            value = "(" + "".join(f"{_length(one)}, " for one in value) + ")"
        else:
            value = repr(value)
        brackets.append(f"{name}={value}")
    return f"{row.shape}({', '.join(brackets)})"


def _length(updates: Any) -> str:
    """A length in updates, as it is written."""
    return str(int(updates)) if float(updates).is_integer() else f'"{float(updates)!r}up"'
