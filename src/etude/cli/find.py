"""`etude find`: the peak learning rate of a recipe, by a range test on its own model and data."""

import json
from pathlib import Path
from typing import Annotated

import typer

from etude.errors import EtudeError


def find(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE | DATA] [KEY=VALUE …]", help="As for etude finetune."),
    ] = None,
    start: Annotated[float, typer.Option(help="The lowest rate.")] = 1e-7,
    to: Annotated[float, typer.Option(help="The highest; a loss that diverges ends the test earlier.")] = 1.0,
    points: Annotated[int, typer.Option(help="Updates, one for each rate between them.")] = 100,
    seeds: Annotated[int, typer.Option(help="Sweeps, each in another order; 1 is a quick look.")] = 3,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the curve to PNG or SVG.")] = None,
    result: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all that was found.")
    ] = None,
) -> None:
    """Find the peak learning rate of a recipe.

    The model trains for a hundred updates while the rate rises, three times; nothing of it is kept but the
    curves. The recipe's plan is kept: its layer-wise ratios, weight decay and stages. `etude finetune …
    lr=find` does the same before its run.
    """
    from etude.finder.finding import check_picture
    from etude.report.finding_terminal import watching
    from etude.train.finetuning import prepare
    from etude.train.rate import range_test, taken
    from etude.train.settings import parted

    for path in (png, result):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise EtudeError(f"{path} cannot be written: name a file in a folder that is there")
    if png is not None:
        check_picture(png)
    console, prepared = prepare(*parted(what or [], "recipe or data file"))
    with watching(console) as tell:
        finding = range_test(prepared, start=start, to=to, points=points, seeds=seeds, progress=tell)
    if not prepared.accelerator.is_main_process:
        return
    console.print(str(finding), soft_wrap=True)
    if finding.rate is not None:
        console.print(taken(prepared, finding), soft_wrap=True)
    if result is not None:
        result.write_text(json.dumps(finding.to_dict(), indent=1, allow_nan=False), encoding="utf-8")
    if png is not None:
        finding.plot(png)
    for path in (result, png):
        if path is not None:
            console.print(f"wrote {path}", soft_wrap=True)
    if finding.rate is None:
        raise typer.Exit(1)
