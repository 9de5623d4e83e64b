"""An MLX model as a list of leaves."""

import re
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten

from etude.model.leaf import Leaf

KIND = re.compile(r"(Embedding|Norm|Linear|Conv)(Transpose)?(\dd)?$")  # BatchNorm, QuantizedLinear, Conv2d


def leaves(model: nn.Module) -> list[Leaf]:
    """Every parameter under every one of its names, in the module's order: `etude.plan(leaves(model), …)`.

    What `model.freeze()` froze does not train. An array that two modules hold comes first under one name,
    then as `tied_to` that name.

    >>> for leaf in leaves(nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))):
    ...     print(leaf.name, leaf.shape, leaf.module)
    layers.0.weight (2, 4) Linear
    layers.0.bias (2,) Linear
    layers.1.weight (2,) Norm
    layers.1.bias (2,) Norm
    """
    modules = dict(model.named_modules())
    trainable = {name for name, _ in tree_flatten(model.trainable_parameters())}
    owners: dict[int, str] = {}
    found = []
    arrays: Any = tree_flatten(model.parameters())
    for name, array in arrays:
        owner = owners.setdefault(id(array), name)
        tied_to = None if owner == name else owner
        found.append(Leaf(name, tuple(array.shape), name in trainable, _kind(name, modules), tied_to))
    return found


def _kind(name: str, modules: dict[str, nn.Module]) -> str:
    path = name.rpartition(".")[0]
    while path and path not in modules:  # a list or a dictionary of arrays
        path = path.rpartition(".")[0]
    kind = type(modules[path]).__name__
    known = KIND.search(kind)
    return known[1] if known else kind
