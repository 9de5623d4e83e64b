"""Checkpoints that survive a kill at any moment: safetensors and JSON, a manifest written last, one rename.

A folder `checkpoints/00000124` is complete or it is not there. It is written as `.00000124.tmp`; every file,
then the manifest, then the folder are forced to the disk before it gets its name.

One process writes (the main one); the others wait for it.
"""

import errno
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.errors import CheckpointError, EtudeWarning
from etude.train.manifest import looks_complete, read_json, seal, sync, verify

STATE, OPTIMIZER, RNG = "state.json", "optimizer.safetensors", "rng.safetensors"
# 00000124, or .00000124.old for one that stepped aside while a new one of its number was put in its place.
NAME = re.compile(r"(\.)?([0-9]{8,})(?(1)\.old)")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its folder, the updates applied to its weights, and its `state.json`."""

    path: Path
    updates: int
    state: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The number of updates in 8 digits, as in the log."""
        return f"{self.updates:08d}"

    def rng(self) -> dict[str, Any]:
        """The tensors of the random generators, by the names that were given to `save`."""
        from safetensors.torch import load_file

        return load_file(self.path / RNG)

    def load_optimizer(self, optimizer: Any) -> None:
        """Put the saved state into an optimizer by parameter names; `CheckpointError` if they differ."""
        from etude.train.moments import read_moments

        read_moments(self.path / OPTIMIZER, optimizer)


def save(
    folder: Path,
    updates: int,
    *,
    model: Any,
    tokenizer: Any = None,
    optimizer: Any = None,
    rng: Mapping[str, Any] | None = None,
    state: Mapping[str, Any],
) -> Checkpoint:
    """Write the checkpoint `folder/<updates>`; when this returns it is on the disk.

    `model` and `tokenizer` have transformers' `save_pretrained`; the groups of `optimizer` have
    `param_names`; `rng` holds tensors such as `torch/0`; `state` is plain JSON without NaN. A checkpoint of
    the same number is replaced. Whatever fails, the older checkpoints stay as they are; `CheckpointError` if
    the disk is full or cannot be written.
    """
    from safetensors.torch import save_file

    from etude.train.moments import write_moments

    try:
        text = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the state of update {updates} is not plain JSON: {error}") from error
    name = f"{updates:08d}"
    partial = folder / f".{name}.tmp"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync(folder.parent)
        _tidy(folder)
        partial.mkdir()
        with _without_progress_bars():
            model.save_pretrained(partial)
            if tokenizer is not None:
                tokenizer.save_pretrained(partial)
        if optimizer is not None:
            write_moments(partial / OPTIMIZER, optimizer)
        if rng is not None:
            save_file(dict(rng), partial / RNG)
        (partial / STATE).write_text(text, encoding="utf-8")
        seal(partial)
        _publish(partial, folder / name)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        message = _explained(error, folder / name)
        if message is None:
            raise
        raise CheckpointError(message) from error
    return Checkpoint(folder / name, updates, state)


def read(path: Path) -> Checkpoint:
    """The checkpoint in a folder, every byte of it verified; `CheckpointError` says what is wrong with it."""
    named = NAME.fullmatch(path.name)
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint {path}")
    if not named:
        raise CheckpointError(
            f"{path} is no checkpoint: its name is not a number of updates such as 00000124"
        )
    verify(path)
    return Checkpoint(path, int(named[2]), read_json(path / STATE))


def newest(folder: Path, *, planned: bool = False) -> Checkpoint | None:
    """The complete checkpoint with the most updates, None if there is none.

    With `planned`, of those that an uninterrupted run has too, if there is one. A broken one is skipped with
    an `EtudeWarning` that names it and what is wrong with it.
    """
    unplanned = None
    for path in _folders(folder):
        try:
            found = read(path)
        except CheckpointError as error:
            warnings.warn(EtudeWarning(f"{error}; it is skipped"), stacklevel=2)
            continue
        if not (planned and found.state.get("interrupted")):
            return found
        unplanned = unplanned or found
    return unplanned


def count(folder: Path) -> int:
    """How many checkpoints there are, good and broken ones."""
    return len(_folders(folder))


def prune(folder: Path, keep: int, best: str | None = None) -> None:
    """Remove all but the newest `keep` complete checkpoints, the one named `best`, and what they need.

    From each of the kept ones a run may go on, so the best that it knows of stays; and those that an
    interrupt has made stand beside the newest `keep` of the others, to which a rollback goes.
    """
    _tidy(folder)
    complete = {path: _state(path) for path in _folders(folder) if looks_complete(path)}
    planned = [path for path, state in complete.items() if not state.get("interrupted")]
    kept = {*list(complete)[:keep], *planned[:keep]}
    named = {best, *((complete[path].get("best") or {}).get("checkpoint") for path in kept)}
    for path in _folders(folder):
        if path not in kept and path.name not in named:
            _remove(path)


def remove_after(folder: Path, updates: int) -> None:
    """Remove the checkpoints of a future that a resumed run has left: those with more than `updates`."""
    _tidy(folder)
    for path in _folders(folder):
        if int(path.name) > updates:
            _remove(path)


def _state(path: Path) -> Mapping[str, Any]:
    """The state of a checkpoint whose files are there; an empty one if it cannot be read."""
    try:
        return read_json(path / STATE)
    except CheckpointError:
        return {}


def _folders(folder: Path) -> list[Path]:
    """The checkpoint folders, most updates first; one that stepped aside for a new one of its number last."""
    named = [(match, path) for path in _entries(folder) if (match := NAME.fullmatch(path.name))]
    named.sort(key=lambda pair: (int(pair[0][2]), not pair[0][1]), reverse=True)
    return [path for _, path in named]


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _publish(partial: Path, final: Path) -> None:
    """Give the folder its name.

    A folder cannot be renamed onto another: the other steps aside, where `newest` finds it until then.
    """
    aside = final.with_name(f".{final.name}.old")
    if final.exists():
        os.rename(final, aside)
    os.rename(partial, final)
    sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _remove(path: Path) -> None:
    """Remove a checkpoint so that no half of it is ever seen under its name."""
    doomed = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Clear what a killed process left: half-written folders, and one that had stepped aside."""
    for path in _entries(folder):
        if path.name.startswith(".") and path.suffix == ".tmp":
            shutil.rmtree(path)
        elif path.name.startswith(".") and path.suffix == ".old":
            final = folder / path.stem[1:]
            if final.exists():
                shutil.rmtree(path)
            else:
                os.rename(path, final)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """transformers draws a bar for each file it writes, into the middle of the run's own."""
    logging = sys.modules.get("transformers.utils.logging")
    shown = logging is not None and logging.is_progress_bar_enabled()
    if logging is not None:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if logging is not None and shown:
            logging.enable_progress_bar()


def _explained(error: Exception, path: Path) -> str | None:
    """A failed save in a user's words, None for what is no matter of the disk.

    safetensors and tokenizers report a full disk as errors of their own.
    """
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error):
        return (
            f"the disk is full: checkpoint {path} could not be saved, the ones before it are as they were; "
            f"free some space and go on with: etude finetune --resume {path.parent.parent}"
        )
    if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
        return f"checkpoint {path} could not be saved: {error}"
    return None
