"""The modes of a model's modules, training or evaluation, which need not be all the same."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Whatever `train()` and `eval()` do inside, afterwards every module is in the mode that it was in.

    >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with kept_modes(model):
    ...     _ = model.eval()
    >>> [module.training for module in model]
    [True, False]
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
