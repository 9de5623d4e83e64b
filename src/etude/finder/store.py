"""Where a snapshot keeps its copies of tensors: in memory, or in files that are mapped when they are read."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from etude.errors import EtudeError

Read = Callable[[], torch.Tensor]
"""Gives the copy of a tensor; it is only to be read."""


class Store(Protocol):
    """Takes copies of tensors."""

    def put(self, tensor: torch.Tensor) -> Read:
        """Copy a tensor as it is now."""
        ...

    def close(self) -> None:
        """Give up what is kept."""
        ...


class Memory:
    """Copies on the tensors' own devices."""

    def put(self, tensor: torch.Tensor) -> Read:
        """Copy a tensor, strides included."""
        copy = tensor.detach().clone()
        return lambda: copy

    def close(self) -> None:
        """Nothing is left behind: the copies go with what holds them."""


class Disk:
    """Copies in a folder of its own, one safetensors file each; no two are in memory at a time."""

    def __init__(self, folder: Path | None = None):
        self.folder = Path(tempfile.mkdtemp(prefix="etude-", dir=folder))
        self._count = 0

    def put(self, tensor: torch.Tensor) -> Read:
        """Write a tensor; reading maps its file."""
        from safetensors.torch import save_file

        path = self.folder / f"{self._count}.safetensors"
        self._count += 1
        try:
            save_file({"tensor": tensor.detach().contiguous().cpu()}, path)
        except Exception as error:  # safetensors has errors of its own for a full disk
            raise EtudeError(f"the snapshot could not be written to {self.folder}: {error}") from error
        return lambda: _mapped(path)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _mapped(path: Path) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_tensor("tensor")


def store(snapshot: Any) -> Store:
    """The store that `snapshot` names: "memory", "disk" (in the folder for temporary files) or a folder.

    Raises `EtudeError` for anything else.
    """
    if snapshot == "memory":
        return Memory()
    if snapshot == "disk":
        return Disk()
    if isinstance(snapshot, str | Path) and Path(snapshot).is_dir():
        return Disk(Path(snapshot))
    raise EtudeError(f'snapshot={snapshot!r} is neither "memory" nor "disk" nor a folder that is there')
