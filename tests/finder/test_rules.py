"""The rules beside the peers' own code on one curve, and what holds for each of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.finder.rules import RULES
from etude.finder.suggestion import Suggestion, no_suggestion

ALL = list(RULES.values())
X = np.linspace(-6, 1, 85)
RATES = 10**X
CLEAN = 0.5 + 1.8 / (1 + (RATES / 3e-3) ** 1.5) + 3 * RATES**1.5  # lowest near 0.05
POINT = (X[1] - X[0]) * 1.001


def noisy(seed: int, deviation: float = 0.03, curve: np.ndarray = CLEAN) -> np.ndarray:
    return curve + np.random.default_rng(seed).normal(0, deviation, len(curve))


# On `CLEAN`: fastai 2.8.12 (valley, slide, minimum of callback/schedule.py) and torch-lr-finder 0.2.2
# (steepest, with its skip_start=10 and skip_end=5).
PEERS = {"valley": 1.7783e-4, "slide": 8.2540e-4, "minimum": 4.6416e-3, "steepest": 3.1623e-3}


@pytest.mark.parametrize("name", PEERS)
def test_a_rule_says_on_a_clean_curve_what_its_peer_says(name):
    assert abs(math.log10(RULES[name](RATES, CLEAN).rate / PEERS[name])) <= POINT


def test_steepest_lies_where_lightning_would_if_it_divided_by_the_log_of_the_rate():
    pytest.importorskip("lightning", reason="runs Lightning's own finder")
    from lightning.pytorch.tuner.lr_finder import _LRFinder

    finder = _LRFinder("exponential", 1e-6, 10, 85)
    ours, theirs = [], []
    for seed in range(10):
        losses = noisy(seed)
        finder.results = {"lr": RATES.tolist(), "loss": losses.tolist()}
        theirs.append(math.log10(finder.suggestion()))
        ours.append(math.log10(RULES["steepest"](RATES, losses).rate))
    assert np.max(np.abs(np.array(ours) - math.log10(3e-3))) < 0.5
    assert np.median(theirs) < -4.5  # the wiggles at the smallest rates


def test_the_fall_back_from_a_divergence_is_no_descent():
    back = np.where(X < -0.3, CLEAN, np.interp(X, [-0.3, 0.3, 1], [1.6, 9, 2]))
    assert X[np.argmin(np.diff(back))] > 0.3
    assert RULES["steepest"](RATES, back).rate == RULES["steepest"](RATES, CLEAN).rate


def test_noise_moves_the_rules_little():
    for rule in (RULES["steepest"], RULES["minimum"]):
        clean = rule(RATES, CLEAN).rate
        found = [rule(RATES, noisy(seed)).rate for seed in range(10)]
        assert np.max(np.abs(np.log10(found) - math.log10(clean))) < 0.5, rule.__name__


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([0.7] * 85, "flat"),
        (noisy(0, 0.05, np.full(85, 0.7)), "flat"),
        (0.7 + 5 * RATES, "only rises"),
        (CLEAN[:9], "too short: 9 points"),
        ([0.7] * 4 + [math.nan] + [0.7] * 80, "too short: 4 points"),
        ([math.inf] * 85, "too short: 0 points"),
        ([], "too short: 0 points"),
    ],
)
def test_there_is_no_suggestion_where_there_is_nothing_to_see(rule, losses, said):
    found = rule(RATES[: len(losses)], losses)
    assert not found
    assert (found.rate, found.low, found.high, found.confidence) == (None, None, None, 0.0)
    assert said in found.reason


def test_flat_noise_is_nearly_always_seen_to_be_flat():
    found = [RULES["steepest"](RATES, noisy(seed, 0.1, np.full(85, 0.7))) for seed in range(200)]
    assert sum(map(bool, found)) <= 4


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.__name__)
def test_what_comes_after_a_loss_that_is_no_number_is_not_seen(rule):
    losses = CLEAN.copy()
    losses[70] = np.nan
    assert rule(RATES, losses) == rule(RATES[:70], losses[:70])


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.__name__)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), unit=st.floats(1e-3, 1e3), factor=st.floats(1e-4, 1e4))
def test_neither_the_unit_of_the_loss_nor_that_of_the_rate_matters(rule, seed, unit, factor):
    losses = noisy(seed)
    plain, scaled = rule(RATES, losses), rule(factor * RATES, unit * losses)
    for one, other in ((plain.low, scaled.low), (plain.rate, scaled.rate), (plain.high, scaled.high)):
        assert abs(math.log10(other / (factor * one))) < 1.5 * POINT  # a tie of floats may move a point
    assert scaled.confidence == pytest.approx(plain.confidence, abs=2e-3)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.__name__)
def test_the_number_of_points_hardly_matters(rule):
    x = np.linspace(-6, 1, 170)
    twice = np.interp(x, X, CLEAN)
    assert abs(math.log10(rule(10**x, twice).rate / rule(RATES, CLEAN).rate)) < 0.35


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), deviation=st.floats(0, 0.3))
def test_a_suggestion_lies_in_its_range_and_the_range_in_reach(seed, deviation):
    for rule in ALL:
        found = rule(RATES, noisy(seed, deviation))
        if found:
            assert RATES[0] / 10 <= found.low <= found.rate <= found.high <= RATES[-1]
            assert 0 < found.confidence <= 1


def test_more_noise_means_less_confidence():
    sure = [RULES["steepest"](RATES, noisy(3, deviation)).confidence for deviation in (0, 0.05, 0.2)]
    assert sure[0] > sure[1] > sure[2] > 0


def test_a_curve_that_still_falls_at_the_end_says_so():
    falling = 1 / (1 + (RATES / 1e-1) ** 0.7)
    assert "still falls at the end" in RULES["minimum"](RATES, falling).reason


def test_every_rule_stands_in_the_registry_by_its_name():
    assert set(RULES) == {"steepest", "valley", "minimum", "slide"}
    for name, rule in RULES.items():
        assert rule(RATES, CLEAN).rule == rule.__name__ == name
        assert ">>> " in rule.__doc__


def test_a_suggestion_says_what_to_write():
    assert str(Suggestion(3.24e-4, 1e-4, 9e-4, "valley", 0.66, "why")).startswith("lr=3.2e-4 (1e-4 … 9e-4")
    assert Suggestion.from_dict(Suggestion(0.1, 0.1, 0.2, "x", 1, "y").to_dict()).rate == 0.1
    assert not no_suggestion("x", "y")


@pytest.mark.parametrize(
    "values", [(None, 1.0, 2.0), (1.0, None, 2.0), (1.0, 2.0, 3.0), (0.0, 0.0, 1.0), (1.0, 1.0, math.inf)]
)
def test_a_suggestion_out_of_its_range_cannot_be_made(values):
    from etude import EtudeError

    with pytest.raises(EtudeError):
        Suggestion(*values, "rule", 0.5, "reason")
