"""Right, refused or wrong: étude's ladder of one model against the oracle."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from proof.flow import Pass
from proof.oracle import Expected, inside
from proof.order import against_flow

from etude.errors import PlanError
from etude.model.ladder import Ladder, Placement, ladder
from etude.model.leaf import Leaf
from etude.planning import layout

WORDS = ("wrong", "refused", "right")  # the worst first

# Outside the base model and rightly below its blocks: what stands for silence among their inputs (Nemotron).
FED_IN = ("silence_embeds",)


class Verdict(NamedTuple):
    """One of `WORDS`; why, and what was found."""

    word: str
    reasons: tuple[str, ...]
    found: Ladder | None


def judge(
    leaves: list[Leaf],
    oracle: Expected,
    passes: Sequence[Pass] = (),
    live: Callable[[], Any] | None = None,
) -> Verdict:
    """The verdict on a model of transformers: by its leaves, or as `etude.plan` places the `live` one."""
    try:
        found = ladder(leaves) if live is None else layout(live(), layer_decay=0.9).ladder
    except PlanError as error:
        return Verdict("refused", (str(error),), None)
    except Exception as error:
        return Verdict("wrong", (f"{type(error).__name__}: {error}",), None)
    index = _Index(found)
    faults = (
        *placed_once(leaves, found),
        *_towers(index, oracle),
        *_tables(index, oracle),
        *_outside(found, oracle),
        *against_flow(found, passes),
    )
    return Verdict("wrong" if faults else "right", faults, found)


def worst(words: Sequence[str]) -> str:
    """The verdict of a family."""
    return next(word for word in WORDS if word in words)


def placed_once(leaves: Sequence[Leaf], found: Ladder) -> Iterator[str]:
    """Faults: trainable parameters that are not placed exactly once, with all their names."""
    counted = Counter(name for placement in found.placements for name in placement.names)
    for leaf in leaves:
        if counted[leaf.name] != 1 and (leaf.trainable or counted[leaf.name]):
            yield f"{leaf.name} is placed {counted[leaf.name]} times"


class _Index:
    """The placements below every module."""

    def __init__(self, found: Ladder) -> None:
        self.found = found
        self.below: dict[str, list[tuple[str, Placement]]] = defaultdict(list)
        for placement in found.placements:
            for name in placement.names:
                path = name
                while path := path.rpartition(".")[0]:
                    self.below[path].append((name, placement))

    def spot(self, block: str) -> set[tuple[str, int]]:
        """Where a block's parameters stand; one that another module shares counts if there is no other."""
        here = [p for name, p in self.below[block.partition("@")[0]] if inside(name, block)]
        own = [p for p in here if all(inside(name, block) for name in p.names)]
        return {(p.tower, p.depth) for p in own or here}


def _towers(index: _Index, oracle: Expected) -> Iterator[str]:
    """Each expected tower is one of the ladder's, block by block, and the ladder has no other."""
    found = index.found
    used: dict[str, str] = {}
    for tower in oracle.towers:
        spots = [index.spot(block) for block in tower.blocks]
        for block, spot in zip(tower.blocks, spots, strict=True):
            if len(spot) > 1:
                yield f"{block} has several depths: {sorted(spot)[:4]}"
        names = {name for spot in spots for name, _ in spot}
        if len(names) != 1:
            yield f"{tower.path} lies in several towers: {sorted(names)}"
            continue
        name = names.pop()
        if name in used:
            yield f"{tower.path} shares the tower {name!r} with {used[name]}"
        used[name] = tower.path
        want = list(range(1, len(tower.blocks) + 1))
        got = [min(depth for _, depth in spot) if spot else k for k, spot in zip(want, spots, strict=True)]
        if got != want:
            yield f"{tower.path}: depths {got[:20]}, not 1 to {len(want)} ({tower.source})"
        elif found.towers.get(name) != len(want):
            yield f"{tower.path}: {found.towers.get(name)} blocks in {name!r}, {len(want)} by {tower.source}"
    for name, count in found.towers.items():
        blocks = {p.depth: p.leaf.name for p in found.placements if p.tower == name and 1 <= p.depth <= count}
        if len(blocks) != count:
            yield f"a tower {name!r} of {count} blocks, of which {len(blocks)} hold parameters"
        known = any(one.startswith(part.path + ".") for part in oracle.lists for one in blocks.values())
        if name not in used and blocks and not known:
            yield f"a tower {name!r} of {count} blocks that are no list, {blocks[min(blocks)]}"


def _tables(index: _Index, oracle: Expected) -> Iterator[str]:
    """An embedding is below the blocks, or with the joint between the towers."""
    found = index.found
    for path in oracle.tables:
        for name, placement in index.below[path]:
            rung = found.name(placement.tower, placement.depth)
            if placement.depth != 0 and rung != "joint":
                yield f"the embedding {name} at {rung}"


def _outside(found: Ladder, oracle: Expected) -> Iterator[str]:
    """What a task adds to the base model is above the base model's blocks, and above its top but a norm."""
    if not oracle.base:
        return
    base = oracle.base + "."
    blocks = tuple(tower.path + "." for tower in oracle.towers if tower.path.startswith(base))
    towers = {p.tower for p in found.placements if blocks and p.leaf.name.startswith(blocks)}
    for placement in found.placements:
        tower = placement.tower
        fed_in = placement.leaf.name in FED_IN or any(name.startswith(base) for name in placement.names)
        if fed_in or tower not in towers or tower not in found.towers:
            continue
        lowest = found.towers[tower] + (1 if placement.leaf.module == "Norm" else 2)
        if placement.depth < lowest:
            yield f"{placement.leaf.name}, outside {oracle.base}, at {found.name(tower, placement.depth)}"
