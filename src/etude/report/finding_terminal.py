"""A range test in a terminal: its curve in Braille dots, what every rule says, and what to write next."""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from etude.report.finding_view import View, decades, power
from etude.report.numbers import ticks

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80


def report(view: View, rows: Iterable[Sequence[str]], notes: Iterable[str]) -> str:
    """What to write next, the curve, a line for every rule (its cells as in `rows`), and `notes` below."""
    lines = [view.title, *wrap(view.reason, WIDTH), "", draw(view), ""]
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    notes = [line for note in notes for line in wrap(note, WIDTH)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


@contextmanager
def watching(console: "Console") -> Iterator[Callable[[Any], None]]:
    """Takes each point of a range test and shows it: in a terminal on one line, elsewhere every 25th."""
    if console.is_terminal:
        with console.status("") as line:
            yield lambda point: line.update(str(point))
    else:
        yield lambda point: None if point.made % 25 else console.print(str(point), soft_wrap=True)


def draw(view: View, width: int | None = None, height: int = 16) -> str:
    """The smoothed curve over the logarithm of the rate, the suggested rate as an upright line.

    >>> rates = [10.0 ** (k / 4 - 6) for k in range(25)]
    >>> losses = [1 / (1 + 300 * rate) + 2 * rate for rate in rates]
    >>> print(draw(View(rates, [losses], losses, None, (), {}, (1e-3, 3e-3, 9e-3), "", None, "", ""), 48, 8))
       │                         ┊               ⢠
      1┤⠠⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⣀⣀⣀      ┊               ⡎
       │                   ⠉⠑⠒⠤⡀ ┊              ⡜
    0.5┤                       ⠈⠑⠢⣀           ⢀⠎
       │                         ┊ ⠑⠢⢄⣀    ⢀⡠⠔⠁
       │                         ┊     ⠉⠉⠉⠉⠁
       └┬──────┬──────┬───────┬──────┬──────┬──────┬
        1e-6  1e-5   1e-4    1e-3   1e-2   1e-1    1
    """
    import plotext

    width = max(30, width or min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))
    low, high = view.limits()
    rates, losses = view.shown(view.smooth)
    x = [math.log10(rate) for rate in rates]
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear().theme("colorless").plot_size(width, height)
    figure.axes(False, side=1)
    braille = plotext.marker("braille", "white")
    if view.suggested is not None:
        at = math.log10(view.suggested[1])
        figure.draw(figure.signal([at, at], [low, high], marker=plotext.marker("┊", "white")).lines())
    if len(x) > 1:
        figure.draw(figure.signal(x, losses, marker=braille).lines())
    first, last = math.log10(view.rates[0]), math.log10(view.rates[-1])
    marks = [math.log10(rate) for rate in decades(view.rates[0], view.rates[-1])]
    for axis, ends, places, text in (
        ("y", (low, high), ticks(low, high, max(2, height // 4)), lambda y: f"{y:g}"),
        ("x", (first, last), marks, lambda mark: power(10**mark)),
    ):
        ruler = figure.ruler(axis)
        ruler.lim(*ends)
        ruler.ticks(places, [text(place) for place in places])
    drawn = str(figure.build().string(colorless=True)).rstrip("\n").split("\n")
    return "\n".join(line.rstrip() for line in drawn)
