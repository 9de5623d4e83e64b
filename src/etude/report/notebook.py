"""How a schedule, a curve and a plan show themselves in a notebook: a small picture (SVG) and a table.

Nothing but the standard library is needed, and the colours follow the notebook's light or dark theme.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from etude.core.length import is_absolute
from etude.core.path import Word
from etude.errors import ScheduleError
from etude.report.numbers import clock, count, pieces, rate, ticks

if TYPE_CHECKING:
    from etude.core.curve import Curve
    from etude.core.path import Schedule
    from etude.core.plan import Plan

ACCENT = "#0a8aa3"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 620, 170, 66, 14, 10, 24
MOST_GROUPS = 60


def schedule_html(schedule: "Schedule") -> str:
    """A schedule over a run that it fits, of 1,000 updates if it can; its text alone if none is found."""
    curve = _sketch(schedule)
    return _block(_code(str(schedule)), *([] if curve is None else [_picture(curve), _pieces(curve)]))


def curve_html(curve: "Curve") -> str:
    """A curve over its own run, and its pieces."""
    return _block(_picture(curve), _pieces(curve))


def plan_html(plan: "Plan") -> str:
    """Every schedule of a plan, the picture of its rate, and its groups with their peaks."""
    curve = _sketch(plan.hypers["lr"])
    rows = plan.table()
    head = [key for key in rows[0] if key != "gate" or any(row["gate"] for row in rows)]
    cells = [[_cell(key, row[key]) for key in head] for row in rows[:MOST_GROUPS]]
    if len(rows) > MOST_GROUPS:
        cells.append([f"… and {len(rows) - MOST_GROUPS} more", *[""] * (len(head) - 1)])
    titles = [f"{key} (peak)" if key in plan.hypers else key for key in head]
    texts = [_code(f"{hyper}: {schedule}") for hyper, schedule in plan.hypers.items()]
    drawn = [] if curve is None else [_picture(curve)]
    return _block(*texts, *drawn, _table(titles, cells))


def _sketch(schedule: "Schedule") -> "Curve | None":
    written = [
        piece.over
        for piece in schedule.paths[0].pieces
        if isinstance(piece, Word) and is_absolute(piece.over)
    ]
    exact = sum(length for length in written if isinstance(length, int))
    for total in (1000, exact, 10_000, 100_000, 1_000_000):
        try:
            return schedule.over(total)
        except ScheduleError:
            continue
    return None


def _picture(curve: "Curve") -> str:
    bounds = sorted({row[1] for path in curve.table() for row in path if math.isfinite(row[1])})
    total = curve.total if math.isfinite(curve.total) else 2 * max(bounds, default=500.0)
    jumps = [math.nextafter(t, 0.0) for t in bounds]
    times = sorted({*(total * k / 300 for k in range(301)), *(t for t in [*bounds, *jumps] if t <= total)})
    levels = [curve(t) for t in times]
    top = max(levels) or 1.0

    def x(t: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * t / total

    def y(level: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * level / top

    points = " ".join(f"{x(t):.1f},{y(level):.2f}" for t, level in zip(times, levels, strict=True))
    marks = []
    for level in ticks(0, top, 4):
        marks.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>')
        marks.append(_label(rate(level), LEFT - 8, y(level) + 4, "end"))
    for t in ticks(0, total, 6):
        marks.append(_label(count(t), x(t), HEIGHT - 6, "middle"))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" style="max-width:100%;height:auto" '
        f'role="img" aria-label="learning rate over {clock(curve.total)} planned updates">'
        f'<g stroke="currentColor" stroke-opacity=".15" fill="currentColor" fill-opacity=".65" '
        f'font-family="sans-serif" font-size="11">{"".join(marks)}</g>'
        f'<polyline points="{points}" fill="none" stroke="{ACCENT}" stroke-width="2"/></svg>'
    )


def _label(text: str, x: float, y: float, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" stroke="none">{text}</text>'


def _pieces(curve: "Curve") -> str:
    of = " (ratio of the peak)" if len(curve.lines) > 1 else ""
    rows = [[piece.word, piece.updates, piece.begin, piece.end, piece.options] for piece in pieces(curve)]
    return _table(["word", "updates", f"from{of}", f"to{of}", ""], rows)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    return rate(value) if key == "lr" else f"{value:g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(tag: str, cells: Iterable[str]) -> str:
        style = "text-align:left;padding:2px 14px 2px 0"
        return "<tr>" + "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"


def _code(text: str) -> str:
    return f"<div><code>{escape(text)}</code></div>"


def _block(*parts: str) -> str:
    return f"<div>{''.join(parts)}</div>"
