"""Where the parameters beside a chain of blocks stand: below it, above it or outside the backbone.

Nothing is known here of any family. The backbone is the smallest part of a tower that holds the chain and
what feeds it; inside it the kinds of modules and the order of registration decide, and words only where
models register what stands above their blocks before them, or below after them.
"""

from collections.abc import Mapping, Sequence, Set

from etude.model.anatomy.backbone import Backbone
from etude.model.anatomy.between import after, crosses, distils, middles
from etude.model.anatomy.tower import Tower
from etude.model.anatomy.tree import Steps, words
from etude.model.anatomy.unit import ABOVE, BELOW, HEAD, JOINS, Unit, passed, units
from etude.model.leaf import Leaf

# What feeds a backbone from outside it, and what is an input of another kind than the backbone's own.
FED = {"embed", "tokens"}
INPUTS = {"vision", "visual", "image", "video", "audio", "speech", "tower", "encoder"}

# What makes positions, though it be called a head: D-FINE's `query_pos_head`.
POSITIONS = {"pos", "position", "positions", "positional", "rpb", "ref", "reference"}

# What a norm beside the blocks is called that says nothing of its place.
PLAIN = {"layer", "norm", "layernorm", "ln"}

# What acts between blocks: conditioning, whatever comes in the middle.
DOUBTFUL = {"film", "mid"}

# What is called an embedding and stands after the blocks: EmbeddingGemma's projection, DETR's boxes.
OUTPUTS = {"projection", "proj", "class", "bbox", "mask"}

# What predicts in a model that calls it by its place: inception's and NASNet's `last_linear`.
LINEAR = {"last", "linear"}

Rung = tuple[int, str]


def place(leaves: Sequence[Leaf], steps: Mapping[str, Steps], tower: Tower, alone: bool) -> dict[str, Rung]:
    """Depth and reason by name, for all that is certain; see `etude.model.ladder` for the depths.

    `leaves` are those of the tower, `steps` the way to each by name. All leaves of a unit, the largest part
    of the model that holds nothing of the chain, stand on one rung. What lies outside the backbone is the
    head in a model of one tower; beside other towers only what is named so is.
    """
    chain = tower.chain
    numbers = [chain.block(leaf.name) for leaf in leaves]
    backbone = Backbone.of(leaves, steps, tower, alone)
    found: dict[str, Rung] = {}
    for leaf, number in zip(leaves, numbers, strict=True):
        if number:
            only = "the only block" if backbone.blocks == 1 else f"block {number} of {backbone.blocks}"
            found[leaf.name] = number, f"{only} in {chain.path or 'the model'}"
    through = passed(steps[leaf.name] for leaf in leaves if leaf.name in found)
    beside = units([leaf for leaf in leaves if leaf.name not in found], steps, through)
    middle = middles(beside)
    order = {leaf.name: i for i, leaf in enumerate(leaves)}
    fed = any(leaf.module == "Embedding" for leaf in leaves[: backbone.start])
    # The last table after the blocks, if others come before or it is relative; the next norm is its own.
    late: Unit | None = None
    for unit in beside:
        position = order[unit.members[0].name]
        follows = late and unit.norm and late.steps[:-1] == unit.steps[:-1]
        amid = position > backbone.start and any(numbers[position:])
        if unit.steps in middle:
            rung = backbone.blocks // 2, f"in the middle of the blocks, with {middle[unit.steps]}"
        elif rung := _between(unit, backbone, numbers[:position], numbers[position:]):
            pass
        elif late and follows and not words(backbone.rest(unit)) & ABOVE:
            rung = found.get(late.members[0].name) and (0, f"the norm of {late}")
        else:
            rung = _rung(unit, backbone, position < backbone.start, beside, amid)
        if rung is None and distils(unit, backbone.blocks, backbone.width):
            found |= {leaf.name: after(leaf, unit) for leaf in unit.members if leaf.name not in found}
        if rung:
            found |= {leaf.name: rung for leaf in unit.members}
        if not unit.norm:
            relative = unit.tables and words(backbone.rest(unit)) & {"rel", "relative"}
            late = (
                unit if (fed or relative) and position >= backbone.start and not (rung and rung[0]) else None
            )
    if not backbone.steps and len(tower.path) < 2:
        top = backbone.blocks + 1
        head = [leaf for leaf in leaves if found.get(leaf.name, (0,))[0] > top]
        found |= dict.fromkeys(_hidden(head), (top, "between the blocks and the last layer of the head"))
    return found


def _hidden(head: Sequence[Leaf]) -> set[str]:
    """What comes before the last layers of a head, of those that are as wide as the very last one.

    EfficientNet's `conv_head`, the norm with which ConvNeXt's head begins: a checkpoint has them whatever
    the classes. Where a model sets its backbone apart, as in transformers, all the rest is the head.
    """
    weights = [leaf for leaf in head if leaf.multiplies]
    last = [
        leaf.name.rpartition(".")[0]
        for i, leaf in enumerate(weights)
        if leaf.shape[0] == weights[-1].shape[0]
        and not any(later.shape[1] == leaf.shape[0] for later in weights[i + 1 :])
    ]
    return {
        leaf.name
        for leaf in head
        if leaf.module == "Norm" or (weights and leaf.name.rpartition(".")[0] not in last)
    }


def _rung(unit: Unit, backbone: Backbone, early: bool, beside: Sequence[Unit], amid: bool) -> Rung | None:
    if not backbone.holds(unit):
        return _outside(unit, backbone, early)
    top, rest = backbone.blocks + 1, ".".join(backbone.rest(unit))
    named = words((*backbone.rest(unit), *unit.own))
    embeds = any(word.startswith("emb") for word in named)
    if backbone.alone and not backbone.steps and not early and (named & {*HEAD, "fc"} or named >= LINEAR):
        return top + 1, f"a head by its name, {rest}"
    if unit.large and not named & {*HEAD, "patch", "stem"}:
        return None
    if (named & POSITIONS and not named & {"post"}) or (
        unit.norm and unit.steps[-1].startswith("pre") and not named & ABOVE
    ):
        return 0, f"below the blocks by its name, {rest}"
    if unit.tables and not named & ABOVE:
        return 0, "an embedding" if len(unit.members) == 1 else f"with the embeddings in {unit}"
    if early and unit.images:
        return 0, "convolutions of images"
    if "unembed" not in named and any(words(backbone.rest(one)) == named | {"unembed"} for one in beside):
        return 0, f"below the blocks by its name, {rest}, which has an unembedding"
    if "transposed" in named and unit.members[0].shape[:1] == (backbone.width,):
        return top, "leads out of the width of the blocks"
    entered = backbone.entered(unit) and not named & {*ABOVE, *JOINS}
    if entered and not early:
        return 0, "leads into the width of the blocks"
    if (
        (named & DOUBTFUL and not unit.middle and not entered)
        or (early and "head" in named)
        or {"query", "scale"} <= named
    ):
        return None
    if named & ABOVE:
        return top, f"above the blocks by its name, {rest}"
    if unit.single:
        if len(unit.members[0].shape) > 1 or embeds or named & BELOW:
            return 0, f"a table of {backbone} itself"
        return None
    if crosses(unit, backbone.width) or (not early and _doubtful(unit, named, backbone)):
        return None
    if early and "merger" in named:
        return top, f"above the blocks by its name, {rest}"
    if (
        early
        and backbone.normed
        and unit.norm
        and words(unit.steps[-1:]) <= PLAIN
        and _alone(unit, backbone, beside)
    ):
        return None
    if early:
        return 0, "before the blocks"
    if named & JOINS and not named & {"input", "inputs"}:
        return top, f"above the blocks by its name, {rest}"
    if named & BELOW and not backbone.follows(unit):
        return 0, f"below the blocks by its name, {rest}"
    if not embeds:
        if amid:
            return None
        return top, "a norm after the blocks" if unit.norm else "after the blocks"
    if not unit.norm:
        return (top, f"after the blocks, by its name, {rest}") if named & OUTPUTS else None
    # Only models that normalise before each block use norms without a bias (RMSNorm), and those end in one:
    # LFM2's `embedding_norm`. With a bias BART's `layernorm_embedding` comes first, BigBird-Pegasus' last.
    if [other for other in beside if other.norm] == [unit]:
        bias = any(leaf.name.endswith("bias") for leaf in unit.members)
        return None if bias else (top, "the only norm beside the blocks")
    return 0, "the norm of the embeddings"


def _doubtful(unit: Unit, named: Set[str], backbone: Backbone) -> bool:
    """Whether what is registered after the blocks may well come before or between them.

    A decoder's `proj` may be that of its input; of a list that is one shorter than the blocks each member may
    lie between two of them (Informer's convolutions), and so may a part of a stage.
    """
    between = not unit.norm and len(unit.numbered) == backbone.blocks - 1 and not backbone.left(unit)
    return between or backbone.inside(unit) or (named == {"proj"} and "decoder" in unit.steps)


def _alone(unit: Unit, backbone: Backbone, beside: Sequence[Unit]) -> bool:
    """Whether a norm is the only one in the part of the model that holds the list of blocks."""
    here = backbone.path[:-1]
    return [other for other in beside if other.norm and other.steps[:-1] == here] == [unit]


def _outside(unit: Unit, backbone: Backbone, early: bool) -> Rung | None:
    """Outside the backbone lies the head, as a rule; what feeds the backbone is told by its kind or name."""
    top, named = backbone.blocks + 1, words(backbone.rest(unit))
    embeds = any(word.startswith("emb") for word in named)
    within = not backbone.alone or (len(backbone.steps) > 1 and unit.steps[:1] == backbone.steps[:1])
    head = top + 1, f"outside {backbone}, which holds the blocks"
    if named & HEAD or (not within and named & {"label", "labels"}):
        return head
    if unit.large:
        return None
    if not named & ABOVE:
        if unit.tables or named & FED or (embeds and early):
            return 0, f"an embedding outside {backbone}"
        if embeds and not named & {"projection", "proj", "decoder"}:
            return None
        if within and unit.single and len(unit.members[0].shape) == 3 and unit.members[0].shape[0] == 1:
            return 0, f"a table outside {backbone}"
        if backbone.alone and (named & {"tower"} or (within and (early or named & INPUTS))):
            return None
    return (top, f"above {backbone}, which holds the blocks") if within else head


def _between(
    unit: Unit, backbone: Backbone, before: Sequence[int | None], after: Sequence[int | None]
) -> Rung | None:
    """The block with which a unit stands that is registered between two: DenseNet's transitions."""
    if backbone.inside(unit) and "projector" in words(unit.steps[-1:]):
        return None
    last = next((number for number in reversed(before) if number), None)
    following = next((number for number in after if number), None)
    if last is None or following is None or following - last not in (0, 1):
        return None
    depth = following if any(leaf.multiplies for leaf in unit.members) else last
    return depth, f"between block {last} and block {following}"
