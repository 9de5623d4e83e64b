"""A folder that vouches for itself: a manifest, written last, with the size and the hash of every file.

    {"etude": 1, "files": {"model.safetensors": {"bytes": 90873592, "xxh3": "…16 hex digits"}, …}}

Nothing here ever opens a pickle: a folder that holds one is not believed.
"""

import json
import os
from pathlib import Path
from typing import Any, NoReturn

import xxhash

from etude.errors import CheckpointError

MANIFEST = "manifest.json"
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def seal(folder: Path) -> None:
    """Force all files of a folder to the disk and then, last, the manifest that vouches for them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    for path in files:
        if path.suffix in PICKLES:
            raise CheckpointError(f"a checkpoint holds no pickle, and {path.name} is one")
    entries = {}
    for path in files:
        sync(path)
        entries[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "xxh3": _hash(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"etude": 1, "files": entries}, indent=1), encoding="utf-8")
    for path in files:  # safetensors makes files that only their owner may read
        path.chmod(manifest.stat().st_mode)
    sync(manifest)
    for path in folder.rglob("*"):
        if path.is_dir():
            sync(path)
    sync(folder)


def verify(folder: Path) -> None:
    """Check every file of a sealed folder, size and hash; `CheckpointError` names the first that is wrong."""
    for name, entry in _listed(folder).items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{folder} is broken: {name} is missing")
        size = file.stat().st_size
        if size != entry["bytes"]:
            raise CheckpointError(f"{folder} is broken: {name} has {size} of {entry['bytes']} bytes")
        if _hash(file) != entry["xxh3"]:
            raise CheckpointError(f"{folder} is broken: the bytes of {name} are not those that were written")


def looks_complete(folder: Path) -> bool:
    """Whether a sealed folder has all its files in their sizes; does not read them."""
    try:
        return all(
            (folder / name).stat().st_size == entry["bytes"] for name, entry in _listed(folder).items()
        )
    except (CheckpointError, OSError):
        return False


def read_json(file: Path) -> dict[str, Any]:
    """The object in a strict JSON file; `CheckpointError` for one that is missing, broken or not strict."""
    try:
        found = json.loads(file.read_bytes().decode("utf-8"), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file.parent} is broken: {file.name} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{file.parent} is broken: {file.name} is no JSON object")
    return found


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """The files that the manifest vouches for, which are all that will be opened."""
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(f"{folder} is broken: it has no {MANIFEST}, so it was never finished")
    manifest = read_json(folder / MANIFEST)
    files = manifest.get("files")
    if manifest.get("etude") != 1 or not isinstance(files, dict):
        raise CheckpointError(f"{folder} has a {MANIFEST} that this version of étude does not know")
    for name, entry in files.items():
        inside = not name.startswith("/") and ".." not in name.split("/")
        if not (inside and isinstance(entry, dict) and entry.keys() >= {"bytes", "xxh3"}):
            raise CheckpointError(f"{folder} has a {MANIFEST} with a wrong entry for {name!r}")
    pickles = {name for name in [*files, *os.listdir(folder)] if Path(name).suffix in PICKLES}
    if pickles:
        raise CheckpointError(
            f"{folder} holds {', '.join(sorted(pickles))}: étude writes no pickle and reads none; "
            f"take away what is not étude's"
        )
    return files


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_64()
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
