"""What `model/` sees of a model: a flat list of named tensors, from whatever framework made them."""

import math
from typing import NamedTuple


class Leaf(NamedTuple):
    """One parameter under one of its names.

    `module` is the kind of module that holds it: `"Embedding"`, `"Norm"` (any normalisation), `"Linear"`,
    `"Conv"`, or else the name of its type. A tensor that several modules share occurs once under each of its
    names; all but the first have that first name, its owner's, in `tied_to`. The order is that of
    registration.
    """

    name: str
    shape: tuple[int, ...]
    trainable: bool = True
    module: str = ""
    tied_to: str | None = None

    @property
    def size(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)

    @property
    def owner(self) -> str:
        """The first name of the tensor, by which groups know it."""
        return self.tied_to or self.name


def decays(leaf: Leaf) -> bool:
    """Whether weight decay acts on a parameter: not on biases, not on what normalises, not on vectors.

    Weight matrices, convolutions and embeddings decay, as in the code of BERT, ELECTRA, MAE and timm. A
    tensor with only one extent above 1 (a class token, a layer scale) is a vector, except in a module that
    multiplies: the (1, n) weight of a head with one output decays.

    >>> decays(Leaf("norm.weight", (384,))), decays(Leaf("score.weight", (1, 384), module="Linear"))
    (False, True)
    """
    if leaf.module == "Norm" or len(leaf.shape) < 2:
        return False
    last = leaf.name.rpartition(".")[2]
    if last == "bias" or last.endswith("_bias"):
        return False
    return leaf.module in ("Embedding", "Linear", "Conv") or sum(extent != 1 for extent in leaf.shape) > 1
