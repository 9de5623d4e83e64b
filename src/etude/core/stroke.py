"""From a path to strokes: repeats unrolled, every length in planned updates.

Nothing is drawn yet: a stroke knows how long it is, not where it lies nor at which level the pen comes in.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from etude.core.length import TOLERANCE, Span, fraction_of, is_absolute, measure, snap
from etude.core.path import Path, Repeat, Word
from etude.core.shapes import SHAPES
from etude.errors import ScheduleError

Options = tuple[tuple[str, Any], ...]


class Stroke(NamedTuple):
    """A word with its length in planned updates; `start` and `to` are None where the pen decides."""

    shape: str
    length: float
    start: float | None
    to: float | None
    options: Options


def strokes_of(
    path: Path, run: Span, reach: float, stretch: float = 1.0, fade: float = 1.0
) -> Iterator[Stroke]:
    """The strokes that fill a span of `reach` planned updates.

    `stretch` multiplies absolute lengths and `fade` written levels, as `repeat` asks for. Raises
    `ScheduleError` when the pieces are too long or too short for the span.
    """
    lengths = [_piece_length(piece, run, reach, stretch) for piece in path.pieces]
    known = math.fsum(x for x in lengths if x is not None)
    omitted = [piece for piece, x in zip(path.pieces, lengths, strict=True) if x is None]
    left = reach - known
    slack = TOLERANCE * max(reach, 1.0)
    if left < -slack:
        raise ScheduleError(
            f"{path} is too long: its pieces take {known:g} of {reach:g} updates; shorten one of them"
        )
    if not omitted and left > slack:
        raise ScheduleError(
            f"{path} is too short: its pieces take {known:g} of {reach:g} updates; "
            f"write {path} >> hold() if the last level is to be held"
        )
    if left <= slack:
        for piece in omitted:
            if not (isinstance(piece, Word) and piece.name == "hold"):
                raise ScheduleError(
                    f"{path}: nothing is left for {piece}; shorten another piece or leave it out"
                )
    for piece, length in zip(path.pieces, lengths, strict=True):
        own = max(left, 0.0) / len(omitted) if length is None else length
        yield from _unrolled(piece, own, run, reach, stretch, fade)


def _piece_length(piece: Word | Repeat, run: Span, reach: float, stretch: float) -> float | None:
    if isinstance(piece, Repeat) and _is_absolute(piece.path):
        first = math.fsum(_piece_length(inner, run, 0.0, stretch) or 0.0 for inner in piece.path.pieces)
        whole = first * _series(piece)
        if piece.over is not None:
            said = _written(piece.over, run, reach, stretch)
            if abs(said - whole) > TOLERANCE * max(whole, 1.0):
                raise ScheduleError(
                    f"{piece}: its copies take {whole:g} updates, over says {said:g}; leave over out"
                )
        return whole
    return None if piece.over is None else _written(piece.over, run, reach, stretch)


def _written(over: Any, run: Span, reach: float, stretch: float) -> float:
    return measure(over, run, reach) * (stretch if is_absolute(over) else 1.0)


def _is_absolute(path: Path) -> bool:
    return all(
        is_absolute(piece.over) if isinstance(piece, Word) else _is_absolute(piece.path)
        for piece in path.pieces
    )


def _series(piece: Repeat) -> float:
    return math.fsum(piece.stretch**i for i in range(piece.times))


def _unrolled(
    piece: Word | Repeat, length: float, run: Span, reach: float, stretch: float = 1.0, fade: float = 1.0
) -> Iterator[Stroke]:
    if isinstance(piece, Word):
        yield _stroke(piece, length, run, reach, stretch, fade)
        return
    first = length / _series(piece)
    for i in range(piece.times):
        times_as_long = piece.stretch**i
        yield from strokes_of(
            piece.path, run, first * times_as_long, stretch * times_as_long, fade * piece.fade**i
        )


def _stroke(word: Word, length: float, run: Span, reach: float, stretch: float, fade: float) -> Stroke:
    shape = SHAPES[word.name]
    written = dict(word.values)
    start, to = written.pop("start", shape.start), written.pop("to", shape.to)
    options = dict(shape.options) | written

    def measured(name: str, value: Any) -> float:
        if not is_absolute(value) and (reach == 0 or math.isinf(reach)):
            raise ScheduleError(
                f"{word}: an open run has no total to take a share of; write updates, as in {name}=1000"
            )
        return snap(_written(value, run, reach, stretch))

    for name in shape.lengths:
        options[name] = None if options[name] is None else measured(name, options[name])
    for name in shape.milestones:
        options[name] = tuple(measured(name, value) for value in options[name])
    for name in shape.levels:
        options[name] = options[name] * fade
    return Stroke(
        word.name,
        length,
        None if start is None else start * fade,
        None if to is None else to * fade,
        tuple(options.items()),
    )


def open_strokes(path: Path, run: Span) -> tuple[list[Stroke], tuple[Word | Repeat, ...]]:
    """Strokes up to the endless piece of an open run, and the pieces that wait for its end."""
    strokes: list[Stroke] = []
    for index, piece in enumerate(path.pieces):
        rest = path.pieces[index + 1 :]
        if isinstance(piece, Word) and piece.over is None and SHAPES[piece.name].endless:
            _check_waiting(path, rest)
            strokes.extend(_unrolled(piece, math.inf, run, math.inf))
            return strokes, rest
        if not _is_absolute(Path((piece,))):
            raise ScheduleError(
                f"{piece} in {path}: an open run has no total to take a share of; before its endless piece "
                f'write lengths in updates, "2ep", "500ex" or "1e9tok"'
            )
        length = _piece_length(piece, run, 0.0, 1.0) or 0.0
        strokes.extend(_unrolled(piece, length, run, 0.0))
    endless = " or ".join(
        f"{name}()" for name, shape in SHAPES.items() if shape.endless and not shape.gate_only
    )
    raise ScheduleError(
        f"{path} ends, and an open run does not: give it an endless piece, {endless} without a length"
    )


def _check_waiting(path: Path, waiting: Sequence[Word | Repeat]) -> None:
    shares = 0.0
    for piece in waiting:
        if piece.over is None and not (isinstance(piece, Repeat) and _is_absolute(piece.path)):
            raise ScheduleError(
                f"{piece} in {path}: after the endless piece of an open run every length must be said"
            )
        shares += fraction_of(piece.over)
    if shares >= 1:
        raise ScheduleError(f"{path}: the pieces after the endless one take {shares:.0%} of the final total")


def late_strokes(waiting: Sequence[Word | Repeat], at: float, run: Span) -> list[Stroke]:
    """The strokes that waited, now that the endless piece ends at `at`.

    Their fractions are of the final total T = (at + absolute lengths) / (1 - fractions).
    """
    absolute = math.fsum(_piece_length(p, run, 0.0, 1.0) or 0.0 for p in waiting if not fraction_of(p.over))
    shares = math.fsum(fraction_of(piece.over) for piece in waiting)
    total = (at + absolute) / (1 - shares)
    strokes: list[Stroke] = []
    for piece in waiting:
        length = _piece_length(piece, run, total, 1.0) or 0.0
        strokes.extend(_unrolled(piece, length, run, total))
    return strokes


def slower(shape: str, options: Options, ratio: float) -> Options:
    """A word's options where the clock runs `ratio` times slower: its lengths are that much longer."""
    word = SHAPES[shape]

    def scaled(name: str, value: Any) -> Any:
        if name in word.milestones:
            return tuple(one * ratio for one in value)
        return value * ratio if name in word.lengths and value is not None else value

    return tuple((name, scaled(name, value)) for name, value in options)
