"""The batches of a test: windows of them, pass after pass; what their losses are means of; where they lie."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import torch

from etude.errors import EtudeError
from etude.finder.loaders import reshuffle

IGNORED = -100  # the label that torch's and transformers' losses leave out
LABELS = ("labels", "label", "label_ids", "targets", "target")


class Windows:
    """Windows of `size` batches, one an update; what is used up is gone through again.

    `batches` is a loader or another collection that gives a new iterator each time, or a function that gives
    one. With a `seed` a list of batches is shuffled in every pass, and a loader gives another order. Raises
    `EtudeError` for what turns out to have no batches.
    """

    def __init__(self, batches: Any, size: int = 1, seed: int | None = None, what: str = "batches"):
        self.batches, self.size, self.what = batches, size, what
        self._shuffles = None if seed is None else random.Random(seed)
        self._pass: Iterator[Any] | None = None
        if seed is not None and not isinstance(batches, Sequence):
            reshuffle(batches, seed)

    def next(self) -> list[Any]:
        """The batches of the next window."""
        return [self._next() for _ in range(self.size)]

    def close(self) -> None:
        """End the pass under way, and the workers that serve it."""
        close = getattr(self._pass, "close", None)
        self._pass = None
        if close is not None:
            close()

    def _next(self) -> Any:
        for _ in range(2):
            if self._pass is None:
                self._pass = self._fresh()
            for batch in self._pass:
                return batch
            self._pass = None
        raise EtudeError(f"{self.what} is empty: the loader gave no batch")

    def _fresh(self) -> Iterator[Any]:
        if self._shuffles is not None and isinstance(self.batches, Sequence):
            return iter(self._shuffles.sample(self.batches, len(self.batches)))
        return once(self.batches, self.what)


def once(batches: Any, what: str = "batches") -> Iterator[Any]:
    """One pass over the batches; see `Windows`."""
    return iter(batches() if _gives(batches) else batches)


def check(batches: Any, what: str) -> None:
    """Raise `EtudeError` for what gives no batches, or gives them once only."""
    if isinstance(batches, Iterator):
        raise EtudeError(
            f"{what} is an iterator ({type(batches).__name__}), which gives its batches once and cannot be "
            f"put back: pass the loader itself, a list, or a function that makes the iterator, as in "
            f"{what}=lambda: iter(loader)"
        )
    if not _gives(batches) and not isinstance(batches, Iterable):
        raise EtudeError(f"{what} is a {type(batches).__name__}: pass a DataLoader or a list of batches")
    if isinstance(batches, Mapping | str | torch.Tensor):
        raise EtudeError(f"{what} is one {type(batches).__name__}: pass a list of batches, as in [batch]")
    if isinstance(batches, tuple) and batches and all(isinstance(one, torch.Tensor) for one in batches):
        raise EtudeError(
            f"{what} is one batch, a tuple of tensors: pass a list of batches, as in [(inputs, labels)]"
        )
    if isinstance(batches, Sized) and _length(batches) == 0:
        raise EtudeError(f"{what} is empty: the loader has no batch (drop_last with too few examples?)")


def _length(batches: Sized) -> int | None:
    try:
        return len(batches)
    except TypeError:  # a loader of a stream has none
        return None


def _gives(batches: Any) -> bool:
    return callable(batches) and not hasattr(type(batches), "__iter__")


def moved(batch: Any, device: torch.device) -> Any:
    """A batch on a device: tensors in mappings, lists and tuples; anything else stays as it is."""
    if isinstance(batch, torch.Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(moved(value, device) for value in batch)
    return batch


def labels_of(batch: Any) -> Any:
    """The labels of a batch: of a mapping those under one of `LABELS`, of a tuple the last entry."""
    if isinstance(batch, Mapping):
        return next((batch[name] for name in LABELS if batch.get(name) is not None), None)
    return batch[-1] if isinstance(batch, list | tuple) and len(batch) > 1 else None


def counter(ignored: int | None = IGNORED, shifted: bool = False) -> Callable[[Any], int]:
    """How many examples, or labelled tokens, the loss of a batch is a mean of.

    Tokens count where the labels are whole numbers of two or more dimensions: those that are not `ignored`,
    without the first of each sequence where the loss is of the next token (`shifted`).

    >>> labels = torch.tensor([[-100, 4, 7], [-100, -100, 2]])
    >>> counter()({"labels": labels}), counter()((torch.zeros(5, 3), torch.zeros(5)))
    (3, 5)
    """

    def count(batch: Any) -> int:
        labels = labels_of(batch)
        if isinstance(labels, torch.Tensor) and labels.dim() > 1 and not labels.is_floating_point():
            if ignored is not None:
                return int((labels[..., 1:] if shifted else labels).ne(ignored).sum())
            return labels.numel()
        return _examples(batch)

    return count


def _examples(batch: Any) -> int:
    """The first dimension of the first tensor, or the length of what holds none."""
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.dim() else 1
    values = list(batch.values() if isinstance(batch, Mapping) else batch)
    for value in values:
        if isinstance(value, torch.Tensor | Mapping | list | tuple):
            return _examples(value)
    return max(1, len(values))
