"""The gallery as a page of the documentation: Markdown, and a picture for every word and recipe."""

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from etude.errors import EtudeError, MissingExtra
from etude.report.figures import HAIR, INK, MUTED, PAPER, SERIES
from etude.report.gallery import LABELS, Entry, entries, introduction, picture
from etude.report.numbers import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD = """\
# Gallery

<!-- Made by `etude gallery --docs docs` from the docstrings of words and recipes: change those, not this. -->

Every word of the [schedule language](language.md) and every recipe, with its picture, its source, when to use
it and when not. A *word* is a formula; a *recipe* is a schedule that the field knows by name, written in
words. Both may be written wherever a schedule is: in Python, in a recipe file, on the command line; `>>` and
`repeat` join them.

In the formulas a is the level at which the pen comes in and b the level it goes `to`; u is progress from 0
to 1 and e the number of planned updates since the piece began. All pictures have the same axes: the run from
left to right, the level from 0 to the peak. `etude gallery NAME` shows the same in a terminal.
"""
FONTS = "DejaVu Sans", "DejaVu Sans Mono"
POINTS = 1000  # a stair falls within one of them
EYE = 0.002  # of the peak: a third of a line's width


def page(found: Mapping[str, Entry]) -> str:
    """The Markdown of the page; it names the pictures that `write` puts beside it."""
    families = _families(found)
    text = [HEAD]
    for family, members in families.items():
        links = " · ".join(f"[{name}](#{name})" for name in members)
        text.append(f"**{family.capitalize()}** {links}\n")
    for family, members in families.items():
        intro = "" if family == "words" else f"\n{introduction(family)}\n"
        together = f"\n![all {family} at a glance](gallery/{family}.svg)\n" if len(members) > 1 else ""
        text.append(f"## {family.capitalize()}\n{intro}{together}")
        text += map(_section, members.values())
    return "\n".join(text)


def _families(found: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
    families: dict[str, dict[str, Entry]] = {}
    for name, entry in found.items():
        families.setdefault(entry.family, {})[name] = entry
    return families


def _section(entry: Entry) -> str:
    formula = f"f = `{entry.formula.replace('`', '')}`" if entry.formula else ""
    said = [f"- **{label}:** {_linked(entry.labelled[label])}" for label in LABELS if label in entry.labelled]
    parts = [
        f"### {entry.name}",
        f"![{entry.name}](gallery/{entry.name}.svg)",
        entry.does,
        formula,
        f"`{entry.signature}`",
        *entry.notes,
        "\n".join(said),
        f"```python\n{entry.example}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _linked(text: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def write(folder: Path, found: Mapping[str, Entry] | None = None) -> list[Path]:
    """Write `gallery.md` and `gallery/*.svg` into a folder; raises `EtudeError` if that cannot be done."""
    found = entries() if found is None else found
    several = {family: members for family, members in _families(found).items() if len(members) > 1}
    text, pictures = folder / "gallery.md", folder / "gallery"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        text.write_text(page(found), encoding="utf-8")
        for name, entry in found.items():
            save(single(entry), pictures / f"{name}.svg")
        for family, members in several.items():
            save(overview(members), pictures / f"{family}.svg")
    except OSError as error:
        raise EtudeError(f"cannot write {error.filename or folder}: {error.strerror or error}") from None
    return [text, *(pictures / f"{name}.svg" for name in (*found, *several))]


def save(figure: "Figure", file: Path) -> None:
    """Save a picture as SVG with its text as text: small, sharp, the same bytes each time."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "etude"}):
        figure.savefig(file, metadata={"Date": None, "Creator": None})


def single(entry: Entry) -> "Figure":
    """One entry: its curves, and beside them what is written for each."""
    shown = picture(entry)
    figure = _figure(7.4, 1.9)
    axes = figure.add_axes((0.045, 0.14, 0.5, 0.81))
    _curves(axes, entry)
    axes.set_xticks([0, 0.5, 1], ["0", "", f"{count(shown.total)} updates"])
    axes.get_xticklabels()[-1].set_ha("right")
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    above = 0.92
    for i, text in enumerate(shown.curves):
        lines = wrap(text, 46, subsequent_indent="  ")
        style = {"family": FONTS[1], "fontsize": 8, "va": "top", "color": SERIES[i % len(SERIES)]}
        figure.text(0.565, above, "\n".join(lines), linespacing=1.3, **style)
        above -= 0.05 + 0.08 * len(lines)
    return figure


def overview(found: Mapping[str, Entry], columns: int = 4) -> "Figure":
    """Many entries at a glance: small pictures in rows, all with the same axes."""
    rows = -(-len(found) // columns)
    height = 1.32 * rows + 0.1
    figure = _figure(9.6, height)
    for i, entry in enumerate(found.values()):
        row, column = divmod(i, columns)
        left, bottom = (0.1 + 2.4 * column) / 9.6, (height - 1.32 * (row + 1) + 0.06) / height
        axes = figure.add_axes((left, bottom, 2.2 / 9.6, 0.95 / height))
        _curves(axes, entry)
        axes.set_xticks([0, 0.5, 1], [""] * 3)
        axes.set_yticks([0, 0.5, 1], [""] * 3)
        title = {"family": FONTS[1], "fontsize": 8.5, "color": INK, "pad": 4}
        axes.set_title(entry.name, loc="left", **title)
    return figure


def _curves(axes: "Axes", entry: Entry) -> None:
    """The curves of an entry over the share of the run, the first one on top."""
    shown = picture(entry)
    for i, level in reversed(list(enumerate(shown.curves.values()))):
        colour, width = SERIES[i % len(SERIES)], 1.9 if i == 0 else 1.3
        drawn = [(k / POINTS, level(shown.total * k / POINTS)) for k in range(POINTS + 1)]
        at, levels = zip(*_thinned(drawn), strict=True)
        axes.plot(at, levels, color=colour, lw=width, clip_on=False)
        if i == 0:
            axes.fill_between(at, levels, color=colour, alpha=0.08, lw=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.04)
    axes.set_facecolor(PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(HAIR)
    axes.tick_params(colors=MUTED, labelsize=8, length=2.5, width=0.8, labelfontfamily=FONTS[0])
    axes.grid(True, axis="y", color=HAIR, lw=0.6)
    axes.set_axisbelow(True)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that a line needs to stay within `EYE` of all of them (Douglas & Peucker, 1973)."""
    (left, low), (right, high) = points[0], points[-1]
    off = [abs(y - low - (high - low) * (x - left) / (right - left)) for x, y in points[1:-1]]
    if not off or max(off) <= EYE:
        return [points[0], points[-1]]
    middle = 1 + off.index(max(off))
    return _thinned(points[: middle + 1])[:-1] + _thinned(points[middle:])


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "report") from None
    return Figure(figsize=(width, height), dpi=160, facecolor=PAPER)
