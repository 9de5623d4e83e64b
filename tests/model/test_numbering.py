"""Names that hold the number of a block, and names that only look as if they did."""

import pytest

from etude.model.anatomy.numbering import numbered


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["block_0/w", "block_1/w", "block_10/w"], ["block.0.w", "block.1.w", "block.10.w"]),
        (["block/w", "block_1/w", "block_2/w"], ["block.0.w", "block.1.w", "block.2.w"]),
        (["block_5/w"], ["block_5.w"]),
        (["block/w", "block_0/w", "block_1/w"], ["block.w", "block.0.w", "block.1.w"]),
        (["a/ln_1/w", "a/ln_2/w", "b/ln_1/w"], ["a.ln.1.w", "a.ln.2.w", "b.ln_1.w"]),
        (["layers/0/w", "layers/1/w"], ["layers.0.w", "layers.1.w"]),
        (["e_0/x_0", "e_0/x_1", "e_1/x_0", "e_1/x_1"], ["e.0.x.0", "e.0.x.1", "e.1.x.0", "e.1.x.1"]),
        (["_0/w", "_1/w"], ["_0.w", "_1.w"]),
    ],
)
def test_neighbours_that_differ_in_a_number_are_members_of_a_list(paths, names):
    assert numbered([path.split("/") for path in paths]) == names
