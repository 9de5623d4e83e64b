"""What the labels of a table are: names of classes, or numbers."""

import math
import re
from typing import Any

from etude.errors import DataError, near
from etude.train.data.table import Table

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def number(value: Any) -> float | None:
    """The number that a label is or says; None if it is none."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def is_whole(value: Any) -> bool:
    """Whether a label is or says a whole number."""
    plain = number(value)
    return plain is not None and plain.is_integer()


def is_regression(table: Table, task: str | None) -> bool:
    """Whether the labels are quantities: as `task` says, else if they are numbers and not all whole."""
    if task is not None or table.order:
        return task == "regression"
    return all(number(value) is not None for value in table.labels) and not all(map(is_whole, table.labels))


def class_name(value: Any) -> str:
    """The name of the class that a label stands for."""
    # Parquet and pandas write whole numbers beside a missing one as 1.0; as a name that is "1".
    if is_whole(value) and not (isinstance(value, str) and value.strip().isdigit()):
        return str(int(float(value)))
    return str(value).strip()


def class_names(table: Table) -> tuple[str, ...]:
    """The classes in the data set's own order, else in that of their numbers or letters.

    Raises `DataError` if there is only one.
    """
    found = set(map(class_name, table.labels))
    if len(found) < 2:
        raise DataError(
            f"{table.name}: every label is {found.pop()!r}; classification needs at least two classes"
        )
    if table.order:
        return table.order
    whole = all(map(is_whole, found))
    return tuple(sorted(found, key=lambda name: (float(name) if whole else 0.0, name)))


def targets(table: Table, train: Table, names: tuple[str, ...] | None) -> list[int] | list[float]:
    """What a model learns: the numbers of the classes `names`, or the labels as numbers if that is None.

    Raises `DataError` for a class that train lacks and, in regression, for a label that is no number.
    """
    if names is None:
        numbers = [number(value) for value in table.labels]
        wrong = [i for i, x in enumerate(numbers) if x is None or not math.isfinite(x)]
        if wrong:
            raise DataError(
                f"{table.name}: regression needs a number as label, got {table.labels[wrong[0]]!r} "
                f"({table.where(wrong)})"
            )
        if table is train and len(set(numbers)) == 1:
            raise DataError(f"{table.name}: every label is {numbers[0]:g}; there is nothing to learn")
        return [x for x in numbers if x is not None]
    ids = {name: i for i, name in enumerate(names)}
    unknown = [i for i, value in enumerate(table.labels) if class_name(value) not in ids]
    if unknown:
        raise DataError(
            f"{table.name}: the label {class_name(table.labels[unknown[0]])!r} is not in train "
            f"({table.where(unknown)}){near(class_name(table.labels[unknown[0]]), names)}"
        )
    return [ids[class_name(value)] for value in table.labels]
