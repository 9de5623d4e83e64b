"""What runs between the blocks of a chain though it is registered beside them, told by widths and numbers."""

from collections.abc import Sequence

from etude.model.anatomy.tree import Steps, words
from etude.model.anatomy.unit import Unit
from etude.model.leaf import Leaf

Rung = tuple[int, str]


def crosses(unit: Unit, width: int | None) -> bool:
    """Whether a list of layers leads into the width of the blocks and, later, out: they may lie within it.

    So they do in the SVTR neck of PP-OCR, of whose five convolutions two come before the blocks.
    """
    weights = [leaf.shape for leaf in unit.weights]
    if len(weights) != len(unit.numbered):  # blocks, each of which has both
        return False
    enters = [i for i, shape in enumerate(weights) if shape[0] == width != shape[1]]
    leaves = [i for i, shape in enumerate(weights) if shape[1] == width != shape[0]]
    return bool(enters and leaves) and enters[0] < leaves[-1]


def middles(beside: Sequence[Unit]) -> dict[Steps, Unit]:
    """Pairs that lead from half of the blocks to predictions and back into the other half: `out`, `out_mid`.

    Speech models condition themselves so on what they hear (Nozaki and Komatsu 2021, arXiv 2104.02724).
    """
    found: dict[Steps, Unit] = {}
    for back in beside:
        for out in beside:
            named = words(back.steps[-1:]) == words(out.steps[-1:]) | {"mid"}
            linear = out.module == back.module == "Linear" and out.steps[:-1] == back.steps[:-1]
            turned = out is not back and out.members[0].shape == back.members[0].shape[::-1]
            if named and linear and turned:
                found |= {back.steps: out, out.steps: back}
    return found


def distils(unit: Unit, blocks: int, width: int | None) -> bool:
    """Whether a list of layers is one shorter than the blocks and keeps their width: it lies between them."""
    weights = [leaf.shape for leaf in unit.weights]
    kept = all(shape[:2] == (width, width) for shape in weights)
    between = unit.numbered == {str(i) for i in range(blocks - 1)}
    return bool(weights) and kept and between and "layers" in words(unit.steps[-1:])


def after(leaf: Leaf, unit: Unit) -> Rung:
    """The block with which a member of such a list stands: the one before it."""
    number = int(leaf.name.partition(f"{unit}.")[2].partition(".")[0]) + 1
    return number, f"between block {number} and block {number + 1}"
