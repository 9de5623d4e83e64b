"""Optimizers around optimizers: Accelerate and others wrap the one that makes the updates."""

from collections.abc import Iterator
from typing import Any

import torch


def nested(optimizer: Any) -> Iterator[Any]:
    """The optimizer, what it wraps, and so on; the last one makes the updates."""
    yield optimizer
    while isinstance(optimizer := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        yield optimizer


def core(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer that makes the updates, torch's own inside that of Accelerate."""
    *_, inner = nested(optimizer)
    return inner
