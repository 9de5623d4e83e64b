"""The full state of a training, taken and put back: what a test may do in between leaves no trace.

Taken are the model's parameters, buffers and other attributes of its modules (modes, hooks, counters), which
parameters train, their gradients, the optimizer's state and groups, the scaler, the order of the data, and
every random generator. What a training has beside these is named in `keep`.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn.parallel import DistributedDataParallel

from etude.finder.holding import Holding
from etude.finder.interrupt import uninterrupted
from etude.finder.loaders import hold_loader, set_aside
from etude.finder.randomness import global_generators
from etude.finder.store import store
from etude.torch.wrappers import nested


class Snapshot:
    """The state of a training; whatever happens inside, afterwards it is as it was before, bit for bit.

    `batches` are the loaders that are used inside, `keep` further objects that change (an EMA of the weights,
    a queue). `snapshot` is "memory", which takes one copy of the state; "disk", which takes nearly no memory
    and a temporary folder; or the folder to make that one in. Inside, gradients are None. An interrupt waits
    until everything is put back.

    >>> model = torch.nn.Linear(2, 1)
    >>> before = model.weight.clone()
    >>> with Snapshot(model):
    ...     _ = torch.nn.init.zeros_(model.weight)
    >>> torch.equal(model.weight, before)
    True
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: Any = None,
        *,
        scaler: Any = None,
        batches: Iterable[Any] = (),
        keep: Iterable[Any] = (),
        snapshot: str | Path = "memory",
    ):
        self._generators = global_generators()
        self._store = store(snapshot)
        self._holding = Holding(self._store)
        try:
            self._holding.hold(bare(model))
            for one in nested(optimizer):
                self._holding.attributes(one)
            self._passing = [part for loader in batches for part in hold_loader(self._holding, loader)]
            for thing in (scaler, *keep):
                self._holding.hold(thing)
                self._holding.attributes(thing)
            if "accelerate.state" in sys.modules:
                self._holding.hold(sys.modules["accelerate.state"].GradientState().__dict__)
        except BaseException:
            self.close()
            raise
        views = isinstance(model, DistributedDataParallel) and model.gradient_as_bucket_view
        self._gradients = [(p, _gradient(p, views)) for p in self._holding.leaves()]
        for parameter, _ in self._gradients:
            parameter.grad = None
        set_aside(self._passing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with uninterrupted():
            try:
                self._restore()
            finally:
                self.close()

    def put_back(self) -> None:
        """Make everything what it was, for further changes; a pass under way stays aside till the end."""
        self._restore()
        set_aside(self._passing)

    def _restore(self) -> None:
        with torch.no_grad():
            self._holding.put_back()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        self._generators()

    def close(self) -> None:
        """Remove what lies on the disk."""
        self._store.close()


def bare(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside the wrappers of DDP and `torch.compile`, by whose names a plan goes."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), torch.nn.Module):
            model = inner
        else:
            return model


def _gradient(parameter: torch.Tensor, copied: bool) -> torch.Tensor | None:
    gradient = parameter.grad
    return gradient.detach().clone() if copied and gradient is not None else gradient
