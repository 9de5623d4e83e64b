"""Running statistics: what a forward pass in training mode writes into a model before there is a loss."""

import torch
from torch import nn

# Buffers that a forward pass in training mode changes: those of BatchNorm and its like by how their names
# begin, and those of spectral norms, whose weights change with them.
RUNNING = ("running_", "moving_")
SPECTRAL = {"_u", "weight_u"}


def has_statistics(module: nn.Module) -> bool:
    """Whether a module keeps running statistics itself.

    >>> has_statistics(nn.BatchNorm1d(2)), has_statistics(nn.LayerNorm(2))
    (True, False)
    """
    names = {name for name, _ in module.named_buffers(recurse=False)}
    return bool(names & SPECTRAL) or any(name.startswith(RUNNING) for name in names)


class Statistics:
    """Keeps a model's running statistics for the length of an update, which may be dropped.

    >>> norm, statistics = nn.BatchNorm1d(1), Statistics()
    >>> statistics.keep(norm)
    >>> _ = norm(torch.full((2, 1), float("nan")))
    >>> statistics.put_back()
    >>> norm.running_mean
    tensor([0.])
    """

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._modules: list[nn.Module] = []
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(self, model: nn.Module) -> None:
        """Remember them as they are now."""
        if model is not self._model:
            self._model = model
            self._modules = [module for module in model.modules() if has_statistics(module)]
        buffers = [buffer for module in self._modules for buffer in module.buffers(recurse=False)]
        self._kept = [(buffer, buffer.detach().clone()) for buffer in buffers]

    def put_back(self) -> None:
        """Make them what they were."""
        with torch.no_grad():
            for buffer, value in self._kept:
                buffer.copy_(value)
