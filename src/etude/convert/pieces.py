"""Pieces of a path before they are text: drawn by the converters, cut to the run, written down."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from etude.errors import RecipeError


class Level(NamedTuple):
    """A level as the quotient of a rate and the peak; `str` shows both numbers where there are two.

    >>> str(Level(1e-6, 2e-5)), str(Level(0.1)), str(Level(2e-5, 2e-5))
    ('1e-06/2e-05', '0.1', '1')
    """

    rate: float
    peak: float = 1.0

    @property
    def ratio(self) -> float:
        """The level itself."""
        return self.rate / self.peak

    def __str__(self) -> str:
        if self.rate in (0, self.peak):
            return "1" if self.rate else "0"
        return repr(float(self.rate)) + (f"/{float(self.peak)!r}" if self.peak != 1 else "")


PEAK, NOTHING = Level(1.0), Level(0.0)


class Piece(NamedTuple):
    """A word from `start` to `end`, `over` a number of updates, a share of the run ("0.1"), or what is left.

    `end` None: whoever reads the text does not know it, so that the next piece writes its start. `options`
    stand in the brackets as they are. A `word` that has its brackets already is a finished text.
    """

    word: str
    over: float | str | None = None
    start: Level = PEAK
    end: Level | None = None
    options: tuple[str, ...] = ()


# Where the pen starts and ends if nothing is written, for the words that differ: `to` 0, from where it is.
_STARTS = {"warmup": NOTHING}
_ENDS = {"warmup": PEAK}
_TAKES_TO = ("linear", "warmup", "cosine", "poly", "exp", "sqrt", "square")


def path(pieces: Iterable[Piece]) -> str:
    """The path that the pieces draw one after the other; a level is written where the pen is elsewhere.

    >>> path([Piece("warmup", 10, NOTHING, PEAK), Piece("cosine", 80, PEAK, Level(0.1)), Piece("hold")])
    'warmup(10) >> cosine(80, to=0.1) >> hold(start=1)'
    """
    written: list[str] = []
    pen: Level | None = PEAK
    for piece in pieces:
        written.append(piece.word if piece.word.endswith(")") else _bracketed(piece, pen))
        pen = piece.end
    return " >> ".join(written)


def _bracketed(piece: Piece, pen: Level | None) -> str:
    over = "" if piece.over is None else piece.over if isinstance(piece.over, str) else length(piece.over)
    brackets: list[str] = [over]
    if piece.word in _TAKES_TO and str(piece.end) != str(_ENDS.get(piece.word, NOTHING)):
        brackets.append(f"to={piece.end}")
    start = _STARTS.get(piece.word, pen)
    if start is None or str(piece.start) != str(start):
        brackets.append(f"start={piece.start}")
    return f"{piece.word}({', '.join(one for one in (*brackets, *piece.options) if one)})"


def length(updates: float) -> str:
    """A number of updates as a length of the language, without the last digits of a rounding.

    >>> length(500.0), length(0.3 * 97 - 1)
    ('500', '"28.1up"')
    """
    near = float(f"{updates:.15g}")
    return str(int(near)) if near == int(near) else f'"{near!r}up"'


def fit(pieces: Sequence[Piece], updates: float, closed: bool = False) -> list[Piece]:
    """The pieces, whose lengths are numbers, as far as they reach into `updates`.

    `closed` writes the length of a last piece that takes what is left, so that others may follow. Raises
    `RecipeError` where the end falls into a curve of which the language has no part.

    >>> path(fit([Piece("linear", 10, Level(0.5), PEAK), Piece("cosine", 80, PEAK, NOTHING)], 50))
    'linear(10, to=1, start=0.5) >> wave(40, half=80)'
    """
    fitted: list[Piece] = []
    left = updates
    for piece in pieces:
        if left <= 0:
            break
        over = left if piece.over is None else float(piece.over)
        if over > left:
            piece = _cut(piece, left / over, updates)
        elif piece.over is None and closed:
            piece = piece._replace(over=left)
        fitted.append(piece)
        left -= over
    return fitted


def _cut(piece: Piece, share: float, updates: float) -> Piece:
    whole = float(piece.over or 0)
    cut = piece._replace(over=whole * share)
    if piece.end is None or piece.word == "hold":
        return cut
    a, b = piece.start.ratio, piece.end.ratio
    if piece.word in ("linear", "warmup"):
        return cut._replace(end=Level(a * (1 - share) + b * share))
    if piece.word == "exp":
        return cut._replace(end=Level(a * (b / a) ** share))
    if piece.word == "cosine" and not piece.options:
        low = () if b == 0 else (f"low={piece.end}",)
        return Piece("wave", cut.over, piece.start, None, (f"half={length(whole)}", *low))
    raise RecipeError(
        f"the run ends after {updates:g} updates, within {path([piece])}, and the language has no part of "
        f"that curve: make the two equally long"
    )


def span(pieces: Iterable[Piece]) -> float | None:
    """How many updates the pieces take, None if one of them takes a share or what is left."""
    lengths = [piece.over for piece in pieces]
    return sum(map(float, lengths)) if all(isinstance(x, int | float) for x in lengths) else None  # type: ignore[arg-type]
