"""Options that several commands take: what the units of lengths are worth in a run. Not a command."""

from typing import Annotated

import typer

Epoch = Annotated[float | None, typer.Option(help="Planned updates per epoch, for lengths such as 2ep.")]
Batch = Annotated[float | None, typer.Option(help="Examples per planned update, for lengths such as 500ex.")]
Tokens = Annotated[float | None, typer.Option(help="Tokens per planned update, for lengths such as 1e9tok.")]
