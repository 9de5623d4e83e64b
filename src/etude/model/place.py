"""Where the parameters beside a chain of blocks stand: below it, above it or outside the backbone.

Nothing is known here of any family. The backbone is the smallest part of the model that holds the chain and
what feeds it; inside it the kinds of modules and the order of registration decide, and words only where
models register what stands above their blocks before them. The word "embed" decides nothing: it makes
doubtful, and what is doubtful is left out for the caller to refuse (LFM2's final norm is its
`embedding_norm`).
"""

import re
from collections.abc import Mapping, Sequence

from etude.model.chain import Chain
from etude.model.leaf import Leaf

# How models name what stands above their blocks, wherever they register it: OPT's `final_layer_norm` and
# nomic-bert's `pooler` come before the blocks.
ABOVE = {"final", "last", "after", "post", "out", "output", "pool", "pooler", "pooling", "head", "f"}


def place(leaves: Sequence[Leaf], chain: Chain) -> dict[str, tuple[int, str]]:
    """Depth and reason by name, for all that is certain; see `etude.model.ladder` for the depths.

    All leaves of a unit, the largest part of the model that holds nothing of the chain, stand on one rung.
    """
    blocks = len(chain.blocks)
    in_block = {leaf.name: chain.block(leaf.name) for leaf in leaves}
    start = next(i for i, leaf in enumerate(leaves) if in_block[leaf.name])
    backbone = _backbone(leaves, in_block, chain.path, start)
    found: dict[str, tuple[int, str]] = {}
    units: dict[str, list[Leaf]] = {}
    early: set[str] = set()
    for i, leaf in enumerate(leaves):
        if block := in_block[leaf.name]:
            only = "the only block" if blocks == 1 else f"block {block} of {blocks}"
            found[leaf.name] = block, f"{only} in {chain.path or 'the model'}"
        else:
            name = unit(leaf.name, chain.path)
            units.setdefault(name, []).append(leaf)
            early |= {name} if i < start else set()
    late, its_rung = "", None  # the last unit after the blocks that is no norm and not known to stand above
    for name, members in units.items():
        norm = all(leaf.module == "Norm" for leaf in members)
        beside = late and late.rpartition(".")[0] == name.rpartition(".")[0]
        if norm and beside and not _above(name, backbone):
            rung = its_rung and (its_rung[0], f"the norm of {late}")
        else:
            rung = _rung(name, members, blocks, backbone, name in early)
        if rung:
            found |= {leaf.name: rung for leaf in members}
        if not norm:
            late = "" if name in early or (rung and rung[0] > blocks) else name
            its_rung = rung
    return found


def _rung(
    name: str, members: Sequence[Leaf], blocks: int, backbone: str, early: bool
) -> tuple[int, str] | None:
    where = backbone.rstrip(".") or "the model"
    embedding = any(leaf.module == "Embedding" for leaf in members)
    embeds = any(word.startswith("emb") for word in _words(name, backbone))
    above = _above(name, backbone)
    if not name.startswith(backbone):
        feeds = (embedding or embeds) and not above
        return None if feeds else (blocks + 2, f"outside {where}, which holds the blocks")
    if embedding:
        return 0, "an embedding" if len(members) == 1 else f"with the embeddings in {name}"
    if above:
        return blocks + 1, f"above the blocks by its name, {name.removeprefix(backbone)}"
    if members[0].name == name:
        return (0, f"a table of {where} itself") if len(members[0].shape) > 1 else None
    if early:
        return 0, "before the blocks"
    norm = all(leaf.module == "Norm" for leaf in members)
    return (blocks + 1, "a norm after the blocks") if norm and not embeds else None


def _words(name: str, backbone: str) -> set[str]:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removeprefix(backbone))
    return set(re.split(r"[._]", snake.lower()))


def _above(name: str, backbone: str) -> bool:
    return bool(_words(name, backbone) & ABOVE)


def _backbone(leaves: Sequence[Leaf], in_block: Mapping[str, int | None], path: str, start: int) -> str:
    """The prefix of the smallest part of the model that holds the chain and what feeds it.

    That is the largest embedding, if possible one before the blocks, under any of its names (a position table
    may lie closer to the blocks, as in RoFormer); in a model without embeddings, anything before the blocks.
    """
    tables = [leaf for leaf in leaves if leaf.module == "Embedding" and not in_block[leaf.name]]
    early = [leaf for leaf in leaves[:start] if leaf.module == "Embedding"]
    if tables:
        largest = max(early or tables, key=lambda leaf: leaf.size)
        feeding = [leaf.name for leaf in tables if leaf.owner == largest.owner]
    else:
        feeding = [leaf.name for leaf in leaves[:start]]
    steps = path.split(".")
    parts = [".".join(steps[:n]) + "." for n in range(len(steps), 0, -1)]
    return next((part for part in parts if any(name.startswith(part) for name in feeding)), "")


def unit(name: str, path: str) -> str:
    """The largest part of the model that holds a parameter and nothing of the chain at `path`.

    >>> [unit(name, "bert.encoder.layer") for name in ("bert.embeddings.LayerNorm.bias", "classifier.bias")]
    ['bert.embeddings', 'classifier']
    """
    steps, chain = name.split("."), path.split(".")
    shared = next((i for i, step in enumerate(steps) if chain[i : i + 1] != [step]), len(steps) - 1)
    return ".".join(steps[: shared + 1])
