"""A table as it was found, before its labels mean anything: texts and labels, and where each stands."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etude.errors import DataError, near


class Table(NamedTuple):
    """Texts and labels as they were found, and where: a line as an editor counts it, a row from 1."""

    name: str
    texts: list[str]
    labels: list[Any]
    numbers: list[int]
    unit: str
    order: tuple[str, ...] | None = None  # the classes' own order, if the data set has one

    def where(self, positions: Sequence[int]) -> str:
        """Some positions in words, as in "lines 4, 7 and 2 more"."""
        shown = ", ".join(str(self.numbers[i]) for i in positions[:5])
        more = f" and {len(positions) - 5} more" if len(positions) > 5 else ""
        return f"{self.unit}{'s' if len(positions) > 1 else ''} {shown}{more}"


def checked(
    name: str,
    columns: Mapping[str, list[Any]],
    numbers: list[int],
    unit: str,
    text: str,
    label: str | None,
    order: tuple[str, ...] | None = None,
) -> Table:
    """The columns `text` and `label` (if any) of a table.

    Raises `DataError` for a missing column, no rows, and a text or label that is empty, with its line.
    """
    for key, column in (("text", text), ("label", label)):
        if column is not None and column not in columns:
            raise DataError(
                f"{name} has no column {column!r}{near(column, columns)}; write {key}=NAME to choose one"
            )
    if not numbers:
        raise DataError(f"{name} is empty: it has the columns {', '.join(columns)} and no rows")
    table = Table(name, columns[text], columns[label] if label else [], numbers, unit, order)
    blank = [i for i, words in enumerate(table.texts) if not (isinstance(words, str) and words.strip())]
    if blank:
        raise DataError(
            f"{name}: {len(blank)} of {len(numbers)} entries in the column {text!r} are empty or not texts "
            f"({table.where(blank)}); fill them in or remove those rows"
        )
    unlabelled = [i for i, value in enumerate(table.labels) if _is_missing(value)]
    if unlabelled:
        raise DataError(
            f"{name}: {len(unlabelled)} of {len(numbers)} labels in the column {label!r} are empty or NaN "
            f"({table.where(unlabelled)}); fill them in or remove those rows"
        )
    several = [i for i, value in enumerate(table.labels) if isinstance(value, list | dict | tuple)]
    if several:
        raise DataError(
            f"{name}: a label must be one value, got {table.labels[several[0]]!r} ({table.where(several)})"
        )
    return table


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("", "nan")
    return value is None or (isinstance(value, float) and math.isnan(value))
