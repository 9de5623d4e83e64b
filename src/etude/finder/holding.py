"""How an object stands, down to its tensors, and how to put it back in place.

Every object keeps its identity: a tensor gets its former contents, a dictionary or a list its former members,
so whoever else refers to them (an optimizer, a wrapper, an EMA) sees them as they were.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from etude.finder.randomness import generator_state
from etude.finder.store import Read, Store

UNINITIALISED = (nn.UninitializedParameter, nn.UninitializedBuffer)  # of lazy modules: there is nothing yet

PutBack = Callable[[], Any]


class Holding:
    """Takes down how objects stand, each once; `put_back` can be called more than once.

    Followed are tensors, random generators, dictionaries, lists, sets, deques, tuples, modules and
    optimizers; anything else inside them is taken for what it is, not for what is in it.
    """

    def __init__(self, store: Store):
        self.store = store
        self._actions: list[PutBack] = []
        self._seen: dict[int, Any] = {}
        self._copies: dict[tuple[Any, ...], Read] = {}

    def put_back(self) -> None:
        """Put everything back; the last that was taken down comes first."""
        for action in reversed(self._actions):
            action()

    def leaves(self) -> list[torch.Tensor]:
        """The tensors that may have a gradient."""
        tensors = [one for one in self._seen.values() if isinstance(one, torch.Tensor) and one.is_leaf]
        return [one for one in tensors if one.requires_grad or one.grad is not None]

    def attributes(self, thing: Any, leave_out: Collection[str] = ()) -> None:
        """Take down the attributes of any object, those in `leave_out` only by what they refer to."""
        held = getattr(thing, "__dict__", None)
        if held is None or id(held) in self._seen:
            return
        self._seen[id(held)] = held
        self._actions.append(_mapping(held))
        for name, value in list(held.items()):
            if name not in leave_out:
                self.hold(value)

    def references(self, thing: Any) -> None:
        """Take down what the attributes of an object refer to, and the generators among them; no contents."""
        held = getattr(thing, "__dict__", None)
        if held is not None:
            self._actions.append(_mapping(held))
            for value in held.values():
                self.generator(value)

    def hold(self, value: Any) -> None:
        """Take down how a value stands."""
        if id(value) in self._seen or isinstance(value, str | bytes | int | float | None):
            return
        if isinstance(value, torch.Tensor):
            self._seen[id(value)] = value
            self._tensor(value)
        elif isinstance(value, nn.Module | torch.optim.Optimizer):
            self.attributes(value)
        elif isinstance(value, dict | list | set | deque | tuple):
            self._seen[id(value)] = value
            self._container(value)
        else:
            self.generator(value)

    def generator(self, value: Any) -> None:
        """Take down a random generator; anything else is passed over."""
        if id(value) not in self._seen and (action := generator_state(value)) is not None:
            self._seen[id(value)] = value
            self._actions.append(action)

    def _container(self, value: Any) -> None:
        if isinstance(value, dict):
            self._actions.append(_mapping(value))
        elif not isinstance(value, tuple):
            self._actions.append(_collection(value))
        for one in value.values() if isinstance(value, dict) else value:
            self.hold(one)

    def _tensor(self, tensor: torch.Tensor) -> None:
        if isinstance(tensor, UNINITIALISED) or _quantised(tensor):
            return
        # Another name for the same storage, as tied weights may have, is copied once.
        place = (tensor.data_ptr(), tensor.dtype, tensor.device, tensor.shape, tensor.stride())
        if not place[0]:
            place = (id(tensor),)
        if place not in self._copies:
            self._copies[place] = self.store.put(tensor)
        copy, alias, trains = self._copies[place], tensor.detach(), tensor.requires_grad

        def put_back() -> None:
            alias.copy_(copy())
            if tensor.data_ptr() != alias.data_ptr():
                tensor.data = alias  # another storage was put under this name
            if tensor.is_leaf and tensor.requires_grad != trains:
                tensor.requires_grad_(trains)

        self._actions.append(put_back)


def _quantised(tensor: torch.Tensor) -> bool:
    """Whether these are weights that nothing can train, as those below a LoRA may be."""
    return isinstance(tensor, nn.Parameter) and not (tensor.is_floating_point() or tensor.is_complex())


def _mapping(held: Any) -> PutBack:
    before = dict(held)

    def put_back() -> None:
        if not _alike(held, before):
            held.clear()
            held.update(before)

    return put_back


def _alike(held: Mapping[Any, Any], before: Mapping[Any, Any]) -> bool:
    """The same keys in the same order with the same values; by identity, since tensors may be keys."""
    return len(held) == len(before) and all(
        key is old and value is former
        for (key, value), (old, former) in zip(held.items(), before.items(), strict=True)
    )


def _collection(held: Any) -> PutBack:
    before = list(held)

    def put_back() -> None:
        held.clear()
        (held.update if isinstance(held, set) else held.extend)(before)

    return put_back
