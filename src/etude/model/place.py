"""Where the parameters beside a chain of blocks stand: below it, above it or outside the backbone.

Nothing is known here of any family. The backbone is the smallest part of a tower that holds the chain and
what feeds it; inside it the kinds of modules and the order of registration decide, and words only where
models register what stands above their blocks before them, or below after them.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from etude.model.leaf import Leaf
from etude.model.tower import Tower
from etude.model.tree import Steps, words
from etude.model.unit import ABOVE, BELOW, HEAD, JOINS, Unit, passed, units

# What feeds a backbone from outside it, and what is an input of another kind than the backbone's own.
FED = {"embed", "tokens"}
INPUTS = {"vision", "visual", "image", "video", "audio", "speech", "tower", "encoder"}

# What makes positions, though it be called a head: D-FINE's `query_pos_head`.
POSITIONS = {"pos", "position", "positions", "positional"}

# What acts between blocks or on both sides: Gemma 3n's AltUp, CLIPSeg's conditioning, Granite's middle.
DOUBTFUL = {"altup", "film", "mid"}

# What is called an embedding and stands after the blocks: EmbeddingGemma's projection, DETR's boxes.
OUTPUTS = {"projection", "proj", "class", "bbox"}

Rung = tuple[int, str]


@dataclass(frozen=True)
class _Backbone:
    """The part of a tower that units are placed against; `alone` if the model has no other tower."""

    steps: Steps
    scope: Steps
    path: Steps
    blocks: int
    alone: bool

    def holds(self, unit: Unit) -> bool:
        return unit.steps[: len(self.steps)] == self.steps

    def rest(self, unit: Unit) -> Steps:
        """The name of a unit without what the whole backbone, or else the whole tower, is called."""
        return unit.steps[len(self.steps if self.holds(unit) else self.scope) :]

    def __str__(self) -> str:
        return ".".join(self.steps) or "the model"


def place(leaves: Sequence[Leaf], steps: Mapping[str, Steps], tower: Tower, alone: bool) -> dict[str, Rung]:
    """Depth and reason by name, for all that is certain; see `etude.model.ladder` for the depths.

    `leaves` are those of the tower, `steps` the way to each by name. All leaves of a unit, the largest part
    of the model that holds nothing of the chain, stand on one rung. What lies outside the backbone is the
    head in a model of one tower; beside other towers only what is named so is.
    """
    chain = tower.chain
    numbers = [chain.block(leaf.name) for leaf in leaves]
    start = _start(leaves, steps, tower)
    backbone = _Backbone(
        _backbone(leaves, steps, tower, start), tower.scope, tower.path, len(chain.blocks), alone
    )
    found: dict[str, Rung] = {}
    for leaf, number in zip(leaves, numbers, strict=True):
        if number:
            only = "the only block" if backbone.blocks == 1 else f"block {number} of {backbone.blocks}"
            found[leaf.name] = number, f"{only} in {chain.path or 'the model'}"
    through = passed(steps[leaf.name] for leaf in leaves if leaf.name in found)
    beside = units([leaf for leaf in leaves if leaf.name not in found], steps, through)
    order = {leaf.name: i for i, leaf in enumerate(leaves)}
    fed = any(leaf.module == "Embedding" for leaf in leaves[:start])
    late: Unit | None = (
        None  # the last table after the blocks, if others come before; the next norm is its own
    )
    for unit in beside:
        position = order[unit.members[0].name]
        follows = late and unit.norm and late.steps[:-1] == unit.steps[:-1]
        if rung := _between(unit, numbers[:position], numbers[position:]):
            pass
        elif late and follows and not words(backbone.rest(unit)) & ABOVE:
            rung = found.get(late.members[0].name) and (0, f"the norm of {late}")
        else:
            rung = _rung(unit, backbone, position < start, beside)
        if rung:
            found |= {leaf.name: rung for leaf in unit.members}
        if not unit.norm:
            late = unit if fed and position >= start and not (rung and rung[0]) else None
    return found


def _rung(unit: Unit, backbone: _Backbone, early: bool, beside: Sequence[Unit]) -> Rung | None:
    if not backbone.holds(unit):
        return _outside(unit, backbone, early)
    top, rest = backbone.blocks + 1, ".".join(backbone.rest(unit))
    named = words(backbone.rest(unit))
    embeds = any(word.startswith("emb") for word in named)
    if backbone.alone and not backbone.steps and not early and named & {*HEAD, "fc"}:
        return top + 1, f"a head by its name, {rest}"
    if unit.large and not named & {*HEAD, "patch", "stem"}:
        return None
    if named & POSITIONS and not named & {"post"}:
        return 0, f"below the blocks by its name, {rest}"
    if unit.tables and not named & ABOVE:
        return 0, "an embedding" if len(unit.members) == 1 else f"with the embeddings in {unit}"
    if named & DOUBTFUL or (early and "head" in named):
        return None
    if named & ABOVE:
        return top, f"above the blocks by its name, {rest}"
    if unit.single:
        if len(unit.members[0].shape) > 1 or embeds or named & BELOW:
            return 0, f"a table of {backbone} itself"
        return None
    if named & DOUBTFUL or (not early and _doubtful(unit, named, backbone)):
        return None
    if early:
        return 0, "before the blocks"
    if named & JOINS and not named & {"input", "inputs"}:
        return top, f"above the blocks by its name, {rest}"
    if named & BELOW:
        return 0, f"below the blocks by its name, {rest}"
    if not embeds:
        return top, "a norm after the blocks" if unit.norm else "after the blocks"
    if not unit.norm:
        return (top, f"after the blocks, by its name, {rest}") if named & OUTPUTS else None
    # Only models that normalise before each block use norms without a bias (RMSNorm), and those end in one:
    # LFM2's `embedding_norm`. With a bias BART's `layernorm_embedding` comes first, BigBird-Pegasus' last.
    if [other for other in beside if other.norm] == [unit]:
        bias = any(leaf.name.endswith("bias") for leaf in unit.members)
        return None if bias else (top, "the only norm beside the blocks")
    return 0, "the norm of the embeddings"


def _doubtful(unit: Unit, named: Set[str], backbone: _Backbone) -> bool:
    """Whether what is registered after the blocks may well come before or between them.

    A decoder's `proj` may be that of its input; of a list that is one shorter than the blocks each member may
    lie between two of them (Informer's convolutions), and so may a part of a stage.
    """
    inside = len(unit.steps) > len(backbone.path) + 1 and unit.steps[: len(backbone.path)] == backbone.path
    lists = {leaf.name.partition(f"{unit}.")[2].partition(".")[0] for leaf in unit.members}
    between = all(part.isdecimal() for part in lists) and len(lists) == backbone.blocks - 1
    return between or inside or (named == {"proj"} and "decoder" in unit.steps)


def _outside(unit: Unit, backbone: _Backbone, early: bool) -> Rung | None:
    """Outside the backbone lies the head, as a rule; what feeds the backbone is told by its kind or name."""
    top, named = backbone.blocks + 1, words(backbone.rest(unit))
    embeds = any(word.startswith("emb") for word in named)
    within = not backbone.alone or (len(backbone.steps) > 1 and unit.steps[:1] == backbone.steps[:1])
    head = top + 1, f"outside {backbone}, which holds the blocks"
    if named & HEAD or (not within and named & {"label", "labels"}):
        return head
    if unit.large and within:
        return None
    if not named & ABOVE:
        if unit.tables or named & FED or (embeds and early):
            return 0, f"an embedding outside {backbone}"
        if embeds and not named & {"projection", "proj", "decoder"}:
            return None
        if within and backbone.alone and (early or named & INPUTS):
            return None
    return (top, f"above {backbone}, which holds the blocks") if within else head


def _between(unit: Unit, before: Sequence[int | None], after: Sequence[int | None]) -> Rung | None:
    """The block with which a unit stands that is registered between two: DenseNet's transitions."""
    last = next((number for number in reversed(before) if number), None)
    following = next((number for number in after if number), None)
    if last is None or following is None or following - last not in (0, 1):
        return None
    depth = following if any(leaf.multiplies for leaf in unit.members) else last
    return depth, f"between block {last} and block {following}"


def _start(leaves: Sequence[Leaf], steps: Mapping[str, Steps], tower: Tower) -> int:
    """Where the blocks begin; a part's own parameters are registered before its parts and tell nothing."""
    blocks = [i for i, leaf in enumerate(leaves) if tower.chain.block(leaf.name)]
    return next((i for i in blocks if len(steps[leaves[i].name]) > len(tower.path) + 1), blocks[0])


def _backbone(leaves: Sequence[Leaf], steps: Mapping[str, Steps], tower: Tower, start: int) -> Steps:
    """The smallest part of the tower that holds the chain and what feeds it.

    That is the largest embedding, if possible one before the blocks, under any of its names (a position table
    may lie closer to the blocks, as in RoFormer); in a model without embeddings, everything before the blocks
    that is not called a head.
    """
    tables = [leaf for leaf in leaves if leaf.module == "Embedding" and not tower.chain.block(leaf.name)]
    early = [leaf for leaf in leaves[:start] if leaf in tables]
    if early or (tables and not start):
        largest = max(early or tables, key=lambda leaf: leaf.size)
        feeding = {steps[leaf.name] for leaf in tables if leaf.owner == largest.owner}
        enough = 1
    else:
        feeding = {steps[leaf.name] for leaf in leaves[:start]}
        inside = {one for one in feeding if not words(one) & HEAD and not _direct(one, tower.path)}
        feeding = inside or feeding
        enough = max(len(feeding), 1)
    for n in range(len(tower.path), len(tower.scope), -1):
        if sum(one[:n] == tower.path[:n] for one in feeding) >= enough:
            return tower.path[:n]
    return tower.scope


def _direct(steps: Steps, path: Steps) -> bool:
    """Whether a parameter belongs itself to a part that holds the blocks; such are registered first."""
    return steps[:-1] == path[: len(steps) - 1]
