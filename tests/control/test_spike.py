"""The guard as a pure reducer: what it drops, clips, rolls back, and that it leaves a quiet run alone."""

import json
import math
import random

import pytest

from etude.control.band import band
from etude.control.controller import CONTROLLERS, Clip, Controller, Discard, Restore
from etude.control.spike import spike
from etude.errors import ScheduleError


def quiet(n: int, seed: int = 0) -> list[dict[str, float]]:
    """Updates as those of a small fine-tuning: a falling, noisy loss, norms that vary by a factor."""
    rng = random.Random(seed)
    return [
        {
            "train_loss": 0.3 + 0.7 * math.exp(-k / 30) + rng.gauss(0, 0.1),
            "grad_norm": 2 * math.exp(rng.gauss(0, 0.5)),
        }
        for k in range(n)
    ]


def answers(one, readings):
    """What it answers to each reading; its state is strict JSON, never changed, and may be read back."""
    state, found = one.init(), []
    for t, reading in enumerate(readings):
        before = json.dumps(state, allow_nan=False)
        after, answer = one.update(state, float(t), reading)
        assert json.dumps(state, allow_nan=False) == before
        assert repr(one.update(json.loads(before), float(t), reading)) == repr((after, answer))
        state = after
        found.append(answer)
    return found, state


def asked(found):
    return {i: type(answer) for i, answer in enumerate(found) if answer is not None}


@pytest.mark.parametrize("policy", ["skip", "clip", "rollback"])
def test_it_leaves_a_quiet_run_alone(policy):
    for seed in range(5):
        assert asked(answers(spike(policy), quiet(150, seed))[0]) == {}


@pytest.mark.parametrize("metric", ["train_loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("policy", "action"), [("skip", Discard), ("clip", Discard), ("rollback", Restore)])
def test_what_is_not_finite_goes_to_the_anomaly_path_from_the_first_update_on(policy, action, metric, value):
    readings = quiet(5)
    for k in (0, 3):
        readings[k] |= {metric: value}
    found, state = answers(spike(policy), readings)
    assert asked(found) == {0: action, 3: action}
    assert found[3].author == "spike"
    assert found[3].reason == f"{metric} is {value}"
    assert [len(read) for read in state["read"].values()] == [3, 3]


@pytest.mark.parametrize(("policy", "action"), [("skip", Discard), ("clip", Clip), ("rollback", Restore)])
def test_a_spike_of_the_norm(policy, action):
    readings = quiet(60)
    readings[40]["grad_norm"] = 2000.0
    found, _ = answers(spike(policy), readings)
    assert asked(found) == {40: action}
    assert "grad_norm 2000 is" in found[40].reason
    assert "of the last 40 updates" in found[40].reason


@pytest.mark.parametrize(("policy", "acts"), [("skip", {40}), ("clip", set()), ("rollback", {40})])
def test_a_spike_of_the_loss_alone_has_no_gradient_to_clip(policy, acts):
    readings = quiet(60)
    readings[40]["train_loss"] *= 10
    assert asked(answers(spike(policy), readings)[0]).keys() == acts


def test_the_band_is_not_judged_before_the_warm_up_is_over():
    readings = [reading | {"grad_norm": 9e9 if k in (8, 30) else 2.0} for k, reading in enumerate(quiet(60))]
    assert asked(answers(spike(warmup=9), readings)[0]).keys() == {30}


def test_the_clip_lies_at_the_reciprocal_of_what_was_found():
    """ZClip's z*: at the threshold the gradient stays as it is, far above it shrinks to the middle."""
    norms = [math.exp(x) for x in (0.0, 1.0, 2.0)] * 10
    one = spike("clip", loss=None, z=3.0)
    width = 1.4826
    clips = []
    for z in (3.001, 6.0, 300.0):
        (*_, clip), _ = answers(one, [{"grad_norm": x} for x in [*norms, math.exp(1 + z * width)]])
        clips.append((math.log(clip.norm) - 1) / width)
    assert clips == pytest.approx([9 / 3.001, 1.5, 0.03])


def test_a_clipped_update_enters_the_band_as_it_was_clipped_and_a_dropped_one_not_at_all():
    readings = [{"grad_norm": 2.0}] * 30 + [{"grad_norm": 500.0}]
    found, state = answers(spike("clip", loss=None), readings)
    assert state["read"]["grad_norm"][-1] == pytest.approx(math.log(found[-1].norm))
    _, state = answers(spike("skip", loss=None), readings)
    assert state["read"]["grad_norm"] == [pytest.approx(math.log(2))] * 30


def test_scale_and_sign_of_the_loss_make_no_difference():
    readings = quiet(80)
    readings[50]["train_loss"] += 5
    expected = {50: Discard}
    one = spike(norm=None)
    assert asked(answers(one, readings)[0]) == expected
    assert asked(answers(one, [{"train_loss": 1e-6 * r["train_loss"]} for r in readings])[0]) == expected
    negative = [{"train_loss": r["train_loss"] - 2} for r in readings]
    assert asked(answers(one, negative)[0]) == expected


def test_a_loss_that_has_come_down_to_nothing_may_go_up_to_what_it_was():
    """A batch that is wrong by a tenth of the first loss is no spike, though it is a thousand of the last."""
    losses = [1.0] * 25 + [1e-4] * 100
    for late, acts in ((0.5, {}), (1.5, {125: Discard})):
        assert asked(answers(spike(norm=None), [{"train_loss": x} for x in [*losses, late]])[0]) == acts


def test_many_updates_dropped_in_a_row_end_the_run():
    readings = quiet(60) + [{"train_loss": math.nan, "grad_norm": 1.0}] * 4
    found, _ = answers(spike(in_a_row=4), readings)
    assert asked(found) == dict.fromkeys(range(60, 64), Discard)
    assert [found[k].end for k in range(60, 64)] == [False, False, False, True]
    assert "train_loss is nan; it is the last of 4 updates dropped in a row" in found[63].reason


def test_an_update_that_is_made_ends_the_row():
    bad = {"train_loss": math.nan, "grad_norm": 1.0}
    found, _ = answers(spike(in_a_row=3), [bad, bad, *quiet(1), bad, bad, *quiet(1)])
    assert set(asked(found).values()) == {Discard}


def test_skipping_goes_over_into_going_back_where_that_is_allowed():
    readings = [{"train_loss": math.nan, "grad_norm": 1.0}] * 6
    found, _ = answers(spike("skip", in_a_row=2, rollbacks=2), readings)
    assert [type(one) for one in found] == [Discard, Restore] * 3
    assert [one.end for one in found[1::2]] == [False, False, True]


def test_rollbacks_are_capped_and_the_last_one_ends_the_run():
    bad = {"train_loss": math.nan, "grad_norm": 1.0}
    found, state = answers(spike("rollback", rollbacks=2, scale=0.3), [bad, *quiet(30), bad, *quiet(3), bad])
    back = [one for one in found if one is not None]
    assert [(one.by, one.end) for one in back] == [(0.3, False), (0.3, False), (1.0, True)]
    assert "after 2 rollbacks the run ends at its last checkpoint" in back[2].reason
    assert state["rollbacks"] == 2


@pytest.mark.parametrize(
    ("given", "asks"),
    [
        ({}, {Discard}),
        ({"policy": "clip"}, {Discard, Clip}),
        ({"policy": "clip", "rollbacks": 1}, {Discard, Clip, Restore}),
        ({"policy": "rollback"}, {Discard, Restore}),
        ({"policy": "rollback", "rollbacks": 0}, {Discard, Restore}),
    ],
)
def test_it_says_what_it_may_ask(given, asks):
    assert set(spike(**given).asks) == asks


def test_it_is_a_controller_of_two_readings_or_of_one():
    assert CONTROLLERS["spike"] is spike
    assert isinstance(spike(), Controller)
    assert spike().reads == ("train_loss", "grad_norm")
    assert spike(loss="loss", norm=None).reads == ("loss",)
    assert spike(loss=None).reads == ("grad_norm",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": "skipp"}, "did you mean 'skip'"),
        ({"z": 0}, "z=0"),
        ({"z": math.nan}, "z="),
        ({"z": "many"}, "z="),
        ({"scale": 0}, "scale=0.0"),
        ({"scale": 1.5}, "scale=1.5"),
        ({"window": 0}, "window=0"),
        ({"window": 10}, "warmup=20"),
        ({"warmup": 2.5}, "warmup=2.5"),
        ({"in_a_row": True}, "in_a_row=True"),
        ({"rollbacks": -1}, "rollbacks=-1"),
        ({"policy": "rollback", "ahead": -1}, "ahead=-1"),
        ({"ahead": 5}, "never goes back: write policy='rollback'"),
        ({"loss": None, "norm": None}, "reads nothing"),
    ],
)
def test_it_refuses(given, message):
    with pytest.raises(ScheduleError, match=message):
        spike(**given)


def test_half_of_the_readings_cannot_move_the_band_far():
    readings = [1.0 + 0.01 * k for k in range(11)]
    good, spoiled = band(readings, 1e-3), band(readings + [1e6] * 9, 1e-3)
    assert spoiled.middle < max(readings)
    assert spoiled.at(6) < 2
    assert good.at(good.z(1.03)) == pytest.approx(1.03)


def test_a_small_last_batch_is_no_spike():
    """One example scatters more than sixteen: only what is not finite counts, and no band has it."""
    small = {"train_loss": 6.0, "grad_norm": 40.0, "share": 1 / 16}
    _, state = answers(spike(), quiet(60))
    found, after = answers(spike(), [*quiet(60), small, small | {"train_loss": math.nan}])
    assert asked(found) == {61: Discard}
    assert after["read"] == state["read"]
    whole, _ = answers(spike(), [*quiet(60), small | {"share": 1.0}])
    assert asked(whole) == {60: Discard}
