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

from etude.model.leaf import Leaf
from etude.model.tree import Node, Row, Steps, rows, tree

# Members are alike when more than this share of the smaller one's names is in the other. T5's first block has
# a table that the others lack and the layers of a hybrid differ in their mixer (both alike); the attention
# and the feed-forward within one T5 block share one name in three (not alike).
ALIKE = 0.5

# Two neighbouring lists of blocks are one chain only if the smaller holds less than this share of the larger:
# a part that accompanies each block (BLT's cross-attention, a third of it), not LXMERT's three stacks.
SMALL = 0.35

# What models call lists of blocks. Others, such as `experts`, `heads` or `deepstack_merger_list`, are not
# taken for a chain where one of these is there.
BLOCKS = re.compile(
    r"(^|_|res)(layer|level|block|bottleneck|conformer|stage|cell|unit|group|tree|encoder|decoder|h)(s|$|_)"
    r"|^(down|up)$"
)


# What they call tables and convolutions of positions, one for each stage; they act on its first block.
POSITIONS = re.compile(r"(^|_)pos(_|$)")

# What they call the few blocks after the others that see the class token alone (CaiT, XCiT, VOLO).
LATER = re.compile(r"(^|_)(post|cls|class|token)(_|$)")

# What they call blocks that have a root beside them (DLA).
TREE = "tree"

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
    found = [
        (stack[0].members[0].first, chain) for stack in _stacks(lists) if (chain := _chain(stack, lists))
    ]
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


def _stacks(lists: Sequence[Row]) -> list[list[Row]]:
    """Neighbouring lists of equal length and different make, together."""
    stacks: list[list[Row]] = []
    for row in sorted(lists, key=lambda row: (_is_chain(row), bool(BLOCKS.search(row.word))), reverse=True):
        first = row.members[0].first
        fitting = [stack for stack in stacks if _belongs(row, stack)]
        following = [stack for stack in fitting if stack[0].members[0].first > first]
        if fitting:
            (following or fitting)[0].append(row)
        else:
            stacks.append([row])
    return stacks


def _belongs(row: Row, stack: Sequence[Row]) -> bool:
    """Whether a list holds further parts of the blocks of a stack, and no blocks of its own."""
    first, last = stack[0], row.members[-1]
    if len(row.members) != len(first.members) or len(first.members) < 2 or row.listed != first.listed:
        return False
    if not any(member.matrices for member in row.members):
        return any(_layers(one) for one in stack)
    if any(_like(last, other.members[-1]) for other in stack):
        return False
    named = [one for one in (*stack, row) if BLOCKS.search(one.word) and _is_chain(one)]
    if len(named) > 1:
        sizes = sorted(one.size for one in named)
        return sizes[-2] < SMALL * sizes[-1]
    if _lateral(row) and not _lateral(first):
        return False
    if not any(_is_chain(one) for one in (*stack, row)):
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


def _chain(stack: Sequence[Row], lists: Sequence[Row]) -> Chain | None:
    main = max(stack, key=lambda row: (_is_chain(row), bool(BLOCKS.search(row.word)), row.size))
    path = ".".join(main.path)
    if _is_chain(main):
        blocks = _with_feeders(_blocks(stack, main), stack, lists)
        return Chain(path, tuple(blocks), True, main.word, main.listed)
    if not all(member.kids and member.matrices < 2 for member in main.members):
        return None
    plain = _layers(main)
    for row in stack:
        if row is not main and len(plain) == len(row.members):
            plain = [layer | member.names for layer, member in zip(plain, row.members, strict=True)]
    return Chain(path, tuple(plain), False, main.word, main.listed) if len(plain) > 1 else None


def _is_chain(row: Row) -> bool:
    """Whether the members are blocks, or stages of blocks."""
    members = row.members
    if len(members) == 1:
        # A single member repeats nothing: what comes before it tells a block from the 0 of a Sequential.
        return members[0].matrices > 1 and members[0].first > 0 and not _is_model(members[0])
    blocks = [member for member in members if member.matrices > 1]
    if 2 * len(blocks) < len(members) or any(_is_model(member) for member in members):
        return False
    single = members[: len(members) - len(blocks)]  # as a stem is
    return _alike(members) or (members == [*single, *blocks] and bool(BLOCKS.search(row.word)))


def _is_model(node: Node) -> bool:
    """Whether a member is a whole model: it holds a chain together with an embedding."""
    return any(leaf.module == "Embedding" for leaf in node.leaves) and _holds_blocks(node)


def _holds_blocks(node: Node) -> bool:
    """Whether some part of it is a list of several blocks."""
    lists = (row for row in rows(node) if row.listed and len(row.members) > 1)
    if any(_is_chain(row) and _alike(row.members) for row in lists):
        return True
    return any(_holds_blocks(kid) for kid in node.kids.values())


def _blocks(stack: Sequence[Row], main: Row) -> list[frozenset[str]]:
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


def _with_feeders(
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
        if taken or over or not row.listed or each < 2 or len(row.members) < 2 or _is_chain(row):
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
            plain = lists if all(layer.matrices for layer in layers) and _alike(layers) else plain
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
        alike = len(row.members) == 1 or _alike(row.members)
        if named and whole and alike and 2 * held >= len(member.leaves):
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


def _layers(row: Row) -> list[frozenset[str]]:
    """The layers of a plain stack: what multiplies begins one, norms and activations go with it."""
    layers: list[frozenset[str]] = []
    for member in row.members:
        if member.matrices or not layers:
            layers.append(member.names)
        else:
            layers[-1] |= member.names
    return layers if any(member.matrices for member in row.members) else []


def _alike(members: Sequence[Node]) -> bool:
    """Whether most members have another one like them."""
    kinds: dict[frozenset[tuple[str, ...]], list[Node]] = {}
    for member in members:
        kinds.setdefault(member.below, []).append(member)
    paired = sum(
        len(same)
        for kind, same in kinds.items()
        if len(same) > 1 or any(_like(same[0], other[0]) for name, other in kinds.items() if name != kind)
    )
    return 2 * paired > len(members)


def _like(one: Node, other: Node) -> bool:
    return len(one.below & other.below) > ALIKE * min(len(one.below), len(other.below))
