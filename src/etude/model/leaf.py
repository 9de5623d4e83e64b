"""What `model/` sees of a model: a flat list of named tensors, from whatever framework made them."""

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

from etude.errors import PlanError


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
    def multiplies(self) -> bool:
        """Whether the tensor is the weight of a layer: no bias, norm, table or vector."""
        wide = sum(extent != 1 for extent in self.shape) > 1 or self.module in ("Linear", "Conv")
        return wide and len(self.shape) > 1 and self.module not in ("Norm", "Embedding")

    @property
    def owner(self) -> str:
        """The first name of the tensor, by which groups know it."""
        return self.tied_to or self.name


KINDS = ("bias", "norm", "vector", "embedding")
NO_DECAY = ("bias", "norm", "vector")


def kinds(leaf: Leaf) -> frozenset[str]:
    """What a parameter is, as far as weight decay asks; nothing for a weight that multiplies.

    A "norm" is whatever a normalisation holds, its bias too. An "embedding" is the table of an embedding
    module, or one that is added to every example, of shape (1, n, d). A "vector" has only one extent above 1
    (a class token, a layer scale), unless its module multiplies: the (1, n) weight of a head with one output
    is a matrix.

    >>> sorted(kinds(Leaf("ln.bias", (384,), module="Norm"))), sorted(kinds(Leaf("cls_token", (1, 1, 384))))
    (['bias', 'norm'], ['vector'])
    """
    words = leaf.name.rpartition(".")[2].split("_")
    bias = words[-1] == "bias" or (len(leaf.shape) < 2 and "bias" in words)
    norm = leaf.module == "Norm"
    layer = leaf.module in ("Embedding", "Linear", "Conv")
    wide = sum(extent != 1 for extent in leaf.shape) > 1
    added = not (layer or norm) and wide and len(leaf.shape) > 2 and leaf.shape[0] == 1
    found = {
        "bias": bias,
        "norm": norm,
        "vector": not (bias or norm) and (len(leaf.shape) < 2 or not (layer or wide)),
        "embedding": leaf.module == "Embedding" or added,
    }
    return frozenset(kind for kind, is_one in found.items() if is_one)


def decays(leaf: Leaf, no_decay: Collection[str] = NO_DECAY) -> bool:
    """Whether weight decay acts on a parameter: on none of the kinds in `no_decay`.

    By default not on biases, not on what normalises, not on vectors, as in the code of BERT and ELECTRA.

    >>> decays(Leaf("norm.weight", (384,))), decays(Leaf("score.weight", (1, 384), module="Linear"))
    (False, True)
    """
    return kinds(leaf).isdisjoint(no_decay)


def listed(no_decay: str | Iterable[str]) -> frozenset[str]:
    """The kinds that a user lists; raises `PlanError` for what is none."""
    found = frozenset([no_decay] if isinstance(no_decay, str) else no_decay)
    for kind in found - {*KINDS}:
        raise PlanError(
            f"no_decay={kind!r} is no kind of parameter, which are {', '.join(KINDS)}; write "
            f'groups=[("name", {{"weight_decay": 0}})] for single parameters'
        )
    return found
