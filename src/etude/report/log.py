"""The log of a run, `log.jsonl`: one JSON object a line, strict JSON, only ever appended to.

Writer and reader agree on two things. A process may be killed in the middle of a line: the next one begins on
a fresh line, and the reader drops the torn one. And a resumed run goes on in the same file: what the killed
process had done after the checkpoint stays there, and the reader sets it apart as abandoned.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from etude.errors import CheckpointError

Record = dict[str, Any]
KINDS = ("update", "eval", "edit", "checkpoint", "action")
TOLERANCE = 1e-9  # planned updates


class Log:
    """Appends records to `log.jsonl`; a context manager.

    An `update` waits in memory for `flush` or for a record of another type, which is written through at once.
    """

    def __init__(self, path: Path):
        self._path = path
        self._pending = bytearray(b"" if _ends_line(path) else b"\n")
        self._file = path.open("ab", buffering=0)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record; a number that is not finite, which JSON cannot say, becomes null."""
        try:
            line = json.dumps(record, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError):
            line = json.dumps(_plain(record), allow_nan=False, ensure_ascii=False)
        self._pending += line.encode() + b"\n"
        if record["type"] != "update":
            self.flush()

    def flush(self) -> None:
        """Hand all records to the system, where they survive a kill; `CheckpointError` if it refuses."""
        pending, self._pending = memoryview(self._pending), bytearray()
        try:
            while pending:
                pending = pending[self._file.write(pending) :]
        except OSError as error:
            raise CheckpointError(f"the log {self._path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Flush and close."""
        with self._file:
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Records:
    """What a log says. The lists hold the run in force; `abandoned` what a resume or a rollback has undone.

    `starts` are those of all its processes; `end` is None while the last one runs, or if it was killed.
    `edits` holds a rollback itself too; `listed` is the driver's own list of edits, in which those that a
    rollback has undone stand as well. `story` has all records in force in the order of their happening, and
    every start.
    """

    starts: list[Record]
    updates: list[Record]
    evals: list[Record]
    edits: list[Record]
    checkpoints: list[Record]
    actions: list[Record]
    end: Record | None
    abandoned: list[Record]
    listed: list[Record]
    story: list[Record]

    @property
    def start(self) -> Record:
        """The start of the process that wrote last."""
        return self.starts[-1]


def read(path: Path) -> Records:
    """The records of a log, sorted into the run in force and what was abandoned.

    Raises `CheckpointError` for a file that is missing or empty, and for a broken line that no kill explains,
    with its number.
    """
    starts: list[Record] = []
    end: Record | None = None
    branch = _Branch()
    for number, record in _lines(path):
        kind = record.get("type")
        if kind == "start":
            if starts:
                branch.resume(record.get("resumed"))
            starts.append(record)
            branch.kept.append(record)
        elif not starts:
            raise CheckpointError(f"{path}: line {number} stands before the record of the run's start")
        elif kind != "end":
            branch.add(record)
        end = record if kind == "end" else None
    if not starts:
        raise CheckpointError(f"{path} has no record yet: the run was stopped before it began")
    kept = {kind: [r for r in branch.kept if r.get("type") == kind] for kind in KINDS}
    return Records(
        starts,
        *kept.values(),
        end=end,
        abandoned=branch.abandoned,
        listed=branch.edits,
        story=branch.kept,
    )


def _lines(path: Path) -> Iterator[tuple[int, Record]]:
    """Each record with the number of its line, but for lines that a kill has torn."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"the log {path} cannot be read: {error.strerror}") from None
    broken: tuple[int, str] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"), parse_constant=_refuse)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if broken:
                break
            broken = number, str(error)
            continue
        # A process that finds a torn line is a new one, and begins with its start.
        if broken and record.get("type") != "start":
            break
        broken = None
        yield number, record
    else:
        return
    raise CheckpointError(f"{path}: line {broken[0]} is broken: {broken[1]}")


class _Branch:
    """The records in force, in the order of the file, while later ones undo some of them."""

    def __init__(self) -> None:
        self.kept: list[Record] = []
        self.abandoned: list[Record] = []
        self.edits: list[Record] = []  # the driver's list, which keeps what a rollback undid
        self.counts: dict[str, int] = {}  # how many of them each checkpoint has

    def add(self, record: Record) -> None:
        if record.get("edit") == "rollback":
            self._go_back(record["to"], None, self.edits[: record["keep"]])
        if record.get("type") == "edit":
            self.edits.append(record)
        if record.get("type") == "checkpoint":
            self.counts[record["name"]] = len(self.edits)
        self.kept.append(record)

    def resume(self, resumed: Record | None) -> None:
        """A new process goes on from a checkpoint, or from the beginning."""
        if resumed is None:
            self._keep(lambda record: record.get("type") == "start")
            self.edits = []
            return
        t, name = resumed["t"], resumed["checkpoint"]
        known = resumed.get("edits", self.counts.get(name))
        self.edits = (
            [e for e in self.edits if e["at"] <= t + TOLERANCE] if known is None else self.edits[:known]
        )
        self._go_back(t, name, self.edits)

    def _go_back(self, t: float, checkpoint: str | None, edits: list[Record]) -> None:
        """Keep what stands up to the checkpoint's record; without one in the file, what lies up to `t`.

        Of the edits only those in the checkpoint's list are kept.
        """
        stop = next((i for i in reversed(range(len(self.kept))) if self._is(i, t, checkpoint)), None)
        listed = {id(edit) for edit in edits}
        before = {id(record) for record in self.kept[: 0 if stop is None else stop + 1]}

        def wanted(record: Record) -> bool:
            if record.get("type") == "edit":
                return id(record) in listed
            if record.get("type") == "start":
                return True
            return id(record) in before if stop is not None else _time(record) <= t + TOLERANCE

        self._keep(wanted)

    def _is(self, i: int, t: float, checkpoint: str | None) -> bool:
        record = self.kept[i]
        if record.get("type") != "checkpoint":
            return False
        return record["name"] == checkpoint if checkpoint else abs(record["t"] - t) <= TOLERANCE

    def _keep(self, wanted: Callable[[Record], bool]) -> None:
        self.abandoned += [record for record in self.kept if not wanted(record)]
        self.kept = [record for record in self.kept if wanted(record)]


def _time(record: Record) -> float:
    """Where the clock stood after a record."""
    if record.get("type") == "update":
        return record["t"][1]
    return record.get("t", -math.inf)


def _ends_line(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _plain(value: Any) -> Any:
    """Plain Python for numpy's and torch's numbers, None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")
