"""What holds for étude's default rule, whichever it is; how good it is stands in docs/finder.md."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from etude.finder.consensus import DEFAULT, consensus, over_seeds
from etude.finder.find import find
from etude.finder.suggestion import Suggestion, no_suggestion

X = np.linspace(-7, 0, 100)
RATES = 10**X
TRAINING = 0.5 + 1.0 / (1 + (RATES / 1e-3) ** 1.5) + 2 * RATES**1.5


def noisy(seed: int, deviation: float, curve: np.ndarray = TRAINING) -> np.ndarray:
    return curve + np.random.default_rng(seed).normal(0, deviation, len(curve))


@pytest.mark.parametrize(
    "losses",
    [
        [0.7] * 100,
        noisy(0, 0.05, np.full(100, 0.7)),
        0.7 + 5 * RATES**2,
        TRAINING[:9],
        [0.7] * 4 + [math.nan] + [0.7] * 95,
        [math.inf] * 100,
        [],
    ],
    ids=["constant", "noise", "rises", "short", "nan", "inf", "empty"],
)
def test_there_is_no_suggestion_where_there_is_nothing_to_see(losses):
    found = DEFAULT(RATES[: len(losses)], losses)
    assert not found
    assert len(found.reason) > 10


def test_flat_noise_is_nearly_always_seen_to_be_flat():
    found = [DEFAULT(RATES, noisy(seed, 0.05, np.full(100, 0.7))) for seed in range(100)]
    assert sum(map(bool, found)) <= 4


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    deviation=st.sampled_from((0.0, 0.05)),
    unit=st.floats(1e-3, 1e3),
    factor=st.floats(1e-4, 1e4),
)
def test_neither_the_unit_of_the_loss_nor_that_of_the_rate_matters(seed, deviation, unit, factor):
    losses = noisy(seed, deviation)
    plain, scaled = DEFAULT(RATES, losses), DEFAULT(factor * RATES, unit * losses)
    assert bool(plain) == bool(scaled)
    if plain:
        for one, other in ((plain.low, scaled.low), (plain.rate, scaled.rate), (plain.high, scaled.high)):
            assert abs(math.log10(other / (factor * one))) < 0.1


def test_the_rules_that_disagree_are_named():
    reason = DEFAULT(RATES, noisy(0, 0.05)).reason
    assert all(name in reason for name in ("steepest", "valley", "minimum"))


def test_noise_counts_as_a_share_of_the_low_losses():
    """A loss that falls to a hundredth, with noise of 0.2% of the first: seeds are not to part over it."""
    falls = 0.01 + 1 / (1 + (RATES / 1e-4) ** 2) + 2 * RATES**1.5
    found = [DEFAULT(RATES, noisy(seed, 0.002, falls)) for seed in range(10)]
    rates = [each.rate for each in found]
    assert max(rates) < 2 * min(rates)
    assert all("noisy losses" in each.reason for each in found)
    assert "noisy losses" not in DEFAULT(RATES, noisy(0, 0.002, 1 + falls)).reason


class Bowl(nn.Module):
    """½ Σ h w², with known curvatures h; a batch is a slope on top, the noise of its gradient."""

    def __init__(self, curvatures: torch.Tensor):
        super().__init__()
        self.curvatures = curvatures
        self.w = nn.Parameter(1 / curvatures.sqrt())

    def forward(self, slope: torch.Tensor) -> torch.Tensor:
        return 0.5 * (self.curvatures * self.w**2).sum() + (slope * self.w).sum() + 1


@pytest.mark.parametrize("sharpest", [10.0, 1000.0])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_bowl_of_known_curvature_gets_a_rate_below_divergence_and_about_the_same_from_five_seeds(
    sharpest, noise
):
    curvatures = torch.logspace(math.log10(sharpest) - 1, math.log10(sharpest), 8)
    found = []
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        batches = [noise * torch.randn(8, generator=draw) * curvatures.sqrt() for _ in range(100)]
        finding = find(
            Bowl(curvatures), batches, loss=lambda model, batch: model(batch),
            optimizer=lambda groups: torch.optim.SGD(groups), start=1e-7, to=10.0, seeds=1,
        )  # fmt: skip
        assert finding.stopped
        assert finding.suggestion, finding.suggestion.reason
        found.append(finding.rate)
    assert max(found) < 2 / sharpest  # where gradient descent diverges
    assert max(found) / min(found) < 3


def test_seeds_that_part_widen_the_range_and_lower_the_confidence():
    said = Suggestion(1e-3, 5e-4, 2e-3, "consensus", 0.8, "why")
    close = over_seeds(said, [Suggestion(rate, rate, rate, "consensus", 0.8, "") for rate in (9e-4, 1.1e-3)])
    apart = over_seeds(said, [Suggestion(rate, rate, rate, "consensus", 0.8, "") for rate in (1e-4, 1e-2)])
    assert apart.low <= 1e-4 < 1e-2 <= apart.high
    assert apart.confidence < close.confidence <= 0.8
    silent = over_seeds(said, [said, no_suggestion("consensus", "flat")])
    assert silent.confidence == pytest.approx(0.4)
    assert "1 of 2 sweeps" in silent.reason
    assert over_seeds(said, [said]) == said
    assert not over_seeds(no_suggestion("consensus", "flat"), [said, said])


def test_several_sweeps_suggest_the_mean_of_their_rates_and_ranges():
    """Not what is said of the mean of their curves, which is smoother than each."""
    said = Suggestion(4e-3, 2e-3, 8e-3, "consensus", 0.8, "half of 8e-3")
    singles = [Suggestion(rate, rate / 2, 2 * rate, "consensus", 0.8, "") for rate in (1e-3, 2e-3, 4e-3)]
    found = over_seeds(said, singles)
    assert (found.low, found.rate, found.high) == pytest.approx((1e-3, 2e-3, 4e-3))
    assert "the mean of 3 sweeps, 1e-3 … 4e-3" in found.reason
    assert over_seeds(said, singles[::2]).low == pytest.approx(1e-3)  # the lowest rate, below 2e-3 / 2 or not


def overshooting(points: int) -> tuple[np.ndarray, np.ndarray]:
    """A held-out loss that falls, and is rough from about 1e-2 on."""
    rates = np.logspace(-7, 0, points)
    rough = np.where(rates > 1e-2, 0.2 * rates / 1e-2, 0.0) * (-1.0) ** np.arange(points)
    return rates, 1 / (1 + 300 * rates) + rough


@pytest.mark.parametrize("every", [3, 5])
def test_losses_far_apart_widen_the_range_to_the_edge_that_close_ones_show(every):
    rates, losses = overshooting(101)
    close, kept = consensus(rates, losses), np.arange(0, 101, every)
    between = np.interp(range(101), kept, losses[kept])
    for coarse in (consensus(rates[kept], losses[kept]), consensus(rates, between)):
        assert coarse.low < close.rate < coarse.high
        assert coarse.confidence < close.confidence
        assert "decades apart, and closer ones would tell" in coarse.reason
    assert "apart" not in close.reason


def test_a_loss_that_hardly_falls_is_not_trusted():
    rates, losses = overshooting(101)
    rough = losses - 1 / (1 + 300 * rates)
    little = consensus(
        rates, 1 + 0.005 / (1 + 300 * rates) + 0.3 * np.where(rates > 2e-2, rough + np.abs(rough), 0)
    )
    assert "little is learnt at any rate" in little.reason
    assert little.confidence < 0.6 * consensus(rates, losses).confidence


def test_no_rate_below_the_sweep_is_suggested():
    """Neither half the edge nor a tenth of the rate at the lowest loss."""
    rates, losses = overshooting(101)
    rough = consensus(rates[75:], losses[75:] + losses[75] * (-1.0) ** np.arange(26))
    smooth = consensus(rates, 1 + (np.log10(rates) + 6.7) ** 2)
    for found in (rough, smooth):
        assert found.rate is None or found.rate >= rates[0]
    assert rough.rate is None or rough.rate >= rates[75]


def test_noisy_losses_that_still_fall_at_the_end_want_higher_rates():
    rates = np.logspace(-7, -3, 80)
    found = consensus(rates, noisy(1, 0.02, 1 / (1 + 3000 * rates)))
    assert found.rate is None
    assert "still falls" in found.reason
