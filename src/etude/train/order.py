"""The order in which examples are drawn: a function of seed and epoch, never of history."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass
class Order:
    """Where a run stands in its data: `position` examples into the shuffled `epoch`, `drawn` in all.

    The position is owned by the loop and never goes back: an update that is skipped or rolled back has still
    drawn its examples. A batch ends with its epoch, so that each epoch holds every example once.
    """

    examples: int
    seed: int
    epoch: int = 0
    position: int = 0
    drawn: int = 0

    def draw(self, count: int) -> list[int]:
        """The next `count` example numbers, or as many as are left in the epoch (at least one)."""
        if self.position >= self.examples:
            self.epoch, self.position = self.epoch + 1, 0
        chosen = self._shuffled()[self.position : self.position + count]
        self.position += len(chosen)
        self.drawn += len(chosen)
        return chosen

    def _shuffled(self) -> list[int]:
        key = (self.seed, self.epoch)
        if getattr(self, "_key", None) != key:
            import torch

            # One generator per epoch: any epoch can be drawn without the ones before it.
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            self._permutation: list[int] = torch.randperm(self.examples, generator=generator).tolist()
            self._key = key
        return self._permutation

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps of it."""
        return {"epoch": self.epoch, "position": self.position, "drawn": self.drawn, "seed": self.seed}


def pieces(chosen: Sequence[int], batch: int) -> Iterator[Sequence[int]]:
    """The micro-batches of at most `batch` examples that make up one process's share of an update.

    >>> list(pieces([4, 7, 1, 0, 3], 2))
    [[4, 7], [1, 0], [3]]
    """
    for start in range(0, len(chosen), batch):
        yield chosen[start : start + batch]
