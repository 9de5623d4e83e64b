"""A data loader and what is behind it: where it stands in its data, and how to shuffle it otherwise."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch

from etude.finder.holding import Holding

SAMPLERS = ("base_dataloader", "batch_sampler", "sampler")
DATA = ("dataset", "datasets", "data_source")


def hold_loader(holding: Holding, loader: Any) -> list[Any]:
    """Take down where a loader, its samplers and its data sets stand, but not the data.

    Of a function, the loaders and generators are taken that it names. What holds a pass under way is
    returned, for `set_aside`.
    """
    passing: list[Any] = []
    if inspect.isfunction(loader):
        named = inspect.getclosurevars(loader)
        for inside in (*named.nonlocals.values(), *named.globals.values()):
            if _is_loader(inside):
                passing += hold_loader(holding, inside)
            else:
                holding.generator(inside)
        return passing
    if not _is_loader(loader):
        holding.references(loader)
        return passing
    for part in _chain(loader, SAMPLERS):
        holding.attributes(part, leave_out=(*DATA, "_iterator"))
        for dataset in _chain(part, DATA)[1:]:
            holding.references(dataset)
        if "_iterator" in getattr(part, "__dict__", ()):
            passing.append(part)
    return passing


def set_aside(passing: Iterable[Any]) -> None:
    """Leave a pass that is under way with whoever made it.

    Persistent workers serve one pass at a time and begin it anew when the loader is asked again, so the
    loader makes new workers until it is put back.
    """
    for part in passing:
        part.__dict__["_iterator"] = None


def _is_loader(thing: Any) -> bool:
    return any(name in getattr(thing, "__dict__", ()) for name in SAMPLERS)


def reshuffle(loader: Any, seed: int) -> None:
    """Let a loader give another order: its own generators and epochs follow the seed.

    What draws from torch's own generator follows that.
    """
    for part in _chain(loader, SAMPLERS):
        for value in list(getattr(part, "__dict__", {}).values()):
            if isinstance(value, torch.Generator):
                value.manual_seed(seed)
        if callable(turn := getattr(part, "set_epoch", None)):
            turn(seed)


def _chain(thing: Any, names: Iterable[str]) -> list[Any]:
    """A thing, what it has under these names, and so on."""
    found, waiting = [], [thing]
    while waiting:
        one = waiting.pop(0)
        if any(one is other for other in found):
            continue
        found.append(one)
        held = getattr(one, "__dict__", {})
        for name in names:
            inside = held.get(name)
            waiting += [] if inside is None else inside if name == "datasets" else [inside]
    return found
