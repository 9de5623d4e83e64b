"""Stacks: neighbouring lists of one length that hold parts of the same blocks."""

import re
from collections.abc import Sequence

from etude.model.anatomy.block import BLOCKS, is_chain, layers_of, like
from etude.model.anatomy.tree import Node, Row

# Two neighbouring lists of blocks are one chain only if the smaller holds less than this share of the larger:
# a part that accompanies each block (BLT's cross-attention, a third of it), not LXMERT's three stacks.
SMALL = 0.35

# What models call tables and convolutions of positions, one for each stage; they act on its first block.
POSITIONS = re.compile(r"(^|_)pos(_|$)")


def stacks(lists: Sequence[Row]) -> list[list[Row]]:
    """Neighbouring lists of equal length and different make, together."""
    found: list[list[Row]] = []
    for row in sorted(lists, key=lambda row: (is_chain(row), bool(BLOCKS.search(row.word))), reverse=True):
        first = row.members[0].first
        fitting = [stack for stack in found if _belongs(row, stack)]
        following = [stack for stack in fitting if stack[0].members[0].first > first]
        if fitting:
            (following or fitting)[0].append(row)
        else:
            found.append([row])
    return found


def _belongs(row: Row, stack: Sequence[Row]) -> bool:
    """Whether a list holds further parts of the blocks of a stack, and no blocks of its own."""
    first, last = stack[0], row.members[-1]
    if len(row.members) != len(first.members) or len(first.members) < 2 or row.listed != first.listed:
        return False
    if not any(member.matrices for member in row.members):
        return any(layers_of(one) for one in stack)
    if any(like(last, other.members[-1]) for other in stack):
        return False
    named = [one for one in (*stack, row) if BLOCKS.search(one.word) and is_chain(one)]
    if len(named) > 1:
        sizes = sorted(one.size for one in named)
        return sizes[-2] < SMALL * sizes[-1]
    if _lateral(row) and not _lateral(first):
        return False
    if not any(is_chain(one) for one in (*stack, row)):
        return False
    return any(_fits(row, one) for one in stack) or _reads(row, first)


def _lateral(row: Row) -> bool:
    """Whether every member takes in another width: what leads from the levels of a pyramid into one width."""
    ins = [_ins(member) for member in row.members]
    if POSITIONS.search(row.word):
        return False
    return len({*ins}) == len(ins) > 2 and len({member.width for member in row.members}) == 1


def _reads(row: Row, main: Row) -> bool:
    """Whether each member feeds its neighbour among blocks that do not feed one another: DPT's readouts."""
    ins = [_ins(member) for member in main.members]
    outs = [member.width for member in main.members]
    return outs[:-1] != ins[1:] and [member.width for member in row.members] == ins


def _ins(node: Node) -> int | None:
    """How wide what goes into a part is: the second extent of its first weight."""
    return next((leaf.shape[1] for leaf in node.leaves if leaf.multiplies), None)


def _fits(one: Row, other: Row) -> bool:
    """Whether two lists have one width at each place: what comes out of a member of either is as wide as a
    vector in its neighbour. Where neither has a vector nothing speaks against it.
    """
    places = [*zip(one.members, other.members, strict=True), *zip(other.members, one.members, strict=True)]
    ways: list[list[bool]] = [[], []]
    for i, (part, beside) in enumerate(places):
        if vectors := {leaf.shape for leaf in beside.leaves if len(leaf.shape) == 1}:
            ways[i >= len(one.members)].append(bool(part.outs & vectors))
    known = [way for way in ways if way]
    return not known or any(map(all, known))
