"""The order in which a torch model uses its parameters, seen in one forward pass."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from etude.torch.modes import kept_modes


def order_of_use(model: nn.Module, batch: Any) -> list[str]:
    """The names of the parameters in the order of their first use in a forward pass, without a trace of it.

    `batch` is a mapping of arguments by name, a tuple of arguments, or the only argument. The pass runs in
    evaluation mode, without gradients, on whatever device the model and the batch are (also "meta"); modes
    and random generators are afterwards as they were. What the pass does not use is not in the list; a tied
    tensor is there once, under its first name.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    >>> order_of_use(model, torch.zeros(2, 4))
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    with kept_modes(model), torch.no_grad(), torch.random.fork_rng(devices=[]), _Watch(names) as watch:
        model.eval()
        if isinstance(batch, Mapping):
            model(**batch)
        elif isinstance(batch, tuple):
            model(*batch)
        else:
            model(batch)
    return watch.order


class _Watch(TorchFunctionMode):
    """Notes every parameter when a function of torch first takes it."""

    def __init__(self, names: Mapping[int, str]):
        super().__init__()
        self.names = names
        self.order: list[str] = []
        self.seen: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") not in _LOOKS:
            self._note((*args, *kwargs.values()))
        return func(*args, **kwargs)

    def _note(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, torch.Tensor):
                if id(value) in self.names and id(value) not in self.seen:
                    self.seen.add(id(value))
                    self.order.append(self.names[id(value)])
            elif isinstance(value, (tuple, list)):
                self._note(value)


# What only looks at a tensor: its properties are read through `__get__`.
_LOOKS = {"__get__", "size", "dim", "stride", "numel", "data_ptr", "type", "is_floating_point", "__hash__"}
