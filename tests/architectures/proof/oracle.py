"""What a model's towers must be, from its configuration and its live modules; nothing here looks at étude.

A tower is a list of blocks. Its expected length is the number that the nearest configuration has for it, and
where a configuration has none, the number that a person read off the code (`counts`).
"""

import re
from collections import Counter, defaultdict
from typing import NamedTuple

from proof.counts import BESIDE, BESIDE_LISTS, COUNTS, HAND, NAMED, PARTS, STAGES, TIMM, Config, Hand
from proof.facts import Facts


class Tower(NamedTuple):
    """A list of blocks: its path, the path of every block from the bottom up, and whose word its length is.

    A layer k of an LSTM or GRU is the path of the module and `@k`.
    """

    path: str
    blocks: tuple[str, ...]
    source: str


class Expected(NamedTuple):
    """`towers` must be found and `lists` may be; `tables` stand below all blocks; `base` is the backbone.

    `unexplained` are lists of layers for which neither a configuration nor a person has a count.
    """

    towers: tuple[Tower, ...]
    lists: tuple[Tower, ...]
    tables: tuple[str, ...]
    base: str
    unexplained: tuple[str, ...]


def inside(name: str, block: str) -> bool:
    """Whether a block holds a parameter."""
    path, _, k = block.partition("@")
    if not k:
        return name.startswith(path + ".")
    return name.startswith(path + ".") and re.search(rf"_l{k}(_reverse)?$", name) is not None


def expected(facts: Facts) -> Expected:
    tree = _Tree(facts)
    towers, lists, unexplained = [], [], []
    for path, members in _outer(tree):
        tower = _required(tree, path, members)
        if tower is not None:
            towers.append(tower)
            continue
        layers = [m for m in members if tree.modules[m].is_layer]
        if len(layers) > 1 and not _part(tree, path, members):
            unexplained.append(path)
    towers += [*_recurrent(tree), *_named(tree)]
    towers = [tower for tower in towers if not tree.is_copy(tower.path)]
    towers, twins = _without_twins(towers)
    if any(len(tower.blocks) > 1 for tower in towers):
        towers = [tower for tower in towers if len(tower.blocks) > 1]
    taken = tuple(tower.path + "." for tower in towers)
    for path in tree.modules:
        if tree.is_list(path) and not f"{path}.".startswith(taken):
            lists.append(Tower(path, tuple(tree.members[path]), ""))
    held = (*taken, *(tower.path + "." for tower in (*lists, *twins)))
    tables = [path for path, module in tree.modules.items() if module.is_table and not path.startswith(held)]
    base = facts.base if facts.base in tree.modules and tree.modules[facts.base].is_model else ""
    return Expected(tuple(towers), tuple(lists), tuple(tables), base, tuple(unexplained))


class _Tree:
    """The modules of a model with what is below each."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.modules = {module.path: module for module in facts.modules}
        self.members: dict[str, list[str]] = defaultdict(list)
        for path in self.modules:
            if path:
                self.members[path.rpartition(".")[0]].append(path)
        self.held: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        for name, _, _, _, tied in facts.rows:
            while name:
                name = name.rpartition(".")[0]
                self.held[name] += 1
                self.copies[name] += tied is not None

    def config(self, path: str) -> Config:
        """The configuration nearest to a module."""
        while (path not in self.modules or self.modules[path].config is None) and path:
            path = path.rpartition(".")[0]
        number = self.modules[path].config
        return {"class": ""} if number is None else self.facts.configs[number]

    def is_list(self, path: str) -> bool:
        """Whether a module is a list of modules, of which some hold parameters."""
        members = self.members[path]
        numbered = all(member.rpartition(".")[2].isdigit() for member in members)
        return bool(path and self.modules[path].is_list and members and numbered and self.held[path])

    def filled(self, path: str) -> list[str]:
        """The members of a list that hold parameters."""
        return [member for member in self.members[path] if self.held[member]]

    def is_layers(self, members: list[str]) -> bool:
        """Whether the members of a list are more than single layers with a weight and a bias."""
        return all(self.held[m] > 2 for m in members) or any(self.modules[m].is_layer for m in members)

    def inner(self, path: str) -> list[str]:
        """The blocks of a stage: the longest list of them in it, or itself."""
        if self.is_list(path):
            return self.filled(path)
        return max((self.inner(member) for member in self.members[path]), key=len, default=[])

    def is_copy(self, path: str) -> bool:
        """Whether all parameters below a module are another's."""
        return 0 < self.held[path] == self.copies[path]


def _outer(tree: _Tree) -> list[tuple[str, list[str]]]:
    """The outermost lists of layers, and rows of lists such as layer1 to layer4."""
    found: dict[str, list[str]] = {}
    rows: dict[str, list[str]] = defaultdict(list)
    for path in tree.modules:
        if any(path.startswith(other + ".") for other in found):
            continue
        if tree.is_list(path) and (tree.is_layers(tree.filled(path)) or _by_hand(tree, path)):
            found[path] = tree.filled(path)
            rows[re.sub(r"\d+(?=(\.blocks)?$)", "#", path)].append(path)
    for row, paths in rows.items():
        kinds = {tree.modules[member].kind for path in paths for member in found[path]}
        if "#" in row and len(kinds) == 1 and (next(iter(kinds)), len(paths)) in TIMM:
            found[row] = [member for path in paths for member in found.pop(path)]
    return list(found.items())


def _required(tree: _Tree, path: str, members: list[str]) -> Tower | None:
    config = tree.config(path)
    name = config["class"]
    hand = _by_hand(tree, path)
    inner = [tree.inner(member) for member in members]
    blocks = [block for stage in inner for block in stage]
    kinds = {tree.modules[member].kind for member in members}
    if "#" in path:
        stages = {member.rpartition(".")[0] for member in members}
        return _counted(path, TIMM[kinds.pop(), len(stages)], config, members, [])
    if hand is not None:
        return _counted(path, hand, config, members, blocks)
    for field in STAGES:
        value = config.get(field)
        if isinstance(value, (list, tuple)) and value and all(type(n) is int for n in value):
            if [len(stage) for stage in inner] == list(value):
                return Tower(path, tuple(blocks), f"sum of {name}.{field}")
            if sum(value) == len(members) > len(value):
                return Tower(path, tuple(members), f"sum of {name}.{field}")
    if any(BESIDE.search(kind) for kind in kinds):
        return None
    for field in COUNTS:
        if config.get(field) == len(members):
            return Tower(path, tuple(members), f"{name}.{field}")
    return None


def _counted(path: str, hand: Hand, config: Config, members: list[str], blocks: list[str]) -> Tower:
    """A tower counted by hand: its members or, if it is a list of stages, their blocks."""
    count = hand.count(config)
    found = members if count == len(members) else blocks
    if count != len(found):
        raise ValueError(
            f"{path}: {count} by hand, but {len(members)} members and {len(blocks)} blocks in them"
        )
    return Tower(path, tuple(found), f"by hand, {hand.why}")


def _by_hand(tree: _Tree, path: str) -> Hand | None:
    name = tree.config(path)["class"]
    return next((HAND[name, end] for end in _ends(path) if (name, end) in HAND), None)


def _ends(path: str) -> list[str]:
    steps = path.split(".")
    return [".".join(steps[-n:]) for n in range(1, 4)]


def _part(tree: _Tree, path: str, members: list[str]) -> bool:
    """Whether the configuration counts a list as a part beside the blocks."""
    config = tree.config(path)
    beside = any((config["class"], end) in BESIDE_LISTS for end in _ends(path))
    return beside or any(config.get(field) == len(members) for field in PARTS)


def _recurrent(tree: _Tree) -> list[Tower]:
    """LSTMs and GRUs of as many layers as the configuration has for one of its towers."""
    layers: dict[str, set[int]] = defaultdict(set)
    for name, *_ in tree.facts.rows:
        if found := re.fullmatch(r"(.*)\.weight_ih_l(\d+)", name):
            layers[found[1]].add(int(found[2]))
    towers = []
    for path, numbers in layers.items():
        config = tree.config(path)
        field = next((field for field in COUNTS if config.get(field) == len(numbers)), None)
        if field and len(numbers) > 1:
            towers.append(
                Tower(path, tuple(f"{path}@{k}" for k in sorted(numbers)), f"{config['class']}.{field}")
            )
    return towers


def _named(tree: _Tree) -> list[Tower]:
    """Blocks that no list holds."""
    towers = []
    for path in tree.modules:
        name = tree.config(path)["class"]
        if name in NAMED and tree.modules[path].config is not None:
            pattern, hand = NAMED[name]
            begin = re.escape(f"{path}." if path else "")
            blocks = [p for p in tree.modules if re.fullmatch(begin + pattern, p)]
            towers.append(_counted(path, hand, tree.config(path), blocks, []))
    return towers


def _without_twins(towers: list[Tower]) -> tuple[list[Tower], list[Tower]]:
    """Neighbouring lists that one number counts are parts of the same blocks: the first stands for all."""
    first: dict[tuple[str, str], Tower] = {}
    twins = []
    for tower in towers:
        key = tower.path.rpartition(".")[0], tower.source
        if first.setdefault(key, tower) is not tower:
            twins.append(tower)
    return [tower for tower in towers if tower not in twins], twins
