"""How the depths of étude and the layer ids of timm's own `group_matcher` order the same parameters."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from proof.flow import Pass
from proof.order import against_flow
from proof.verdicts import Verdict, placed_once

from etude.errors import PlanError
from etude.model.ladder import Ladder, ladder
from etude.model.leaf import Leaf

# Parameters whose rank in timm is an accident of names; étude has them below the blocks that use them.
ELSEWHERE = {
    "rope.freqs": "timm's matcher does not know them and puts them with the head; every block uses them",
    "shared_rel_pos": "the same: a table of relative positions that every block uses",
}


class Relation(NamedTuple):
    """Pairs of parameters, named: what timm holds in one layer and étude in several blocks, and so on.

    `split` and `merged` are of parameters within blocks; `inverted` are the pairs, anywhere in the model,
    that the two order the opposite way.
    """

    split: tuple[str, ...]
    merged: tuple[str, ...]
    inverted: tuple[str, ...]

    @property
    def word(self) -> str:
        """`same`; `finer` (étude splits a layer of timm), `coarser`, `both`; `inverted`."""
        if self.inverted:
            return "inverted"
        words = {(False, False): "same", (True, False): "finer", (False, True): "coarser"}
        return words.get((bool(self.split), bool(self.merged)), "both")


def judge(leaves: list[Leaf], ids: Mapping[str, int], run: Pass) -> tuple[Verdict, str]:
    """The verdict on an architecture of timm, and the word for its relation to timm's ids ("" without)."""
    try:
        found = ladder(leaves)
    except PlanError as error:
        return Verdict("refused", (str(error),), None), ""
    order = relation(found, ids) if ids else None
    faults = [*placed_once(leaves, found), *_one_tower(found), *against_flow(found, [run])]
    faults += order.inverted if order else ()
    return Verdict("wrong" if faults else "right", tuple(faults), found), order.word if order else ""


def _one_tower(found: Ladder) -> Iterator[str]:
    """Faults: towers beside each other, where timm has one row of layers."""
    if len(found.towers) > 1:
        yield f"several towers: {dict(found.towers)}"


def relation(found: Ladder, ids: Mapping[str, int]) -> Relation:
    """The order of a model by étude and by timm."""
    depths = {
        n: p.depth
        for p in found.placements
        for n in p.names
        if n in ids and not n.startswith(tuple(ELSEWHERE))
    }
    blocks = {name: depth for name, depth in depths.items() if 1 <= depth <= found.blocks}
    return Relation(
        tuple(_within(blocks, ids, "one layer of timm, two blocks here")),
        tuple(_within({name: ids[name] for name in blocks}, blocks, "two layers of timm, one block here")),
        tuple(_inverted(depths, ids)),
    )


def _within(fine: Mapping[str, int], coarse: Mapping[str, int], what: str) -> Iterator[str]:
    """Pairs that differ in the one and not in the other, one for each parameter."""
    first: dict[int, str] = {}
    for name, rank in fine.items():
        other = first.setdefault(coarse[name], name)
        if fine[other] != rank:
            yield f"{other} and {name}: {what}"


def _inverted(depths: Mapping[str, int], ids: Mapping[str, int]) -> Iterator[str]:
    highest, holder = -1, ""
    for rank in sorted({ids[name] for name in depths}):
        here = {name: depth for name, depth in depths.items() if ids[name] == rank}
        for name, depth in here.items():
            if depth < highest:
                yield f"{name} (timm {rank}, here {depth}) and {holder} (timm {ids[holder]}, here {highest})"
        top = max(here, key=here.__getitem__)
        if here[top] > highest:
            highest, holder = here[top], top
