"""The ladder: how deep every parameter lies, with the reason, and what a rung's rate is.

From the bottom up the rungs are `embeddings` (0), `layer.0` … `layer.<L-1>` (1 … L), `top` (L + 1: final
norm, pooler) and `head` (L + 2: what lies outside the backbone). `chain` finds the blocks, `place` says where
the rest stands; what they cannot tell is refused here, with the line that tells it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etude.errors import PlanError
from etude.model.chain import Chain, find
from etude.model.leaf import Leaf
from etude.model.place import place, unit


class Placement(NamedTuple):
    """Where a tensor stands and why. `names` are all its names: several where modules share it."""

    leaf: Leaf
    depth: int
    reason: str
    names: tuple[str, ...]


class Rung(NamedTuple):
    """The tensors of one depth."""

    name: str
    depth: int
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class Ladder:
    """Every tensor of a model on its rung, once; `blocks` is L, None where depth is not known nor needed."""

    blocks: int | None
    placements: tuple[Placement, ...]

    def name(self, depth: int) -> str:
        """What a depth is called.

        >>> [Ladder(12, ()).name(depth) for depth in (0, 1, 12, 13, 14)]
        ['embeddings', 'layer.0', 'layer.11', 'top', 'head']
        """
        if self.blocks is None:
            return "model"
        ends = {0: "embeddings", self.blocks + 1: "top", self.blocks + 2: "head"}
        return ends.get(depth, f"layer.{depth - 1}")

    def multiplier(self, depth: int, layer_decay: float = 1.0, head: float = 1.0) -> float:
        """The rate of a rung as a ratio of the peak.

        Block l of 1 … L has `layer_decay ** (L - l)`, the embeddings are l = 0, what stands above the blocks
        has 1 and the head has `head`. So the last block trains at the peak. This is the usual layer-wise
        decay of BERT fine-tuning (Sun et al. 2019, arXiv 1905.05583; Zhang et al. 2020, arXiv 2006.05987).
        Others differ by a power or two: ELECTRA's code gives the last block d² (its head has depth L + 2:
        google-research/electra, model/optimization.py); BEiT, MAE and timm give it d (`num_layers = depth +
        1`: timm's `param_groups_layer_decay`); ULMFiT divides by 2.6 per group (arXiv 1801.06146). To use a
        peak of theirs, multiply it by that power.

        >>> [round(Ladder(12, ()).multiplier(depth, 0.95, head=10), 3) for depth in (0, 1, 11, 12, 13, 14)]
        [0.54, 0.569, 0.95, 1.0, 1.0, 10.0]
        """
        if self.blocks is None:
            return 1.0
        if depth > self.blocks + 1:
            return float(head)
        return float(layer_decay) ** max(0, self.blocks - depth)

    def rungs(self) -> list[Rung]:
        """The rungs that hold parameters, from the bottom up."""
        at: dict[int, list[Placement]] = {}
        for placement in self.placements:
            at.setdefault(placement.depth, []).append(placement)
        return [Rung(self.name(depth), depth, tuple(at[depth])) for depth in sorted(at)]


def ladder(leaves: Sequence[Leaf], depths: Mapping[str, int | str] | None = None) -> Ladder:
    """Place every tensor, trainable or not: freezing one never moves another.

    `depths` places tensors by the user's word: owner's name to depth, or to the name of a rung. A tensor with
    several names stands at the lowest of their depths. Raises `PlanError`, with what to write, for a model
    without one chain of blocks and for trainable parameters that nothing places.

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
    free = [leaf for leaf in leaves if leaf.owner not in depths]
    chains = [chain for chain in find(leaves) if any(chain.block(leaf.name) for leaf in free)]
    if len(chains) > 1:
        raise PlanError(_several(chains))
    numbers = [depth for depth in depths.values() if isinstance(depth, int)]
    blocks = len(chains[0].blocks) if chains else max(numbers, default=0)
    found = place(leaves, chains[0]) if chains else {}
    names = _names(leaves)
    placed, lost = [], []
    for leaf in leaves:
        if leaf.tied_to is not None:
            continue
        known = [(*found[name], name) for name in names[leaf.name] if name in found]
        if leaf.name in depths:
            depth, reason = _depth(depths[leaf.name], blocks), "by your word"
        elif known:
            depth, reason = _lowest(known, blocks)
        else:
            lost += [leaf] if leaf.trainable else []
            continue
        placed.append(Placement(leaf, depth, reason, names[leaf.name]))
    if lost:
        raise PlanError(_unplaced(lost, chains))
    return Ladder(blocks, tuple(placed))


def level(leaves: Sequence[Leaf]) -> Ladder:
    """One rung for all parameters: enough for a plan that asks nothing of depth."""
    names = _names(leaves)
    owners = [leaf for leaf in leaves if leaf.tied_to is None]
    return Ladder(None, tuple(Placement(leaf, 0, "depth unknown", names[leaf.name]) for leaf in owners))


def _names(leaves: Sequence[Leaf]) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for leaf in leaves:
        names[leaf.owner] = (*names.get(leaf.owner, ()), leaf.name)
    return names


def _lowest(known: Sequence[tuple[int, str, str]], blocks: int) -> tuple[int, str]:
    depth, reason, at = min(known, key=lambda place: place[0])
    rung = Ladder(blocks, ()).name
    if others := [f"{name} ({rung(other)})" for other, _, name in known if name != at]:
        reason = f"{reason}; tied to {', '.join(others)}, and the lowest counts"
    return depth, reason


def _depth(depth: int | str, blocks: int) -> int:
    known = {Ladder(blocks, ()).name(number): number for number in range(blocks + 3)}
    if isinstance(depth, str) and depth in known:
        return known[depth]
    if isinstance(depth, int) and not isinstance(depth, bool) and 0 <= depth < len(known):
        return depth
    raise PlanError(
        f"depth={depth!r} is no rung of this model: write one of {', '.join(known)}, or 0 to {len(known) - 1}"
    )


def _several(chains: Sequence[Chain]) -> str:
    listed = " and ".join(f"{chain.path} ({len(chain.blocks)} blocks)" for chain in chains)
    one = re.escape(chains[0].path.rpartition(".")[0] or chains[0].path)
    return (
        f"{len(chains)} chains of blocks stand beside each other, {listed}, and nothing says which is below. "
        f"Leave out layer_decay and head, or place all but one by hand: "
        f'groups=[("^{one}", {{"depth": "embeddings"}})]'
    )


def _unplaced(lost: Sequence[Leaf], chains: Sequence[Chain]) -> str:
    more = f" and {len(lost) - 12} more" if len(lost) > 12 else ""
    listed = ", ".join(leaf.name for leaf in lost[:12]) + more
    if not chains:
        one = re.escape(lost[0].name.rpartition(".")[0])
        return (
            f"this model has no chain of repeated blocks, so {len(lost)} parameters have no depth: {listed}. "
            f'Leave out layer_decay and head, or say every depth: groups=[("^{one}", {{"depth": 0}}), …]'
        )
    one = re.escape(unit(lost[0].name, chains[0].path))
    return (
        f"nothing says whether {len(lost)} parameters stand below or above the blocks in {chains[0].path}: "
        f'{listed}. Say it: groups=[("^{one}", {{"depth": "embeddings"}})], or "top", or "head"'
    )
