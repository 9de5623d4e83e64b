"""Where the parameters stand that lie beside several towers: what joins the towers, and the head."""

from collections.abc import Mapping, Sequence, Set

from etude.model.anatomy.tower import Tower, shared
from etude.model.anatomy.tree import Steps, words
from etude.model.anatomy.unit import ABOVE, BELOW, HEAD, JOINS, Unit, passed, units
from etude.model.leaf import Leaf

Rung = tuple[str, int, str]


def beside(
    leaves: Sequence[Leaf],
    inside: Sequence[Leaf],
    steps: Mapping[str, Steps],
    towers: Sequence[Tower],
    known: Mapping[str, Rung],
) -> dict[str, Rung]:
    """Tower, depth and reason of each of `leaves`, for all that is certain.

    `known` has the rungs of those `inside` towers.

    What is named for predictions, or lies outside the part of the model that holds all towers, is the head.
    Embeddings feed the next tower, in order of registration, that has none of its own. Projectors, scales and
    whatever else joins the towers has a rung of its own.
    """
    order = {name: i for i, name in enumerate(steps)}
    begins = [min(order[name] for name in tower.chain.numbers) for tower in towers]
    highest = max(len(tower.chain.blocks) for tower in towers)
    found_units = units(leaves, steps, passed(steps[name] for one in towers for name in one.chain.numbers))
    at = {unit.steps: order[unit.members[0].name] for unit in found_units}
    feeding = {unit.steps for unit in found_units if _feeds(unit)}
    early = {name for name in feeding if at[name] < begins[-1]}
    common = shared([*(tower.path for tower in towers), *(name[:-1] for name in early)])
    full = {known[leaf.name][0] for leaf in inside if _is_input(leaf, known.get(leaf.name))}
    found: dict[str, Rung] = {}
    for unit in found_units:
        outside = unit.steps[: len(common)] != common
        named = words(unit.steps[len(common) :])
        joins = named & {*JOINS, *(f"{word}s" for word in JOINS)}
        fed = _fed(unit, at[unit.steps], begins, towers, full) if unit.steps in feeding else None
        if (outside and not unit.only_tables) or (named & HEAD and "token" not in named):
            rung = "", highest + 2, "outside the towers" if outside else f"a head by its name, {unit}"
        elif unit.large and not joins:
            continue
        elif fed:
            rung = fed.name, 0, f"an embedding beside the towers, of which it feeds {fed.name}"
        elif unit.only_tables and not unit.single and len(full) < len(towers):
            continue
        elif at[unit.steps] < begins[0] and any(leaf.module == "Conv" for leaf in unit.members):
            rung = towers[0].name, 0, "convolutions before the towers"
        else:
            rung = "", highest + 1, "beside the towers"
        found |= {leaf.name: rung for leaf in unit.members}
    return found


def _feeds(unit: Unit) -> bool:
    """Whether a unit holds a table, or is called one."""
    named = words(unit.steps)
    if named & {*ABOVE, *JOINS, "bbox"}:
        return False
    table = unit.single and named & BELOW and len(unit.members[0].shape) > 1
    return bool(table) or unit.tables or any(word.startswith("emb") for word in named)


def _is_input(leaf: Leaf, rung: Rung | None) -> bool:
    """Whether a tower has a table or a layer of its own at the bottom."""
    return rung is not None and rung[1] == 0 and len(leaf.shape) > 1


def _fed(
    unit: Unit, position: int, begins: Sequence[int], towers: Sequence[Tower], full: Set[str]
) -> Tower | None:
    """The tower that a module of tables feeds: the next without an input, or the only one, or the next."""
    without = [tower for tower in towers if tower.name not in full]
    later = [tower for tower, begin in zip(towers, begins, strict=True) if begin > position]
    if unit.single and unit.members[0].module != "Embedding":
        return None
    if not later:
        return without[0] if len(without) == 1 else None
    return next((one for one in later if one in without), later[0])
