"""Groups go by rungs, tower and depth together: names, rows, and what never trains."""

import re

import pytest

from etude.core.text import parse
from etude.errors import PlanError
from etude.model.freeze import frozen, needs_depth
from etude.model.groups import layout
from etude.model.ladder import Ladder, Placement, level
from etude.model.leaf import Leaf
from etude.model.override import Override, overrides, refuse_shared_numbers
from etude.model.rates.multiplier import Multipliers
from etude.model.wishes import FROZEN, STILL, Wishes


def model(towers: dict[str, int], *without: str, frozen: str = "^$") -> Ladder:
    """A matrix and a bias on every rung: `vision.layer.0.w`, `vision.layer.0.bias`."""
    shape = Ladder(towers, ())
    rungs = [(shape.name(*key), key) for key in shape.known() if shape.name(*key) not in without]
    leaves = [
        (Leaf(f"{rung}.{name}", size, not re.match(frozen, rung)), key)
        for rung, key in rungs
        for name, size in (("w", (2, 3)), ("bias", (3,)))
    ]
    return Ladder(
        towers, tuple(Placement(leaf, *key, f"by {leaf.name}", (leaf.name,)) for leaf, key in leaves)
    )


ONE = model({"": 3})
TWO = model({"vision": 3, "text": 2})


def leaves(ladder: Ladder) -> list[Leaf]:
    return [placement.leaf for placement in ladder.placements]


def settled(ladder: Ladder, decay: float | None = None, **wishes):
    multipliers = {key: wishes.pop(key) for key in ("head", "convention", "embeddings") if key in wishes}
    return layout(
        ladder, Wishes(Multipliers(decay, **multipliers), no_decay=wishes.pop("no_decay", None), **wishes)
    )


def named(*args, **wishes) -> dict[str, float]:
    return {group.name: group.scale["lr"] for group in settled(*args, **wishes).groups()}


def test_one_tower():
    assert named(ONE, 0.5) == {"embeddings": 0.125, "layer.0": 0.25, "layer.1": 0.5, "layer.2..head": 1}
    assert named(ONE) == {"all": 1}
    assert named(ONE, head=3) == {"embeddings..top": 1, "head": 3}
    assert named(ONE, 0.5, head=0.5) == {
        "embeddings": 0.125, "layer.0": 0.25, "layer.1+head": 0.5, "layer.2..top": 1,
    }  # fmt: skip


def test_rungs_of_two_towers_with_one_rate_share_a_group():
    """By height: vision.layer.1 lies as far below the head as text.layer.0."""
    found = settled(TWO, 0.5, head=8)
    assert [(group.name, group.scale["lr"]) for group in found.groups()] == [
        ("vision.embeddings", 0.125),
        ("vision.layer.0+text.embeddings", 0.25),
        ("vision.layer.1+text.layer.0", 0.5),
        ("vision.layer.2..top+text.layer.1..top+joint", 1),
        ("head", 8),
    ]
    held = {group.name: group.params for group in found.groups()}
    assert held["vision.layer.1+text.layer.0"] == (
        "vision.layer.1.w", "vision.layer.1.bias", "text.layer.0.w", "text.layer.0.bias",
    )  # fmt: skip


def test_a_tower_that_is_filled_gives_its_name():
    assert named(TWO, {"vision": 1, "text": [0.3] * 4}, head=8) == {"vision+joint": 1, "text": 0.3, "head": 8}
    assert named(TWO, head=8) == {"vision+text+joint": 1, "head": 8}
    short = model({"vision": 3, "text": 2}, "vision.embeddings", "joint")
    assert named(short, head=8) == {"vision+text": 1, "head": 8}


def test_a_run_ends_where_its_tower_ends():
    """The top of one tower and the embeddings of the next stand beside each other in the list only."""
    found = named(TWO, {"vision": [1, 0.5, 0.5, 0.2, 0.2], "text": [0.2, 0.2, 0.5, 0.1]}, head=7)
    assert found == {
        "vision.embeddings+joint": 1, "vision.layer.0..layer.1+text.layer.1": 0.5,
        "vision.layer.2..top+text.embeddings..layer.0": 0.2, "text.top": 0.1, "head": 7,
    }  # fmt: skip


def test_the_same_number_in_two_towers_is_two_rungs():
    by_hand = overrides([(r"^vision\.layer\.1\.", {"lr_scale": 3})], 1, 0)
    found = settled(
        TWO, overrides={leaf.name: by_hand[0] for leaf in leaves(TWO) if "vision.layer.1" in leaf.name}
    )
    assert {group.name: group.params for group in found.groups()}["vision.layer.1.x3"] == (
        "vision.layer.1.w", "vision.layer.1.bias",
    )  # fmt: skip


def test_rows_are_per_rung_and_setting_with_their_reasons():
    rows = settled(TWO, 0.5, no_decay=("bias",)).rows()
    assert [row.rung for row in rows[::2]] == [rung.name for rung in TWO.rungs()]
    assert [(row.depth, row.rung, row.group, row.size) for row in rows if row.rung.endswith("layer.1")] == [
        (2, "vision.layer.1", "vision.layer.1+text.layer.0", 6),
        (2, "vision.layer.1", "vision.layer.1+text.layer.0.no_decay", 3),
        (2, "text.layer.1", "vision.layer.2..top+text.layer.1..top+joint..head", 6),
        (2, "text.layer.1", "vision.layer.2..top+text.layer.1..top+joint..head.no_decay", 3),
    ]
    assert rows[2].reasons == ("by vision.layer.0.w",)


def test_rows_of_one_tower_keep_what_was_frozen_before_planning_without_a_group():
    rows = settled(model({"": 3}, frozen="embeddings|layer.0")).rows()
    assert [(row.rung, row.group, row.setting is None) for row in rows] == [
        ("embeddings", None, True), ("layer.0", None, True), ("layer.1", "all", False),
        ("layer.2", "all", False), ("top", "all", False), ("head", "all", False),
    ]  # fmt: skip


def test_every_setting_has_one_group_and_every_group_one_name():
    """Two rates that swapped their rungs in part span the same rungs."""
    swap = overrides([(r"layer\.0\.w", {"lr_scale": 0.25}), (r"layer\.1\.w", {"lr_scale": 0.5})], 1, 0)
    two = model({"": 2}, "embeddings", "top", "head")
    by_hand = {"layer.0.w": swap[1], "layer.1.w": swap[0]}
    found = settled(two, [0.25, 0.5], overrides=by_hand).groups()
    assert [group.name for group in found] == ["layer.0..layer.1", "layer.0..layer.1.x0.5"]
    assert [group.params for group in found] == [("layer.0.bias", "layer.1.w"), ("layer.0.w", "layer.1.bias")]


# freeze


def names(freeze, ladder=TWO) -> set[str]:
    return {name.rpartition(".")[0] for name in frozen(freeze, ladder, leaves(ladder)) if name.endswith(".w")}


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ("embeddings", "embeddings"),
        ("layer.1", "embeddings layer.0 layer.1"),
        (2, "embeddings layer.0 layer.1"),
        (0, "embeddings"),
        ("top", "embeddings layer.0 layer.1 layer.2 top"),
        (r"^layer\.1", "layer.1"),
        ("layer.1.w", "layer.1"),
        (["embeddings", r"layer\.2"], "embeddings layer.2"),
        (lambda leaf: leaf.name.startswith("top"), "top"),
        ({"": "layer.0"}, "embeddings layer.0"),
        (None, ""),
        ([], ""),
    ],
)
def test_a_rung_freezes_with_all_that_lies_below_and_a_pattern_alone(freeze, expected):
    assert names(freeze, ONE) == {*expected.split()}


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ("text.layer.0", "text.embeddings text.layer.0"),
        ({"vision": 1}, "vision.embeddings vision.layer.0"),
        ({"vision": "layer.0", "text": "embeddings"}, "vision.embeddings vision.layer.0 text.embeddings"),
        ("embeddings", "vision.embeddings text.embeddings"),
        (
            ["text.top", "vision.embeddings"],
            "text.embeddings text.layer.0 text.layer.1 text.top vision.embeddings",
        ),
        (r"layer\.1\.", "vision.layer.1 text.layer.1"),
    ],
)
def test_in_several_towers_each_is_frozen_for_itself(freeze, expected):
    assert names(freeze) == {*expected.split()}


def test_what_lies_outside_the_towers_lies_above_them():
    every = {rung.name for rung in TWO.rungs()}
    assert names("joint") == every - {"head"}
    assert names("top") == every - {"joint", "head"}
    assert names("head") == every


@pytest.mark.parametrize(
    ("ladder", "freeze", "message"),
    [
        (ONE, "layer.3", "freeze='layer.3' is no rung: write embeddings, layer.0 … head, or 0 to 5"),
        (ONE, 6, "freeze=6 is no rung"),
        (ONE, -1, "freeze=-1 is no rung"),
        (ONE, "layr", "'layr' matches no parameter"),
        (ONE, {"vision": 1}, "no tower 'vision'; it has only one"),
        (ONE, True, "takes a regular expression or a function of a leaf, got True"),
        (ONE, [None], "takes a regular expression or a function of a leaf, got None"),
        (ONE, "layer.(", "not a regular expression"),
        (
            TWO,
            "layer.1",
            r"this model has vision \(3 blocks\), text \(2 blocks\): write freeze={'vision': 'layer.1'}",
        ),
        (TWO, 2, "does not say in which tower"),
        (
            TWO,
            "text.layer.2",
            "freeze='layer.2' is no rung of text: write text.embeddings, text.layer.0 … text.top",
        ),
        (TWO, {"vison": 1}, "no tower 'vison'; did you mean 'vision'"),
        (TWO, {"text": "joint"}, "'joint' is no rung of text"),
    ],
)
def test_what_cannot_be_frozen_is_refused(ladder, freeze, message):
    with pytest.raises(PlanError, match=re.escape(message) if "\\" not in message else message):
        frozen(freeze, ladder, leaves(ladder))


def test_only_rungs_need_a_depth():
    assert [needs_depth(one) for one in ("embeddings", "layer.3", 2, {"a": 1}, ["x", "top"])] == [True] * 5
    assert [needs_depth(one) for one in ("layer", r"\.bias$", len, [], None, ["x"])] == [False] * 6
    flat = level(leaves(ONE))
    assert frozen("bias", flat, leaves(ONE)) == {leaf.name for leaf in leaves(ONE) if "bias" in leaf.name}


def test_what_never_trains_is_one_group_with_the_gate_frozen():
    found = settled(ONE, 0.5, no_decay=("bias",), frozen=frozen("layer.0", ONE, leaves(ONE)))
    first, *rest = found.groups()
    assert first.name == "embeddings..layer.0.frozen"
    assert (first.gate, first.freezes, first.scale) == (FROZEN, True, {"lr": 0, "weight_decay": 0})
    assert str(parse(str(first.gate))) == "frozen()"
    assert len(first.params) == 4
    free = {group.name: group.scale for group in settled(ONE, 0.5, no_decay=("bias",)).groups()}
    assert {group.name: group.scale for group in rest}.items() < free.items()
    assert [row.group for row in found.rows()][:3] == [first.name, first.name, "layer.1"]


def test_the_word_in_groups_wins_over_freeze_and_over_stages():
    stage, own = parse("frozen(0.5) >> hold(start=1)"), parse("warmup(0.1) >> hold()")
    read = overrides(
        [(r"\.0\.bias", {"freeze": False}), (r"\.1\.w", {"freeze": True}), ("head.w", {"gate": own})], 1, 0
    )
    by_hand = dict(zip(("layer.0.bias", "layer.1.w", "head.w"), read, strict=True))
    gates = {("", depth): stage for depth in (0, 1, 2, 5)}
    found = settled(ONE, overrides=by_hand, frozen={"layer.0.w", "layer.0.bias"}, gates=gates)
    gate = {name: setting.gate for name, setting in found.settings.items()}
    assert gate["layer.0.w"] == gate["layer.1.w"] == FROZEN
    assert gate["layer.0.bias"] == gate["layer.1.bias"] == gate["head.bias"] == stage
    assert gate["head.w"] == own
    assert gate["layer.2.w"] is None
    assert [group.name for group in found.groups()] == [
        "embeddings..layer.1+head", "layer.0..layer.1.frozen", "layer.2..top", "head.gated",
    ]  # fmt: skip


def test_gates_of_stages_go_by_tower_and_depth():
    stage = parse("frozen(0.5) >> hold(start=1)")
    found = settled(TWO, gates={("text", 1): stage, ("", 5): stage})
    gated = {name for name, setting in found.settings.items() if setting.gate == stage}
    assert gated == {"text.layer.0.w", "text.layer.0.bias", "head.w", "head.bias"}
    assert "text.layer.0+head" in {group.name for group in found.groups()}


def test_nothing_left_to_train_is_refused():
    with pytest.raises(PlanError, match="everything is frozen"):
        settled(ONE, frozen={leaf.name for leaf in leaves(ONE)})
    with pytest.raises(PlanError, match="no parameter of this model is trainable"):
        settled(model({"": 2}, frozen="."))
    with pytest.raises(PlanError, match="no parameter of this model is trainable"):
        settled(model({"": 2}, frozen="layer"), only={"layer.0.w"})
    assert settled(ONE, frozen={"top.w"}).settings["top.w"] == STILL


def test_an_override_that_reaches_nothing_that_trains_is_refused():
    still = model({"": 2}, frozen="embeddings")
    (entry,) = overrides([("embeddings", {"lr_scale": 2})], 1, 0)
    with pytest.raises(PlanError, match="'embeddings' hits only parameters that are frozen already"):
        settled(still, overrides={"embeddings.w": entry, "embeddings.bias": entry})
    placed = Override("embeddings", depth=0)
    assert len(settled(still, overrides={"embeddings.w": placed}).groups()) == 1


# one number in two towers


@pytest.mark.parametrize(
    "pattern", [r"layer\.1\.", r"layer\.[01]\.", r"layer\.(0|1)\.w", lambda leaf: ".layer.1." in leaf.name]
)
def test_a_pattern_that_picks_one_number_in_two_towers_is_refused(pattern):
    deep = model({"vision": 4, "text": 3})
    with pytest.raises(PlanError, match="a number lies at another depth in each tower") as caught:
        refuse_shared_numbers(overrides([(pattern, {"lr_scale": 2})], 1, 0), deep)
    assert re.search(r"vision\.layer\.\d \(vision\.layer.*text\.layer\.\d \(text\.layer", str(caught.value))


def test_any_two_of_three_towers_may_share_a_number():
    three = model({"audio": 3, "vision": 3, "text": 3})
    pattern = r"audio\.layer\.0|(vision|text)\.layer\.2"
    with pytest.raises(PlanError, match=r"hits vision\.layer\.2 \(.*\) and text\.layer\.2"):
        refuse_shared_numbers(overrides([(pattern, {"lr_scale": 2})], 1, 0), three)


def test_the_message_has_a_line_for_each_tower_that_does_what_was_meant():
    with pytest.raises(PlanError) as caught:
        refuse_shared_numbers(overrides([(r"layer\.1\.", {"depth": "head"})], 1, 0), TWO)
    lines = re.findall(r'\(r"(.*?)", …\)', str(caught.value))
    hit = [{leaf.name for leaf in leaves(TWO) if re.search(line, leaf.name)} for line in lines]
    assert hit == [{f"{tower}.layer.1.{end}" for end in ("w", "bias")} for tower in ("vision", "text")]
    refuse_shared_numbers(overrides([(line, {"lr_scale": 2}) for line in lines], 1, 0), TWO)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\.w$", "layer", r"layer\.\d+\.bias", r"^vision\.layer\.1\.", r"vision\.layer\.2|text\.layer\.1",
        r"text\.layer\.[01]\.", r"layer\.[0-9]\.", "embeddings", lambda leaf: len(leaf.shape) == 2,
    ],
)  # fmt: skip
def test_patterns_that_mean_all_layers_or_one_tower_stand(pattern):
    refuse_shared_numbers(overrides([(pattern, {"lr_scale": 2})], 1, 0), TWO)
    refuse_shared_numbers(overrides([(r"layer\.1", {"lr_scale": 2})], 1, 0), ONE)


def test_a_kind_of_layer_that_only_some_blocks_have_is_no_number():
    """A hybrid has attention in every second block; its name picks them without their numbers."""
    shape = Ladder({"a": 4, "b": 4}, ())
    named = [
        (f"{tower}.layer.{i}.{'attn2' if i % 2 else 'ssm'}", tower, i + 1) for tower in "ab" for i in range(4)
    ]
    hybrid = Ladder(
        shape.towers,
        tuple(Placement(Leaf(name, (2, 2)), tower, depth, "", (name,)) for name, tower, depth in named),
    )
    refuse_shared_numbers(overrides([("attn2", {"lr_scale": 2})], 1, 0), hybrid)
