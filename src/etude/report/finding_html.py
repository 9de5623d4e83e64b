"""A range test in a notebook or a page: a small picture (SVG) and a table, from the standard library alone.

The colours follow the light or dark theme around it, as those of `report/notebook.py`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from etude.report.finding_view import View, decades, power, written
from etude.report.numbers import ticks

ACCENT, FAILURE = "#0a8aa3", "#c2453a"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 620, 230, 52, 14, 10, 24


def block(view: View, rows: Iterable[Sequence[str]], notes: Iterable[str]) -> str:
    """The finding as a piece of HTML; `rows` (the first is the head) and `notes` as for the terminal."""
    head, *body = ["".join(_cells("th" if k == 0 else "td", row)) for k, row in enumerate(rows)]
    table = f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
    said = f"<div><b><code>{escape(view.title)}</code></b></div><div>{escape(view.reason)}</div>"
    below = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return f"<div>{said}{picture(view)}<div><small>{escape(_caption(view))}</small></div>{table}{below}</div>"


def _caption(view: View) -> str:
    light = f"the training loss of {len(view.curves)} seeds" if len(view.curves) > 1 else "the training loss"
    dark = f"{'the held-out loss' if view.held_out else 'it'}, smoothed"
    marks = [name for name, rate in sorted(view.marks.items(), key=lambda mark: mark[1]) if view.level(rate)]
    dots = f"; dots, from the left: {', '.join(marks)}" if marks else ""
    return f"Loss over learning rate. Light: {light}; dark: {dark}{dots}."


def logged(page: Mapping[str, Any]) -> str:
    """The same from what `Finding.page` gave to a log, in which a loss that is not finite is null."""
    view = {name: _numbers(value) for name, value in page["view"].items()}
    return block(View(**view), page["rows"], page["notes"])


def _numbers(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [math.nan if one is None else _numbers(one) for one in value]
    return value


def picture(view: View) -> str:
    """The curve as SVG: the seeds light, smoothed dark, the range shaded, the suggested rate upright."""
    low, high = view.limits()
    first, last = math.log10(view.rates[0]), math.log10(view.rates[-1])
    span = (last - first) or 1.0

    def x(rate: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(rate) - first) / span

    def y(loss: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (loss - low) / (high - low)

    def line(losses: Sequence[float], style: str) -> str:
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(*view.shown(losses), strict=True))
        return f'<polyline points="{points}" fill="none" {style}/>'

    def upright(rate: float, style: str) -> str:
        return f'<line x1="{x(rate):.1f}" x2="{x(rate):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" {style}/>'

    grid, labels, marks = [], [], []
    for loss in ticks(low, high, 5):
        grid.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(loss):.1f}" y2="{y(loss):.1f}"/>')
        labels.append(f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:g}</text>')
    for rate in decades(view.rates[0], view.rates[-1]):
        labels.append(f'<text x="{x(rate):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{power(rate)}</text>')
    if view.suggested is not None:
        least, rate, most = view.suggested
        marks.append(
            f'<rect x="{x(least):.1f}" width="{x(most) - x(least):.1f}" y="{TOP}" '
            f'height="{HEIGHT - TOP - BOTTOM}" fill="{ACCENT}" fill-opacity=".12"/>'
        )
        marks.append(upright(rate, f'stroke="{ACCENT}" stroke-width="1.6"'))
    if view.edge is not None and view.rates[0] <= view.edge <= view.rates[-1]:
        marks.append(upright(view.edge, 'stroke="currentColor" stroke-opacity=".5" stroke-dasharray="1 3"'))
    marks += [line(losses, 'stroke="currentColor" stroke-opacity=".25"') for losses in view.curves]
    marks.append(line(view.smooth, 'stroke="currentColor" stroke-width="2"'))
    for name, rate in view.marks.items():
        level = view.level(rate)
        if level is not None:
            title = f"<title>{escape(name)} {written(rate)}</title>"
            marks.append(
                f'<circle cx="{x(rate):.1f}" cy="{y(level):.1f}" r="4" fill="{ACCENT}">{title}</circle>'
            )
    if view.stopped:
        end = view.points(max(view.curves, key=len))[0][-1:] or view.rates[:1]
        title = f"<title>stopped: {escape(view.stopped)}</title>"
        marks.append(
            f'<text x="{x(end[0]):.1f}" y="{TOP + 8}" text-anchor="middle" font-size="15" fill="{FAILURE}">'
            f"×{title}</text>"
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" style="max-width:100%;height:auto" role="img" '
        f'aria-label="loss over learning rate; {escape(view.title)}">'
        f'<g stroke="currentColor" stroke-opacity=".15">{"".join(grid)}</g>'
        f'<g fill="currentColor" fill-opacity=".65" font-family="sans-serif" font-size="11">'
        f"{''.join(labels)}</g>"
        f"{''.join(marks)}</svg>"
    )


def _cells(tag: str, row: Sequence[str]) -> list[str]:
    """Only the last column, a sentence, may break."""
    style, kept = "text-align:left;padding:2px 14px 2px 0", ";white-space:nowrap"
    styles = [style + kept] * (len(row) - 1) + [style]
    cells = [f'<{tag} style="{css}">{escape(cell)}</{tag}>' for css, cell in zip(styles, row, strict=True)]
    return ["<tr>", *cells, "</tr>"]
