import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude import EtudeError
from etude.finder.divergence import Watch, watch
from etude.finder.smoothing import noise_of, smooth

RATES = 10 ** np.linspace(-7, 1, 100)
CURVE = 0.4 + 0.7 / (1 + (RATES / 1e-3) ** 1.5)  # steepest at 1e-3


def noisy(seed: int, deviation: float = 0.05) -> np.ndarray:
    return CURVE + np.random.default_rng(seed).normal(0, deviation, len(CURVE))


def test_noise_is_halved_and_nothing_lags():
    raw, smoothed, steepest = [], [], []
    for seed in range(20):
        losses = noisy(seed)
        curve = smooth(RATES, losses)
        raw.append(np.mean((losses - CURVE) ** 2) ** 0.5)
        smoothed.append(np.mean((curve.loss - CURVE) ** 2) ** 0.5)
        steepest.append(curve.x[np.argmin(curve.slope)])
    assert np.mean(smoothed) < 0.5 * np.mean(raw)
    assert abs(np.mean(steepest) - -3) < 0.15  # decades; the exponential mean below is late by more


def test_the_exponential_mean_of_the_peers_lags_where_ours_does_not():
    mean, values = 0.0, []
    for k, loss in enumerate(CURVE):
        mean = 0.98 * mean + 0.02 * loss
        values.append(mean / (1 - 0.98 ** (k + 1)))
    x = np.log10(RATES)
    assert x[np.argmin(np.gradient(values, x))] > -2.7
    assert abs(x[np.argmin(smooth(RATES, CURVE).slope)] - -3) < 0.09  # a point is 0.08


def test_a_curve_without_noise_stays_as_it_is():
    curve = smooth(RATES, CURVE)
    assert np.max(np.abs(curve.loss - CURVE)) < 5e-3  # of a fall of 0.7
    assert curve.noise < 2e-3


def test_it_is_the_same_read_from_the_right():
    losses = noisy(1)
    there = smooth(RATES, losses)
    back = smooth(1 / RATES[::-1], losses[::-1], there.width)
    assert np.allclose(back.loss[::-1], there.loss, atol=1e-9)
    assert np.allclose(back.slope[::-1], -there.slope, atol=1e-8)


def test_both_ends_of_a_straight_line_stay_on_it():
    line = 3 - 0.2 * np.log10(RATES)
    for width in (0.1, 1.0, 4.0):
        assert np.allclose(smooth(RATES, line, width).loss, line, atol=1e-9)


def test_one_bad_batch_moves_nothing():
    losses = noisy(2)
    spiked = losses.copy()
    spiked[40] += 3.0
    without, with_it = smooth(RATES, losses), smooth(RATES, spiked)
    assert with_it.width == pytest.approx(without.width, rel=0.3)
    assert np.max(np.abs(with_it.loss - without.loss)) < 0.06


def test_what_only_rises_is_no_bad_batch():
    rising = 10.0 ** np.arange(0, 10, 0.1)
    assert np.allclose(smooth(RATES, rising, 0.001).loss, rising, rtol=0.2)


def test_the_steepest_point_is_steady_over_seeds():
    found = [smooth(RATES, noisy(seed)) for seed in range(40)]
    assert (
        np.std([curve.x[np.argmin(curve.slope)] for curve in found]) < 0.08
    )  # a point; with the least error 0.12


def test_the_divergence_does_not_decide_the_width():
    losses = noisy(3)
    diverged = losses + np.where(RATES > 0.3, (RATES / 0.3) ** 3 - 1, 0)
    assert smooth(RATES, diverged).width == pytest.approx(smooth(RATES, losses).width, rel=0.6)


def test_noise_is_measured_under_a_slope_and_beside_outliers():
    found = [noise_of(np.log10(RATES), noisy(seed)) for seed in range(30)]
    assert np.mean(found) == pytest.approx(0.05, rel=0.1)
    spiked = noisy(0)
    spiked[::20] += 10
    assert noise_of(np.log10(RATES), spiked) < 0.1


def test_rates_need_not_be_evenly_apart():
    x = np.sort(np.random.default_rng(0).uniform(-7, 1, 60))
    curve = smooth(10**x, 2 - 0.1 * x)
    assert np.allclose(curve.loss, 2 - 0.1 * x)
    gap = smooth([1e-9, 1e-8, 1e-7, 1.0, 2.0, 4.0], [1, 1, 1, 0, 0, 0], 0.01)
    assert np.all(np.isfinite(gap.loss))


@pytest.mark.parametrize(
    ("rates", "losses", "said"),
    [
        ([1e-3, 1e-4], [1.0, 1.0], "increase"),
        ([0.0, 1e-4], [1.0, 1.0], "above 0"),
        ([1e-4], [1.0, 2.0], "1 rates and 2 losses"),
        ([1e-4, 1e-3], [1.0, float("nan")], "not finite"),
    ],
)
def test_what_is_no_curve_is_refused(rates, losses, said):
    with pytest.raises(EtudeError, match=said):
        smooth(rates, losses)


def stop(losses, **options) -> tuple[int, str]:
    """The number of points seen and why it stopped."""
    state, reason = Watch(), ""
    for loss in losses:
        state, reason = watch(state, loss, **options)
        if reason:
            break
    return len(state.losses), reason


@pytest.mark.parametrize(("loss", "said"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_a_loss_that_is_no_number_stops_at_once(loss, said):
    assert stop([0.7, 0.7, loss, 0.7]) == (3, f"the loss is {said}")


def test_four_times_the_best_stops_within_three_points():
    n, reason = stop([*[1.0] * 20, *[0.5] * 30, 1.9, 1.9, 1.9, *[2.5] * 5])
    assert n in (55, 56)  # where two of the last three lie above
    assert "over 4 × its best, 0.5" in reason


def test_a_single_bad_batch_does_not_stop():
    assert stop([*[0.5] * 30, 50.0, *[0.5] * 30]) == (61, "")


def test_nothing_stops_before_the_tenth_point():
    assert stop([0.1, *[9.0] * 30])[0] == 10
    assert stop([0.1, *[9.0] * 30], points=20)[0] == 20


def test_a_small_noisy_loss_does_not_stop():
    for seed in range(20):
        losses = np.abs(np.random.default_rng(seed).normal(0.002, 0.004, 200))
        assert stop(losses)[1] == ""


def test_losses_below_zero_stop_when_they_rise_as_far():
    assert stop([*[-1.0] * 20, *[1.0] * 5])[1] == ""
    assert stop([*[-1.0] * 20, *[2.5] * 5])[0] == 22


@given(st.lists(st.floats(0.1, 10), min_size=12, max_size=60), st.floats(1e-3, 1e3))
def test_the_unit_of_the_loss_does_not_matter(losses, unit):
    assert stop([unit * loss for loss in losses])[0] == stop(losses)[0]


def test_deciding_again_from_the_same_state_decides_the_same():
    state = Watch()
    for loss in [0.7] * 12:
        state, _ = watch(state, loss)
    assert watch(state, 5.0) == watch(state, 5.0)
    assert watch(Watch(*state), 5.0) == watch(state, 5.0)
