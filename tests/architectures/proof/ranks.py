"""How the depths of étude and the layer ids of timm's own `group_matcher` order the same parameters."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from proof import otherwise
from proof.flow import Pass
from proof.order import against_flow
from proof.timm_models import Kept
from proof.verdicts import Verdict, placed_once

from etude.errors import PlanError
from etude.model.ladder import Ladder, ladder
from etude.model.leaf import Leaf


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


def judge(module: str, one: Kept) -> tuple[Verdict, str]:
    """The verdict on an architecture of timm, and the word for its relation to timm's ids ("" without)."""
    leaves = [Leaf(*row) for row in one.rows]
    try:
        found = ladder(leaves)
    except PlanError as error:
        return Verdict("refused", (str(error),), None), ""
    order = relation(found, one.ids, otherwise.names(module, one.ids)) if one.ids else None
    tables = {name for name, rank in one.ids.items() if not rank and "pos_embed" in name}
    faults = [
        *placed_once(leaves, found),
        *_one_tower(found),
        *(fault for fault in against_flow(found, [one.run]) if fault.partition(" at ")[0] not in tables),
        *(_unfed(found, one.run) if module not in otherwise.CROSSED else ()),
        *_head(found, [*one.head, *otherwise.HEADS.get(module, ())]),
    ]
    faults += [*order.inverted, *order.merged] if order else ()
    return Verdict("wrong" if faults else "right", tuple(faults), found), order.word if order else ""


def _one_tower(found: Ladder) -> Iterator[str]:
    """Faults: towers beside each other, where timm has one row of layers."""
    if len(found.towers) > 1:
        yield f"several towers: {dict(found.towers)}"


def _unfed(found: Ladder, run: Pass) -> Iterator[str]:
    """Faults: blocks most of which the block below does not feed; such two run beside each other."""
    place = {name: i for i, name in enumerate(run.order)}
    masks = [0] * (found.blocks + 3)
    fed: list[list[int]] = [[] for _ in masks]
    for placement in found.placements:
        for name in placement.names:
            if name in place and len(placement.names) == 1:
                masks[placement.depth] |= 1 << place[name]
                fed[placement.depth] += filter(None, [run.feeds[place[name]]])
    for depth in range(2, found.blocks + 1):
        reached = [bool(feeds & masks[depth - 1]) for feeds in fed[depth]]
        if 2 * sum(reached) < len(reached):
            yield f"layer.{depth - 1} is not fed by layer.{depth - 2}"


def _head(found: Ladder, head: list[str]) -> Iterator[str]:
    """Faults: what a checkpoint holds at the head, and what it does not below it."""
    modules = tuple(f"{path}." for path in head)
    for placement in found.placements:
        at_head = placement.depth == found.blocks + 2
        if at_head != placement.leaf.name.startswith(modules):
            rung = found.name(placement.tower, placement.depth)
            yield f"{placement.leaf.name} at {rung}, by timm {'no part' if at_head else 'a part'} of the head"


def relation(found: Ladder, ids: Mapping[str, int], but: Collection[str] = ()) -> Relation:
    """The order of a model by étude and by timm, `but` for some names; a norm is no layer of its own."""
    depths = {n: p.depth for p in found.placements for n in p.names if n in ids and n not in but}
    blocks = {name: depth for name, depth in depths.items() if 1 <= depth <= found.blocks}
    norms = {name for p in found.placements if p.leaf.module == "Norm" for name in p.names}
    layers = {name: ids[name] for name in blocks if name not in norms}
    return Relation(
        tuple(_within(blocks, ids, "one layer of timm, two blocks here")),
        tuple(_within(layers, blocks, "two layers of timm, one block here")),
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
