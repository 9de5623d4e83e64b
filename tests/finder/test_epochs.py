"""A run of several epochs may want a lower peak than the sweep shows: who says how many, and what follows."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import etude
from etude.errors import EtudeError
from etude.finder.epochs import for_run
from etude.finder.find import find
from etude.finder.finding import Finding
from etude.finder.suggestion import Suggestion, no_suggestion, written

RATES = [10 ** (-6 + k / 10) for k in range(61)]
LOSSES = [1 / (1 + 300 * rate) + 10 * rate * (-1) ** k for k, rate in enumerate(RATES)]
NOISES = 0.3 * torch.randn(300, 1, 10, generator=torch.Generator().manual_seed(0))
CURVATURE = torch.logspace(-1, 1, 10)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(NOISES)


class Bowl(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.full((10,), 3.0))

    def forward(self, slope):
        return 0.5 * (CURVATURE * self.w * self.w).sum() + (slope * self.w).sum()


def found(epochs=None, total=None, batches=None, **keys):
    model = Bowl()
    plan = etude.plan(model, 1.0)
    if total is not None:
        plan = plan.over(total, epoch=keys.pop("epoch", None))
    loader = DataLoader(NOISES, batch_size=None) if batches is None else batches
    return find(
        model, loader, plan=plan, epochs=epochs, loss=lambda model, batch: model(batch[0]), seeds=[1],
        optimizer=lambda groups: torch.optim.SGD(groups), start=1e-5, to=10.0, **keys,
    ).suggestion  # fmt: skip


@pytest.mark.parametrize("epochs", [2, 3.5, 10])
def test_the_range_reaches_down_to_the_share_of_one_epoch(epochs):
    once, often = Finding.of(RATES, [LOSSES]), Finding.of(RATES, [LOSSES], epochs=epochs)
    assert often.suggestion.low == pytest.approx(once.suggestion.low / epochs)
    assert (often.rate, often.suggestion.high) == (once.rate, once.suggestion.high)
    assert often.suggestion.confidence < once.suggestion.confidence
    assert f"in {epochs} it may be down to {written(once.rate / epochs)}" in often.suggestion.reason
    assert often.suggestions == once.suggestions  # the other rules say what they say


def test_one_epoch_or_less_changes_nothing_and_an_unknown_number_is_told():
    said = Suggestion(1e-3, 5e-4, 2e-3, "consensus", 0.8, "why")
    assert for_run(said, 1) == for_run(said, 0.2) == said
    unknown = for_run(said, None)
    assert (unknown.low, unknown.rate, unknown.high) == (5e-4, 1e-3, 2e-3)
    assert "epochs=" in unknown.reason
    silent = no_suggestion("consensus", "flat")
    assert for_run(silent, 3) == for_run(silent, None) == silent


def test_a_bound_plan_or_a_loader_knows_the_epochs():
    once = found(epochs=1).low
    assert found(total=900).low == pytest.approx(once / 3)
    assert found(total=900, epoch=450).low == pytest.approx(once / 2)
    assert found(total=900, epochs=1).low == once
    assert found(total=100).low == once
    assert "in 6 it may" in found(total=900, accumulate=2).reason
    for unknown in (found(), found(total=900, batches=list(NOISES))):
        assert "say epochs=" in unknown.reason
    assert "say epochs=" in found(total=900, batches=DataLoader(Stream(), batch_size=None)).reason


@pytest.mark.parametrize("epochs", [0, -1, float("nan"), float("inf")])
def test_a_number_of_epochs_that_is_none_is_refused(epochs):
    with pytest.raises(EtudeError, match="how often the run goes through its examples"):
        found(epochs=epochs)
