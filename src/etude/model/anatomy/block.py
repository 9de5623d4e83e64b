"""Whether the members of a list are blocks, by what is alike in them and by what their list is called."""

import re
from collections.abc import Sequence

from etude.model.anatomy.tree import Node, Row, rows

# Members are alike when more than this share of the smaller one's names is in the other. T5's first block has
# a table that the others lack and the layers of a hybrid differ in their mixer (both alike); the attention
# and the feed-forward within one T5 block share one name in three (not alike).
ALIKE = 0.5

# What models call lists of blocks. Others, such as `experts`, `heads` or `deepstack_merger_list`, are not
# taken for a chain where one of these is there.
BLOCKS = re.compile(
    r"(^|_|res)(layer|level|block|bottleneck|conformer|stage|cell|unit|group|tree|encoder|decoder|h)(s|$|_)"
    r"|^(down|up)$"
)


def is_chain(row: Row) -> bool:
    """Whether the members are blocks, or stages of blocks."""
    members = row.members
    if len(members) == 1:
        # A single member repeats nothing: what comes before it tells a block from the 0 of a Sequential.
        return members[0].matrices > 1 and members[0].first > 0 and not _is_model(members[0])
    blocks = [member for member in members if member.matrices > 1]
    if 2 * len(blocks) < len(members) or any(_is_model(member) for member in members):
        return False
    single = members[: len(members) - len(blocks)]  # as a stem is
    return alike(members) or (members == [*single, *blocks] and bool(BLOCKS.search(row.word)))


def _is_model(node: Node) -> bool:
    """Whether a member is a whole model: it holds a chain together with an embedding."""
    return any(leaf.module == "Embedding" for leaf in node.leaves) and _holds_blocks(node)


def _holds_blocks(node: Node) -> bool:
    """Whether some part of it is a list of several blocks."""
    lists = (row for row in rows(node) if row.listed and len(row.members) > 1)
    if any(is_chain(row) and alike(row.members) for row in lists):
        return True
    return any(_holds_blocks(kid) for kid in node.kids.values())


def layers_of(row: Row) -> list[frozenset[str]]:
    """The layers of a plain stack: what multiplies begins one, norms and activations go with it."""
    layers: list[frozenset[str]] = []
    for member in row.members:
        if member.matrices or not layers:
            layers.append(member.names)
        else:
            layers[-1] |= member.names
    return layers if any(member.matrices for member in row.members) else []


def alike(members: Sequence[Node]) -> bool:
    """Whether most members have another one like them."""
    kinds: dict[frozenset[tuple[str, ...]], list[Node]] = {}
    for member in members:
        kinds.setdefault(member.below, []).append(member)
    paired = sum(
        len(same)
        for kind, same in kinds.items()
        if len(same) > 1 or any(like(same[0], other[0]) for name, other in kinds.items() if name != kind)
    )
    return 2 * paired > len(members)


def like(one: Node, other: Node) -> bool:
    """Whether most of the names in the smaller of two members are in the other."""
    return len(one.below & other.below) > ALIKE * min(len(one.below), len(other.below))
