"""Plateau and greedy beside torch, Keras, optax and transformers, on random readings: the same decisions.

Readings and thresholds are 64ths, which single precision holds exactly, so that ties are ties everywhere.
"""

import itertools
import math
import os
import random

import pytest
import torch

from etude import Driver, Plan
from etude.control.greedy import greedy
from etude.control.plateau import plateau

RUNS, READINGS = 5, 40
PATIENCE, COOLDOWN = (1, 2, 4), (0, 1, 3)
THRESHOLDS = [("rel", 0.0), ("rel", 1 / 8), ("abs", 1 / 32)]


def readings(seed, low=1, high=64):
    """A noisy descent of 64ths, and stretches where nothing moves."""
    rng, level, found = random.Random(seed), high, []
    for _ in range(READINGS):
        level = max(low, level - rng.choice((0, 0, 0, 1, 4)))
        found.append(min(high, max(low, level + rng.choice((-3, -1, 0, 0, 0, 1, 3, 9)))) / 64)
    return found


def ours(one, values):
    """The level after each reading, as the rate of the next update."""
    driver, levels = Driver(Plan({"lr": "hold()"}).over(len(values) + 1), controllers=[one]), []
    for t, value in enumerate(values, start=1):
        driver.observe(t, {one.metric: value})
        levels.append(driver.at(t)["lr"][0])
    return levels


def torchs(values, lr=1.0, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)
    scheduler, levels = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **{"eps": 0} | options), []
    for value in values:
        scheduler.step(value)
        levels.append(optimizer.param_groups[0]["lr"] / lr)
    return levels


@pytest.fixture(scope="module")
def keras_levels():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="needs keras")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def run(values, **options):
        model.compile(keras.optimizers.SGD(1.0), "mse")
        one, levels = keras.callbacks.ReduceLROnPlateau("loss", **options), []
        one.set_model(model)
        one.on_train_begin()
        for epoch, value in enumerate(values):
            one.on_epoch_end(epoch, {"loss": value})
            levels.append(float(model.optimizer.learning_rate))
        return levels

    return run


@pytest.fixture(scope="module")
def optax_levels():
    pytest.importorskip("optax", reason="needs optax")
    import jax
    from optax.contrib import reduce_on_plateau

    compiled = {}

    def level(values, factor, patience, cooldown=0, rtol=0.0, atol=0.0, min_scale=0.0):
        key = (factor, rtol, atol, min_scale)
        if key not in compiled:

            def scanned(values, patience, cooldown):
                made = reduce_on_plateau(factor, patience, rtol, atol, cooldown, min_scale=min_scale)

                def one(state, value):
                    _, state = made.update({}, state, value=value)
                    return state, state.scale

                return jax.lax.scan(one, made.init({"w": jax.numpy.ones(1)}), values)[1]

            compiled[key] = jax.jit(scanned)
        return [float(x) for x in compiled[key](jax.numpy.asarray(values), patience, cooldown)]

    return level


def settings():
    return itertools.product(PATIENCE, COOLDOWN, THRESHOLDS, ("min", "max"))


def by_name(one):
    """Readings for both directions: for one in which more is better, the same upside down."""
    return lambda values: [1 + 1 / 64 - value for value in values] if one == "max" else values


def test_torch_decides_the_same():
    """Positive readings, patience P - 1 there; levels are products of halves, equal to the last bit."""
    cuts = 0
    for patience, cooldown, (kind, threshold), mode in settings():
        one = plateau(
            "m", 0.5, patience, cooldown=cooldown, threshold=threshold, threshold_mode=kind, min=1 / 64,
            greater_is_better=mode == "max", spike=None,
        )  # fmt: skip
        for seed in range(RUNS):
            values = by_name(mode)(readings(seed))
            theirs = torchs(
                values, factor=0.5, patience=patience - 1, cooldown=cooldown, mode=mode, min_lr=1 / 64,
                threshold=threshold, threshold_mode=kind,
            )  # fmt: skip
            assert ours(one, values) == theirs
            cuts += theirs[-1] < 1
    assert cuts > 100


def test_keras_decides_the_same(keras_levels):
    """Keras has an absolute threshold; patience is étude's."""
    for patience, mode, delta in itertools.product(PATIENCE, ("min", "max"), (0.0, 1 / 32)):
        one = plateau(
            "m", 0.5, patience, threshold=delta, threshold_mode="abs", min=1 / 8,
            greater_is_better=mode == "max", spike=None,
        )  # fmt: skip
        for seed in range(3):
            values = by_name(mode)(readings(seed))
            theirs = keras_levels(
                values, factor=0.5, patience=patience, mode=mode, min_delta=delta, min_lr=1 / 8
            )
            assert ours(one, values) == theirs
            assert theirs[-1] < 1


def test_optax_decides_the_same(optax_levels):
    """optax only lowers for a value that does not fall; patience and cooldown are étude's."""
    for patience, cooldown, (kind, threshold) in itertools.product(PATIENCE, COOLDOWN, THRESHOLDS[1:]):
        one = plateau(
            "m", 0.5, patience, cooldown=cooldown, threshold=threshold, threshold_mode=kind, min=1 / 16,
            spike=None,
        )  # fmt: skip
        for seed in range(RUNS):
            values, margin = readings(seed), {"rel": "rtol", "abs": "atol"}[kind]
            theirs = optax_levels(values, 0.5, patience, cooldown, min_scale=1 / 16, **{margin: threshold})
            assert ours(one, values) == theirs


def test_accepted_plateau_patience(keras_levels, optax_levels):
    """torch lowers after P + 1 bad readings in a row, Keras, optax and étude after P."""
    flat = [1.0] * 9

    def after(count):
        return [0.5 ** (k // count) for k in range(9)]

    for patience in (1, 2, 3):
        assert torchs(flat, factor=0.5, patience=patience) == after(patience + 1)
        assert ours(plateau("m", 0.5, patience, min=0), flat) == after(patience)
        assert keras_levels(flat, factor=0.5, patience=patience) == after(patience)
        assert optax_levels(flat, 0.5, patience, rtol=1e-4) == after(patience)


def test_accepted_plateau_negative(optax_levels):
    """torch and optax ask for best - threshold × best: below 0 a reading worse by that share is better."""
    worse = [-1.0, -0.95, -0.92]
    assert torchs(worse, factor=0.5, patience=0, threshold=0.125) == [1, 1, 1]
    assert optax_levels(worse, 0.5, 1, rtol=0.125) == [1, 1, 1]
    assert ours(plateau("m", 0.5, 1, threshold=0.125), worse) == [1, 0.5, 0.25]
    rng = random.Random(0)
    for _ in range(40):
        values = [rng.randint(-64, 64) / 64 for _ in range(12)]
        theirs = torchs(values, factor=0.5, patience=0, threshold=0.125)
        assert theirs == lowered_unless(values, lambda best: best / 8)
        one = plateau("m", 0.5, 1, threshold=0.125, min=0, spike=None)
        assert ours(one, values) == lowered_unless(values, lambda best: abs(best) / 8)


def lowered_unless(values, margin):
    """Half the level at every reading that is not below the best by more than the margin."""
    best, level, levels = math.inf, 1.0, []
    for value in values:
        if best == math.inf or value < best - margin(best):
            best = value
        else:
            level /= 2
        levels.append(level)
    return levels


def test_accepted_plateau_nan(keras_levels, optax_levels):
    """A NaN is a bad reading for torch, Keras and optax; étude does not count it."""
    values = [1.0, math.nan, math.nan, 0.5]
    assert torchs(values, factor=0.5, patience=0) == [1, 0.5, 0.25, 0.25]
    assert keras_levels(values, factor=0.5, patience=1) == [1, 0.5, 0.25, 0.25]
    assert optax_levels(values, 0.5, 1, rtol=1e-4) == [1, 0.5, 0.25, 0.25]
    assert ours(plateau("m", 0.5, 1), values) == [1, 1, 1, 1]


def test_accepted_plateau_after_a_spike(keras_levels, optax_levels):
    """Theirs compare with the best before the spike for ever; étude with the spike, spike=None as they do."""
    values = [1.0, 0.75, 0.5, 8.0, 7.0, 6.0, 5.0, 4.0]
    lowered = [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert torchs(values, factor=0.5, patience=1) == lowered
    assert keras_levels(values, factor=0.5, patience=2) == lowered
    assert optax_levels(values, 0.5, 2, rtol=1e-4) == lowered
    assert ours(plateau("m", 0.5, 2, spike=None), values) == lowered
    assert ours(plateau("m", 0.5, 2), values) == [1] * 8


def test_accepted_plateau_cooldown(keras_levels):
    """Keras counts down first: the last reading of a cooldown counts, so c there is c - 1 in étude."""
    flat = [1.0] * 20
    for patience, cooldown in itertools.product((1, 2, 3), (0, 1, 2, 4)):
        theirs = keras_levels(flat, factor=0.5, patience=patience, cooldown=cooldown)
        period = patience + max(cooldown - 1, 0)
        assert theirs == [0.5 ** ((k - patience) // period + 1) if k >= patience else 1 for k in range(20)]
        assert ours(plateau("m", 0.5, patience, cooldown=max(cooldown - 1, 0), min=0), flat) == theirs
        full = patience + cooldown
        mine = ours(plateau("m", 0.5, patience, cooldown=cooldown, min=0), flat)
        assert mine == [0.5 ** ((k - patience) // full + 1) if k >= patience else 1 for k in range(20)]


def test_accepted_plateau_small_rates():
    """torch drops a cut of 1e-8 and less, so that a rate of 1e-8 is never lowered; étude's min is a share."""
    flat = [1.0] * 5
    assert torchs(flat, lr=1e-8, factor=0.5, patience=0, eps=1e-8) == [1, 1, 1, 1, 1]
    assert torchs(flat, lr=3e-8, factor=0.5, patience=0, eps=1e-8) == [1, 0.5, 0.5, 0.5, 0.5]
    assert torchs(flat, lr=1e-4, factor=0.5, patience=0, min_lr=1e-3) == [1] * 5
    for peak in (1e-8, 1e-4, 1.0):
        driver = Driver(Plan({"lr": peak}).over(9), controllers=[plateau("m", 0.5, 1, min=0.2)])
        for t in range(1, 6):
            driver.observe(t, {"m": 1.0})
        assert driver.at(6)["lr"] == pytest.approx([peak * 0.2], rel=1e-15)


def greedys(values, lr=1.0, **options):
    optimization = pytest.importorskip("transformers.optimization", reason="needs transformers")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)
    scheduler, levels = optimization.GreedyLR(optimizer, **options), []
    for value in values:
        scheduler.step(value)
        levels.append(optimizer.param_groups[0]["lr"] / lr)
    return levels


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("smooth", [1, 4])
def test_transformers_greedy_decides_the_same(mode, smooth):
    """With bounds that are those of étude, no smallest change and no return to the first rate."""
    moves = set()
    for patience, (kind, threshold), factor in itertools.product(PATIENCE, THRESHOLDS, (0.5, 0.8)):
        one = greedy(
            "m", factor, patience, min=0.1, max=3, smooth=smooth, threshold=threshold, threshold_mode=kind,
            greater_is_better=mode == "max",
        )  # fmt: skip
        for seed in range(RUNS):
            values = by_name(mode)(readings(seed))
            theirs = greedys(
                values, factor=factor, patience=patience - 1, min_lr=0.1, max_lr=3.0, eps=0, mode=mode,
                threshold=threshold, threshold_mode=kind, smooth=smooth > 1, window_size=smooth,
                reset_start=10**9,
            )  # fmt: skip
            assert ours(one, values) == pytest.approx(theirs, rel=1e-12)
            moves |= {theirs[-1] > 1, theirs[-1] < 1}
    assert moves == {True, False}


def test_accepted_greedy_bounds():
    """transformers' bounds are rates: from 2e-5 nothing is ever lowered, and the rate may rise to 1.0."""
    assert greedys([1.0] * 3000, lr=2e-5) == [1.0] * 3000
    improving = [1.0 - k / 5000 for k in range(3000)]
    assert greedys(improving, lr=2e-5)[-1] * 2e-5 == pytest.approx(1.0)
    raises = 3000 // 11  # by 1 / 0.95, each after 11 better readings in a row
    assert 2e-5 / 0.95**raises > 1
    assert ours(greedy("m", 0.95, 11, min=0.1), [1.0] * 3000)[-1] == pytest.approx(0.1, rel=1e-12)
    assert ours(greedy("m", 0.95, 11, max=2), improving)[-1] == pytest.approx(2.0, rel=1e-12)


def test_accepted_greedy_small_rates():
    """transformers drops a change of 1e-8 and less: at 1e-7 a factor of 0.95 does nothing."""
    assert greedys([1.0] * 60, lr=1e-7, min_lr=0.0) == [1.0] * 60
    assert ours(greedy("m", 0.95, 11), [1.0] * 60)[-1] == pytest.approx(0.95**5)
