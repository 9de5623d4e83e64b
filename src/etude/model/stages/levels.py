"""What one rung does through all stages, as one path over the run: its gate."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from etude.core import shapes
from etude.core.length import Length, is_zero
from etude.core.path import Path, Repeat, Word, repeat
from etude.core.shapes import SHAPES
from etude.errors import PlanError
from etude.model.stages.lengths import counted, minus, plus, written
from etude.model.stages.stage import Stage, literal


def through(stages: Sequence[Stage], trains: Sequence[bool]) -> Path | None:
    """The gate of a rung that trains in these of the stages; None if it simply trains throughout.

    What does not change from a stage to the next is one piece.

    >>> stages = [Stage("head", "1ep"), Stage("layer.1..head", "1ep"), Stage()]
    >>> through(stages, [False, False, True]), through(stages, [True, True, True])
    (frozen("2ep") >> hold(start=1), None)
    """
    parts: list[Stage | None] = []
    overs: list[Length] = []
    before = False
    for one, over, now in zip(stages, _lengths(stages), trains, strict=True):
        part = replace(one, rungs="*", over=None, warmup=None if before else one.warmup) if now else None
        before = now
        if parts and _goes_on(parts[-1], part):
            last = overs[-1]
            rest = last is None or over is None  # takes what is left, and so do both together
            if rest or plus(last, over) is not None:
                overs[-1] = None if rest else plus(last, over)
                continue
        parts.append(part)
        overs.append(over)
    if parts == [Stage()]:
        return None
    if len(parts) == 1:
        overs = [None]
    pieces = [_piece(*both, first=not i) for i, both in enumerate(zip(parts, overs, strict=True))]
    return Path(tuple(piece for path in pieces for piece in path.pieces))


def _lengths(stages: Sequence[Stage]) -> list[Length]:
    """The lengths of the stages; of several that were left out, all but the last as equal shares."""
    lengths = [one.over for one in stages]
    left = [i for i, over in enumerate(lengths) if over is None]
    taken = sum((counted(over)[0] for over in lengths if over is not None), Decimal())
    for i in left[:-1]:
        lengths[i] = written((1 - taken) / len(left), "")
    return lengths


def _goes_on(part: Stage | None, following: Stage | None) -> bool:
    if part is None or following is None:
        return part is following
    return part.path is None and replace(part, warmup=None) == following


def _piece(part: Stage | None, over: Length, first: bool) -> Path:
    """A part of a gate: frozen, or at the levels of a stage, which begin at its peak."""
    if part is None:
        return shapes.frozen(over)
    there = first and part.peak == 1  # where the pen is already
    if part.path is not None:
        return _within(part.path if there else _from(_raised(part.path, part.peak), part.peak), over)
    if part.warmup is None:
        return shapes.hold(over) if there else shapes.hold(over, start=part.peak)
    rise = shapes.warmup(part.warmup, to=part.peak)
    if over is None:
        return rise >> shapes.hold()
    rest = minus(over, part.warmup)
    if rest is None or counted(rest)[0] < 0:
        wrong = "write both in one unit" if rest is None else "it is longer than its stage"
        raise PlanError(f"warmup={literal(part.warmup)} in a stage over {literal(over)}: {wrong}")
    return rise if is_zero(rest) else rise >> shapes.hold(rest)


def _within(path: Path, over: Length) -> Path:
    """The path over a length of the run, in which its fractions are fractions of that length."""
    only = path.pieces[0]
    if len(path.pieces) == 1 and isinstance(only, Word) and only.over is None:
        shape = SHAPES[only.name]
        if not (shape.lengths or shape.milestones):
            return Path((replace(only, over=over),))
    return repeat(path, 1, over)


def _raised(path: Path, peak: float) -> Path:
    """The path with every level multiplied."""
    pieces: list[Word | Repeat] = []
    for piece in path.pieces:
        if isinstance(piece, Repeat):
            pieces.append(replace(piece, path=_raised(piece.path, peak)))
            continue
        shape, values = SHAPES[piece.name], dict(piece.values)
        said: dict[str, Any] = {"start": shape.start, "to": shape.to, **shape.options} | values
        known = ("start", *(["to"] if shape.takes_to else []), *shape.levels)
        higher = {name: said[name] * peak for name in known if said[name]}
        pieces += getattr(shapes, piece.name)(piece.over, **values | higher).pieces
    return Path(tuple(pieces))


def _from(path: Path, level: float) -> Path:
    """The path, drawn by a pen that is put to a level first."""
    first = path.pieces[0]
    if isinstance(first, Repeat):
        return shapes.hold(0, start=level) >> path
    values = dict(first.values)
    if SHAPES[first.name].start is not None or "start" in values:
        return path
    return Path(getattr(shapes, first.name)(first.over, **values, start=level).pieces + path.pieces[1:])
