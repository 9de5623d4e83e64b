"""Every controller of the registry: a golden row, a strict memory, and what it refuses."""

import importlib
import inspect
import json
import math
import pkgutil
from functools import partial

import numpy as np
import pytest
import torch

import etude.control
from etude import Advance, Driver, Plan, Redraw, Scale, Stop, Stretch
from etude.control.controller import CONTROLLERS, Controller, Discard
from etude.control.cooldown import cooldown
from etude.control.early_stop import early_stop
from etude.control.extend import extend
from etude.control.greedy import greedy
from etude.control.improvement import greater_is_better
from etude.control.plateau import plateau
from etude.control.rewarm import rewarm
from etude.control.spike import spike
from etude.control.target import target
from etude.control.variance import variance
from etude.core.edit import Edit
from etude.errors import ScheduleError, near

# The rates in force, for those that see them: readings come at 0, 1, 2, …
RATES = Plan({"lr": "warmup(2) >> hold() >> linear(2)"}).over(8)

for _, name, _ in pkgutil.iter_modules(etude.control.__path__):
    importlib.import_module(f"etude.control.{name}")

# name -> [(controller, readings, {index of a reading: the edit or action it answers with})]
GOLDEN = {
    "early_stop": [
        (early_stop("loss", 2), [0.9, 0.7, 0.8, 0.75, 0.74], {3: Stop, 4: Stop}),
        (early_stop("loss", 2), [0.9, 0.8, 0.8, 0.7, 0.8, 0.7], {5: Stop}),
        (early_stop("loss", 1), [0.9, 0.9], {1: Stop}),
        (early_stop("loss", 3), [0.5, 0.6, 0.6, 0.4, 0.6, 0.6, 0.6], {6: Stop}),
        (early_stop("acc", 2, greater_is_better=True), [0.5, 0.6, 0.55, 0.6, 0.7], {3: Stop}),
        (early_stop("loss", 2, threshold=0.1), [1.0, 0.95, 0.91, 0.85], {2: Stop}),
        (early_stop("loss", 2, threshold=0.1), [1.0, 0.95, 0.89, 0.85], {}),
        (early_stop("acc", 2, greater_is_better=True, threshold=0.1), [0.5, 0.55, 0.6], {2: Stop}),
        (early_stop("loss", 2), [-1.0, -0.95, -0.92], {2: Stop}),
        (early_stop("loss", 2), [-1.0, -1.05, -1.1], {}),
        (early_stop("loss", 2), [math.nan, math.inf, 1.0], {1: Stop}),
        (early_stop("loss", 2), [1.0, math.nan, 0.5, math.nan, -math.inf], {4: Stop}),
        (early_stop("acc", 2), [0.5, math.inf, 0.6], {}),
        (early_stop("loss", 9, divergence=3), [0.5, 1.9, 2.1], {2: Stop}),
        (early_stop("loss", 9, divergence=3), [-0.5, 0.9, 1.1], {2: Stop}),
        (early_stop("acc", 9, divergence=0.5), [0.8, 0.41, 0.39], {2: Stop}),
        (early_stop("loss", 9, divergence=3), [0.5, math.nan], {1: Stop}),
        (early_stop("grad_norm", 2, below=0.1), [0.05, 0.2, 0.09, math.nan, 0.05, 0.04], {5: Stop}),
    ],
    "plateau": [
        (plateau("loss", 0.5, 2), [0.9, 0.7, 0.8, 0.75, 0.74, 0.73], {3: Scale, 5: Scale}),
        (plateau("loss", 0.5, 1), [0.9, 0.9, 0.8, 0.8], {1: Scale, 3: Scale}),
        (plateau("loss", 0.5, 1, cooldown=2), [0.9] * 8, {1: Scale, 4: Scale, 7: Scale}),
        (plateau("loss", 0.5, 1, min=0.25), [0.9] * 5, {1: Scale, 2: Scale}),
        (plateau("loss", 0.5, 1, min=0.3), [0.9] * 5, {1: Scale, 2: Scale}),
        (plateau("loss", 0.5, 1, threshold=0.1), [-1.0, -1.05, -1.2], {1: Scale}),
        (plateau("loss", 0.5, 1, threshold=0.1, threshold_mode="abs"), [0.05, 0.0, -0.06], {1: Scale}),
        (plateau("acc", 0.5, 2), [0.5, 0.6, 0.6, 0.55, 0.7], {3: Scale}),
        (plateau("loss", 0.5, 1), [math.nan, 0.5, math.nan, math.inf, -math.inf, 0.4], {}),
        (plateau("loss", 0.5, 2), [1.0, 0.8, 0.7, 9.0, 5.0, 3.0, 2.0, 2.0, 2.0], {8: Scale}),
        (plateau("loss", 0.5, 2, spike=None), [1.0, 0.8, 0.7, 9.0, 5.0, 3.0, 2.0], {4: Scale, 6: Scale}),
    ],
    "greedy": [
        (greedy("loss", 0.5, 2), [0.9, 0.8, 0.7, 0.6, 0.5], {1: Scale}),
        (greedy("loss", 0.5, 2, max=8), [0.9, 0.8, 0.7, 0.6, 0.7, 0.7], {1: Scale, 3: Scale, 5: Scale}),
        (greedy("loss", 0.5, 1, min=0.25, max=1), [0.9, 0.9, 0.9, 0.9], {1: Scale, 2: Scale}),
        (greedy("loss", 0.5, 1, max=8, cooldown=1), [0.9, 0.8, 0.7, 0.6], {0: Scale, 2: Scale}),
        (greedy("loss", 0.5, 2, smooth=2), [1.0, 0.8, 0.9, 0.9, 0.9], {1: Scale, 4: Scale}),
        (greedy("acc", 0.5, 2), [0.5, math.nan, 0.4, -math.inf, 0.4, 0.4], {4: Scale}),
    ],
    "variance": [
        (variance("loss", window=4, warmup=2), [0.5, 0.6] * 6 + [0.5, 1.5] * 2, {15: Scale}),
        (variance("loss", window=8, warmup=2), [0.5, 0.6] * 10 + [0.5, 0.6, 99.0, 0.6], {}),
        (variance("loss", window=4, warmup=2), [0.5, 0.6] * 3 + [math.nan] + [0.5, 0.6, 0.5, 1.5], {}),
        (variance("loss", window=4, warmup=2), [9.0 - t + 0.1 * (t % 2) for t in range(16)], {}),
        (variance("loss", window=4, warmup=2, min=0.5), [0.5, 0.6] * 4 + [0.5, 9.5] * 4, {11: Scale}),
    ],
    "rewarm": [
        (rewarm("loss", warmup=2), [0.9, 0.8, 99.0, 0.8, 0.8, 99.0], {2: Redraw}),
        (rewarm("loss", warmup=2, near=1), [0.9, 0.8, 0.9, 99.0], {}),
        (rewarm("loss", warmup=2), [0.9, 0.8, math.nan, math.inf, 0.8], {}),
    ],
    "cooldown": [
        (cooldown("loss", 2), [0.9, 0.9, 0.9, 0.9, 0.9, 0.9], {3: Advance}),
        (cooldown("loss", 2), [0.9, 0.8, 0.7, 0.6, 0.6, math.nan, 0.6], {}),
        (cooldown("acc", 1), [0.5, 0.6, 0.7, 0.7], {3: Advance}),
    ],
    "extend": [
        (extend("loss"), [0.9] * 8 + [0.5], {8: Redraw}),
        (extend("loss", margin=0.5), [0.9] * 5 + [0.5], {5: Stretch}),
        (extend("loss"), [0.9] * 8 + [0.899], {}),
        (extend("loss"), [0.9] * 7 + [0.5, 0.5], {}),
    ],
    "target": [
        (target(0.5, "loss"), [0.9, math.nan, -math.inf, 0.5], {3: Stop}),
        (target(0.9, "acc"), [0.8, math.inf, 0.91], {2: Stop}),
        (target(0.9, "acc", patience=2), [0.9, 0.8, 0.9, 0.9], {3: Stop}),
    ],
    "spike": [
        (
            spike("skip", loss="loss", norm=None, warmup=3),
            [0.9, 0.8, 1.0, 9.0, 0.9, math.nan],
            {3: Discard, 5: Discard},
        ),
    ],
}


def asked(one):
    """Its `update`, with the rates in force where it sees them."""
    return partial(one.update, rates=RATES) if getattr(one, "sees_rates", False) else one.update


def test_every_controller_has_a_golden_row():
    assert set(GOLDEN) == set(CONTROLLERS)


@pytest.mark.parametrize(
    ("one", "readings", "answers"),
    [row for rows in GOLDEN.values() for row in rows],
    ids=lambda x: str(x)[:60],
)
def test_golden_answers(one, readings, answers):
    assert isinstance(one, Controller)
    (metric,) = one.reads
    state = one.init()
    for i, value in enumerate(readings):
        before = json.dumps(state, allow_nan=False)
        after, answer = asked(one)(state, float(i), {metric: value})
        assert json.dumps(state, allow_nan=False) == before
        assert asked(one)(json.loads(before), float(i), {metric: value}) == (after, answer)
        assert (type(answer) if answer else None) == answers.get(i)
        if answer:
            assert answer.author == one.name
            assert answer.reason
        if isinstance(answer, Edit):
            assert answer.at == i
        state = after
    json.dumps(state, allow_nan=False)


@pytest.mark.parametrize("name", GOLDEN)
def test_memory_through_json_is_the_memory(name):
    """A run resumed after every reading decides as one that was never interrupted, pain 34."""
    for one, readings, answers in GOLDEN[name]:
        (metric,) = one.reads
        state, found = json.loads(json.dumps(one.init())), {}
        for i, value in enumerate(readings):
            state, answer = asked(one)(json.loads(json.dumps(state)), float(i), {metric: value})
            if answer:
                found[i] = type(answer)
        assert found == answers


@pytest.mark.parametrize("name", sorted(set(GOLDEN) - {"spike", "target"}))
def test_every_option_is_checked_and_has_a_usual_value(name):
    maker = CONTROLLERS[name]
    options = inspect.signature(maker).parameters
    maker()
    for option, wrong in {
        "patience": 0,
        "factor": 1.0,
        "window": 1,
        "z": 0,
        "threshold": -1,
        "min": -0.1,
    }.items():
        if option in options:
            with pytest.raises(ScheduleError, match=f"{name}.{option}="):
                maker(**{option: wrong})
    with pytest.raises(ScheduleError, match="metric"):
        maker(metric="")
    if "threshold_mode" in options:
        with pytest.raises(ScheduleError, match="did you mean 'rel'"):
            maker(threshold_mode="rell")


@pytest.mark.parametrize("name", sorted(set(GOLDEN) - {"spike", "target"}))
def test_two_of_a_kind_have_names_of_their_own(name):
    driver = Driver(RATES, controllers=[CONTROLLERS[name](), CONTROLLERS[name](name="another")])
    assert set(driver.memory) == {name, "another"}


def test_the_name_of_a_metric_says_which_way_is_better():
    better = (
        "eval_accuracy val/acc f1 eval_rouge2 pearson eval_rewards/accuracies mean_token_accuracy eval_map"
    )
    worse = "loss eval_loss perplexity wer eval_f1_error brier_score mae eval_own negative_log_likelihood"
    assert [name for name in better.split() if not greater_is_better(name)] == []
    assert [name for name in worse.split() if greater_is_better(name)] == []
    assert plateau("eval_accuracy").greater_is_better is True
    assert plateau("eval_accuracy", greater_is_better=False).greater_is_better is False
    assert target(0.5, "eval_loss").greater_is_better is False


def test_a_misspelt_metric_is_refused_before_the_first_update_with_the_near_ones():
    """Pain 33."""
    with pytest.raises(
        ScheduleError, match="plateau reads 'eval_los', which no reading has; did you mean 'eval_loss'"
    ):
        Driver(RATES, controllers=[plateau("eval_los")], metrics=["eval_loss", "eval_accuracy"])
    driver = Driver(RATES, controllers=[plateau("eval_loss"), target(0.9, "eval_acc")])
    with pytest.raises(ScheduleError, match="target reads 'eval_acc'" + ".*" + "eval_accuracy"):
        driver.check_metrics(["eval_loss", "eval_accuracy"])
    driver.check_metrics({"eval_loss": 0.1, "eval_acc": 0.2})
    assert near("eval_acc", ["eval_loss", "eval_accuracy"])


@pytest.mark.parametrize("shift", [-100.0, -0.5, 7.0])
def test_early_stop_does_not_care_where_zero_is(shift):
    readings = [1.0, 0.9, 0.95, 0.7, 0.72, 0.71, 0.9]
    stops = []
    for offset in (0.0, shift):
        one = early_stop("loss", 3)
        state, stopped = one.init(), []
        for t, value in enumerate(readings):
            state, edit = one.update(state, t, {"loss": value + offset})
            stopped.append(edit is not None)
        stops.append(stopped)
    assert stops[0] == stops[1] == [False] * 6 + [True]


@pytest.mark.parametrize(
    "given",
    [{"patience": 0}, {"patience": -1}, {"patience": 2.0}, {"patience": True}, {"patience": "3"},
     {"threshold": -0.1}, {"threshold": math.nan}],
)  # fmt: skip
def test_early_stop_refuses(given):
    with pytest.raises(ScheduleError, match=next(iter(given))):
        early_stop("loss", **given)


@pytest.mark.parametrize("half", [np.float64(0.5), np.float32(0.5), torch.tensor(0.5)])
def test_numbers_of_numpy_and_torch_are_plain_ones(half):
    """In the level that a checkpoint keeps, and in the text of a path that is drawn."""
    driver = Driver(
        Plan({"lr": "1e-3 * linear()"}, tick=0).over(100),
        controllers=[
            plateau(factor=half, patience=np.int64(1), spike=None),
            extend(to=half, threshold=half / 50),
        ],
    )
    for t, loss in ((50, 1.0), (60, 1.0), (100, 0.5)):
        driver.observe(t, {"eval_loss": loss})
    assert [edit.name for edit in driver.edits] == ["scale", "redraw"]
    assert (
        json.loads(json.dumps(driver.state_dict(), allow_nan=False))["controllers"]["plateau"]["level"] == 0.5
    )
