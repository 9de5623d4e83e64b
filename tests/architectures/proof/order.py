"""Whether the depths of a ladder follow the flow of data."""

from collections import defaultdict
from collections.abc import Iterable

from proof.flow import Pass

from etude.model.ladder import Ladder


def against_flow(found: Ladder, passes: Iterable[Pass]) -> list[str]:
    """Parameters that a higher one of the same tower feeds.

    A table that blocks look up, such as T5's relative positions, is an embedding wherever it is used; a
    tensor that several modules share stands at the lowest of its places.
    """
    at = {name: placement for placement in found.placements for name in placement.names}
    faults = []
    for order, feeds in passes:
        spots = [at.get(name) for name in order]
        levels: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for i, spot in enumerate(spots):
            if spot is not None and spot.tower in found.towers:
                levels[spot.tower][spot.depth] |= 1 << i
        for i, spot in enumerate(spots):
            if spot is None or spot.tower not in found.towers or spot.leaf.module == "Embedding":
                continue
            if len(spot.names) > 1:
                continue
            above = sum(mask for depth, mask in levels[spot.tower].items() if depth > spot.depth)
            if feeding := feeds[i] & above:
                first = feeding.bit_length() - 1
                higher = spots[first]
                rung, other = found.name(spot.tower, spot.depth), found.name(higher.tower, higher.depth)
                faults.append(f"{order[i]} at {rung} is fed by {order[first]} at {other}")
    return faults
