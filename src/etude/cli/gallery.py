"""`etude gallery`: every word and recipe with its picture, its source, when to use it and when not."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

    from etude.report.gallery import Entry


def gallery(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Words and recipes to show in full.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write gallery.md and its pictures into this folder.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picture to a PNG or SVG file.")
    ] = None,
) -> None:
    """Show the words and recipes of the language: picture, formula, source, when to use and when not."""
    from rich.console import Console

    from etude.errors import EtudeError
    from etude.report.gallery import chosen

    console = Console()
    found = chosen(names or [])
    if docs is not None:
        from etude.report.gallery_page import write

        if names:
            raise EtudeError(f"--docs writes every word and recipe: leave {' '.join(names)} out")
        files = write(docs)
        console.print(f"wrote {files[0]} and {len(files) - 1} pictures", soft_wrap=True, highlight=False)
    if png is not None:
        from etude.cli.show import save
        from etude.report.gallery_page import overview, single

        save(single(*found.values()) if len(found) == 1 else overview(found), png)
        console.print(f"wrote {png}", soft_wrap=True, highlight=False)
    if docs is None and png is None:
        family = ""
        for entry in found.values():
            if not names and entry.family != family:
                family = entry.family
                console.rule(family, style="dim")
            console.print(_in_full(entry, console) if names else _small(entry, console))


class _Curve(NamedTuple):
    """What the terminal draws: a level at a time, and the length of the run."""

    level: "Callable[[float], float]"
    total: float

    def __call__(self, t: float) -> float:
        return self.level(t)


def _drawn(entry: "Entry", console: "Console", width: int, height: int, first: bool) -> Any:
    from rich.text import Text

    from etude.report.gallery import picture
    from etude.report.terminal import draw

    shown = picture(entry)
    curves = {text: _Curve(level, shown.total) for text, level in shown.curves.items()}
    if first:
        curves = dict([next(iter(curves.items()))])
    text = draw(curves, width, height, colour=console.color_system is not None)
    # Levels are ratios of the peak: "1" says more than "1.00e+00".
    return Text.from_ansi(re.sub(r"\d\.\d\de[+-]\d\d", lambda found: f"{float(found[0]):>8g}", text))


def _small(entry: "Entry", console: "Console") -> "RenderableType":
    """An entry as one row: a small picture of its first curve, its text beside it."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(width=34, no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(_drawn(entry, console, 34, 7, first=True), _words(entry, entry.name))
    return grid


def _in_full(entry: "Entry", console: "Console") -> "RenderableType":
    """An entry with all its curves, what may stand in its brackets, and its examples."""
    from rich.console import Group
    from rich.text import Text

    picture = _drawn(entry, console, min(console.width, 100), 16, first=False)
    notes = [Text(f"{note}\n") for note in entry.notes]
    example = Text(f"\n{entry.example}\n", style="dim")
    return Group(_words(entry, entry.signature), *notes, picture, example)


def _words(entry: "Entry", title: str) -> Any:
    from rich.text import Text

    text = Text()
    text.append(f"{title}\n", style="bold")
    text.append(entry.does)
    if entry.formula:
        text.append(f"\nf = {entry.formula}", style="cyan")
    for label, said in entry.labelled.items():
        text.append(f"\n{label}: ", style="bold")
        text.append(said)
    text.append("\n")
    return text
