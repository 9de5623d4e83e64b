"""Torch: where rates are written, and what a model tells of its parameters."""

from etude.errors import MissingExtra

try:
    from etude.torch.scheduler import LRScheduler
    from etude.torch.sink import sink
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingExtra("torch", "train") from error

__all__ = ["LRScheduler", "sink"]
