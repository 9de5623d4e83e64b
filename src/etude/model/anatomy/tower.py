"""Towers: the chains of a model with the part of the model that each of them has for itself.

An encoder and a decoder, an image model and a language model, a backbone and the neck that refines what it
sees: wherever two chains lie beside each other, nothing says how far one continues the other, so each has a
ladder of its own.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from etude.model.anatomy.chain import Chain, find
from etude.model.anatomy.tree import Steps, paths, words
from etude.model.leaf import Leaf

# What stands below the blocks even if it has blocks of its own: the convolutions before a speech encoder, the
# ResNet that makes the patches of a hybrid ViT.
STEM = re.compile(r"(stem|subsampling|patch_embed\w*)")


class Tower(NamedTuple):
    """A chain, a name that tells it from the others, and the steps to two parts of the model.

    `scope` is the largest that holds no other chain, `path` the smallest that holds all blocks.
    """

    name: str
    scope: Steps
    path: Steps
    chain: Chain


def towers(leaves: Sequence[Leaf]) -> list[Tower]:
    """The towers of a model in order of registration; one that stands alone has the whole model and no name.

    >>> both = [f"model.{part}.layers.{i}.{fc}.weight" for part in ("encoder", "decoder") for i in (0, 1)
    ...         for fc in ("fc1", "fc2")]
    >>> [(tower.name, ".".join(tower.scope)) for tower in towers([Leaf(name, (4, 4)) for name in both])]
    [('encoder', 'model.encoder'), ('decoder', 'model.decoder')]
    """
    chains, steps = find(leaves), paths(leaves)
    chains = [chain for chain in chains if not any(map(STEM.fullmatch, _path(chain, steps)))] or chains
    ways = [_path(chain, steps) for chain in chains]
    scopes = _scopes(chains, ways)
    kept = [i for i, chain in enumerate(chains) if _stands(chain, scopes[i], ways[i], steps)]
    if not kept and len(chains) == 1 and len(chains[0].blocks) == 1:
        kept = [0]
    chains, ways = [chains[i] for i in kept], [ways[i] for i in kept]
    if len(chains) < 2:
        return [Tower("", (), *one) for one in zip(ways, chains, strict=True)]
    scopes = _scopes(chains, ways)
    common = len(shared(ways))
    names = [".".join(scope[common:]) or chain.word for scope, chain in zip(scopes, chains, strict=True)]
    names = [
        name if names.count(name) == 1 else chain.path for name, chain in zip(names, chains, strict=True)
    ]
    return [Tower(*one) for one in zip(names, scopes, ways, chains, strict=True)]


def _scopes(chains: Sequence[Chain], ways: Sequence[Steps]) -> list[Steps]:
    scopes = [_scope(path, [*ways[:i], *ways[i + 1 :]]) for i, path in enumerate(ways)]
    lists = [tuple(chain.path.split(".")) == path for chain, path in zip(chains, ways, strict=True)]
    return [
        _widened(scope, path, ways) if one else scope
        for scope, path, one in zip(scopes, ways, lists, strict=True)
    ]


def _stands(chain: Chain, scope: Steps, path: Steps, steps: Mapping[str, Steps]) -> bool:
    """Whether a chain is a tower.

    A single block repeats nothing; it is one only if it has a part of the model to itself. Parts that are
    numbered but no list are one if they are most of their part of the model, and this is not the middle
    between the ways down and up of a VQGAN or a U-Net (`mid.block_1`, `mid.block_2`).
    """
    if len(chain.blocks) == 1:
        return scope != path
    around = sum(one[: len(scope)] == scope for one in steps.values())
    middle = words(path[-1:]) & {"mid", "middle"}
    return chain.listed or (2 * len(chain.numbers) >= around and not middle)


def _path(chain: Chain, steps: Mapping[str, Steps]) -> Steps:
    """The steps to what holds all blocks of a chain."""
    if len(chain.blocks) == 1:
        return tuple(chain.path.split("."))
    return shared(steps[name] for block in chain.blocks for name in block)


def _scope(path: Steps, others: Sequence[Steps]) -> Steps:
    """The largest part of the model on the way to a chain that leads to no other."""
    lengths = range(len(path) + 1)
    alone = (n for n in lengths if not any(other[:n] == path[:n] for other in others))
    return path[: next(alone, len(path))]


def _widened(scope: Steps, path: Steps, ways: Sequence[Steps]) -> Steps:
    """A chain that lies in a part of the model itself, while the others lie in parts of it, has the part."""
    direct = [other for other in ways if other[:-1] == path[:-1]]
    return path[:-1] if scope == path and path and direct == [path] else scope


def shared(paths: Iterable[Steps]) -> Steps:
    """The steps with which all paths begin.

    >>> shared([("model", "encoder", "layer"), ("model", "decoder")])
    ('model',)
    """
    first, *others = paths
    for i, step in enumerate(first):
        if any(other[i : i + 1] != (step,) for other in others):
            return first[:i]
    return first


def parted(
    leaves: Sequence[Leaf], steps: Mapping[str, Steps], towers: Sequence[Tower]
) -> tuple[dict[str, list[Leaf]], list[Leaf]]:
    """The parameters of each tower by its name, and those beside them; without the twins of tied blocks."""
    held: dict[str, list[Leaf]] = {tower.name: [] for tower in towers}
    rest = []
    owner = {name: tower for tower in towers for name in tower.chain.numbers}
    for leaf in leaves:
        if leaf.tied_to in owner and leaf.name not in owner:
            continue
        around = [tower for tower in towers if steps[leaf.name][: len(tower.scope)] == tower.scope]
        near = [tower for tower in around if len(tower.scope) == max(len(one.scope) for one in around)]
        if leaf.name in owner or len(near) == 1:
            held[(owner.get(leaf.name) or near[0]).name].append(leaf)
        else:
            rest.append(leaf)
    return held, rest
