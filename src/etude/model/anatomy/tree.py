"""A model as a tree of named parts, read from the dotted names of its parameters.

Two spellings are evened out. Wrappers that put a word into names (`torch.compile`, FSDP, activation
checkpointing, DDP) leave no trace, so that a wrapped model has the tree of the bare one. The layers of a
recurrent net, which torch writes as `weight_ih_l0`, `weight_ih_l1`, become the members of a list.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from etude.model.leaf import Leaf

Steps = tuple[str, ...]

WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}

PEFT = ("base_model", "model")

_RECURRENT = re.compile(r"((?:weight|bias)_(?:ih|hh|hr|ch|c))_l(\d+)(\w*)")
_NUMBERED = re.compile(r"(.*[^\d_])_?(\d+)")
_TWICE = re.compile(r"(.*[^\d_])_?(\d+)(?:_(\d+)|([a-z]))")


def parts(name: str) -> Steps:
    """The steps from the model to a parameter, whatever wraps the parts on the way.

    >>> parts("_orig_mod.encoder.rnn.weight_ih_l1_reverse")
    ('encoder', 'rnn', 'layers', '1', 'weight_ih_reverse')
    """
    *modules, last = (part for part in name.split(".") if part not in WRAPPERS)
    if found := _RECURRENT.fullmatch(last):
        kind, layer, rest = found.groups()
        return (*modules, "layers", layer, kind + rest)
    return (*modules, last)


@dataclass
class Node:
    """One part of a model: the steps that lead to it, its own parts, and its parameters as registered."""

    path: Steps = ()
    first: int = 0
    kids: dict[str, "Node"] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)

    @cached_property
    def is_list(self) -> bool:
        """Whether its parts have numbers for names."""
        return bool(self.kids) and all(kid.isdecimal() for kid in self.kids)

    @cached_property
    def below(self) -> frozenset[Steps]:
        """The steps from here to its parameters."""
        return frozenset((part, *rest) for part, kid in self.kids.items() for rest in kid.below or [()])

    @cached_property
    def matrices(self) -> int:
        """How many of its parameters multiply: the weights of linear layers, convolutions and mixers."""
        return sum(leaf.multiplies for leaf in self.leaves)

    @cached_property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(leaf.size for leaf in self.leaves)

    @property
    def width(self) -> int:
        """How wide what comes out of it is: the extent of its last weight or vector."""
        wide = [leaf for leaf in self.leaves if leaf.multiplies] or self.leaves
        return wide[-1].shape[0] if wide[-1].shape else 1

    @property
    def outs(self) -> set[tuple[int, ...]]:
        """The shapes of a vector beside what comes out of it; for a table, one along any of its extents."""
        return {(self.width,)} if self.kids else {(extent,) for extent in self.leaves[0].shape}

    @property
    def names(self) -> frozenset[str]:
        """The full names of its parameters."""
        return frozenset(leaf.name for leaf in self.leaves)


@dataclass
class Row:
    """Parts in their order under one word: `layer.0`, `layer.1` … or, not listed, `layer1`, `layer2` …"""

    word: str
    path: Steps
    members: list[Node]
    listed: bool = True

    @property
    def size(self) -> int:
        """How many numbers they hold."""
        return sum(member.size for member in self.members)


def paths(leaves: Iterable[Leaf]) -> dict[str, Steps]:
    """The steps to every parameter by its name.

    A `module` around the whole model, as of DDP, is left out, and so is PEFT's `base_model.model`.
    """
    found = {leaf.name: parts(leaf.name) for leaf in leaves}
    while found and all(steps[0] == "module" for steps in found.values()):
        found = {name: steps[1:] for name, steps in found.items()}
    return {name: steps[2:] if steps[:2] == PEFT else steps for name, steps in found.items()}


def tree(leaves: Sequence[Leaf]) -> Node:
    """A model as a tree; see `paths`."""
    steps = paths(leaves)
    root = Node()
    for position, leaf in enumerate(leaves):
        node = root
        node.leaves.append(leaf)
        for i, part in enumerate(steps[leaf.name]):
            node = node.kids.setdefault(part, Node(steps[leaf.name][: i + 1], position))
            node.leaves.append(leaf)
    return root


def rows(node: Node) -> list[Row]:
    """The lists among the parts of a node, in order of registration; the node itself, if it is one."""
    if node.is_list:
        return [Row(_word(node), node.path, _members(node))]
    found = [Row(_word(kid), kid.path, _members(kid)) for kid in node.kids.values() if kid.is_list]
    numbered: dict[str, dict[int, Node]] = {}
    for name, kid in node.kids.items():
        if match := _NUMBERED.fullmatch(name):
            numbered.setdefault(match[1], {})[int(match[2])] = kid
    for word, members in numbered.items():
        if word in node.kids and 0 not in members:
            members[0] = node.kids[word]
        numbers = sorted(members)
        if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            before = [other[numbers[0] - 1] for other in numbered.values() if [*other] == [numbers[0] - 1]]
            first = before if len(before) == 1 and numbers[0] > 1 else []  # HRNet's `layer1` before `stage2`
            found.append(
                Row(word, (*node.path, word), [*first, *(members[number] for number in numbers)], False)
            )
    return sorted([*found, *_twice(node)], key=lambda row: row.members[0].first)


def _twice(node: Node) -> list[Row]:
    """The parts with two numbers, stage and block: DPN's `conv3_2`, Inception's `Mixed_6b`.

    The stem has the same word, and one layer.
    """
    found: dict[str, dict[tuple[int, int], Node]] = {}
    for name, kid in node.kids.items():
        if match := _TWICE.fullmatch(name):
            block = int(match[3]) if match[3] else ord(match[4])
            found.setdefault(match[1], {})[int(match[2]), block] = kid
    rows = []
    for word, parts in found.items():
        stages = sorted({stage for stage, _ in parts})
        blocks = [sorted(block for at, block in parts if at == stage) for stage in stages]
        whole = [stages, *blocks]
        if len(stages) > 1 and all(one == list(range(one[0], one[0] + len(one))) for one in whole):
            members = [parts[key] for key in sorted(parts)]
            start = next((i for i, member in enumerate(members) if member.matrices > 1), 0)
            rows.append(Row(word, (*node.path, word), members[start:], False))
    return rows


def _members(node: Node) -> list[Node]:
    return [node.kids[number] for number in sorted(node.kids, key=int)]


def _word(node: Node) -> str:
    return next((step for step in reversed(node.path) if not step.isdecimal()), "")


def words(steps: Sequence[str]) -> set[str]:
    """The words of a name.

    >>> sorted(words(("textModel", "final_norm2")))
    ['final', 'model', 'norm', 'text']
    """
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", ".".join(steps))
    return set(filter(None, re.split(r"[\d._]+", snake.lower().replace("per_layer", "perlayer"))))
