"""Tables from files: CSV, TSV, JSONL, Parquet."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etude.errors import DataError, MissingExtra, near
from etude.train.data.table import Table, checked


def read(path: Path, text: str, label: str | None) -> Table:
    """The table in a file; without `label` its texts alone. Raises `DataError` for what is wrong with it."""
    path = _there(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path.name}: cannot read a file that ends in {path.suffix!r}; write one of "
            + ", ".join(READERS)
        )
    columns, numbers, unit = reader(path)
    return checked(path.name, columns, numbers, unit, text, label)


def read_lines(path: Path) -> list[str]:
    """The lines of a plain text that are not empty. Raises `DataError` as `read` does."""
    return [line for line in _decoded(_there(path)).splitlines() if line.strip()]


def _there(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_file():
        here = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"there is no file {str(path)!r}{near(path.name, here)}")
    return path


_Columns = tuple[dict[str, list[Any]], list[int], str]


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise DataError(
            f"{path.name} is not UTF-8: byte 0x{raw[error.start]:02x} on line {line} "
            f"(byte {error.start} of the file); save it as UTF-8, as with: "
            f"iconv -f {'UTF-16' if utf16 else 'WINDOWS-1252'} -t UTF-8 {path.name} > utf8{path.suffix}"
        ) from error


def _read_separated(path: Path, delimiter: str) -> _Columns:
    # strict: a stray quotation mark would otherwise swallow the rows that follow it
    reader = csv.reader(io.StringIO(_decoded(path), newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(1 << 30)  # the default, 128 KiB, is less than a long document
    rows, numbers, begin = [], [], 1
    try:
        for row in reader:
            if row:
                rows.append(row)
                numbers.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path.name}: the record that begins on line {begin} cannot be read: {error}"
        ) from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise DataError(f"{path.name} is empty; its first line must name the columns")
    header, *rows = rows
    twice = [column for column, n in Counter(header).items() if n > 1]
    if twice:
        raise DataError(f"{path.name} has more than one column {twice[0]!r}")
    ragged = [i for i, row in enumerate(rows) if len(row) != len(header)]
    if ragged:
        i = ragged[0]
        raise DataError(
            f"{path.name}: line {numbers[1 + i]} has {len(rows[i])} fields, the header has {len(header)} "
            f"({len(ragged)} such lines); a text that contains {delimiter!r} must stand in double quotes"
        )
    if len(header) == 1 and (other := next((c for c in ";\t,|" if c in header[0]), None)):
        raise DataError(f"{path.name}: its columns are separated by {other!r}, not by {delimiter!r}")
    return {column: [row[i] for row in rows] for i, column in enumerate(header)}, numbers[1:], "line"


def _read_jsonl(path: Path) -> _Columns:
    records, numbers = [], []
    for number, line in enumerate(_decoded(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path.name}: line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(
                f"{path.name}: line {number} is {type(record).__name__}, not an object such as "
                '{"text": "…", "label": "…"}'
            )
        records.append(record)
        numbers.append(number)
    if not records:
        raise DataError(f"{path.name} is empty; write one JSON object a line")
    keys = dict.fromkeys(key for record in records for key in record)
    return {key: [record.get(key) for record in records] for key in keys}, numbers, "line"


def _read_parquet(path: Path) -> _Columns:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "train") from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name} is not a readable Parquet file: {error}") from error
    return table.to_pydict(), list(range(1, table.num_rows + 1)), "row"


READERS: dict[str, Callable[[Path], _Columns]] = {
    ".csv": lambda path: _read_separated(path, ","),
    ".tsv": lambda path: _read_separated(path, "\t"),
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
