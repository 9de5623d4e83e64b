"""The order of execution against the ladder."""

import pytest

from etude.errors import PlanError
from etude.model.confirm import confirm
from etude.model.ladder import ladder
from etude.model.leaf import Leaf

NAMES = ["wte.weight", *(f"h.{i}.{fc}.weight" for i in range(3) for fc in ("a", "b")), "ln.weight"]


def leaves(*more: Leaf) -> list[Leaf]:
    kinds = {"wte.weight": "Embedding", "ln.weight": "Norm"}
    return [*(Leaf(name, (4, 4), module=kinds.get(name, "Linear")) for name in NAMES), *more]


def test_the_order_of_the_rungs_is_confirmed_and_what_is_not_used_says_nothing():
    found = ladder(leaves())
    confirm(found, NAMES)
    confirm(found, NAMES[:3])
    confirm(found, ["h.1.b.weight", "h.1.a.weight", "h.2.a.weight"])


def test_what_is_used_too_late_is_named_with_the_line_that_places_it():
    norm = Leaf("norm_in.weight", (4,), module="Norm")
    found = ladder([norm, *leaves()])
    confirm(found, ["norm_in.weight", *NAMES])
    with pytest.raises(
        PlanError, match=r"norm_in\.weight \(embeddings\) is used after ln\.weight \(top\)"
    ) as caught:
        confirm(found, [*NAMES, "norm_in.weight"])
    assert 'groups=[("norm_in", {"depth": "top"})]' in str(caught.value)
    confirm(ladder([norm, *leaves()], {"norm_in.weight": "top"}), [*NAMES, "norm_in.weight"])


def test_a_tied_tensor_may_be_used_again_at_the_end():
    head = Leaf("lm_head.weight", (4, 4), module="Linear", tied_to="wte.weight")
    confirm(ladder(leaves(head)), [*NAMES[1:], "wte.weight"])
