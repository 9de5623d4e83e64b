"""Chains of repeated blocks, found from the names of parameters alone.

A list whose numbered members hold the same names below them (`encoder.layer.0.attention.…`,
`encoder.layer.1.attention.…`) is a chain, wherever it hangs and whatever it is called.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from etude.model.leaf import Leaf

# Members are alike when more than this share of the smaller one's names is in the other. T5's first block has
# a table that the others lack and the layers of a hybrid differ in their mixer (both alike); the attention
# and the feed-forward within one T5 block share one name in three (not alike).
ALIKE = 0.5


class Chain(NamedTuple):
    """Blocks from the bottom up, each as the prefixes of its parameters, and the `path` of their list.

    A block has several prefixes in models such as XLM, which keep one list of attentions, one of norms and
    one of feed-forwards.
    """

    path: str
    blocks: tuple[tuple[str, ...], ...]

    def block(self, name: str) -> int | None:
        """Which block, counted from 1, holds a parameter; None if none does."""
        for i, prefixes in enumerate(self.blocks):
            if name.startswith(prefixes):
                return i + 1
        return None


@dataclass
class _Node:
    """One part of the model: its path, the names below it, where in the order of registration they begin."""

    path: str = ""
    first: int = 0
    kids: dict[str, "_Node"] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    embedding: bool = False

    @property
    def prefix(self) -> str:
        return self.path + "." if self.path else ""

    @property
    def members(self) -> list["_Node"]:
        """The members of a list in their order; nothing for what is not a list."""
        if not all(kid.isdecimal() for kid in self.kids):
            return []
        return [self.kids[kid] for kid in sorted(self.kids, key=int)]

    @property
    def below(self) -> frozenset[str]:
        return frozenset(name[len(self.prefix) :] for name in self.names)

    @property
    def is_block(self) -> bool:
        """A block holds several modules; a member that is one layer (`classifier.0.weight`) is none."""
        return len({name.rpartition(".")[0] for name in self.below}) > 1


def find(leaves: Iterable[Leaf]) -> list[Chain]:
    """Every chain that lies beside the others, in order of registration.

    A list of one block counts only where no list has several; what repeats inside a block (experts, the parts
    of a T5 block) is no chain.

    >>> names = ["embed.weight", *(f"h.{i}.{part}.weight" for i in range(3) for part in ("attn", "mlp"))]
    >>> find(Leaf(name, (4, 4)) for name in names)
    [Chain(path='h', blocks=(('h.0.',), ('h.1.',), ('h.2.',)))]
    """
    found = _search(_tree(leaves))
    return [chain for chain in found if len(chain.blocks) > 1] or found


def _tree(leaves: Iterable[Leaf]) -> _Node:
    root = _Node()
    for position, leaf in enumerate(leaves):
        path = [root]
        for part in leaf.name.split("."):
            new = _Node(path[-1].prefix + part, position)
            path.append(path[-1].kids.setdefault(part, new))
        for node in path:
            node.names.append(leaf.name)
            node.embedding |= leaf.module == "Embedding"
    return root


def _search(node: _Node) -> list[Chain]:
    members = node.members
    if members and all(member.is_block for member in members):
        # A single member repeats nothing: what comes before it tells a block from the 0 of an nn.Sequential.
        chain = _alike(members) if len(members) > 1 else node.first > 0
        if chain and not _are_models(node):
            return [Chain(node.path, tuple((block.prefix,) for block in _flat(members)))]
    return _parallel(node, [chain for kid in node.kids.values() for chain in _search(kid)])


def _are_models(node: _Node) -> bool:
    """Whether the members are whole models, such as two towers in a list.

    Those hold a chain of their own together with their embeddings, or with nothing below the list.
    """
    inner = any(len(chain.blocks) > 1 for member in node.members for chain in _search(member))
    return inner and (node.embedding or not node.first)


def _flat(members: Sequence[_Node]) -> list[_Node]:
    """The blocks of stages: where members are nothing but a list of blocks (Funnel, ALBERT), those blocks."""
    inner = []
    for member in members:
        while len(member.kids) == 1 and not member.members:
            member = next(iter(member.kids.values()))
        blocks = member.members
        if not blocks or not all(block.is_block for block in blocks) or not _alike(blocks):
            return list(members)
        inner += blocks
    return inner


def _alike(members: Sequence[_Node]) -> bool:
    """Whether every member has another one like it."""
    names = [member.below for member in members]
    kinds = set(names)

    def like(one: frozenset[str], other: frozenset[str]) -> bool:
        return len(one & other) > ALIKE * min(len(one), len(other))

    return len(kinds) == 1 or all(
        names.count(one) > 1 or any(like(one, other) for other in kinds - {one}) for one in kinds
    )


def _parallel(node: _Node, found: list[Chain]) -> list[Chain]:
    """Neighbouring lists of equal length and different make are parts of the same blocks (XLM, Flaubert)."""
    kids = list(node.kids.values())
    chains = {chain.path for chain in found}
    for start, kid in enumerate(kids):
        parts = [kid]
        for other in kids[start + 1 :]:
            make = [part.members[0] for part in (*parts, other) if part.members]
            if len(other.members) != len(kid.members) or _alike(make):
                break
            parts.append(other)
        if kid.path in chains and len(parts) > 1:
            blocks = zip(*([member.prefix for member in part.members] for part in parts), strict=True)
            rest = [chain for chain in found if chain.path not in {part.path for part in parts}]
            return [Chain(kid.path, tuple(blocks)), *_parallel(node, rest)]
    return found
