"""The state of a run beside weights and moments: clock, place in the data, generators, scaler."""

import random
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from etude.torch.wrappers import core
from etude.train.checkpoint import Checkpoint
from etude.train.loop import Clock, Loop
from etude.train.order import Order

FORMAT = 1


def state(loop: Loop, best: dict[str, Any] | None, interrupted: bool = False) -> dict[str, Any]:
    """The run as strict JSON: what a checkpoint holds beside weights, moments and torch's generators.

    `interrupted`: only an interrupt has made this checkpoint.
    """
    accelerator = loop.accelerator
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {
        "etude": FORMAT,
        "driver": loop.driver.state_dict(),
        "clock": asdict(loop.clock),
        "data": loop.order.state(),
        "batch": loop.global_batch,
        "processes": accelerator.num_processes,
        "rng": {
            "python": [version, list(words), gauss],
            "numpy": [kind, np.asarray(keys).tolist(), *rest],
        },
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        "best": best,
        "interrupted": interrupted,
    }


def generators(accelerator: Any) -> dict[str, torch.Tensor]:
    """The states of torch's generators, of every process, by the names that they have in a checkpoint."""
    rng = _gathered(accelerator, torch.get_rng_state())
    cuda = _gathered(accelerator, torch.cuda.get_rng_state()) if torch.cuda.is_available() else []
    return {f"torch/{i}": x for i, x in enumerate(rng)} | {f"cuda/{i}": x for i, x in enumerate(cuda)}


def _gathered(accelerator: Any, one: torch.Tensor) -> list[torch.Tensor]:
    if accelerator.num_processes == 1:
        return [one]
    from accelerate.utils import gather_object

    return gather_object([one])


def put_back(loop: Loop, saved: Checkpoint) -> None:
    """Optimizer, clock, generators and scaler as they were; weights, driver and data are not touched."""
    accelerator, found = loop.accelerator, saved.state
    saved.load_optimizer(core(loop.optimizer))
    loop.clock = Clock(**found["clock"])
    version, words, gauss = found["rng"]["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = found["rng"]["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    tensors, rank = saved.rng(), accelerator.process_index
    if f"torch/{rank}" in tensors:
        torch.set_rng_state(tensors[f"torch/{rank}"])
    if torch.cuda.is_available() and f"cuda/{rank}" in tensors:
        torch.cuda.set_rng_state(tensors[f"cuda/{rank}"])
    if found["scaler"] and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(found["scaler"])


def place(loop: Loop, saved: Checkpoint) -> None:
    """Where a resumed run goes on in its data."""
    at = saved.state["data"]
    loop.order = Order(loop.order.examples, at["seed"], at["epoch"], at["position"], at["drawn"])
