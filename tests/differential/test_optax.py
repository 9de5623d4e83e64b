"""optax beside étude: what optax's own optimizer multiplied the gradient by, in float64 to 1e-12."""

# ruff: noqa: E402  # what the tests are about may not be installed

import math

import pytest

optax = pytest.importorskip("optax", reason="needs optax")

import jax
import jax.numpy as jnp
import numpy as np

from etude import Plan

PEAK, SCALES = 3e-3, (1.0, 0.25)

# Updates of the run, and a length inside it or its end; a length of 0 is `zero-length`.
TOTALS = (1, 2, 3, 5, 7, 10, 41)
GRID = [(total, n) for total in TOTALS for n in sorted({1, 2, 3, total - 1, total}) if 0 < n <= total]
SHORT = [(total, n) for total, n in GRID if n < total]
MOST = 64  # updates asked for at once, so that jax compiles each operation once


def used(make, updates, *corner, double=True):
    """What two groups, a schedule each, move by in each update for a gradient of -1."""

    def moved(peak):
        optimizer = optax.scale_by_learning_rate(make(peak, *corner))
        state = optimizer.init(jnp.zeros(()))
        counts = jnp.arange(MOST)
        at = jax.vmap(lambda count: optimizer.update(-jnp.ones(()), state._replace(count=count))[0])
        return np.asarray(at(counts), dtype=np.float64)[:updates]

    with jax.enable_x64(double):
        return np.stack([moved(PEAK * scale) for scale in SCALES], axis=1).tolist()


# name -> (optax's schedule, étude's text, the corners it can be asked for, updates compared past the end)
TABLE = {
    "constant": (lambda peak, total, n: optax.constant_schedule(peak), lambda total, n: "hold()", GRID, 3),
    "linear": (
        lambda peak, total, n: optax.linear_schedule(peak, peak / 10, n),
        lambda total, n: f"linear({n}, to=0.1) >> hold()", GRID, 3,
    ),
    "polynomial, begun late": (
        lambda peak, total, n: optax.polynomial_schedule(peak, 0, 2, total - n, transition_begin=n),
        lambda total, n: f"hold({n}) >> poly(power=2)", SHORT, 3,
    ),
    "piecewise_constant": (
        lambda peak, total, n: optax.piecewise_constant_schedule(peak, {n: 0.3, total + 5: 0.3}),
        lambda total, n: f"multistep(at=({n}, {total + 5}), by=0.3)", GRID, 0,
    ),
    "exponential": (
        lambda peak, total, n: optax.exponential_decay(peak, n, 0.3),
        lambda total, n: f"exp(to={0.3 ** (total / n)!r})", GRID, 0,
    ),
    "exponential, to a floor": (
        lambda peak, total, n: optax.exponential_decay(peak, n, 0.3, end_value=peak * 0.3),
        lambda total, n: f"exp({n}, to=0.3) >> hold()", GRID, 3,
    ),
    "exponential, begun late": (
        lambda peak, total, n: optax.exponential_decay(peak, total, 0.3, transition_begin=n),
        lambda total, n: f"hold({n}) >> exp(to={0.3 ** ((total - n) / total)!r})", SHORT, 0,
    ),
    "staircase": (
        lambda peak, total, n: optax.exponential_decay(peak, n, 0.3, staircase=True),
        lambda total, n: f"step(by=0.3, every={n})", GRID, 0,
    ),
    "cosine": (
        lambda peak, total, n: optax.cosine_decay_schedule(peak, n, alpha=0.1),
        lambda total, n: f"cosine({n}, to=0.1) >> hold()", GRID, 3,
    ),
    "cosine, with an exponent": (
        lambda peak, total, n: optax.cosine_decay_schedule(peak, total, alpha=0.1, exponent=1.5),
        lambda total, n: "cosine(to=0.1, exponent=1.5)", GRID, 3,
    ),
    "warmup_constant": (
        lambda peak, total, n: optax.warmup_constant_schedule(peak / 5, peak, n),
        lambda total, n: f"warmup({n}, start=0.2) >> hold()", GRID, 3,
    ),
    "warmup_cosine": (
        lambda peak, total, n: optax.warmup_cosine_decay_schedule(0.0, peak, n, total, peak / 10, 2.0),
        lambda total, n: f"warmup({n}) >> cosine(to=0.1, exponent=2)", SHORT, 3,
    ),
    "warmup_exponential": (
        lambda peak, total, n: optax.warmup_exponential_decay_schedule(0.0, peak, n, total, 0.3),
        lambda total, n: f"warmup({n}) >> exp(to={0.3 ** ((total - n) / total)!r})", SHORT, 0,
    ),
    "linear between": (
        lambda peak, total, n: optax.piecewise_interpolate_schedule("linear", peak, {n: 0.5, total: 0.2}),
        lambda total, n: f"linear({n}, to=0.5) >> linear(to=0.1)", SHORT, 3,
    ),
    "cosine between": (
        lambda peak, total, n: optax.piecewise_interpolate_schedule("cosine", peak, {n: 0.5, total: 0.2}),
        lambda total, n: f"cosine({n}, to=0.5) >> cosine(to=0.1)", SHORT, 3,
    ),
    "sgdr": (
        lambda peak, total, n: optax.sgdr_schedule([
            {"init_value": 0.0, "peak_value": peak * 0.5**i, "decay_steps": total, "warmup_steps": n,
             "end_value": peak / 10 * 0.5**i}
            for i in range(3)
        ]),
        lambda total, n: f"repeat(warmup({n}) >> cosine({total - n}, to=0.1), 3, fade=0.5)",
        [(2, 1), (7, 2), (13, 3)], 0,
    ),
    "joined": (
        lambda peak, total, n: optax.join_schedules(
            [optax.constant_schedule(peak / 2), optax.linear_schedule(peak, 0, total - n)], [n]
        ),
        lambda total, n: f"hold({n}, start=0.5) >> linear(start=1)", SHORT, 3,
    ),
}  # fmt: skip
CYCLES = {"sgdr": 3}


@pytest.mark.parametrize("name", TABLE)
def test_every_update(name, agree):
    make, text, grid, more = TABLE[name]
    for total, n in grid:
        run = total * CYCLES.get(name, 1)
        agree(used(make, run + more, total, n), text(total, n), run)


@pytest.mark.parametrize("name", ["warmup_cosine", "exponential", "sgdr"])
def test_in_single_precision_as_optax_computes_by_default(name, agree):
    make, text, *_ = TABLE[name]
    run = 7 * CYCLES.get(name, 1)
    agree(used(make, run, 7, 3, double=False), text(7, 3), run, within=1e-6)


@pytest.mark.parametrize("total", [1, 3, 7, 41])
def test_one_cycle_in_whole_updates(total, agree):
    n, m = int(0.3 * total), int(0.85 * total)
    theirs = used(lambda peak: optax.cosine_onecycle_schedule(total, peak), total + 3)
    agree(theirs, f"cosine({n}, start=0.04, to=1) >> cosine(to=4e-6)", total)
    if 0 < n < m < total:
        theirs = used(lambda peak: optax.linear_onecycle_schedule(total, peak), total + 3)
        agree(theirs, f"linear({n}, start=0.04, to=1) >> linear({m - n}, to=0.04) >> linear(to=4e-6)", total)


def cosine(u):
    return (1 + math.cos(math.pi * u)) / 2


def test_accepted_ratio_rounding(differ):
    """0.3 of 61 updates, 18.3, is cut to 18."""

    def level(k, n):
        return 1 - 0.96 * cosine(k / n) if k < n else 4e-6 + (1 - 4e-6) * cosine((k - n) / (61 - n))

    theirs = used(lambda peak: optax.cosine_onecycle_schedule(61, peak), 61)
    differ(theirs, lambda k: level(k, 18), "one_cycle()", lambda k: level(k, 18.3), 61, again="one_cycle(18)")


def test_accepted_zero_length(differ):
    """A warm-up of no updates never leaves its start: this run trains at 0 throughout."""
    theirs = used(lambda peak: optax.warmup_constant_schedule(0.0, peak, 0), 5)
    differ(theirs, lambda k: 0, "warmup(0) >> hold()", lambda k: 1, 5, again="hold(start=0)")


def test_accepted_single_precision():
    """Near its end a cosine in single precision is 0 or off by its own size; nowhere by 1e-6 of the peak."""
    total, k = 100_000, 99_999
    theirs = float(optax.cosine_decay_schedule(PEAK, total)(k))
    exact = PEAK * math.sin(math.pi / 2 / total) ** 2
    assert theirs == np.float32(PEAK) * (np.float32(1) + np.cos(np.float32(math.pi * k / total))) / 2
    assert abs(theirs - exact) > 0.5 * exact
    assert abs(theirs - exact) < 1e-6 * PEAK
    assert Plan({"lr": f"{PEAK} * cosine()"}, tick=0).over(total).at(k)["lr"] == [
        pytest.approx(exact, rel=1e-6)
    ]
