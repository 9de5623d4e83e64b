"""Numbers as people read them; shared by the terminal, the notebook, the pictures and the report."""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from etude.core.curve import Curve


def rate(value: float | None) -> str:
    """A learning rate with three significant digits, always of the same width; a dash for None and NaN.

    >>> rate(2e-5), rate(0.0), rate(None)
    ('2.00e-05', '0', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    return "0" if value == 0 else f"{value:.2e}"


def count(number: float) -> str:
    """A whole number in groups of three, parted by narrow spaces at which no line breaks.

    >>> count(22713216).split("\\u202f")
    ['22', '713', '216']
    """
    return f"{number:,.0f}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """A span of time in the one or two largest units that say something.

    >>> [duration(s) for s in (0.31, 51, 171, 3840, 100_000)]
    ['0.3 s', '51 s', '2 min 51 s', '1 h 04 min', '27 h 46 min']
    """
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about as many as asked for: 1, 2 or 5 times a power of ten apart.

    >>> ticks(0, 375)
    [0.0, 100.0, 200.0, 300.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    apart = power * min((1, 2, 5, 10), key=lambda m: abs(math.log(m * power / rough)))
    first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
    return [float(f"{k * apart:.12g}") for k in range(first, last + 1)]


def clock(t: float) -> str:
    """A time on the planned clock.

    >>> clock(375.0), clock(375.9375), clock(math.inf)
    ('375', '375.94', '∞')
    """
    return "∞" if math.isinf(t) else count(t) if t == int(t) else f"{t:.2f}"


class Piece(NamedTuple):
    """One resolved piece of a curve, every field as it is shown. `path` counts the factors of a product."""

    path: int
    word: str
    updates: str
    share: str
    begin: str
    end: str
    options: str


def pieces(curve: "Curve") -> list[Piece]:
    """The resolved pieces of a curve: where each lies, its share of the run, its value at both ends.

    With one path the values are those of the curve; each of several paths alone is a ratio of the peak,
    because only their product is a rate.

    >>> from etude.core.text import parse
    >>> for piece in pieces(parse("2e-5 * (warmup(0.1) >> cosine())").over(500)):
    ...     print(*piece[1:-1])
    warmup 0 – 50 10.0% 0 2.00e-05
    cosine 50 – 500 90.0% 2.00e-05 0
    """
    factor = 1 if len(curve.lines) > 1 else curve.peak

    def value(level: float) -> str:
        # A momentum or a weight decay is read as 0.9 or 0.01.
        return rate(factor * level) if factor < 0.01 else f"{factor * level:.3g}"

    return [
        Piece(
            path,
            word,
            f"{clock(begin)} – {clock(end)}",
            f"{(end - begin) / curve.total:.1%}" if math.isfinite(curve.total) else "",
            value(a),
            value(b),
            ", ".join(f"{key}={option:g}" for key, option in params.items()),
        )
        for path, rows in enumerate(curve.table())
        for begin, end, a, b, word, params in rows
    ]
