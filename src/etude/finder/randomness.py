"""All random generators that a training can draw from: how they stand, how to put them back, how to seed."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

DEVICES = ("cuda", "xpu", "mps")


def global_generators() -> Callable[[], None]:
    """Python's, numpy's and torch's generators as they stand, of every device in use; puts them back.

    >>> put_back = global_generators()
    >>> first = random.random()
    >>> put_back()
    >>> random.random() == first
    True
    """
    python, arrays, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = [(put, state) for get, put in _devices() for state in [get()]]

    def put_back() -> None:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(tensors)
        for put, state in devices:
            put(state)

    return put_back


def _devices() -> list[tuple[Callable[[], Any], Callable[[Any], None]]]:
    found = []
    for kind in DEVICES:
        room = getattr(torch, kind)
        if kind == "mps":
            if torch.backends.mps.is_available():
                found.append((room.get_rng_state, room.set_rng_state))
        elif room.is_initialized():  # asking an idle device for its generator would wake it up
            found.append((room.get_rng_state_all, room.set_rng_state_all))
    return found


def generator_state(value: Any) -> Callable[[], Any] | None:
    """What puts a generator object back to where it stands; None for what is no generator."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        position = value.getstate()
        return lambda: value.setstate(position)
    if isinstance(value, np.random.Generator):
        bits, place = value.bit_generator, value.bit_generator.state
        return lambda: setattr(bits, "state", place)
    if isinstance(value, np.random.RandomState):
        old = value.get_state()
        return lambda: value.set_state(old)
    return None


def seed_all(seed: int) -> None:
    """Seed Python, numpy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
