"""What users may write by hand, and the messages for what they may not."""

import pytest

from etude.errors import PlanError
from etude.model.leaf import Leaf
from etude.model.override import Override, matches, overrides


def test_pairs_and_mappings_say_the_same():
    pair = overrides([("pooler", {"lr_scale": 0.5, "weight_decay": 0})], 1e-4, 0.01)
    mapping = overrides([{"match": "pooler", "lr_scale": 0.5, "weight_decay": 0}], 1e-4, 0.01)
    assert pair == mapping == [Override("pooler", None, 0.5, 0.0)]


def test_absolute_values_are_divided_by_the_peaks():
    (entry,) = overrides([("head", {"lr": 1e-3, "weight_decay": 0.05})], 1e-4, 0.01)
    assert entry.lr == pytest.approx(10)
    assert entry.weight_decay == pytest.approx(5)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"pooler": {"lr": 1}}, "takes a list"),
        ("pooler", "takes a list"),
        ([("pooler", 0.5)], "takes pairs"),
        ([{"lr_scale": 0.5}], "takes pairs"),
        ([("pooler", {})], "nothing is set"),
        ([("pooler", {"lr_scal": 0.5})], "did you mean 'lr_scale'"),
        ([("pool(er", {"lr_scale": 0.5})], "not a regular expression"),
        ([("pooler", {"lr_scale": 0.5, "lr": 1e-5})], "lr and lr_scale both say the rate"),
        ([("pooler", {"lr_scale": 0.5, "depth": 1})], "depth and lr_scale both say the rate"),
        ([("pooler", {"lr_scale": -0.5})], "0 or more"),
        ([("pooler", {"lr_scale": float("nan")})], "finite"),
        ([("pooler", {"lr_scale": True})], "takes a number"),
        ([("pooler", {"lr": "1e-5"})], "takes a number"),
        ([("pooler", {"lr_scale": 0})], 'freezes nothing; write ."freeze": True'),
        ([("pooler", {"freeze": 1})], "freeze is True or False, got 1"),
        ([("pooler", {"freeze": True, "gate": "hold()"})], "freeze and gate both say when it trains"),
        ([(3, {"lr_scale": 0.5})], "takes pairs"),
        ([(len, {"lr_scal": 0.5})], "groups, the function len: unknown setting 'lr_scal'"),
        ([("pooler", {"weight_decay": 0.1})], "give the plan one"),
        ([("pooler", {"gate": 0.5})], "gate takes a path"),
        ([("pooler", {"gate": "0.5 * linear()"})], "its rate goes in lr or lr_scale"),
    ],
)
def test_what_cannot_be_meant_is_refused(entries, message):
    with pytest.raises(PlanError, match=message):
        overrides(entries, 1e-4, 0)


LEAVES = [
    Leaf("wte.weight", (4, 4)),
    Leaf("norm.weight", (4,)),
    Leaf("lm_head.weight", (4, 4), tied_to="wte.weight"),
]


def named(*patterns: str) -> list[Override]:
    return [Override(pattern, lr=1 + i) for i, pattern in enumerate(patterns)]


def test_the_first_match_wins():
    found = matches(LEAVES, named("norm", "weight"))
    assert {name: entry.lr for name, entry in found.items()} == {"norm.weight": 1, "wte.weight": 2}


def test_a_tensor_is_hit_under_any_of_its_names():
    assert list(matches(LEAVES, named("^lm_head"))) == ["wte.weight"]


def test_a_function_is_asked_once_for_each_tensor_so_that_its_negation_hits_the_others():
    def matrix(leaf: Leaf) -> bool:
        return leaf.name != "lm_head.weight" and len(leaf.shape) == 2

    first, second = Override(matrix, lr=1), Override(lambda leaf: not matrix(leaf), lr=2)
    found = matches(LEAVES, [first, second])
    assert {name: entry.lr for name, entry in found.items()} == {"wte.weight": 1, "norm.weight": 2}
    with pytest.raises(PlanError, match="the function matrix: patterns before it match all"):
        matches(LEAVES, [Override("weight"), first])
    with pytest.raises(
        PlanError, match=r"the function .* matches no parameter; the model's first is wte\.weight"
    ):
        matches(LEAVES, [Override(lambda leaf: False)])


def test_patterns_without_effect_are_refused():
    with pytest.raises(PlanError, match=r"'norm.wieght' matches no parameter; did you mean 'norm.weight'"):
        matches(LEAVES, named("norm.wieght"))
    with pytest.raises(PlanError, match="'norm': patterns before it match all"):
        matches(LEAVES, named("weight", "norm"))
