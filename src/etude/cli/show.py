"""`etude show`: schedules as a picture in the terminal, as a table of their pieces, as a PNG."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etude.cli._units import Batch, Epoch, Tokens
from etude.errors import EtudeError, ScheduleError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Beyond this many updates the highest rate is looked for among as many of them.
MOST_LOOKED_AT = 1_000_000


def show(
    schedules: Annotated[
        list[str],
        typer.Argument(
            metavar="SCHEDULE", help='As in "2e-5 * (warmup(0.1) >> cosine())"; several are drawn together.'
        ),
    ],
    steps: Annotated[float, typer.Option(help="Length of the run in planned updates.")] = 1000,
    epoch: Epoch = None,
    batch: Batch = None,
    tokens: Tokens = None,
    table: Annotated[bool, typer.Option("--table", help="Print the resolved pieces too.")] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picture to a PNG or SVG file.")
    ] = None,
) -> None:
    """Draw learning-rate schedules over a run, with the rates that its updates will use."""
    from rich.console import Console
    from rich.text import Text

    from etude.core.path import as_schedule
    from etude.core.text import parse
    from etude.report.terminal import draw, pieces_table, rates_table

    if not math.isfinite(steps):
        raise ScheduleError(
            f"--steps {steps} has no end to draw: write how many updates to show, as in --steps 10000"
        )
    curves = {text: as_schedule(parse(text)).over(steps, epoch, batch, tokens) for text in schedules}
    console = Console()
    console.print(
        Text.from_ansi(draw(curves, console.width, colour=console.color_system is not None)), soft_wrap=True
    )
    console.print(rates_table({text: used(curve) for text, curve in curves.items()}))
    if table:
        for text, curve in curves.items():
            console.print(pieces_table(text, curve))
    if png is not None:
        from etude.report.figures import schedules as picture

        save(picture(curves), png)
        console.print(f"wrote {png}", soft_wrap=True, highlight=False)


def used(curve: Any) -> dict[str, tuple[int, float]]:
    """The (update, rate) of the first, the highest and the last update, read in the middle of each.

    >>> from etude.core.text import parse
    >>> used(parse("2e-5 * (warmup(0.1) >> cosine(to=0.01))").over(1000))["highest"]
    (100, 1.999998492...e-05)
    """
    import numpy as np

    updates = max(1, math.ceil(curve.total - 1e-9))
    looked = np.linspace(0, updates - 1, min(updates, MOST_LOOKED_AT)).astype(np.int64)
    begins = [int(row[0]) + d for path in curve.table() for row in path for d in (-1, 0, 1)]
    looked = np.unique(np.clip(np.append(looked, begins), 0, updates - 1))
    rates = curve((looked + np.minimum(looked + 1, curve.total)) / 2)
    found = {"first": 0, "highest": int(looked[rates.argmax()]), "last": updates - 1}
    return {name: (k, curve((k + min(k + 1, curve.total)) / 2)) for name, k in found.items()}


def save(figure: "Figure", file: Path) -> None:
    """Write a picture; raises `EtudeError` for a file that cannot be written or has no picture's ending."""
    kinds = (".png", ".svg", ".pdf")
    if file.suffix.lower() not in kinds:
        raise EtudeError(f"{file} is no picture file: write a name that ends with {', '.join(kinds)}")
    try:
        figure.savefig(file)
    except OSError as error:
        raise EtudeError(f"cannot write {file}: {error.strerror or error}") from None
