"""Tables from Hugging Face data sets, on the disk or by name."""

from pathlib import Path

from etude.errors import DataError, MissingExtra
from etude.train.data.parts import PARTS
from etude.train.data.table import Table, checked


def read(source: str, path: Path, text: str, label: str) -> tuple[dict[str, Table], list[str]]:
    """The tables of a data set by their parts, and notes on the parts that are not used.

    `path` is the folder that `source` would be; if there is none, `source` is a name on the hub. Raises
    `DataError`, or `MissingExtra`.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "train") from error
    try:
        if path.is_dir():
            found = datasets.load_from_disk(str(path))
        else:
            name, _, configuration = source.partition(":")
            found = datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{source!r} is no file here, and as a Hugging Face data set it cannot be loaded: {reason}"
        ) from error
    splits = {str(k): v for k, v in found.items()} if isinstance(found, dict) else {"train": found}
    aliases = {"valid": "validation", "val": "validation", "dev": "validation"}
    tables, notes = {}, []
    for split, data in splits.items():
        part = aliases.get(split, split)
        if part not in PARTS:
            notes.append(f"its part {split!r} is not used")
            continue
        columns = {column: list(data[column]) for column in data.column_names if column in (text, label)}
        columns |= {column: [] for column in data.column_names if column not in columns}
        names = getattr(data.features.get(label), "names", None)
        if names:  # a ClassLabel: numbers that stand for names, -1 for none
            columns[label] = [names[y] if y is not None and y >= 0 else None for y in columns[label]]
            if part != "train" and not any(columns[label]):
                notes.append(f"its part {split!r} has no labels and is not used")
                continue
        rows = list(range(1, len(data) + 1))
        order = tuple(names) if names else None
        tables[part] = checked(f"{source} ({split})", columns, rows, "row", text, label, order)
    if "train" not in tables:
        raise DataError(f"{source}: none of its parts is called 'train'; it has {', '.join(splits)}")
    return tables, notes
