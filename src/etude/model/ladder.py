"""The ladder: how deep every parameter lies, with the reason.

A tower is one chain of blocks with what feeds it and what it ends in: most models are one; an encoder–decoder
or a vision–language model has several, each with a ladder of its own. From the bottom up the rungs of a tower
are `embeddings` (0), `layer.0` … `layer.<L-1>` (1 … L) and `top` (L + 1: final norm, pooler). Outside lie
`joint` (what joins several towers) and `head`. `chain` finds the blocks, `tower` parts them, `place` and
`beside` say where the rest stands; what they cannot tell is refused here, with the line that tells it.
"""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from etude.errors import PlanError
from etude.model.anatomy.beside import beside
from etude.model.anatomy.order import by_order
from etude.model.anatomy.place import place
from etude.model.anatomy.tower import Tower, parted, towers
from etude.model.anatomy.tree import Steps, paths
from etude.model.anatomy.unit import largest, passed
from etude.model.leaf import Leaf

OUTSIDE = ("joint", "head")


class Placement(NamedTuple):
    """Where a tensor stands and why. `names` are all its names: several where modules share it.

    `tower` is "" in a model of one tower, and for what lies outside several.
    """

    leaf: Leaf
    tower: str
    depth: int
    reason: str
    names: tuple[str, ...]


class Rung(NamedTuple):
    """The tensors of one depth of one tower; `height` counts from the top: head 0, top 1, last block 2."""

    name: str
    tower: str
    depth: int
    height: int
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class Ladder:
    """Every tensor of a model on its rung, once.

    `towers` has the number of blocks of each tower by its name, "" where there is only one; it is empty where
    depth is not known nor needed.
    """

    towers: Mapping[str, int]
    placements: tuple[Placement, ...]

    @property
    def blocks(self) -> int:
        """The number of blocks of the highest tower."""
        return max(self.towers.values(), default=0)

    def name(self, tower: str, depth: int) -> str:
        """What a rung is called.

        >>> [Ladder({"": 12}, ()).name("", depth) for depth in (0, 1, 12, 13, 14)]
        ['embeddings', 'layer.0', 'layer.11', 'top', 'head']
        >>> two = Ladder({"encoder": 6, "decoder": 4}, ())
        >>> two.name("encoder", 0), two.name("decoder", 4), two.name("", 7), two.name("", 8)
        ('encoder.embeddings', 'decoder.layer.3', 'joint', 'head')
        """
        if not self.towers:
            return "model"
        if tower not in self.towers:
            return OUTSIDE[depth - self.blocks - 1]
        blocks = self.towers[tower]
        ends = {0: "embeddings", blocks + 1: "top", blocks + 2: "head"}
        return ".".join(filter(None, (tower, ends.get(depth, f"layer.{depth - 1}"))))

    def known(self) -> list[tuple[str, int]]:
        """Tower and depth of every rung there is, whether it holds parameters or not."""
        within = [(tower, depth) for tower, blocks in self.towers.items() for depth in range(blocks + 2)]
        outside = (2,) if "" in self.towers else (1, 2)
        return [*within, *(("", self.blocks + up) for up in outside)]

    def height(self, tower: str, depth: int) -> int:
        """How far below the head a rung lies: head 0, top and joint 1, every tower's last block 2."""
        return self.towers.get(tower, self.blocks) + 2 - depth

    def rungs(self) -> list[Rung]:
        """The rungs that hold parameters: tower by tower from the bottom up, then what lies outside them."""
        at: dict[tuple[str, int], list[Placement]] = {}
        for placement in self.placements:
            at.setdefault((placement.tower, placement.depth), []).append(placement)
        order = [*self.towers, *([] if "" in self.towers else [""])]
        return [
            Rung(self.name(*key), *key, self.height(*key), tuple(at[key]))
            for key in sorted(at, key=lambda key: (order.index(key[0]), key[1]))
        ]


def ladder(
    leaves: Sequence[Leaf],
    depths: Mapping[str, int | str] | None = None,
    order: Callable[[], Sequence[str]] | None = None,
) -> Ladder:
    """Place every tensor, trainable or not: freezing one never moves another.

    `depths` places tensors by the user's word: owner's name to depth, or to the name of a rung. A tensor with
    several names stands at the lowest of their depths. What names and kinds leave in doubt is told by the
    order of execution, if `order` gives it: the names of parameters as a forward pass uses them. Raises
    `PlanError`, with what to write, for a model without blocks and for trainable parameters that nothing
    places.

    >>> blocks = [f"h.{i}.{part}.weight" for i in range(2) for part in ("attn", "mlp")]
    >>> leaves = [Leaf(name, (4, 4)) for name in ("wte.weight", *blocks, "ln_f.weight")]
    >>> leaves[0] = leaves[0]._replace(module="Embedding")
    >>> for rung in ladder(leaves).rungs():
    ...     print(rung.depth, rung.name, "-", rung.placements[0].reason)
    0 embeddings - an embedding
    1 layer.0 - block 1 of 2 in h
    2 layer.1 - block 2 of 2 in h
    3 top - above the blocks by its name, ln_f
    """
    depths = depths or {}
    steps = paths(leaves)
    found_towers = [tower for tower in towers(leaves) if _asked(tower, leaves, depths)]
    if len(found_towers) == 1:
        found_towers = [found_towers[0]._replace(name="", scope=())]
    numbers = [depth for depth in depths.values() if isinstance(depth, int)]
    counts = {tower.name: len(tower.chain.blocks) for tower in found_towers} or {"": max(numbers, default=0)}
    known = _placed(leaves, steps, found_towers)
    names = _names(leaves)
    shape = Ladder(counts, ())
    placed, lost = [], []
    sure = depths.keys() | {leaf.owner for leaf in leaves if leaf.name in known}
    if order and any(leaf.trainable and leaf.owner not in sure for leaf in leaves):
        known |= by_order(leaves, steps, found_towers, known, order())
    for leaf in leaves:
        if leaf.tied_to is not None:
            continue
        places = [(*known[name], name) for name in names[leaf.name] if name in known]
        if leaf.name in depths:
            tower, depth = _said(depths[leaf.name], shape, {place[0] for place in places})
            placed.append(Placement(leaf, tower, depth, "by your word", names[leaf.name]))
        elif places:
            placed.append(Placement(leaf, *_lowest(places, shape), names[leaf.name]))
        elif len(found_towers) > 1 and len(leaf.shape) < 2:
            placed.append(Placement(leaf, "", shape.blocks + 1, "a vector beside blocks", names[leaf.name]))
        elif leaf.trainable:
            lost.append(leaf)
    if lost:
        raise PlanError(_unplaced(lost, found_towers, steps))
    return Ladder(counts, tuple(placed))


def _asked(tower: Tower, leaves: Sequence[Leaf], depths: Mapping[str, int | str]) -> bool:
    """Whether a tower is to be known: not if the user has placed all of it, nor if it is another's twin.

    The decoder of DiffusionGemma is its encoder, block for block.
    """
    own = tower.chain.numbers
    return any(leaf.owner in own and leaf.owner not in depths for leaf in leaves if leaf.name in own)


def _placed(
    leaves: Sequence[Leaf], steps: Mapping[str, Steps], found: Sequence[Tower]
) -> dict[str, tuple[str, int, str]]:
    """Tower, depth and reason by name, for all that is certain."""
    known: dict[str, tuple[str, int, str]] = {}
    alone = len(found) == 1
    highest = max((len(tower.chain.blocks) for tower in found), default=0)
    held, rest = parted(leaves, steps, found)
    for tower in found:
        blocks = len(tower.chain.blocks)
        for name, (depth, reason) in place(held[tower.name], steps, tower, alone).items():
            head = depth > blocks + 1 and not alone
            known[name] = ("", highest + 2, reason) if head else (tower.name, depth, reason)
    if found and rest:
        inside = [leaf for leaf in leaves if leaf.name in known]
        known |= beside(rest, inside, steps, found, known)
    return known


def level(leaves: Sequence[Leaf]) -> Ladder:
    """One rung for all parameters: enough for a plan that asks nothing of depth."""
    names = _names(leaves)
    owners = [leaf for leaf in leaves if leaf.tied_to is None]
    return Ladder({}, tuple(Placement(leaf, "", 0, "depth unknown", names[leaf.name]) for leaf in owners))


def _names(leaves: Sequence[Leaf]) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for leaf in leaves:
        names[leaf.owner] = (*names.get(leaf.owner, ()), leaf.name)
    return names


def _lowest(places: Sequence[tuple[str, int, str, str]], shape: Ladder) -> tuple[str, int, str]:
    tower, depth, reason, at = min(places, key=lambda place: place[1])
    others = [f"{name} ({shape.name(of, up)})" for of, up, _, name in places if name != at]
    if others:
        reason = f"{reason}; tied to {', '.join(others)}, and the lowest counts"
    return tower, depth, reason


def _said(word: int | str, shape: Ladder, around: Set[str]) -> tuple[str, int]:
    """The rung that a user names; a number is a depth in the tower that holds the parameter."""
    rungs = {shape.name(*rung): rung for rung in shape.known()}
    if isinstance(word, str) and word in rungs:
        return rungs[word]
    if isinstance(word, int) and not isinstance(word, bool):
        within = [*(around & {*shape.towers} or shape.towers)]
        if len(within) == 1 and (within[0], word) in rungs.values():
            return within[0], word
    numbers = f", or 0 to {len(rungs) - 1}" if "" in shape.towers else ""
    raise PlanError(f"depth={word!r} is no rung of this model: write one of {', '.join(rungs)}{numbers}")


def _unplaced(lost: Sequence[Leaf], found: Sequence[Tower], steps: Mapping[str, Steps]) -> str:
    more = f" and {len(lost) - 12} more" if len(lost) > 12 else ""
    listed = ", ".join(leaf.name for leaf in lost[:12]) + more
    if not found:
        one = re.escape(lost[0].name.rpartition(".")[0])
        return (
            f"this model has no chain of repeated blocks, so {len(lost)} parameters have no depth: {listed}. "
            f'Leave out layer_decay and head, or say every depth: groups=[("^{one}", {{"depth": 0}}), …]'
        )
    through = passed(steps[name] for tower in found for name in tower.chain.numbers)
    one = re.escape(".".join(largest(steps[lost[0].name], through)))
    names = [f"{tower.name}." if tower.name else "" for tower in found]
    blocks = " and ".join(tower.chain.path for tower in found)
    return (
        f"nothing says whether {len(lost)} parameters stand below or above the blocks in {blocks}: "
        f'{listed}. Say it: groups=[("^{one}", {{"depth": "{names[0]}embeddings"}})], or '
        f'"{names[0]}top", or "head"'
    )
