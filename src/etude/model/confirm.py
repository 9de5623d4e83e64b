"""Whether the real order of execution agrees with a ladder."""

from collections.abc import Iterable, Sequence

from etude.errors import PlanError
from etude.model.ladder import Ladder, Placement

SHOWN = 3


def confirm(ladder: Ladder, order: Iterable[str]) -> None:
    """Compare depths with the order in which a forward pass uses the parameters, by name.

    Within a tower no parameter may be used after one that lies higher; what lies outside the towers, and what
    is used more than once under several names (tied tensors, blocks shared by all layers), says nothing.
    Raises `PlanError` with the parameters that are out of order and the line that places them.
    """
    placed = {placement.leaf.name: placement for placement in ladder.placements}
    highest: dict[str, Placement] = {}
    wrong: list[tuple[Placement, Placement]] = []
    for name in order:
        here = placed.get(name)
        if here is None or here.tower not in ladder.towers or len(here.names) > 1:
            continue
        top = highest.setdefault(here.tower, here)
        if here.depth < top.depth:
            wrong.append((here, top))
        else:
            highest[here.tower] = here
    if wrong:
        pairs = [
            f"{later.leaf.name} ({ladder.name(later.tower, later.depth)}) is used after "
            f"{first.leaf.name} ({ladder.name(first.tower, first.depth)})"
            for later, first in wrong[:SHOWN]
        ]
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise PlanError(
            f"the order of execution contradicts the depths: {'; '.join(pairs)}{more}. Say where they stand: "
            f"groups=[{_correction(ladder, wrong)}]"
        )


def _correction(ladder: Ladder, wrong: Sequence[tuple[Placement, Placement]]) -> str:
    """The line that places the one of the first pair that is no part of a block, or the later."""
    later, first = wrong[0]
    if "block " in later.reason.partition(" in ")[0]:
        after = [one.depth for one, other in wrong if other == first]
        return _line(ladder, first, max(0, min(after) - 1))
    return _line(ladder, later, first.depth)


def _line(ladder: Ladder, place: Placement, depth: int) -> str:
    part = place.leaf.name.rpartition(".")[0] or place.leaf.name
    return f'("{part}", {{"depth": "{ladder.name(place.tower, depth)}"}})'
