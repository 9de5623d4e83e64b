"""Plateau: right for negative metrics, blind to what is not finite, not misled by a spike, resumable."""

import json
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude import Driver, Group, Plan, Scale
from etude.control.plateau import plateau
from etude.errors import ScheduleError

RATES = Plan({"lr": "1e-3 * (warmup(0.1) >> cosine(to=0.1))"}).over(100)


def cuts(one, readings):
    """The index of every reading at which the rate is lowered."""
    state, found = one.init(), []
    for t, value in enumerate(readings):
        state, edit = one.update(state, float(t), {one.metric: value})
        if edit is not None:
            found.append(t)
    return found


def test_pain_32_a_negative_metric_that_gets_worse_lowers_the_rate():
    assert cuts(plateau("loss", patience=1, threshold=0.1), [-1.0, -0.95, -0.92]) == [1, 2]
    assert cuts(plateau("score", patience=1, threshold=0.1), [-1.0, -1.05, -1.08]) == [1, 2]
    assert cuts(plateau("loss", patience=1, threshold=0.1), [-1.0, -1.2, -1.4, -1.6]) == []


METRICS = st.lists(st.integers(-40, 40).map(lambda x: x / 8), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60)
@given(METRICS, st.integers(-50, 50), st.booleans())
def test_pain_32_a_shift_never_changes_a_decision_by_an_absolute_threshold(readings, shift, greater):
    one = plateau("m", patience=2, threshold=0.25, threshold_mode="abs", greater_is_better=greater)
    assert cuts(one, readings) == cuts(one, [value + shift for value in readings])


@settings(deadline=None, max_examples=60)
@given(METRICS, st.integers(-6, 6), st.booleans())
def test_pain_32_a_positive_factor_never_changes_a_decision_by_a_relative_one(readings, power, greater):
    one = plateau("m", patience=2, threshold=0.125, greater_is_better=greater)
    assert cuts(one, readings) == cuts(one, [value * 2.0**power for value in readings])


@settings(deadline=None, max_examples=60)
@given(METRICS)
def test_pain_32_both_directions_are_mirror_images(readings):
    up = plateau("m", patience=2, threshold=0.125, greater_is_better=True)
    assert cuts(up, readings) == cuts(
        plateau("m", patience=2, threshold=0.125), [-value for value in readings]
    )


@settings(deadline=None, max_examples=60)
@given(METRICS, st.data())
def test_pain_32_what_is_not_finite_is_as_if_it_had_not_been_read(readings, data):
    one = plateau("m", patience=2, cooldown=1)
    state, found = one.init(), 0
    for t, value in enumerate(readings):
        for broken in data.draw(st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), max_size=3)):
            assert one.update(state, float(t), {"m": broken}) == (state, None)
        state, edit = one.update(state, float(t), {"m": value})
        found += edit is not None
    assert found == len(cuts(one, readings))


def test_pain_34_the_cut_comes_at_the_very_next_bad_evaluation_after_a_resume():
    losses = [1.0, 0.9, 0.95, 0.94, 0.93, 0.96]
    straight = Driver(RATES, controllers=[plateau(patience=3)])
    for i, loss in enumerate(losses):
        straight.observe(10 * (i + 1), {"eval_loss": loss})
    assert [edit.at for edit in straight.edits] == [50]
    first = Driver(RATES, controllers=[plateau(patience=3)])
    for i, loss in enumerate(losses[:4]):
        first.observe(10 * (i + 1), {"eval_loss": loss})
    saved = json.dumps(first.state_dict(), allow_nan=False)
    assert json.loads(saved)["controllers"]["plateau"]["bad"] == 2
    again = Driver(RATES, controllers=[plateau(patience=3)])
    again.load_state_dict(json.loads(saved))
    for i, loss in enumerate(losses[4:], start=4):
        again.observe(10 * (i + 1), {"eval_loss": loss})
    assert again.edits == straight.edits
    assert again.rates.matrix() == straight.rates.matrix()


def test_pain_35_after_a_spike_a_steady_decrease_is_no_plateau():
    """pytorch#30873: all that follows a spike is worse than the best before it, and so looks flat."""
    falling = [1.0 - 0.04 * t for t in range(10)]
    after = [6.0 - 0.4 * t for t in range(12)]
    assert cuts(plateau("loss", patience=3), falling + after) == []
    assert cuts(plateau("loss", patience=3, spike=None), falling + after) == [12, 15, 18, 21]
    stalls = cuts(plateau("loss", patience=3), falling + after + [1.6] * 3)
    assert stalls == [24]


def test_a_large_change_for_a_metric_that_hardly_moves_is_no_spike():
    """A twentieth of a hundredth was usual; but against all that was gained two hundredths are nothing."""
    assert cuts(plateau("loss", patience=4), [9.0, 1.0, 1.0001, 1.0, 1.0002, 1.02]) == [5]


def test_a_run_that_only_spikes_is_lowered_after_all():
    """Where readings jump all the time a jump is what is usual."""
    assert cuts(plateau("loss", patience=3), [0.5, 0.4, 0.45] + [5.0, 0.4] * 10)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_an_eval_loss_that_creeps_up_is_no_spike(scale):
    """Overfitting: from epoch to epoch a little worse, at last far above the best."""
    losses = [0.69, 0.5, 0.41, 0.42, 0.45, 0.52, 0.61, 0.74, 0.9]
    assert cuts(plateau("loss", patience=3), [scale * loss for loss in losses]) == [5, 8]


def test_the_product_of_the_cuts_never_falls_below_min():
    driver = Driver(RATES, controllers=[plateau("loss", 0.5, 1, min=0.2)])
    for t in range(1, 20):
        driver.observe(t, {"loss": 1.0})
    assert [edit.by for edit in driver.edits] == [0.5, 0.5, 0.8]
    assert driver.at(50)["lr"] == pytest.approx([0.2 * RATES.at(50)["lr"][0]], rel=1e-15)
    exact = Driver(RATES, controllers=[plateau("loss", 0.5, 1, min=0.0)])
    for t in range(1, 20):
        exact.observe(t, {"loss": 1.0})
    assert exact.at(50)["lr"] == [0.5**18 * RATES.at(50)["lr"][0]]


def test_the_readings_between_two_cuts_are_patience_and_cooldown():
    for patience in (1, 2, 5):
        for cooldown in (0, 1, 4):
            found = cuts(plateau("loss", 0.9, patience, cooldown=cooldown, min=0), [1.0] * 40)
            assert found[0] == patience
            assert {b - a for a, b in pairwise(found)} == {patience + cooldown}


def test_some_groups_alone():
    plan = Plan({"lr": "0.1"}, [Group("body", ("a",)), Group("head", ("b",))])
    both = [plateau("loss", 0.5, 2, groups="head", name="head"), plateau("loss", 0.1, 3)]
    driver = Driver(plan.over(100), controllers=both)
    for t in range(1, 5):
        driver.observe(t, {"loss": 1.0})
    assert [(edit.author, edit.groups, edit.at) for edit in driver.edits] == [
        ("head", "head", 3),
        ("plateau", "*", 4),
    ]
    assert driver.at(10)["lr"] == pytest.approx([0.01, 0.005])


def test_a_reading_at_the_very_end_does_not_fail_the_run():
    """A clock that sums fractions may end a rounding error after the total."""
    driver = Driver(Plan({"lr": "linear()"}).over(375.9375), controllers=[plateau(patience=1)])
    driver.observe(200, {"eval_loss": 1.0})
    driver.observe(math.nextafter(375.9375, math.inf), {"eval_loss": 1.0})
    assert driver.edits == (Scale(375.9375, 0.5, author="plateau", reason=driver.edits[0].reason),)


def test_patience_0_says_what_to_write():
    with pytest.raises(ScheduleError, match="torch's patience=0 is étude's 1"):
        plateau(patience=0)


def test_the_memory_stays_small():
    one, rng = plateau("loss"), random.Random(0)
    state = one.init()
    for t in range(5000):
        state, _ = one.update(state, float(t), {"loss": rng.random()})
    assert len(json.dumps(state)) < 400


@pytest.mark.parametrize(
    "losses",
    [[1, 0.9, 0.8, 0.7, *(1.5**i for i in range(1, 20))], [1, 1, 1, 1.1] * 25, [1, 0.9, *range(2, 30)]],
)
def test_a_run_that_diverges_or_stands_still_is_lowered(losses):
    """There is one spike, and not one after another; where readings stand still no change is unusual."""
    assert len(cuts(plateau("loss", patience=3), losses)) >= 2


def test_cuts_without_a_floor_end_at_nothing():
    assert cuts(plateau("loss", patience=1, factor=0.1, min=0), [1.0] * 500)
