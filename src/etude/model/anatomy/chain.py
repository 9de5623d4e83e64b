"""Chains of repeated blocks, found from the names and shapes of parameters alone.

A list whose numbered members are alike (`encoder.layer.0.attention.…`, `encoder.layer.1.attention.…`) is a
chain, wherever it hangs and whatever it is called. Members that are themselves lists of blocks are stages, as
in Swin and ResNet: their blocks follow one another, and what a stage has beside them stands with its first or
its last block. Neighbouring lists of equal length and different make are parts of the same blocks (XLM) or
stages (PVT).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from etude.model.anatomy.block import BLOCKS, is_chain, layers_of
from etude.model.anatomy.stack import SMALL, stacks
from etude.model.anatomy.staged import blocks_of, with_feeders
from etude.model.anatomy.tree import Node, Row, rows, tree
from etude.model.leaf import Leaf

# What models call the few blocks after the others that see the class token alone (CaiT, XCiT, VOLO).
LATER = re.compile(r"(^|_)(post|cls|class|token)(_|$)")

# What they call plain stacks that make predictions.
HEADS = re.compile(r"(^|_)(head|classifier|fc|score|predictor)(s|$|_)")


@dataclass(frozen=True)
class Chain:
    """Blocks from the bottom up, each as the names of its parameters, and the `path` of their list.

    `whole` tells whether the members hold several layers, as blocks do; the members of a plain stack, such as
    an `nn.Sequential` of linear layers, hold one each.
    """

    path: str
    blocks: tuple[frozenset[str], ...]
    whole: bool = True
    word: str = ""
    listed: bool = True

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Which block, counted from 1, holds a parameter."""
        return {name: i + 1 for i, block in enumerate(self.blocks) for name in block}

    def block(self, name: str) -> int | None:
        """Which block, counted from 1, holds a parameter; None if none does."""
        return self.numbers.get(name)


def find(leaves: Iterable[Leaf]) -> list[Chain]:
    """Every chain that lies beside the others, in order of registration.

    A plain stack counts only where there are no blocks, and a list that is not called one of blocks only
    where no other is; what repeats inside a block (experts, the parts of a T5 block) is no chain.

    >>> names = ["embed.weight", *(f"h.{i}.{part}.weight" for i in range(3) for part in ("attn", "mlp"))]
    >>> [(chain.path, len(chain.blocks)) for chain in find(Leaf(name, (4, 4)) for name in names)]
    [('h', 3)]
    """
    leaves = list(leaves)
    found = [chain for chain in _search(tree(leaves)) if chain.whole or not HEADS.search(chain.word)]
    for better in (
        lambda chain: chain.whole,
        lambda chain: bool(BLOCKS.search(chain.word)),
    ):
        found = [chain for chain in found if better(chain)] or found
    named = [chain for chain in found if chain.listed or BLOCKS.search(chain.word)]
    most = [chain for chain in found if 2 * len(chain.numbers) > len(leaves)]
    return _in_series(found if len(found) == 1 else named or most)


def _in_series(chains: Sequence[Chain]) -> list[Chain]:
    """Chains, of which one that follows another in the same part of the model by its name continues it."""
    found: list[Chain] = []
    for chain in chains:
        before = found[-1] if found else chain
        beside = chain.path.rpartition(".")[0] == before.path.rpartition(".")[0]
        fewer = len(chain.blocks) < SMALL * len(before.blocks)
        if beside and fewer and LATER.search(chain.word) and not LATER.search(before.word):
            path = f"{before.path} and {chain.path}"
            found[-1] = replace(before, path=path, blocks=before.blocks + chain.blocks)
        else:
            found.append(chain)
    return found


def _search(node: Node) -> list[Chain]:
    lists = rows(node)
    found = [(stack[0].members[0].first, chain) for stack in stacks(lists) if (chain := _chain(stack, lists))]
    # `layer1`, `layer2` … are lists, and the stages of one chain: the chain that holds more counts.
    found = [
        (first, chain)
        for first, chain in found
        if not any(_covered(chain, other, node) for _, other in found)
    ]
    taken = {name for _, chain in found for name in chain.numbers}
    for kid in node.kids.values():
        if not kid.names <= taken and not (kid.is_list and kid.names & taken):
            found += [(kid.first, chain) for chain in _search(kid) if not chain.numbers.keys() & taken]
    return [chain for _, chain in sorted(found, key=lambda pair: pair[0])]


def _covered(chain: Chain, other: Chain, node: Node) -> bool:
    """Whether a chain is part of another, or registered between its blocks, as NASNet's reduction cells."""
    if not other.whole or chain is other:
        return False
    if chain.numbers.keys() < other.numbers.keys():
        return True
    spans = [[i for i, leaf in enumerate(node.leaves) if leaf.name in one.numbers] for one in (chain, other)]
    inside = spans[1][0] < spans[0][0] and spans[0][-1] < spans[1][-1]
    smaller = len(chain.blocks) < len(other.blocks)
    return inside and smaller and not chain.listed and not other.listed


def _chain(stack: Sequence[Row], lists: Sequence[Row]) -> Chain | None:
    main = max(stack, key=lambda row: (is_chain(row), bool(BLOCKS.search(row.word)), row.size))
    path = ".".join(main.path)
    if is_chain(main):
        blocks = with_feeders(blocks_of(stack, main), stack, lists)
        return Chain(path, tuple(blocks), True, main.word, main.listed)
    if not all(member.kids and member.matrices < 2 for member in main.members):
        return None
    plain = layers_of(main)
    for row in stack:
        if row is not main and len(plain) == len(row.members):
            plain = [layer | member.names for layer, member in zip(plain, row.members, strict=True)]
    return Chain(path, tuple(plain), False, main.word, main.listed) if len(plain) > 1 else None
