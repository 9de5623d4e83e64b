"""The CSV of a benchmark whose runs take long: a row is written when its run ends, and never run again."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

Row = TypeVar("Row", bound=NamedTuple)


def rows(path: Path, kind: type[Row]) -> list[Row]:
    """What has been measured so far."""
    if not path.is_file():
        return []
    kinds = kind.__annotations__
    with path.open(newline="", encoding="utf-8") as file:
        return [
            kind(**{key: kinds[key](value) for key, value in row.items()}) for row in csv.DictReader(file)
        ]


def complete(path: Path, kind: type[Row], cases: Iterable[tuple], run: Callable[..., Row]) -> None:
    """Make the runs that are missing; a case is the first columns of its row."""
    done = {tuple(row) for row in rows(path, kind)}
    for case in cases:
        if any(row[: len(case)] == case for row in done):
            continue
        row = run(*case)
        with path.open("a", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            if not file.tell():
                out.writerow(row._fields)
            out.writerow(row)
        print(*row, flush=True)
