"""The processes of a run under torch.distributed, Accelerate and Lightning: what one has, all get."""

from typing import Any

import torch.distributed as distributed


def gather(value: Any) -> list[Any]:
    """What every process puts in, in the order of their ranks; `[value]` where there is only one.

    A collective: every process calls it, or all wait. `value` is pickled, by and for processes of one run.
    For `Driver(…, gather=etude.torch.processes.gather)` under torchrun, Accelerate and Lightning.

    >>> gather({"eval_loss": 0.5})
    [{'eval_loss': 0.5}]
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found
