"""Units: the largest parts of a model that hold nothing of a chain; all of a unit stands on one rung."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from etude.model.anatomy.tree import Steps
from etude.model.leaf import Leaf

# How models name what stands above their blocks, wherever they register it: OPT's `final_layer_norm` and
# nomic-bert's `pooler` come before the blocks.
ABOVE = {
    "final",
    "last",
    "after",
    "post",
    "out",
    "output",
    "pool",
    "pooler",
    "pooling",
    "head",
    "f",
    "unembed",
}

# How they name what feeds their blocks, where they register it after them: LayoutLMv3's `rel_pos_bias`.
BELOW = {"pos", "position", "positions", "positional", "rel", "relative", "patch", "token", "tokens", "stem"}
BELOW |= {"input", "inputs", "in", "subsampling", "cls", "register", "bos", "latents"}
BELOW |= {"ple", "perlayer", "recycle", "duration"}

# How they name what leads from one tower to the next, tables of positions included.
JOINS = {"projector", "connector", "merger", "adapter", "resampler"}

# How they name what makes predictions.
HEAD = {"head", "heads", "classifier", "classification", "score", "scores", "cls", "lm", "logits", "outputs"}
HEAD |= {"predictions", "predictor", "prediction", "discriminator", "classif"}


# How many weights a stem, a pooler, a projector or a resampler has at most; a VQGAN has more.
LARGE = 40


@dataclass(frozen=True)
class Unit:
    """A part of a model, the steps to it and its parameters; `single` for one parameter of a larger part."""

    steps: Steps
    members: tuple[Leaf, ...]
    single: bool

    @property
    def weights(self) -> list[Leaf]:
        """What multiplies its inputs, in order of registration."""
        return [leaf for leaf in self.members if leaf.multiplies]

    @property
    def norm(self) -> bool:
        """Whether it does nothing but normalise."""
        return all(leaf.module == "Norm" for leaf in self.members)

    @property
    def own(self) -> Steps:
        """The names of its parameters, if it holds nothing but some that have names of their own."""
        names = tuple(leaf.name.rpartition(f"{self}.")[2] for leaf in self.members)
        direct = not self.single and not any("." in name for name in names)
        return names if direct and not {"weight", "bias"} & {*names} else ()

    @property
    def module(self) -> str:
        """The kind of module that holds all of it, if it is one."""
        kinds = {leaf.module for leaf in self.members}
        return kinds.pop() if len(kinds) == 1 and len(self.members) < 3 else ""

    @property
    def numbered(self) -> set[str]:
        """The numbers of its parts, if it is a list."""
        found = {leaf.name.partition(f"{self}.")[2].partition(".")[0] for leaf in self.members}
        return found if all(part.isdecimal() for part in found) else set()

    @property
    def middle(self) -> bool:
        """Whether it is more than a layer: the middle between the ways down and up of a VQGAN or a U-Net."""
        return len(self.weights) > 1

    @property
    def images(self) -> bool:
        """Whether it begins with a convolution of three colours."""
        first = next(iter(self.weights), None)
        return first is not None and first.module == "Conv" and first.shape[1] == 3

    @property
    def tables(self) -> bool:
        """Whether it holds a table of embeddings."""
        return any(_table(leaf) for leaf in self.members)

    @property
    def large(self) -> bool:
        """Whether it is more than a part: so many layers have an order of their own, which is not known."""
        return len(self.weights) > LARGE

    @property
    def only_tables(self) -> bool:
        """Whether it is nothing but tables of embeddings."""
        return all(_table(leaf) for leaf in self.members)

    def __str__(self) -> str:
        return ".".join(self.steps)


def _table(leaf: Leaf) -> bool:
    return leaf.module == "Embedding" and len(leaf.shape) > 1


def units(leaves: Iterable[Leaf], steps: Mapping[str, Steps], through: Collection[Steps]) -> list[Unit]:
    """The units of some parameters, in order of registration; `through` holds the ways to the blocks."""
    members: dict[Steps, list[Leaf]] = {}
    for leaf in leaves:
        members.setdefault(largest(steps[leaf.name], through), []).append(leaf)
    return [Unit(name, tuple(held), steps[held[0].name] == name) for name, held in members.items()]


def largest(steps: Steps, through: Collection[Steps]) -> Steps:
    """The largest part of the model that holds a parameter and nothing of a chain.

    >>> largest(("bert", "embeddings", "norm", "bias"), {(), ("bert",), ("bert", "encoder")})
    ('bert', 'embeddings')
    """
    return next((steps[:n] for n in range(1, len(steps)) if steps[:n] not in through), steps)


def passed(paths: Iterable[Steps]) -> frozenset[Steps]:
    """Every part of the model that lies on one of the ways."""
    return frozenset(steps[:n] for steps in paths for n in range(len(steps)))
