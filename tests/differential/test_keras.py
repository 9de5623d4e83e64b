"""Keras' schedules beside étude, to 1e-6 of the peak: Keras computes them in single precision."""

# ruff: noqa: E402  # what the tests are about may not be installed

import math
import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="needs keras")

import numpy as np
from keras import ops
from keras.optimizers import schedules

from etude import Plan

PEAK, SCALES = 3e-3, (1.0, 0.25)

# Updates of the run, and a length of 1 or more inside it or its end.
TOTALS = (1, 2, 5, 10, 41)
GRID = [(total, n) for total in TOTALS for n in sorted({1, 2, total - 1, total}) if 0 < n <= total]
SHORT = [(total, n) for total, n in GRID if n < total]
MOST = 64  # updates asked for at once, so that each operation is compiled once


def used(make, updates, *corner):
    """What two optimizers, one a group, have in each update: Keras has no groups, so each has a schedule."""
    each = ops.vectorized_map if keras.backend.backend() == "jax" else ops.map  # torch's has no branches
    counts = ops.arange(MOST)
    columns = [each(make(PEAK * scale, *corner), counts) for scale in SCALES]
    return np.stack([ops.convert_to_numpy(one).astype(float) for one in columns], 1)[:updates].tolist()


# name -> (Keras' schedule, étude's text, the corners it can be asked for, updates compared past the end)
TABLE = {
    "exponential": (
        lambda peak, total, n: schedules.ExponentialDecay(peak, n, 0.3),
        lambda total, n: f"exp(to={0.3 ** (total / n)!r})", GRID, 0,
    ),
    "staircase": (
        lambda peak, total, n: schedules.ExponentialDecay(peak, n, 0.3, staircase=True),
        lambda total, n: f"step(by=0.3, every={n})", GRID, 0,
    ),
    "inverse time": (
        lambda peak, total, n: schedules.InverseTimeDecay(peak, n, 0.5),
        lambda total, n: f"inv_time(timescale={2 * n})", GRID, 0,
    ),
    "polynomial": (
        lambda peak, total, n: schedules.PolynomialDecay(peak, n, peak / 10, power=2.0),
        lambda total, n: f"poly({n}, to=0.1, power=2) >> hold()", GRID, 3,
    ),
    "linear": (
        lambda peak, total, n: schedules.PolynomialDecay(peak, total, 0.0),
        lambda total, n: "linear()", GRID, 3,
    ),
    "cosine": (
        lambda peak, total, n: schedules.CosineDecay(peak, n, alpha=0.1),
        lambda total, n: f"cosine({n}, to=0.1) >> hold()", GRID, 3,
    ),
    "warm-up and cosine": (
        lambda peak, total, n: schedules.CosineDecay(
            peak / 5, total - n, 0.1, warmup_target=peak, warmup_steps=n
        ),
        lambda total, n: f"warmup({n}, start=0.2) >> cosine(to=0.1)", SHORT, 3,
    ),
    "no warm-up and cosine": (
        lambda peak, total, n: schedules.CosineDecay(0.0, total, warmup_target=peak, warmup_steps=0),
        lambda total, n: "warmup(0) >> cosine()", [(1, 1), (10, 1)], 3,
    ),
    "restarts": (
        lambda peak, total, n: schedules.CosineDecayRestarts(peak, n, t_mul=1.0, alpha=0.1),
        lambda total, n: f"repeat(cosine({n}, start=1, to=0.1), {total // n})",
        [(1, 1), (6, 2), (41, 41)], 0,
    ),
    "restarts, longer and lower": (
        lambda peak, total, n: schedules.CosineDecayRestarts(peak, n, t_mul=2.0, m_mul=0.5),
        lambda total, n: f"repeat(cosine({n}, start=1), 3, stretch=2, fade=0.5)",
        [(7 * n, n) for n in (1, 5)], 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_every_update(name, agree):
    make, text, grid, more = TABLE[name]
    for total, n in grid:
        agree(used(make, total + more, total, n), text(total, n), total, within=1e-6)


def test_a_real_optimizer_uses_them(agree):
    weights = [keras.Variable([0.0]) for _ in SCALES]
    found = []
    for weight, scale in zip(weights, SCALES, strict=True):
        schedule = schedules.CosineDecay(0.0, 7, warmup_target=PEAK * scale, warmup_steps=3)
        optimizer = keras.optimizers.SGD(schedule)
        optimizer.build([weight])
        moved = []
        for _ in range(10):
            weight.assign([0.0])
            optimizer.apply([ops.convert_to_tensor([-1.0])], [weight])
            moved.append(ops.convert_to_numpy(weight.value).item())
        found.append(moved)
    agree(list(zip(*found, strict=True)), "warmup(3) >> cosine()", 10, within=1e-6)


def cosine(u):
    return (1 + math.cos(math.pi * u)) / 2


def test_accepted_milestones(differ):
    """At a boundary Keras keeps the old value and changes in the update after it."""
    theirs = used(lambda peak: schedules.PiecewiseConstantDecay([3, 6], [peak, peak / 2, peak / 4]), 10)
    differ(
        theirs, lambda k: 0.5 ** ((k > 3) + (k > 6)), "multistep(at=(3, 6), by=0.5)",
        lambda k: 0.5 ** ((k >= 3) + (k >= 6)), 10, again="multistep(at=(4, 7), by=0.5)", within=1e-6,
    )  # fmt: skip


def test_accepted_absolute_floor(differ):
    """Its polynomial ends at 1e-4 unless told otherwise, which a rate of 2e-5 rises to."""
    differ(
        used(lambda peak: schedules.PolynomialDecay(peak / PEAK * 2e-5, 10), 10),
        lambda k: [1 + 4 * k / 10, 1 + 19 * k / 10],
        "linear()",
        lambda k: 1 - k / 10,
        10,
        again="hold()",
        again_gates=("linear(to=1e-4/2e-5)", "linear(to=1e-4/5e-6)"),
        peak=2e-5,
        within=1e-6,
    )


def test_accepted_polynomial_cycle(differ):
    """Beyond its steps the whole decay is stretched to the next multiple, and stands at its end there."""

    def theirs_is(k):
        span = 5 * max(math.ceil(k / 5), 1)
        return (1 - k / span) ** 2

    stretched = " >> hold(1) >> ".join(f"poly(4, start={theirs_is(5 * n + 1)!r})" for n in (1, 2))
    differ(
        used(lambda peak: schedules.PolynomialDecay(peak, 5, 0.0, 2.0, cycle=True), 15),
        theirs_is,
        "repeat(poly(5, start=1), 3)",
        lambda k: (1 - k % 5 / 5) ** 2,
        15,
        again=f"poly(5) >> hold(1) >> {stretched}",
        within=1e-6,
    )


def test_accepted_restart_floor(differ):
    begins, lengths = (0, 3, 9), (3, 6, 12)

    def level(k, cycle):
        i = max(i for i, begin in enumerate(begins) if begin <= k)
        return cycle(0.5**i, cosine((k - begins[i]) / lengths[i]))

    differ(
        used(lambda peak: schedules.CosineDecayRestarts(peak, 3, t_mul=2.0, m_mul=0.5, alpha=0.1), 21),
        lambda k: level(k, lambda lower, wave: 0.9 * lower * wave + 0.1),
        "repeat(cosine(start=1, to=0.1), 3, stretch=2, fade=0.5)",
        lambda k: level(k, lambda lower, wave: lower * (0.9 * wave + 0.1)),
        21,
        again="cosine(3, to=0.1) >> cosine(6, start=0.55, to=0.1) >> cosine(12, start=0.325, to=0.1)",
        within=1e-6,
    )


def test_accepted_decay_steps(differ):
    """`decay_steps` begins after the warm-up: as long as the run, it ends a warm-up later than the run."""

    def level(k, decay):
        return k / 3 if k < 3 else cosine((k - 3) / decay)

    text = "warmup(3) >> cosine()"
    theirs = used(lambda peak: schedules.CosineDecay(0.0, 10, warmup_target=peak, warmup_steps=3), 10)
    differ(
        theirs,
        lambda k: level(k, 10),
        text,
        lambda k: level(k, 7),
        10,
        again=text,
        again_total=13,
        within=1e-6,
    )


def test_accepted_single_precision():
    """Past 2**24 a count in single precision stands still for every other update."""
    schedule = schedules.PolynomialDecay(PEAK, 2**25, 0.0)
    assert float(schedule(2**24 + 1)) == float(schedule(2**24)) == np.float32(PEAK) / 2
    rates = Plan({"lr": f"{PEAK} * linear()"}, tick=0).over(2**25)
    assert rates.at(2**24)["lr"] == [PEAK / 2]
    assert rates.at(2**24 + 1)["lr"] == [PEAK * (1 - (2**24 + 1) / 2**25)]
