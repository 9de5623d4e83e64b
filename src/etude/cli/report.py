"""`etude report`: build the report of a run anew from its log."""

from pathlib import Path
from typing import Annotated

import typer

from etude.errors import CheckpointError


def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write RUN/report.html from RUN/log.jsonl and print its path; also while the run goes on."""
    from etude.report.html import build

    if not (run / "log.jsonl").is_file():
        raise CheckpointError(f"{run} is no run folder: it has no log.jsonl")
    print(build(run))
