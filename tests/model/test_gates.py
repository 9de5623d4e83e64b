"""Stages and the gates they make, judged by what trains when and at which rate over a whole run."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.path import Path, words_of
from etude.core.plan import Group, Plan
from etude.core.shapes import SHAPES
from etude.core.text import parse
from etude.errors import EtudeError, PlanError
from etude.model.ladder import Ladder, Placement
from etude.model.leaf import Leaf
from etude.model.stages.freezeout import freezeout
from etude.model.stages.gates import stage, stages
from etude.model.stages.unfreezing import lp_ft, unfreeze

EPOCH, TOTAL = 10, 100


def placed(tower, depth, trainable=True):
    name = f"{tower}.{depth}.weight"
    return Placement(Leaf(name, (4, 4), trainable), tower, depth, "made up", (name,))


def one_tower(blocks=4, top=True, head=True, still=()):
    """embeddings, layer.0 … layer.<blocks-1>, top, head; the depths in `still` do not train."""
    depths = [*range(blocks + 1), *([blocks + 1] if top else []), *([blocks + 2] if head else [])]
    return Ladder({"": blocks}, tuple(placed("", depth, depth not in still) for depth in depths))


def two_towers():
    """An encoder of 3 blocks and a decoder of 2, what joins them, a head."""
    inside = [placed("encoder", depth) for depth in range(5)] + [
        placed("decoder", depth) for depth in range(4)
    ]
    return Ladder({"encoder": 3, "decoder": 2}, (*inside, placed("", 4), placed("", 5)))


FOUR = one_tower()


def rates_of(staged, ladder=FOUR, lr="1.0 * hold()", tick=0.0, total=TOTAL):
    gates = staged.gates(ladder)
    groups = [Group(rung.name, gate=gates.get((rung.tower, rung.depth))) for rung in ladder.rungs()]
    return Plan({"lr": lr}, groups, tick).over(total, epoch=EPOCH)


def training(staged, k, ladder=FOUR, **given):
    """The rungs that train in update k, from the bottom up."""
    rates = rates_of(staged, ladder, **given)
    return [group.name for group, open_ in zip(rates.plan.groups, rates.open(k), strict=True) if open_]


def thaws(staged, ladder=FOUR, **given):
    """Rung -> the update in which it first trains; None for never. It must train from then on."""
    rates = rates_of(staged, ladder, **given)
    columns = zip(*(rates.open(k) for k in range(TOTAL)), strict=True)
    found = {}
    for group, column in zip(rates.plan.groups, columns, strict=True):
        found[group.name] = column.index(True) if any(column) else None
        assert list(column) == sorted(column)
    return found


def rate(staged, rung, k, ladder=FOUR, **given):
    rates = rates_of(staged, ladder, **given)
    names = [group.name for group in rates.plan.groups]
    return rates.at(k)["lr"][names.index(rung)]


# --- gradual unfreezing -------------------------------------------------------------------------------------


def test_ulmfit_thaws_one_rung_an_epoch_from_the_head_down():
    assert thaws(unfreeze("1ep")) == {
        "head": 0, "top": 10, "layer.3": 10, "layer.2": 20, "layer.1": 30, "layer.0": 40, "embeddings": 50,
    }  # fmt: skip


@pytest.mark.parametrize(("every", "length"), [(0.05, 5), ("5%", 5), (7, 7), ("0.5ep", 5), ("7up", 7)])
def test_a_stage_has_any_length_of_the_language(every, length):
    found = thaws(unfreeze(every))
    assert [found[name] for name in ("layer.3", "layer.2", "embeddings")] == [length, 2 * length, 5 * length]


def test_what_thaws_gets_its_multiplier_times_the_schedule_where_it_is():
    rates = rates_of(unfreeze("1ep"), lr="0.5 * cosine()")
    for k in (0, 9, 10, 25, 50, 99):
        expected = parse("0.5 * cosine()").over(TOTAL)(k)
        assert rates.at(k)["lr"] == [expected if open_ else 0.0 for open_ in rates.open(k)]


def test_a_model_without_a_head_begins_with_its_last_block():
    found = thaws(unfreeze("1ep"), one_tower(head=False))
    assert (found["layer.3"], found["top"], found["layer.2"]) == (0, 0, 10)


def test_the_norm_above_the_blocks_has_no_stage_of_its_own():
    with_top, without = thaws(unfreeze("1ep")), thaws(unfreeze("1ep"), one_tower(top=False))
    assert with_top == without | {"top": 10}


def test_towers_thaw_side_by_side_from_their_tops():
    found = thaws(unfreeze("1ep"), two_towers())
    assert found == {
        "head": 0, "joint": 10, "encoder.top": 10, "decoder.top": 10, "encoder.layer.2": 10,
        "decoder.layer.1": 10, "encoder.layer.1": 20, "decoder.layer.0": 20, "encoder.layer.0": 30,
        "decoder.embeddings": 30, "encoder.embeddings": 40,
    }  # fmt: skip


def test_a_rung_without_anything_to_train_has_no_stage():
    found = thaws(unfreeze("1ep"), one_tower(still=(0, 2, 5)))
    assert [found[name] for name in ("head", "layer.3", "layer.2", "layer.0")] == [0, 10, 20, 30]


def test_from_the_bottom_up_the_head_trains_from_the_start():
    found = thaws(unfreeze("1ep", from_top=False))
    assert found == {
        "head": 0, "embeddings": 10, "layer.0": 20, "layer.1": 30, "layer.2": 40, "layer.3": 50, "top": 50,
    }  # fmt: skip
    found = thaws(unfreeze("1ep", from_top=False), one_tower(head=False))
    assert (found["embeddings"], found["layer.0"], found["top"]) == (0, 10, 40)


def test_the_head_the_top_third_the_middle_third_all():
    """The multi-stage recipe of the source documents: four stages, each at lower rates than the last."""
    staged = unfreeze("1ep", stages=4, fade=0.5)
    ladder = one_tower(blocks=6)
    assert training(staged, 0, ladder) == ["head"]
    assert training(staged, 10, ladder) == ["layer.3", "layer.4", "layer.5", "top", "head"]
    assert training(staged, 20, ladder) == [
        "layer.1",
        "layer.2",
        "layer.3",
        "layer.4",
        "layer.5",
        "top",
        "head",
    ]
    assert len(training(staged, 30, ladder)) == 9
    assert [rate(staged, "head", k, ladder) for k in (0, 10, 20, 30, 99)] == [1, 0.5, 0.25, 0.125, 0.125]
    assert rate(staged, "embeddings", 30, ladder) == 0.125


@pytest.mark.parametrize("count", range(2, 7))
def test_any_number_of_stages_covers_the_model_once(count):
    found = thaws(unfreeze("1ep", stages=count))
    assert sorted(set(found.values())) == [10 * i for i in range(count)]
    assert found["head"] == 0
    order = [found[name] for name in ("layer.3", "layer.2", "layer.1", "layer.0", "embeddings")]
    assert order == sorted(order)


def test_stages_may_be_listed_by_what_each_adds_and_the_rest_stays_frozen():
    staged = unfreeze(0.2, stages=["head", ["layer.3", "top"], "layer.1..layer.2"])
    found = thaws(staged)
    assert found == {
        "head": 0, "layer.3": 20, "top": 20, "layer.2": 40, "layer.1": 40,
        "layer.0": None, "embeddings": None,
    }  # fmt: skip


def test_what_thaws_may_come_to_its_rate_slowly():
    staged = unfreeze("1ep", warmup="0.4ep")
    assert [rate(staged, "layer.3", k) for k in (9, 10, 11, 12, 13, 14, 20)] == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert rate(staged, "head", 0) == rate(staged, "head", 10) == 1
    assert rate(staged, "layer.2", 22) == 0.5
    assert rate(staged, "layer.3", 22) == 1


# --- a probe first ------------------------------------------------------------------------------------------


def test_lp_ft_fits_the_head_then_trains_all():
    staged = lp_ft(0.1, warmup=0.05)
    assert training(staged, 9) == ["head"]
    assert len(training(staged, 10)) == len(FOUR.rungs())
    assert [rate(staged, "embeddings", k) for k in (9, 10, 12, 15, 99)] == [0, 0, 0.4, 1, 1]
    assert [rate(staged, "head", k) for k in (0, 9, 10, 12)] == [1, 1, 1, 1]


def test_lp_ft_may_fit_more_than_the_head():
    assert training(lp_ft("2ep", head="top..head"), 19) == ["top", "head"]


# --- stages of the user's own -------------------------------------------------------------------------------


def test_each_stage_has_its_rungs_and_its_peak():
    staged = stage("head", 0.1) >> stage("layer.2..head", 0.3, peak=0.5) >> stage("*", peak=0.1)
    assert [len(training(staged, k)) for k in (9, 10, 39, 40)] == [1, 4, 4, 7]
    assert [rate(staged, "head", k) for k in (9, 10, 39, 40, 99)] == [1, 0.5, 0.5, 0.1, 0.1]
    assert [rate(staged, "layer.2", k) for k in (9, 10, 39, 40)] == [0, 0.5, 0.5, 0.1]


def test_a_rung_may_freeze_again_and_thaw_again():
    staged = stage("head", 0.2) >> stage("layer.0+head", 0.3) >> stage("head", 0.2) >> stage(warmup=0.1)
    column = [row[1] for row in (rates_of(staged).open(k) for k in range(TOTAL))]
    assert column == [False] * 20 + [True] * 30 + [False] * 20 + [True] * 30
    assert rate(staged, "layer.0", 75) == 0.5
    assert rate(staged, "head", 75) == 1


PATHS = [
    *(shape.example for shape in SHAPES.values() if not shape.gate_only and "timescale" not in shape.options),
    "inv_time(timescale=10)", "inv_sqrt(timescale=10)", "exp_warmup(0.1)",
    "warmup(0.1) >> cosine(to=0.01)", "one_cycle()", "hold(0.5) >> linear(start=0.7)", "hold()",
    "repeat(cosine(start=1), 3)", "repeat(linear(to=0.5), 2) >> hold()", "repeat(step(by=0.5, every=2), 2)",
    "exp(to=0.1)", "cyclic(up=5, start=0.1, top=2)", "wave(half=7, low=0.2)",
    "cosine(0.2, start=0, to=3)", "linear(10) >> linear(to=1)", "multistep(at=(0.5, 0.75))",
]  # fmt: skip


@pytest.mark.parametrize("peak", [1, 0.3])
@pytest.mark.parametrize("text", PATHS)
def test_a_stage_runs_its_own_path_at_its_own_peak(text, peak):
    """What the gate says is the path as if the stage were a run of its own."""
    path = parse(text)
    if all(word.over is not None for word in words_of(path)):
        path = path >> parse("hold()")
    first = rates_of(stage("*", 0.4, peak=peak, path=path) >> stage("*", 0.4) >> stage("head"))
    later = rates_of(stage("head", 0.4) >> stage("*", 0.4, peak=peak, path=path) >> stage("head"))
    alone = path.over(40, epoch=EPOCH)
    for t in (0, 1, 3.5, 8, 20, 27, 39.5):
        assert first.at(t, t)["lr"][0] == pytest.approx(peak * alone(t), rel=1e-9)
        assert later.at(40 + t, 40 + t)["lr"][0] == pytest.approx(peak * alone(t), rel=1e-9)
    assert [row.open(k)[0] for row in (first, later) for k in (0, 39, 40, 79, 80)] == [
        True, True, True, True, False, False, False, True, True, False,
    ]  # fmt: skip


def test_where_each_stage_has_a_path_the_plans_rate_is_a_number():
    staged = stages('stage("head", "2ep", path=linear()) >> stage(peak=0.1, path=warmup(0.25) >> cosine())')
    assert [rate(staged, "head", k, lr=2.0) for k in (0, 10, 20, 40, 70)] == pytest.approx(
        [2, 1, 0, 0.2, 0.1]
    )
    assert [rate(staged, "layer.1", k, lr=2.0) for k in (10, 30, 40)] == pytest.approx([0, 0.1, 0.2])


def test_lengths_of_several_kinds_meet_at_the_same_boundaries():
    staged = (
        stage("head", "1ep") >> stage("layer.2..head", 13, peak=0.5) >> stage("layer.1..head", 0.2) >> stage()
    )
    assert thaws(staged) == {
        "head": 0, "top": 10, "layer.3": 10, "layer.2": 10, "layer.1": 23, "layer.0": 43, "embeddings": 43,
    }  # fmt: skip
    assert [rate(staged, "layer.2", k) for k in (10, 22, 23, 42, 43)] == [0.5, 0.5, 1, 1, 1]


def test_stages_without_a_length_share_what_is_left():
    staged = stage("head", 0.1) >> stage("layer.2..head") >> stage("layer.0..head") >> stage()
    found = thaws(staged)
    assert [found[name] for name in ("layer.2", "layer.0", "embeddings")] == [10, 40, 70]


def test_a_rung_that_trains_throughout_has_no_gate():
    assert ("", 6) not in unfreeze("1ep").gates(FOUR)
    assert stage("*", 0.5).__rshift__(stage()).gates(FOUR) == {}


def test_rungs_by_range_pattern_list_and_sum():
    ladder = two_towers()
    cases = {
        "encoder.layer.1..encoder.top": ["encoder.layer.1", "encoder.layer.2", "encoder.top"],
        "encoder.layer.2..head": ["encoder.layer.2", "encoder.top", "joint", "head"],
        "decoder.*": ["decoder.embeddings", "decoder.layer.0", "decoder.layer.1", "decoder.top"],
        "*.embeddings+head": ["encoder.embeddings", "decoder.embeddings", "head"],
        "joint..head": ["joint", "head"],
    }
    for names, expected in cases.items():
        assert training(stage([names, "head"], 0.5) >> stage(), 0, ladder) == list(
            dict.fromkeys([*expected, "head"])
        )


# --- progressive freezing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("spacing", "power"), [("linear", 1), ("cubic", 3)])
def test_freezeout_is_the_papers_formula(spacing, power, scaled):
    """Brock et al. 2017: lr_i(t) = ½·α_i·(1 + cos(πt/t_i)), α_i = α/t_i if scaled, t_i from t_0 to 1."""
    rates = rates_of(freezeout(0.512, spacing=spacing, scaled=scaled), one_tower(top=False))
    first = 0.512 ** (1 / power)
    ends = [(first + (1 - first) * i / 5) ** power for i in range(6)]
    assert ends[0] == pytest.approx(0.512)
    for k in range(TOTAL):
        for i, (value, open_) in enumerate(zip(rates.at(k)["lr"], rates.open(k), strict=True)):
            t = k / TOTAL
            assert open_ == (t < ends[i])
            expected = (1 + math.cos(math.pi * t / ends[i])) / 2 / (ends[i] if scaled else 1)
            assert value == (pytest.approx(expected, abs=1e-12) if open_ else 0)


def test_freezeout_gives_every_layer_the_same_area_where_it_is_scaled():
    rates = rates_of(freezeout(0.5), tick=0.5, total=10_000)
    areas = [sum(column) for column in zip(*rates.matrix(), strict=True)]
    assert areas == pytest.approx([5000] * len(areas), rel=1e-6)


# --- as text ------------------------------------------------------------------------------------------------

WRITTEN = [
    unfreeze(), unfreeze(0.1, from_top=False, stages=3, warmup=0.01, fade=0.5), lp_ft(),
    lp_ft("2ep", warmup=100),
    unfreeze("500up", stages=["head", "layer.0..top"], path=parse("warmup(0.1) >> cosine()")), freezeout(),
    freezeout(0.3, spacing="linear", scaled=False), stage(), stage("head", "10%") >> stage(peak=0.5),
    stage("head", 1) >> stage("layer.1..top+head", "1e3tok", path=parse("repeat(cosine(), 2)")) >> stage(),
]  # fmt: skip


@pytest.mark.parametrize("staged", WRITTEN, ids=str)
def test_the_text_of_stages_is_their_source(staged):
    assert stages(str(staged)) == staged
    assert stages(f"  {staged}\n") == staged
    assert stages(staged) is staged
    assert repr(staged) == str(staged)
    assert pickle.loads(pickle.dumps(staged)) == staged
    assert hash(staged) == hash(stages(str(staged)))


lengths = st.one_of(
    st.none(),
    st.integers(1, 10**6),
    st.floats(1e-6, 0.999),
    st.sampled_from(["1ep", "0.5ep", "12%", "500ex", "1e9tok", "30up"]),
)


@given(st.lists(st.tuples(lengths, st.floats(1e-3, 10), st.booleans(), lengths), min_size=1, max_size=5))
def test_any_stages_are_read_back(parts):
    path = parse("warmup(0.1) >> cosine(to=1e-2)")
    several = [
        stage("layer.1..head", over, peak=peak, path=path if drawn else None, warmup=None if drawn else slow)
        for over, peak, drawn, slow in parts
    ]
    joined = several[0]
    for one in several[1:]:
        joined = joined >> one
    assert stages(str(joined)) == joined


def test_stages_from_a_recipe():
    listed = [
        {"rungs": "head", "over": "1ep"},
        {"rungs": ["layer.2", "head"], "over": 0.1, "peak": 0.5},
        "stage()",
    ]
    assert stages(listed) == stage("head", "1ep") >> stage("layer.2+head", 0.1, peak=0.5) >> stage()
    assert stages('stage("head", 0.1) >> stage(peak=1/4, path=linear(to=1/2))') == stage(
        "head", 0.1
    ) >> stage(peak=0.25, path=parse("linear(to=0.5)"))


# --- what is refused ----------------------------------------------------------------------------------------

REFUSED = {
    'stage("hed", 0.1) >> stage()': "no rung 'hed'; did you mean 'head'",
    'stage("layer.9..head", 0.1) >> stage()': "no rung 'layer.9'",
    'stage("top..layer.1", 0.1) >> stage()': r"write layer.1..top",
    'stage("head", 0.7) >> stage("*", 0.5)': "take 1.2 of the run; shorten",
    'stage("head", 0.7) >> stage("*", 0.3) >> stage()': "leave nothing for the one without a length",
    'stage("head", 0.1) >> stage("*", 0.3)': r'only 0.4 of the run.*: stage\("head", 0.1\) >> stage\(\)',
    'stage("layer.1", 0.5) >> stage("layer.0..top")': r'head is in no stage.*stage\("layer.1\+head", 0.5\)',
    'stage("head", "1ep") >> stage("layer.1") >> stage()': "the length of all stages but one",
    'stage("head", 0) >> stage()': "over before it begins",
    'stage("head", 0.1, warmup=0.2, peak=2) >> stage()': "longer than its stage",
    'stage("head", "1ep", warmup=0.2) >> stage(peak=0.5)': "write both in one unit",
    'stage("head", 0.1, warmup=0.05, path=cosine()) >> stage()': "write the warm-up into the path",
    'stage("head", 0.1, path=frozen(0.5) >> hold()) >> stage()': "leave frozen",
    'stage("head", 0.1, path=2*cosine()) >> stage()': "takes a path of levels",
    'stage("head", 0.1, path=linear(5)) >> stage()': r"path=linear\(5\) >> hold\(\)",
    'stage("head", peak=0) >> stage()': "above 0",
    'stage("head", 0.1, over=0.2) >> stage()': "multiple values",
    'stage("head", 0.1, lr=1) >> stage()': "'lr'",
    'stage("", 0.1) >> stage()': "names no rung",
    'stage("head", 0.1) >> cosine()': "only a stage follows a stage",
    'unfreeze("1ep") >> stage()': "only a stage follows a stage",
    "unfreeze(0.2)": r"6 stages \(head, layer.3..top, .*embeddings\).*unfreeze\(0.166\).*stages=5",
    "unfreeze(0)": "needs the length of a stage",
    "unfreeze(stages=1)": "2 or more",
    "unfreeze(stages=7)": "2 to 6 stages",
    'unfreeze(stages="head")': "a list of what each adds",
    'unfreeze(stages=["head", "layer.2..top", "layer.0..layer.2"])': "layer.2 would thaw in stage 2 and",
    'unfreeze(stages=["layer.3", "layer.2"])': "head is in no stage",
    "unfreeze(fade=0)": "above 0",
    "unfreeze(1ep)": r'write unfreeze\("1ep"\)',
    'unfreez("1ep")': "did you mean 'unfreeze'",
    "lp_ft(1.0)": "ambiguous",
    "freezeout(2)": "share of the run",
    'freezeout(spacing="cubik")': "did you mean 'cubic'",
    "cosine()": "says no stages",
    "0.1": "says no stages",
    "import os": "says no stages",
    "stage(open('x'))": "no word of the language",
    "(" * 500 + ")" * 500: "no stages|too deeply",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_makes_no_sense_is_refused_with_what_to_write(text):
    with pytest.raises(EtudeError, match=REFUSED[text]):
        stages(text).gates(FOUR)


def test_a_range_does_not_cross_towers():
    with pytest.raises(PlanError, match=r"encoder.layer.1..encoder.top\+decoder.embeddings..decoder.layer.1"):
        (stage("encoder.layer.1..decoder.layer.1+head", 0.5) >> stage()).gates(two_towers())


@pytest.mark.parametrize("staged", [unfreeze(), lp_ft(), freezeout()], ids=str)
def test_a_model_whose_depth_is_not_known_is_refused(staged):
    with pytest.raises(PlanError, match="depth of the layers, and this model's is not known"):
        staged.gates(Ladder({}, (placed("", 0),)))


def test_a_stage_that_trains_only_what_was_frozen_before_is_refused():
    with pytest.raises(PlanError, match=r'stage\("layer.1", 0.1\) trains nothing'):
        (stage("layer.1", 0.1) >> stage()).gates(one_tower(still=(2,)))


def test_a_head_that_was_frozen_before_planning_may_stay_so():
    found = thaws(stage("layer.3", 0.5) >> stage("layer.0..top"), one_tower(still=(6,)))
    assert (found["layer.3"], found["layer.0"], found["head"]) == (0, 50, None)


@pytest.mark.parametrize("given", [3, None, [], {"rungs": "head"}, [stage("head", 0.1), unfreeze()]])
def test_other_values_are_refused(given):
    with pytest.raises(PlanError, match=r"stages takes|fill a run alone"):
        stages(given)


def test_stages_that_are_longer_than_the_run_are_refused_when_the_run_is_known():
    with pytest.raises(EtudeError, match="too long"):
        rates_of(unfreeze("3ep"))


def test_gates_are_paths():
    assert all(isinstance(gate, Path) for gate in unfreeze().gates(FOUR).values())
