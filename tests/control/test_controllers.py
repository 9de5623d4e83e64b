"""Every controller of the registry: a golden row, a strict memory, and what it refuses."""

import importlib
import json
import math
import pkgutil

import pytest

import etude.control
from etude import Stop, early_stop
from etude.control.controller import CONTROLLERS, Controller
from etude.errors import ScheduleError

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
        (early_stop("acc", 2, greater_is_better=True), [0.5, math.inf, 0.6], {}),
    ],
}


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
        after, answer = one.update(state, float(i), {metric: value})
        assert json.dumps(state, allow_nan=False) == before
        assert one.update(json.loads(before), float(i), {metric: value}) == (after, answer)
        assert (type(answer) if answer else None) == answers.get(i)
        if answer:
            assert (answer.at, answer.author) == (i, one.name)
            assert answer.reason
        state = after


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
