"""A pytree of parameters as a list of leaves."""

import re
from collections.abc import Callable
from typing import Any

import jax

from etude.errors import PlanError
from etude.model.anatomy.numbering import numbered
from etude.model.leaf import Leaf

Predicate = Callable[[str], bool]

# What Flax and Haiku call the tensors that tell the kind of their module.
KINDS = {
    "embedding": "Embedding",
    "embeddings": "Embedding",
    "scale": "Norm",
    "kernel": "Linear",
    "w": "Linear",
}
NORM = re.compile(r"norm|^ln([_\d]|$)", re.IGNORECASE)


def leaves(params: Any, trainable: Predicate | None = None) -> list[Leaf]:
    """Every array of a pytree, named by its path: `etude.plan(leaves(params), …)`.

    Names are joined by dots, and neighbours `block_0`, `block_1` become `block.0`, `block.1`. The order is
    that in which dictionaries were filled, from which a plan tells what stands below the blocks and what
    above; jax sorts what it returns from jit, and then only names tell. A tree has no modules, so their kinds
    are guessed: from `kernel`, `scale` and `embedding`, as Flax names them, and from "norm" in the module's
    own name. `trainable` says of a name whether it trains; all do if it is not given.

    >>> import numpy as np
    >>> tree = {"block_0": {"norm": {"scale": np.ones(4)}}, "block_1": {"dense": {"kernel": np.ones((4, 4))}}}
    >>> for leaf in leaves(tree):
    ...     print(leaf.name, leaf.shape, leaf.module)
    block.0.norm.scale (4,) Norm
    block.1.dense.kernel (4, 4) Linear
    """
    found = jax.tree_util.tree_flatten_with_path(params)[0]
    names = _names([path for path, _ in found])
    positions = [_position(params, path) for path, _ in found]
    order = sorted(range(len(found)), key=positions.__getitem__)
    found, names = [found[i] for i in order], [names[i] for i in order]
    shapes = {name: tuple(array.shape) for name, (_, array) in zip(names, found, strict=True)}
    return [
        Leaf(name, shape, trainable is None or trainable(name), _kind(name, shapes))
        for name, shape in shapes.items()
    ]


def named(params: Any) -> Any:
    """The tree with each array's name in its place."""
    found, tree = jax.tree_util.tree_flatten_with_path(params)
    return jax.tree_util.tree_unflatten(tree, _names([path for path, _ in found]))


def _names(paths: list[Any]) -> list[str]:
    parts = [tuple(jax.tree_util.keystr((key,), simple=True) for key in path) for path in paths]
    if parts and all(part and part[-1] == "value" for part in parts):
        parts = [part[:-1] for part in parts]  # the variables of Flax's nnx hold their array under that name
    names = numbered(parts)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError(f"two arrays of this tree are called {twice}: name the parts of the model apart")
    return names


def _position(tree: Any, path: Any) -> list[int]:
    """Where an array stands among the others, in dictionaries by the order of their keys."""
    position = []
    for key in path:
        if isinstance(key, jax.tree_util.DictKey):
            position.append(list(tree).index(key.key))
            tree = tree[key.key]
        elif isinstance(key, jax.tree_util.SequenceKey):
            position.append(key.idx)
            tree = tree[key.idx]
        else:
            break  # a node of another kind has its own order, in which jax gave it
    return position


def _kind(name: str, shapes: dict[str, tuple[int, ...]]) -> str:
    module, _, last = name.rpartition(".")
    own = next((part for part in reversed(module.split(".")) if not part.isdecimal()), "")
    if NORM.search(own) or f"{module}.scale" in shapes:
        return "Norm"
    kind = KINDS.get(last) or ("Linear" if f"{module}.kernel" in shapes or f"{module}.w" in shapes else "")
    return "Conv" if kind == "Linear" and len(shapes[name]) > 3 else kind
