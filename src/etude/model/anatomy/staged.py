"""The blocks of a stack of lists, stage after stage, with what every stage has beside its own."""

from collections.abc import Sequence
from dataclasses import replace

from etude.model.anatomy.block import BLOCKS, alike, is_chain
from etude.model.anatomy.stack import POSITIONS
from etude.model.anatomy.tree import Node, Row, Steps, rows

# What models call blocks that have a root beside them (DLA).
TREE = "tree"


def blocks_of(stack: Sequence[Row], main: Row) -> list[frozenset[str]]:
    """The blocks of a stack of lists, stage after stage, with what stands beside them."""
    stages = _stages(main)
    blocks: list[frozenset[str]] = []
    between: frozenset[str] = frozenset()
    for level, inner in enumerate(stages):
        here = sorted((row.members[level] for row in stack), key=lambda node: node.first)
        early = frozenset().union(*(row.members[level].names for row in stack if POSITIONS.search(row.word)))
        order = [leaf.name for node in here for leaf in node.leaves]
        if not inner and any(stages) and main.members[level].matrices < 2:
            between |= {*order} if blocks else set()  # what joins two stages goes with the next one
            continue
        blocks += inner or [frozenset(order)]
        first = len(blocks) - max(1, len(inner))
        held = frozenset().union(*inner) or frozenset(order)
        before = frozenset(order[: next(i for i, name in enumerate(order) if name in held)])
        into = before - main.members[0].names if inner and not level else frozenset()  # leads into the model
        before |= (early | _enters(main.members[level], held)) if inner else frozenset()
        blocks[first] |= before - into | between
        blocks[-1] |= frozenset(order) - held - before - (_unsure(main.members[level]) if inner else set())
        between = frozenset()
    blocks[-1] |= between
    return blocks


def _unsure(stage: Node) -> frozenset[str]:
    """The projectors of a stage, of which nothing says whether they come before or after its blocks."""
    parts = [kid for name, kid in stage.kids.items() if name.endswith("projector") and kid.matrices]
    return frozenset().union(*(kid.names for kid in parts))


def _enters(stage: Node, held: frozenset[str]) -> frozenset[str]:
    """The downsampling that a stage registers after its blocks though it feeds them, by its widths.

    FasterNet's turns the width of the stage before into that of the blocks; Swin's, at the end of its stage,
    turns that of the blocks into that of the next.
    """
    widths = {
        extent for leaf in stage.leaves if leaf.name in held and leaf.multiplies for extent in leaf.shape
    }
    found: set[str] = set()
    for name, kid in stage.kids.items():
        weights = [leaf.shape for leaf in kid.leaves if leaf.multiplies]
        if name.startswith("down") and len(weights) == 1 and not kid.names & held:
            enters = weights[-1][0] in widths and weights[0][1] not in widths
            found |= kid.names if enters else set()
    return frozenset(found)


def with_feeders(
    blocks: list[frozenset[str]], stack: Sequence[Row], lists: Sequence[Row]
) -> list[frozenset[str]]:
    """Blocks with the lists beside them of which each member feeds as many: HiFi-GAN's upsamplers.

    Member i stands with the first of its blocks; they are known by its width, which all of them have.
    """
    leaves = {leaf.name: leaf for row in lists for member in row.members for leaf in member.leaves}
    firsts = [member.first for row in stack for member in row.members]
    for row in lists:
        each, over = divmod(len(blocks), len(row.members))
        within = min(firsts) < row.members[0].first < max(firsts)  # HRNet's transitions
        taken = within or any(row is one for one in stack)
        if taken or over or not row.listed or each < 2 or len(row.members) < 2 or is_chain(row):
            continue
        outs = [{leaf.shape for leaf in member.leaves if len(leaf.shape) == 1} for member in row.members]
        groups = [blocks[i * each : (i + 1) * each] for i in range(len(outs))]
        fits = (
            out & {leaves[n].shape for n in one}
            for out, group in zip(outs, groups, strict=True)
            for one in group
        )
        if len(set(map(frozenset, outs))) > 1 and all(fits):
            for i, member in enumerate(row.members):
                blocks[i * each] |= member.names
    return blocks


def _stages(main: Row) -> list[tuple[frozenset[str], ...]]:
    """The blocks of every member that is a stage; none of them has any if they are blocks themselves."""
    members = main.members
    found = [_inner(member) for member in members]
    if 2 * sum(map(bool, found)) < len(members):
        # of plain layers, if not each stage has as many, as the convolutions in a block
        plain = [_inner(one, least=1) if one.is_list or not any(found) else None for one in members]
        if all(one.is_list for one in members):
            lists = [rows(one)[0] for one in members]
            layers = [layer for row in lists for layer in row.members]
            plain = lists if all(layer.matrices for layer in layers) and alike(layers) else plain
        found = plain if len({len(row.members) if row else 0 for row in plain}) > 1 else found
    lists = [row for row in found if row]
    if 2 * len(lists) < len(members) or all(len(row.members) < 2 for row in lists):
        return [()] * len(members)
    ways = [row.path[len(one.path) :] for row, one in zip(found, members, strict=True) if row]
    usual = max(ways, key=ways.count)
    found = [_there(member, usual) or row for row, member in zip(found, members, strict=True)]
    return [tuple(one.names for one in row.members) if row else () for row in found]


def _inner(member: Node, least: int = 2) -> Row | None:
    """The list of a stage's blocks, which holds most of it; none for what is itself a block."""
    for row in _deep(member):
        held = sum(len(one.leaves) for one in row.members)
        every = len(row.members) == len(member.kids) and not any(one.is_list for one in row.members)
        named = row.path == member.path or BLOCKS.search(row.word) or (every and least > 1)
        whole = all(one.matrices >= least for one in row.members)
        same = len(row.members) == 1 or alike(row.members)
        if named and whole and same and 2 * held >= len(member.leaves):
            beside = all(one.is_list for one in row.members) and len({one.width for one in row.members}) > 1
            return None if beside else row  # CrossViT's branches have widths of their own
    return None


def _there(member: Node, usual: Steps) -> Row | None:
    """The list of a stage that is where most other stages have their blocks, of whatever kinds it is.

    EfficientNet's first and last stages hold single convolutions, MobileViT's last ones blocks of two kinds,
    CSPNeXt's last one a part more before its blocks.
    """
    named = [step for step in usual if not step.isdecimal()]
    at = (
        row
        for row in _deep(member)
        if [step for step in row.path[len(member.path) :] if not step.isdecimal()] == named
    )
    return next((row for row in at if all(one.matrices for one in row.members)), None)


def _deep(node: Node) -> list[Row]:
    """The lists in a node, and those inside a part that is most of it."""
    found = [
        row for row in rows(node) if row.listed or len(row.members) == len(node.kids) or row.word == TREE
    ]
    found = [_with_parts(row, found) for row in found]
    for kid in node.kids.values():
        if not kid.is_list and 2 * len(kid.leaves) >= len(node.leaves) and kid.kids:
            found += _deep(kid)
    return found


def _with_parts(blocks: Row, lists: Sequence[Row]) -> Row:
    """The blocks of a stage with the lists beside them that hold a part of each: the attention of a VQGAN."""
    last = blocks.members[-1].first  # a downsampling comes before
    parts = [
        row
        for row in lists
        if len(row.members) == len(blocks.members)
        and not BLOCKS.search(row.word)
        and row.members[0].first > last
    ]
    if not parts or len(blocks.members) < 2 or not BLOCKS.search(blocks.word):
        return blocks
    members = [
        replace(one, leaves=[leaf for node in (one, *others) for leaf in node.leaves])
        for one, *others in zip(blocks.members, *(row.members for row in parts), strict=True)
    ]
    return replace(blocks, members=members)
