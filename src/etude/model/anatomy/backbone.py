"""The backbone of a tower: the smallest part that holds the chain of blocks and what feeds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etude.model.anatomy.chain import Chain
from etude.model.anatomy.tower import Tower
from etude.model.anatomy.tree import Steps, words
from etude.model.anatomy.unit import HEAD, Unit
from etude.model.leaf import Leaf


@dataclass(frozen=True)
class Backbone:
    """The part of a tower that units are placed against; `alone` if the model has no other tower.

    `start` is where its blocks begin among the leaves of the tower, `width` that of the blocks, if all have
    one; `normed` tells whether each begins with a norm; `ends` are what multiplies in them, in order.
    """

    steps: Steps
    scope: Steps
    path: Steps
    start: int
    blocks: int
    alone: bool
    width: int | None
    normed: bool
    ends: tuple[Leaf, ...]

    @classmethod
    def of(cls, leaves: Sequence[Leaf], steps: Mapping[str, Steps], tower: Tower, alone: bool) -> "Backbone":
        """The backbone of a tower, whose parameters are `leaves`; `steps` is the way to each by name."""
        chain = tower.chain
        start = _start(leaves, steps, tower)
        width, normed = _make(leaves, chain)
        ends = tuple(leaf for leaf in leaves if chain.block(leaf.name) and leaf.multiplies)
        place = _smallest(leaves, steps, tower, start)
        return cls(place, tower.scope, tower.path, start, len(chain.blocks), alone, width, normed, ends)

    def follows(self, unit: Unit) -> bool:
        """Whether a layer takes what comes out of the last block, and not what goes into the first.

        LowFormer's `in_conv` is what its head begins with; a model of one width does not tell.
        """
        weights = [leaf.shape for leaf in unit.weights]
        if not weights or not self.ends:
            return False
        into, out = self.ends[0].shape[1], self.ends[-1].shape[0]
        return into != out and weights[0][1] == out and weights[-1][0] != into

    def holds(self, unit: Unit) -> bool:
        return unit.steps[: len(self.steps)] == self.steps

    def rest(self, unit: Unit) -> Steps:
        """The name of a unit without what the whole backbone, or else the whole tower, is called."""
        return unit.steps[len(self.steps if self.holds(unit) else self.scope) :]

    def inside(self, unit: Unit) -> bool:
        """Whether a unit is a part of a stage."""
        return len(unit.steps) > len(self.path) + 1 and unit.steps[: len(self.path)] == self.path

    def entered(self, unit: Unit) -> bool:
        """Whether all that a unit does is to lead from another width into that of the blocks."""
        weights = unit.weights
        return (
            len(weights) == 1
            and weights[0].module == "Linear"
            and weights[0].shape[0] == self.width != weights[0].shape[1]
        )

    def left(self, unit: Unit) -> bool:
        """Whether every weight of a unit leads out of the width of the blocks: one prediction of each."""
        weights = [leaf.shape for leaf in unit.weights]
        return all(shape[1] == self.width != shape[0] for shape in weights)

    def __str__(self) -> str:
        return ".".join(self.steps) or "the model"


def _make(leaves: Sequence[Leaf], chain: Chain) -> tuple[int | None, bool]:
    """How wide what comes out of the blocks is, if all agree, and whether each of them begins with a norm."""
    held: dict[int, list[Leaf]] = {}
    for leaf in leaves:
        if number := chain.block(leaf.name):
            held.setdefault(number, []).append(leaf)
    own = {n: [leaf for leaf in one if f".{chain.path}." in f".{leaf.name}"] for n, one in held.items()}
    held = own if all(own.values()) else held
    last = [next((leaf for leaf in reversed(one) if leaf.multiplies), None) for one in held.values()]
    widths = {leaf.shape[0] if leaf and leaf.module in ("Linear", "Conv") else None for leaf in last}
    normed = all(one[0].module == "Norm" for one in held.values())
    return widths.pop() if len(widths) == 1 else None, normed


def _start(leaves: Sequence[Leaf], steps: Mapping[str, Steps], tower: Tower) -> int:
    """Where the blocks begin; a part's own parameters are registered before its parts and tell nothing."""
    blocks = [i for i, leaf in enumerate(leaves) if tower.chain.block(leaf.name)]
    return next((i for i in blocks if len(steps[leaves[i].name]) > len(tower.path) + 1), blocks[0])


def _smallest(leaves: Sequence[Leaf], steps: Mapping[str, Steps], tower: Tower, start: int) -> Steps:
    """The smallest part of the tower that holds the chain and what feeds it.

    That is the largest embedding, if possible one before the blocks, under any of its names (a position table
    may lie closer to the blocks, as in RoFormer); in a model without embeddings, everything before the blocks
    that is not called a head.
    """
    tables = [leaf for leaf in leaves if leaf.module == "Embedding" and not tower.chain.block(leaf.name)]
    early = [leaf for leaf in leaves[:start] if leaf in tables]
    if early or (tables and not start):
        largest = max(early or tables, key=lambda leaf: leaf.size)
        feeding = {steps[leaf.name] for leaf in tables if leaf.owner == largest.owner}
        enough = 1
    else:
        feeding = {steps[leaf.name] for leaf in leaves[:start]}
        inside = {one for one in feeding if not words(one) & HEAD and not _direct(one, tower.path)}
        feeding = inside or feeding
        enough = max(len(feeding), 1)
    for n in range(len(tower.path), len(tower.scope), -1):
        if sum(one[:n] == tower.path[:n] for one in feeding) >= enough:
            return tower.path[:n]
    return tower.scope


def _direct(steps: Steps, path: Steps) -> bool:
    """Whether a parameter belongs itself to a part that holds the blocks; such are registered first."""
    return steps[:-1] == path[: len(steps) - 1]
