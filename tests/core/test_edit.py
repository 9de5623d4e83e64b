"""Every edit against rates worked out by hand, what each refuses, and how it is written down."""

import json
import math

import numpy as np
import pytest

from etude import Advance, Group, Plan, Redraw, Rollback, Scale, Stop, Stretch, parse
from etude.core.edit import EDITS, edit_from_json
from etude.errors import ScheduleError

NAMES = ["layer.0", "layer.1", "layer.10", "head"]
HYPERS = {"lr": "2 * (warmup(10) >> hold(50) >> linear())", "weight_decay": "linear()"}


def run(lr=HYPERS["lr"], total=100, groups=None, **units):
    groups = groups or [Group(name) for name in NAMES]
    return Plan({**HYPERS, "lr": lr}, groups, tick=0).over(total, **units)


def lr(rates, *times):
    """The first group's rate in the updates that begin at these times."""
    return [pytest.approx(rates.at(t)["lr"][0], rel=1e-13, abs=1e-16) for t in times]


# --- Scale -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "hit"),
    [("*", "1111"), ("layer.*", "1110"), ("layer.?", "1100"), ("layer.1*", "0110"), ("head", "0001"),
     ("[!h]*", "1110"), ("layer.1", "0100")],
)  # fmt: skip
def test_scale_multiplies_the_groups_that_its_pattern_names(groups, hit):
    rates = run().edit(Scale(30, 0.25, groups=groups))
    assert rates.at(29)["lr"] == [2] * 4
    assert rates.at(30)["lr"] == rates.at(59)["lr"] == [0.5 if h == "1" else 2 for h in hit]
    assert rates.at(30)["weight_decay"] == [0.7] * 4
    assert rates.total == 100


def test_scales_multiply_and_touch_one_hyper_parameter():
    rates = run().edit(Scale(20, 0.5)).edit(Scale(20, 0.5, groups="head")).edit(Scale(40, 3, "weight_decay"))
    assert rates.at(50)["lr"] == [1, 1, 1, 0.5]
    assert rates.at(39)["weight_decay"] == [pytest.approx(0.61)] * 4
    assert rates.at(40)["weight_decay"] == [pytest.approx(1.8)] * 4


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (Scale(30, 0.5, groups="laier.*"), "no group matches 'laier.*'"),
        (Scale(30, 0.5, groups="haed"), "did you mean 'head'"),
        (Scale(30, 0.5, hyper="wight_decay"), "did you mean 'weight_decay'"),
        (Scale(30, 0.5, hyper="momentum"), "the plan has no 'momentum'"),
    ],
)
def test_scale_refuses_names_that_the_plan_has_not(edit, says):
    with pytest.raises(ScheduleError) as error:
        run().edit(edit)
    assert says in str(error.value)


# --- Stretch -----------------------------------------------------------------------------------------------


def test_stretch_slows_what_is_left_of_every_path_and_gate():
    gated = [Group("a", gate="frozen(60) >> warmup(20) >> hold()"), Group("b")]
    rates = run(groups=gated).edit(Stretch(20, 180))
    assert rates.total == 180
    assert [rates.at(t)["lr"][1] for t in (20, 100, 120, 140, 180)] == [2, 2, 1.5, 1, 0]
    assert [rates.at(t)["weight_decay"][1] for t in (0, 20, 100, 180)] == pytest.approx([1, 0.8, 0.4, 0])
    assert [rates.open(t)[0] for t in (19, 99, 100)] == [False, False, True]
    assert [rates.at(t)["lr"][0] for t in (100, 120, 140)] == pytest.approx([0, 0.75, 1])


def test_stretch_keeps_the_progress_of_the_piece_under_way():
    longer, shorter = run().edit(Stretch(80, 120)), run().edit(Stretch(80, 90))
    assert lr(longer, 80, 100, 119, 120) == [1, 0.5, 0.025, 0]
    assert lr(shorter, 80, 85, 89, 90) == [1, 0.5, 0.1, 0]
    curved = run("cosine()").edit(Stretch(50, 250))
    assert lr(curved, 50, 150, 200) == [
        0.5,
        0.5 + 0.5 * math.cos(0.75 * math.pi),
        0.5 + 0.5 * math.cos(0.875 * math.pi),
    ]


def test_stretch_keeps_the_shape_of_inv_sqrt():
    before = run("warmup(10) >> inv_sqrt()")
    after = before.edit(Stretch(40, 160))
    for t in (40, 50, 77.5, 100):
        assert lr(after, 40 + 2 * (t - 40)) == [before.at(t)["lr"][0]]


@pytest.mark.parametrize("total", [150, 224.059, 250.018, 196.302, 1e6 + 1 / 3])
def test_stretch_ends_on_the_written_level_to_the_last_bit(total):
    rates = run("3 * (warmup(0.1) >> linear(to=0.01))", total=97.3).edit(Stretch(33.3, total))
    assert rates.at(rates.total)["lr"][0] == 3 * 0.01
    again = rates.edit(Stretch(50, total / 1.5))
    assert again.at(again.total)["lr"][0] == 3 * 0.01


@pytest.mark.parametrize("edit", [Stretch(50, 50), Stretch(50, 40), Stretch(100, 150)])
def test_stretch_needs_something_left(edit):
    with pytest.raises(ScheduleError, match="nothing is left"):
        run().edit(edit)


def test_an_open_run_cannot_be_stretched():
    with pytest.raises(ScheduleError, match="no end to stretch"):
        Plan({"lr": 1}).over(math.inf).edit(Stretch(50, 100))


# --- Advance -----------------------------------------------------------------------------------------------


def test_advance_leaves_the_piece_and_ends_earlier():
    rates = run().edit(Advance(30))
    assert rates.total == 70
    assert lr(rates, 29, 30, 50, 69, 70, 99) == [2, 2, 1, 0.05, 0, 0]
    assert rates.at(30)["weight_decay"][0] == 0.7


def test_advance_draws_the_next_piece_from_where_the_pen_is():
    rates = run().edit(Advance(5))
    assert rates.total == 95
    assert lr(rates, 4, 5, 54, 75, 95) == [0.8, 1, 1, 0.5, 0]
    twice = rates.edit(Advance(20))
    assert twice.total == 60
    assert lr(twice, 20, 40, 60) == [1, 0.5, 0]


def test_advance_at_a_boundary_leaves_the_piece_that_begins_there():
    assert run().edit(Advance(10)).total == 50


def test_advance_gives_a_written_fraction_the_length_it_had():
    rates = run("2 * (warmup(0.1) >> hold() >> linear(0.2))").edit(Advance(30))
    assert rates.total == 50
    assert lr(rates, 30, 40, 50) == [2, 1, 0]


def test_advance_to_inv_sqrt_goes_by_the_time_at_which_it_begins():
    rates = run("warmup(10) >> hold(70) >> inv_sqrt()").edit(Advance(20))
    assert rates.total == 40
    assert lr(rates, 20, 40) == [1, math.sqrt(0.5)]


@pytest.mark.parametrize(
    ("text", "at", "total", "levels"),
    [
        ("2 * (warmup(10) >> hold() >> linear(0.2))", 80, 100, {79: 2, 80: 2, 90: 1, 100: 0}),
        ("2 * (warmup(10) >> hold() >> linear(40))", 60, 100, {60: 2, 80: 1, 100: 0}),
        ("hold() >> linear(20, to=0.5) >> linear(0.25)", 55, 100, {55: 1, 65: 0.75, 75: 0.5, 87.5: 0.25}),
        ("hold() >> linear(0.5) >> hold(0.3)", 20, 100, {20: 1, 45: 0.5, 70: 0, 100: 0}),
        ("hold() >> repeat(linear(10, start=1), 2) >> hold(0.2)", 60, 100, {65: 0.5, 75: 0.5, 85: 0}),
        ('hold() >> linear("2ep")', 30, 50, {30: 1, 40: 0.5, 50: 0}),
        ("warmup(25) >> inv_sqrt() >> linear(0.5)", 100, 200, {100: 0.5, 150: 0.25}),
        ("2 * hold() >> repeat(linear(start=1), 2, over=0.5)", 50, 100, {50: 2, 62.5: 1, 75: 2, 87.5: 1}),
    ],
)
def test_advance_of_an_open_run_knows_its_total(text, at, total, levels):
    rates = Plan({"lr": text}, tick=0).over(math.inf, epoch=10).edit(Advance(at))
    assert rates.total == pytest.approx(total, abs=1e-9)
    for t, level in levels.items():
        assert rates.at(t)["lr"] == [pytest.approx(level, abs=1e-12)], t


def test_advance_before_the_endless_piece_leaves_the_run_open():
    rates = Plan({"lr": "2 * (warmup(10) >> hold() >> linear(0.2))"}, tick=0).over(math.inf).edit(Advance(5))
    assert rates.total == math.inf
    assert lr(rates, 4, 5, 1000) == [0.8, 1, 1]
    done = rates.edit(Advance(80))
    assert done.total == pytest.approx(100)
    assert lr(done, 80, 90) == [1, 0.5]


@pytest.mark.parametrize(
    ("text", "total", "at"),
    [(HYPERS["lr"], 100, 60), ("hold()", 100, 5), ("hold()", math.inf, 5), (HYPERS["lr"], 100, 100),
     ("hold() >> linear(0, to=0.5)", 100, 7)],
)  # fmt: skip
def test_advance_without_a_next_piece_is_refused(text, total, at):
    with pytest.raises(ScheduleError, match="no next piece"):
        Plan({"lr": text}).over(total).edit(Advance(at))


# --- Redraw ------------------------------------------------------------------------------------------------


def test_redraw_extends_a_run():
    rates = run().edit(Redraw(50, "hold() >> linear(40)", 150))
    assert rates.total == 150
    assert lr(rates, 49, 50, 110, 130, 150) == [2, 2, 2, 1, 0]
    assert [rates.at(t)["weight_decay"][0] for t in (50, 99, 120)] == pytest.approx([0.5, 0.01, 0])


def test_redraw_warms_a_run_up_again():
    rates = run().edit(Redraw(80, "linear(10, to=1) >> linear()", 130))
    assert lr(rates, 79, 80, 85, 90, 110, 130) == [1.05, 1, 1.5, 2, 1, 0]


def test_redraw_goes_on_after_the_end():
    rates = run().edit(Redraw(100, "linear(0.2, to=0.5) >> hold()", 150))
    assert lr(rates, 99, 100, 105, 110, 149) == [0.05, 0, 0.5, 1, 1]


def test_redraw_branches_off_a_stable_trunk():
    trunk = Plan({"lr": "2 * (warmup(10) >> hold())"}, tick=0).over(math.inf)
    branch = trunk.edit(Redraw(500, parse("sqrt()"), 600))
    assert branch.total == 600
    assert lr(branch, 499, 500, 525, 564, 600) == [2, 2, 1, 0.4, 0]
    assert trunk.total == math.inf
    assert trunk.at(600)["lr"] == [2]


def test_redraw_jumps_only_where_start_is_written():
    assert lr(run().edit(Redraw(80, "hold(start=0.25)", 100)), 79, 80) == [1.05, 0.5]


def test_redraw_acts_on_the_shape_of_lr_alone():
    rates = run("2 * (warmup(10) >> hold()) * linear()").edit(Redraw(50, "linear()", 150))
    assert lr(rates, 50, 75, 100) == [1, 0.75 * 2 * 0.25, 0]
    assert rates.at(99)["weight_decay"][0] == pytest.approx(0.01)


def test_redraw_with_inv_sqrt_goes_by_the_time_of_the_run():
    rates = (
        Plan({"lr": "warmup(10) >> hold()"}, tick=0).over(math.inf).edit(Redraw(100, "inv_sqrt()", math.inf))
    )
    assert lr(rates, 100, 400, 10_000) == [1, 0.5, 0.1]


def test_redraw_may_leave_a_run_open_and_advance_may_end_it():
    rates = run().edit(Redraw(50, "hold() >> linear(20)", math.inf))
    assert rates.total == math.inf
    assert rates.at(5000)["lr"][0] == 2
    assert rates.edit(Advance(180)).total == 200


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Redraw(50, "hold()", 50), "ends before it begins"),
        (lambda: Redraw(50, "hold()", 40), "ends before it begins"),
        (lambda: Redraw(50, "2 * hold()", 100), "takes a path"),
        (lambda: Redraw(50, "hold() * linear()", 100), "takes a path"),
        (lambda: Redraw(50, 0.5, 100), "takes a path"),
        (lambda: Redraw(50, "frozen(0.5) >> hold()", 100), "gate"),
        (lambda: Redraw(50, "repeat(frozen(), 2)", 100), "gate"),
        (lambda: Redraw(50, "hold()", math.nan), "finite"),
        (lambda: Redraw(50, "hold()", None), "takes a number"),
        (lambda: Redraw(50, "cosin()", 100), "did you mean"),
        (lambda: run().edit(Redraw(50, "linear(60)", 100)), "too long"),
        (lambda: run().edit(Redraw(50, "linear(0.5)", 100)), "too short"),
        (lambda: run().edit(Redraw(100, "exp(to=0.1)", 200)), "levels above 0"),
        (lambda: run().edit(Redraw(50, "linear(0.5)", math.inf)), "no total"),
    ],
)
def test_redraw_refuses(make, says):
    with pytest.raises(ScheduleError, match=says):
        make()


# --- Stop and Rollback -------------------------------------------------------------------------------------


def test_stop_ends_the_run():
    rates = run().edit(Stop(33.5))
    assert rates.total == 33.5
    assert len(rates.matrix()) == 34
    assert rates.at(33) == run().at(33)
    again = rates.edit(Redraw(33.5, "linear()", 43.5))
    assert lr(again, 33.5, 38.5, 43.5) == [2, 1, 0]


def test_rollback_takes_back_the_edits_that_the_checkpoint_did_not_know():
    before = run().edit(Scale(30, 0.5)).edit(Scale(45, 0.1))
    assert lr(before, 29, 44, 45, 55) == [2, 1, 0.1, 0.1]
    after = before.edit(Rollback(55, 40, keep=1))
    assert lr(after, 29, 30, 40, 45, 55) == [2, 1, 1, 1, 1]
    assert after.total == 100
    assert len(after.edits) == 3
    later = after.edit(Scale(42, 0.2))
    assert lr(later, 41, 42, 55) == [1, 0.2, 0.2]
    assert lr(after.edit(Scale(40, 0.2)), 39, 40) == [1, 0.2]


def test_the_list_only_grows_and_tells_of_the_abandoned_stretch():
    edits = (Scale(30, 0.5), Scale(45, 0.1), Rollback(55, 40, keep=1), Scale(42, 0.2))
    rates = run()
    for edit in edits:
        rates = rates.edit(edit)
    assert rates.edits == edits
    replayed = run()
    for edit in rates.edits[:2]:
        replayed = replayed.edit(edit)
    assert lr(replayed, 50) == [0.1]
    whole = type(rates)(rates.plan, rates.span, rates.edits)
    assert whole.matrix() == rates.matrix()


def test_rollback_takes_back_an_end():
    rates = run().edit(Stop(50)).edit(Rollback(50, 20, keep=0))
    assert rates.total == 100
    assert rates.at(99) == run().at(99)
    stretched = run().edit(Stretch(30, 200)).edit(Rollback(150, 10, keep=0))
    assert stretched.total == 100
    assert stretched.matrix() == run().matrix()


def test_a_rollback_of_a_rollback():
    rates = run().edit(Scale(20, 0.5)).edit(Rollback(30, 10, keep=0)).edit(Scale(15, 0.1))
    assert lr(rates, 25) == [0.2]
    assert lr(rates.edit(Rollback(30, 18, keep=3)), 25) == [0.2]
    assert lr(rates.edit(Rollback(30, 12, keep=2)), 25) == [2]
    assert lr(rates.edit(Rollback(30, 22, keep=1)), 19, 25) == [2, 1]
    assert lr(rates.edit(Rollback(30, 0, keep=0)), 25) == [2]


def test_many_rollbacks_stay_quick():
    rates = run()
    for i in range(200):
        rates = rates.edit(Rollback(20, 10, keep=i))
    assert type(rates)(rates.plan, rates.span, rates.edits).at(15) == run().at(15)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Rollback(20, 30, 0), "goes forward"),
        (lambda: Rollback(20, -1, 0), "0 or more"),
        (lambda: Rollback(20, 10, -1), "number of edits"),
        (lambda: Rollback(20, 10, True), "number of edits"),
        (lambda: Rollback(20, 10, 1.0), "number of edits"),
        (lambda: run().edit(Rollback(20, 10, keep=1)), "0 edits, 1 cannot be kept"),
        (lambda: run().edit(Scale(15, 0.5)).edit(Rollback(20, 10, keep=1)), "after the branch point"),
        (lambda: run().edit(Scale(30, 0.5)).edit(Rollback(20, 10, keep=0)), "follow the clock"),
    ],
)
def test_rollback_refuses(make, says):
    with pytest.raises(ScheduleError, match=says):
        make()


# --- all of them -------------------------------------------------------------------------------------------

EVERY = [
    Scale(40, 0.5, "lr", "layer.*", author="plateau", reason="eval_loss 0.41, 3 readings"),
    Stretch(40, 160),
    Advance(40, reason="decay now"),
    Redraw(40, "linear(0.5, to=0.3) >> cosine()", 120, author="anna"),
    Stop(40),
    Rollback(40, 20, keep=0, author="guard"),
]
WRITTEN = {
    "scale": {"edit": "scale", "at": 40.0, "by": 0.5, "hyper": "lr", "groups": "layer.*", "author": "plateau",
              "reason": "eval_loss 0.41, 3 readings"},
    "stretch": {"edit": "stretch", "at": 40.0, "total": 160.0, "author": "user", "reason": ""},
    "advance": {"edit": "advance", "at": 40.0, "author": "user", "reason": "decay now"},
    "redraw": {"edit": "redraw", "at": 40.0, "path": "linear(0.5, to=0.3) >> cosine()", "total": 120.0,
               "author": "anna", "reason": ""},
    "stop": {"edit": "stop", "at": 40.0, "author": "user", "reason": ""},
    "rollback": {"edit": "rollback", "at": 40.0, "to": 20.0, "keep": 0, "author": "guard", "reason": ""},
}  # fmt: skip


def test_every_edit_has_a_golden_row():
    assert {edit.name for edit in EVERY} == set(WRITTEN) == set(EDITS)


@pytest.mark.parametrize("edit", EVERY, ids=lambda e: e.name)
def test_an_edit_is_written_and_read_as_strict_json(edit):
    assert edit.as_json() == WRITTEN[edit.name]
    assert list(edit.as_json()) == list(WRITTEN[edit.name])
    again = edit_from_json(json.loads(json.dumps(edit.as_json(), allow_nan=False)))
    assert again == edit
    assert type(again) is type(edit)
    assert run().edit(again).matrix() == run().edit(edit).matrix()


def test_an_endless_redraw_is_written_as_null():
    for endless in (math.inf, np.float64("inf"), np.float32("inf")):
        edit = Redraw(40, "hold()", endless)
        assert json.loads(json.dumps(edit.as_json(), allow_nan=False))["total"] is None
        assert edit_from_json(edit.as_json()) == edit


@pytest.mark.parametrize("edit", EVERY, ids=lambda e: e.name)
def test_an_edit_never_alters_what_lies_before(edit):
    groups = [Group("layer.0", gate="frozen(0.3) >> linear(0.3, to=0.7) >> hold()"), Group("head")]
    for tick in (0, 0.5, 1):
        before = Plan(HYPERS, groups, tick).over(100)
        after = before.edit(edit)
        at = edit.to if isinstance(edit, Rollback) else edit.at
        for begin in (*range(math.ceil(at)), at - 1e-9, at - 0.5):
            assert after.at(begin, begin + 1) == before.at(begin, begin + 1)
            assert after.at(begin) == before.at(begin)
            assert after.open(begin) == before.open(begin)
        assert before.edits == ()


@pytest.mark.parametrize("make", [type(edit) for edit in EVERY], ids=lambda m: m.__name__)
@pytest.mark.parametrize("at", [-1, math.nan, math.inf, "40", None, True])
def test_an_edit_has_a_time(make, at):
    rest = {Scale: (1,), Stretch: (200,), Redraw: ("hold()", 200), Rollback: (0, 0)}.get(make, ())
    with pytest.raises(ScheduleError, match="at="):
        make(at, *rest)


@pytest.mark.parametrize("by", [-0.5, math.nan, math.inf, "half", None, True])
def test_scale_takes_a_factor(by):
    with pytest.raises(ScheduleError, match="by="):
        Scale(10, by)


def test_edits_follow_the_clock():
    rates = run().edit(Scale(40, 0.5))
    for edit in (Scale(39, 0.5), Stop(39.9), Stretch(10, 200), Advance(0), Redraw(39, "hold()", 100)):
        with pytest.raises(ScheduleError, match="follow the clock"):
            rates.edit(edit)
    assert lr(rates.edit(Scale(40, 0.5)), 39, 40) == [2, 0.5]


def test_edits_lie_within_the_run():
    for edit in (Scale(101, 0.5), Stop(100.5), Redraw(200, "hold()", 300), Rollback(120, 50, 0)):
        with pytest.raises(ScheduleError, match="after the end of the run at 100"):
            run().edit(edit)
    assert run().edit(Scale(100, 0.5)).total == 100


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"edit": "scal", "at": 1, "by": 2}, "did you mean 'scale'"),
        ({"at": 1}, "no edit"),
        ({"edit": "scale", "at": 1}, "other fields"),
        ({"edit": "scale", "at": 1, "by": 2, "factor": 3}, "other fields"),
        ({"edit": "stop", "at": "soon"}, "takes a number"),
        ({"edit": "redraw", "at": 1, "path": "2 * hold()", "total": 9}, "takes a path"),
    ],
)
def test_edits_that_cannot_be_read(data, says):
    with pytest.raises(ScheduleError, match=says):
        edit_from_json(data)


def test_numbers_of_an_edit_are_plain():
    edit = Scale(np.float32(40), np.float64(0.5))
    assert {type(edit.at), type(edit.by)} == {float}
    assert edit == Scale(40, 0.5)
