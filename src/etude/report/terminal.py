"""What a person reads in a terminal: curves, tables, and the progress of a run.

rich and plotext are loaded when something is drawn. Without a terminal (a pipe, a file, CI) everything
comes out as plain text without colours.
"""

import math
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from etude.report.numbers import clock, count, duration, pieces, rate, ticks
from etude.report.words import verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

COLOURS = ("cyan", "magenta", "green", "orange", "blue", "red")


def draw(
    curves: Mapping[str, Any], width: int | None = None, height: int = 16, colour: bool | None = None
) -> str:
    """Curves over their runs in Braille dots, with their names below where there are several.

    `curves` maps names to curves (`curve(t)`, `curve.total`; an open one needs a finite neighbour to end
    with); `width` in columns is the terminal's if None, and `colour` None asks standard output.

    >>> from etude.core.text import parse
    >>> print(draw({"": parse("2e-5 * (warmup(0.2) >> cosine())").over(100)}, 48, 8, colour=False))
            │       ⣠⠤⠤⠤⠤⢄⣀⡀
            │     ⢀⡔⠁      ⠉⠙⠒⠤⣄⡀
    1.00e-05┤    ⣠⠏             ⠈⠓⠦⣄⡀
            │  ⢀⡔⠁                  ⠉⠓⠦⣄⡀
            │ ⡠⠋                        ⠉⠓⠢⢤⣀⡀
           0┤⠘⠁                              ⠉⠉⠓⠒⠒⠒⠂
            └┬──────────────────┬──────────────────┬
             0                  50               100
    """
    import plotext

    width = max(30, width or shutil.get_terminal_size((80, 24)).columns)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ if colour is None else colour
    total = max((curve.total for curve in curves.values() if math.isfinite(curve.total)), default=1000.0)
    times = [total * k / (4 * width) for k in range(4 * width + 1)]
    lines = {name: [curve(t) for t in times] for name, curve in curves.items()}
    top = max(map(max, lines.values())) or 1.0
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear().theme("colorless").plot_size(width, height)
    figure.axes(False, side=1)
    for i, levels in enumerate(lines.values()):
        symbol = "braille" if colour or len(lines) == 1 else _symbol(i)
        figure.draw(figure.signal(times, levels, marker=plotext.marker(symbol, COLOURS[i % 6])).lines())
    for axis, high, marks, text in (
        ("y", top, ticks(0, top, max(2, height // 4)), rate),
        ("x", total, ticks(0, total, max(2, width // 16)), count),
    ):
        ruler = figure.ruler(axis)
        ruler.lim(0, high)
        ruler.ticks(marks, [text(mark) for mark in marks])
    drawn = str(figure.build().string(colorless=not colour)).rstrip("\n").split("\n")
    if len(lines) > 1:
        for i, name in enumerate(lines):
            key = str(plotext.colorize("━━", COLOURS[i % 6])) if colour else _symbol(i) * 2
            drawn.append(f"  {key} {name}")
    return "\n".join(line.rstrip() for line in drawn)


def _symbol(i: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[i % 26]


def rates_table(used: Mapping[str, Mapping[str, tuple[int, float]]]) -> "RenderableType":
    """For each named schedule the rates of some updates: `used[name]["first"]` is (update, rate).

    A column's update stands in its title where it is the same in all rows.
    """
    titles, common = [], []
    for moment in next(iter(used.values())):
        updates = {rates[moment][0] for rates in used.values()}
        common.append(len(updates) == 1)
        titles.append(f"{moment}\nupdate {count(*updates)}" if common[-1] else moment)
    table = _table("rates used", *titles, right=range(1, len(titles) + 1))
    for name, rates in used.items():
        cells = [
            _text(rate(value), "" if said else f"\nupdate {count(k)}")
            for (k, value), said in zip(rates.values(), common, strict=True)
        ]
        table.add_row(_text(name), *cells)
    return table


def pieces_table(name: str, curve: Any) -> "RenderableType":
    """The resolved pieces of a curve: where each begins and ends, and its rates there.

    A schedule of several paths has several sections; their levels are ratios of the peak, because only the
    product of all paths is a rate.
    """
    table = _table("updates", "word", "from", "to", "share", "", right=(0, 2, 3, 4))
    found = pieces(curve)
    for i, piece in enumerate(found):
        last = i + 1 == len(found) or found[i + 1].path != piece.path
        cells = (piece.updates, piece.word, piece.begin, piece.end, piece.share, piece.options)
        table.add_row(*cells, end_section=last)
    several = len(curve.lines) > 1
    return _captioned(name, table, f"levels are ratios of the peak, {rate(curve.peak)}" if several else "")


def group_table(
    rows: Iterable[Mapping[str, Any]], title: str = "", width: int | None = None
) -> "RenderableType":
    """Groups of parameters, one row each; a column appears if some row has a value for it.

    Known columns are depth, layer, group, tensors, count, scale, lr, weight_decay, gate and reason. A group
    that spans several layers has a row in each. What a row shares with the one above it is not repeated, and
    on less than 110 columns the groups' names and the tensors are left out.
    """
    rows = list(rows)
    shown = [name for name in GROUP_COLUMNS if any(row.get(name) not in (None, "") for row in rows)]
    if (width or shutil.get_terminal_size((80, 24)).columns) < 110 and "layer" in shown:
        shown = [name for name in shown if name not in ("group", "tensors")]
    right = [i for i, name in enumerate(shown) if name not in ("layer", "group", *LONG)]
    table = _table(*(GROUP_COLUMNS[name][0] for name in shown), right=right)
    for column, name in zip(table.columns, shown, strict=True):
        column.no_wrap = name not in LONG
    above: Mapping[str, Any] = {}
    for row in rows:
        same = bool(above) and row.get("depth") == above.get("depth")
        hidden = [name for name in ("depth", "layer", "reason") if same and row.get(name) == above.get(name)]
        table.add_row(
            *(
                "" if row.get(name) is None or name in hidden else _text(GROUP_COLUMNS[name][1](row[name]))
                for name in shown
            )
        )
        above = row
    total = sum(row.get("count") or 0 for row in rows)
    groups = count(len({row["group"] for row in rows}))
    return _captioned(title, table, f"{count(total)} parameters in {groups} groups" if total else "")


LONG = ("gate", "reason")
GROUP_COLUMNS = {
    "depth": ("depth", str),
    "layer": ("layer", str),
    "group": ("group", str),
    "tensors": ("tensors", count),
    "count": ("parameters", count),
    "scale": ("× peak", lambda x: f"{x:.4g}"),
    "lr": ("peak lr", rate),
    "weight_decay": ("decay", lambda x: f"{x:g}"),
    "gate": ("gate", str),
    "reason": ("why there", str),
}


def result_table(result: Mapping[str, Any]) -> "RenderableType":
    """The result beside its baselines on the test split, the verdict below; `result` as in best.json."""
    kind, sentence = verdict(result)
    metrics = [key for key in next(iter(result["test"].values())) if key not in ("C", "alpha")]
    table = _table("on the test split", *metrics, right=range(1, len(metrics) + 1))
    style = {"better": "bold", "unclear": "bold", "worse": "bold red"}[kind]
    for name, values in result["test"].items():
        cells = ["–" if values.get(m) is None else f"{values[m]:.4f}" for m in metrics]
        table.add_row(_text(name), *cells, style=style if name == "fine-tuned" else "")
    return _captioned("", table, sentence, "" if kind == "better" else style)


def _table(*columns: str, right: Iterable[int]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    right = set(right)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in right else "left", overflow="fold")
    return table


def _text(text: str, dimmed: str = "") -> "Text":
    """Text that rich takes as it is, whatever brackets it holds."""
    from rich.text import Text

    return Text.assemble(text, (dimmed, "dim"))


def _captioned(title: str, table: "Table", caption: str, style: str = "dim") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    above = [Text(title, style="bold")] if title else []
    return Group(*above, table, *([Text(caption, style=style)] if caption else []))


class Progress:
    """The progress of a run: a bar in a terminal, a line every twentieth of the run elsewhere.

    `start`, then `update` as often as losses are fetched, `eval` and `message` in between, `stop` at the end,
    also after an error. An update costs some microseconds; the bar is drawn at most twice a second.
    """

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import Console

        self.console = console or Console()
        self._bar: Any = None

    def start(self, total: float, t: float = 0.0, batch: float | None = None) -> None:
        """Begin at clock time `t` of `total` planned updates of `batch` examples each."""
        self.total, self.batch, self._first = total, batch, t
        self._recent: deque[tuple[float, float]] = deque([(perf_counter(), t)], maxlen=20)
        self._began = self._drawn = perf_counter()
        self._next = t
        if self.console.is_terminal:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            text = TextColumn("{task.fields[numbers]}", style="default", markup=False)
            self._bar = Bar(BarColumn(24), text, console=self.console, auto_refresh=False)
            self._task = self._bar.add_task("", total=total, completed=int(t), numbers="")
            self._bar.start()

    def update(
        self, t: float, loss: float | None, rates: Iterable[float], total: float | None = None
    ) -> None:
        """The clock stands at `t`; of `rates`, those of all groups, the lowest and the highest are shown."""
        now = perf_counter()
        self.total = total or self.total
        self._recent.append((now, t))
        if self._bar is not None:
            if now - self._drawn > 0.5 or t >= self.total:
                self._drawn = now
                numbers = self._numbers(now, t, loss, rates)
                self._bar.update(self._task, completed=t, total=self.total, numbers=numbers, refresh=True)
        elif t >= self._next or now - self._drawn > 60:
            twentieth = self.total / 20
            self._drawn, self._next = now, min((t // twentieth + 1) * twentieth, self.total)
            self.message(self._numbers(now, t, loss, rates))

    def _numbers(self, now: float, t: float, loss: float | None, rates: Iterable[float]) -> str:
        rates = list(rates)
        low, high = min(rates), max(rates)
        shown = rate(high) if low == high else f"{rate(low)} … {rate(high)}"
        text = f"{clock(t)}/{clock(self.total)}  loss {'–' if loss is None else f'{loss:.4f}'}  lr {shown}"
        then, before = self._recent[0]
        if self.batch and now > then and t > before:
            speed = (t - before) * self.batch / (now - then)
            text += f"  {count(speed) if speed >= 100 else f'{speed:.1f}'} examples/s"
        if t >= self.total:
            text += f"  took {duration(now - self._began)}"
        elif t > self._first and math.isfinite(self.total):
            text += f"  {duration((self.total - t) * (now - self._began) / (t - self._first))} left"
        return text

    def eval(self, t: float, split: str, metrics: Mapping[str, float], note: str = "") -> None:
        """An evaluation at clock time `t`, on a line of its own."""
        values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if value is not None)
        self.message(f"{split} at {clock(t)}: {values}{'  ' + note if note else ''}")

    def message(self, text: str) -> None:
        """A line that stays, above the bar."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def stop(self) -> None:
        """Take the bar down and give the terminal back; harmless if it was never put up."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
