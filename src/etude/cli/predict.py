"""`etude predict`: labels and probabilities of a run's model for a text, or for each text of a file."""

from pathlib import Path
from typing import Annotated

import typer


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    what: Annotated[list[str], typer.Argument(metavar="TEXT … | FILE", help="Texts, or a file of texts.")],
    text: Annotated[
        str, typer.Option(help="The column with the text, in a CSV, JSONL or Parquet file.")
    ] = "text",
) -> None:
    """Print a label and the probabilities for each text, tab-separated.

    FILE is a CSV, TSV, JSONL or Parquet file, or a .txt with a text on each line.
    """
    from etude.train.prediction import predict as predicted

    for one in predicted(run, _texts(what, text)):
        shares = "  ".join(f"{name} {share:.3f}" for name, share in one.probabilities.items())
        print("\t".join([one.label, *([shares] if shares else []), one.text.replace("\n", " ")]))


def _texts(what: list[str], column: str) -> list[str]:
    from etude.train.data import read_texts
    from etude.train.data.files import READERS

    file = Path(what[0])
    if len(what) > 1 or not (file.is_file() or file.suffix.lower() in (".txt", *READERS)):
        return what
    return read_texts(file, column)
