"""What stands where by the order of execution, where names and kinds leave it in doubt."""

from collections.abc import Mapping, Sequence

from etude.model.anatomy.tower import Tower, parted
from etude.model.anatomy.tree import Steps
from etude.model.anatomy.unit import passed, units
from etude.model.leaf import Leaf

Rung = tuple[str, int, str]


def by_order(
    leaves: Sequence[Leaf],
    steps: Mapping[str, Steps],
    towers: Sequence[Tower],
    known: Mapping[str, Rung],
    order: Sequence[str],
) -> dict[str, Rung]:
    """Tower, depth and reason of what `known` lacks, for what a forward pass uses inside a tower.

    `order` has the names of parameters as they are first used. A unit that is used before every block lies
    below them, one that is used after all of them above, and any other with the last block before it.
    """
    place = {name: i for i, name in enumerate(order)}
    held, _ = parted(leaves, steps, towers)
    found: dict[str, Rung] = {}
    for tower in towers:
        blocks = len(tower.chain.blocks)
        uses = {
            number: place[name] for name, number in reversed(tower.chain.numbers.items()) if name in place
        }
        through = passed(steps[name] for name in tower.chain.numbers)
        for unit in units([leaf for leaf in held[tower.name] if leaf.name not in known], steps, through):
            used = [place[leaf.owner] for leaf in unit.members if leaf.owner in place]
            if used and uses:
                last = max((number for number, at in uses.items() if at < min(used)), default=0)
                depth = last + 1 if last == blocks else last
                reason = "by the order of execution, " + (
                    f"after block {last}" if last else "before the blocks"
                )
                found |= {leaf.name: (tower.name, depth, reason) for leaf in unit.members}
    return found
