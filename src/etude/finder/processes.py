"""Several processes of one test: what one of them knows, all know, in the same order, to the last bit."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


class Processes:
    """The processes that train one model together; a single one unless the model is wrapped for several."""

    def __init__(self, model: torch.nn.Module, device: torch.device):
        together = distributed.is_available() and distributed.is_initialized() and _shared(model)
        self.count = distributed.get_world_size() if together else 1
        self.rank = distributed.get_rank() if together else 0
        self.device = device if together and distributed.get_backend() == "nccl" else torch.device("cpu")

    def gathered(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every process, by rank; each gives as many."""
        if self.count == 1:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.count)]
        distributed.all_gather(every, mine)
        return torch.stack(every).tolist()


def _shared(model: torch.nn.Module) -> bool:
    if isinstance(model, DistributedDataParallel) or type(model).__name__ == "FullyShardedDataParallel":
        return True
    parameter: Any = next(model.parameters(), None)
    return hasattr(parameter, "full_tensor")  # sharded by `fully_shard`
