"""`etude.find`: what it takes, what it refuses before the first update, and what it finds."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import etude
from etude.errors import EtudeError, PlanError
from etude.finder.find import find

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
PAIRS = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)]
CROSS = nn.CrossEntropyLoss()


class Dicts(nn.Module):
    """Takes its batch by name and gives its own loss, in one of the forms that models have."""

    def __init__(self, form="mapping"):
        super().__init__()
        self.linear, self.form = nn.Linear(6, 2), form

    def forward(self, x, labels=None):
        logits = self.linear(x)
        loss = None if labels is None else CROSS(logits, labels)
        if self.form == "tuple":
            return loss, logits
        return loss if self.form == "loss" else {"loss": loss, "logits": logits}


def fresh(make=lambda: nn.Linear(6, 2)):
    torch.manual_seed(1)
    return make()


def losses(*args, make=lambda: nn.Linear(6, 2), **keys):
    return find(fresh(make), *args, **{"points": 12, "to": 1e-2, "seeds": 1} | keys).losses


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


def test_batches_of_every_kind_give_one_curve():
    expected = losses(PAIRS, loss=CROSS)
    assert len(expected) == 12
    named = [{"x": x, "labels": y} for x, y in PAIRS]
    data = TensorDataset(X, Y)
    for batches in (
        DataLoader(data, 8),
        DataLoader(Stream(), 8),
        [[x, y] for x, y in PAIRS],
        lambda: iter(PAIRS),
        lambda: (batch for batch in PAIRS),
    ):
        assert losses(batches, loss=CROSS) == expected
    for form in ("mapping", "tuple", "loss"):
        assert losses(named, make=lambda form=form: Dicts(form)) == expected
    assert losses(named, loss=CROSS, make=Dicts) == expected
    assert losses(PAIRS, loss=nn.functional.cross_entropy) == expected
    assert losses(PAIRS, loss=lambda model, batch: CROSS(model(batch[0]), batch[1])) == expected


def test_a_model_of_transformers_with_its_own_loss(tiny):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.model)
    make = AutoModelForSequenceClassification.from_pretrained
    texts = ["great", "awful", "a lovely day", "sad food"]
    encoded = tokenizer(texts, padding=True, return_tensors="pt")  # a BatchEncoding, not a dict
    encoded["labels"] = torch.tensor([1, 0, 1, 0])
    torch.manual_seed(0)
    model = make(tiny.model, num_labels=2)
    plan = etude.plan(model, 2e-5, layer_decay=0.5, head=10)
    before = copy.deepcopy(model.state_dict())
    found = find(model, [encoded], plan=plan, points=15, start=1e-5, to=1e-1, seeds=1)
    assert min(found.losses) < 0.9 * found.losses[0]
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_without_a_plan_the_groups_of_the_optimizer_keep_their_ratios():
    model, used = fresh(lambda: nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))), []
    groups = [{"params": model[0].parameters(), "lr": 1e-3}, {"params": model[1].parameters(), "lr": 5e-3}]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=0.1)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: k / 10)
    assert optimizer.param_groups[0]["lr"] == 0
    optimizer.register_step_pre_hook(lambda *_: used.append([g["lr"] for g in optimizer.param_groups]))
    found = find(model, PAIRS, optimizer=optimizer, loss=CROSS, points=12, to=1e-2, seeds=1)
    assert [rates[1] for rates in used] == pytest.approx(found.rates)
    assert [rates[0] for rates in used] == pytest.approx([rate / 5 for rate in found.rates])
    assert [group["lr"] for group in optimizer.param_groups] == warmup.get_last_lr() == [0, 0]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1]
    optimizer.step()
    warmup.step()  # no warning of a wrong order: torch has not seen the test's updates
    assert optimizer.param_groups[1]["lr"] == pytest.approx(5e-4)


def test_an_optimizer_that_the_user_makes_from_the_groups():
    made = []

    def sgd(groups):
        made.append(torch.optim.SGD(groups, momentum=0.9))
        return made[-1]

    sgd_losses = losses(PAIRS, loss=CROSS, optimizer=sgd, seeds=[3, 4])
    assert len(made) == 2
    assert losses(PAIRS, loss=CROSS) != sgd_losses
    with pytest.raises(EtudeError, match=r"optimizer=lambda groups"):
        losses(PAIRS, loss=CROSS, optimizer="sgd")
    with pytest.raises(EtudeError, match=r"optimizer=lambda groups"):
        losses(PAIRS, loss=CROSS, optimizer=lambda groups: None)


def test_several_seeds_give_a_band_and_each_begins_at_the_same_weights():
    data, make = TensorDataset(X, Y), lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 2))
    for loader in (DataLoader(data, 8, shuffle=True), PAIRS, own_generator(data)):
        model = fresh(make)
        found = find(model, loader, loss=CROSS, seeds=3, points=12, to=1e-2)
        assert len(found.curves) == 3
        assert len({curve[0] for curve in found.curves}) == 3
        mean = [sum(points) / 3 for points in zip(*found.curves, strict=True)]
        assert found.losses == pytest.approx(mean)
        again = find(model, loader, loss=CROSS, seeds=[7, 7, 8], points=12, to=1e-2)
        assert again.curves[0] == again.curves[1] != again.curves[2]
        assert find(model, loader, loss=CROSS, seeds=[8], points=12, to=1e-2).losses == again.curves[2]


@pytest.mark.parametrize("seed", [0, 1, 2, 42])
@pytest.mark.parametrize("own", [True, False])
def test_no_sweep_repeats_the_order_of_another(seed, own):
    """Not even where the user's own seed is one that comes to mind."""
    seen = []

    def loss(model, batch):
        seen.append(batch[0].flatten()[0].item())
        return CROSS(model(batch[0]), batch[1])

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed) if own else None
    loader = DataLoader(TensorDataset(X, Y), 8, shuffle=True, generator=generator)
    find(fresh(), loader, loss=loss, points=10, to=1e-3)
    assert len(seen) == 30
    assert len({tuple(seen[i : i + 10]) for i in (0, 10, 20)}) == 3


def test_progress_is_told_of_every_point():
    told = []
    found = find(fresh(), PAIRS, loss=CROSS, points=12, to=1e-2, seeds=2, progress=told.append)
    assert [(one.sweep, one.made) for one in told] == [(i, k) for i in (1, 2) for k in range(1, 13)]
    assert [one.loss for one in told] == [*found.curves[0], *found.curves[1]]
    assert [one.rate for one in told[:12]] == list(found.rates)
    assert {(one.sweeps, one.points) for one in told} == {(2, 12)}


def test_three_sweeps_are_the_default():
    found = find(fresh(), PAIRS, loss=CROSS, points=12, to=1e-2)
    assert len(set(found.curves)) == len(found.curves) == 3


def own_generator(data):
    return DataLoader(data, 8, shuffle=True, generator=torch.Generator().manual_seed(5))


def quadratic(seed, noise=0.3):
    """f(w) = ½ Σ h w², h from 0.1 to 10, with noise in every batch: SGD diverges above the rate 2/10."""
    curvature = torch.logspace(-1, 1, 10)
    model = nn.Linear(10, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(3.0)

    def loss(model, batch):
        w = model.weight[0]
        return 0.5 * (curvature * w * w).sum() + (batch[0] * w).sum()

    noises = torch.randn(500, 1, 10, generator=torch.Generator().manual_seed(seed)) * noise
    return model, list(noises), loss


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03, 0.1, 0.3, 1.0])
def test_pain_40_a_quadratic_of_known_curvature(noise):
    """Six seeds: below the rate at which it diverges, and within a factor 3 of each other."""
    found = []
    for seed in range(6):
        model, batches, loss = quadratic(seed, noise)
        sgd = lambda groups: torch.optim.SGD(groups)  # noqa: E731
        result = find(model, batches, loss=loss, optimizer=sgd, start=1e-5, to=10.0, seeds=1)
        assert result.stopped
        assert result.suggestion, str(result.suggestion)
        found.append(result.suggestion.rate)
    assert max(found) < 2 / 10
    assert max(found) / min(found) < 3


@pytest.mark.parametrize("kind", ["flat", "NaN", "short"])
def test_pain_40_no_suggestion_with_a_reason_and_the_rates_untouched(kind):
    model = fresh()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)

    def loss(model, batch):
        noise = {"flat": 1.0, "NaN": float("nan"), "short": 1.0}[kind]
        if kind == "short" and optimizer.param_groups[0]["lr"] > 1e-6:
            noise = float("inf")
        return model(batch[0]).sum() * 0 + noise

    found = find(model, PAIRS, optimizer=optimizer, loss=loss)
    assert not found.suggestion
    assert found.suggestion.reason
    assert optimizer.param_groups[0]["lr"] == 3e-4


def test_a_scan_stands_beside_the_range_test():
    model, batches, loss = quadratic(0, noise=0.0)
    before = model.weight.clone()
    sgd = lambda groups: torch.optim.SGD(groups)  # noqa: E731
    found = find(model, batches, loss=loss, optimizer=sgd, start=1e-5, to=10.0, seeds=1, scan=True)
    curvature = torch.logspace(-1, 1, 10)
    gradient = curvature * 3
    edge = 2 * gradient.square().sum() / (curvature * gradient.square()).sum()
    assert found.scan.edge == pytest.approx(edge.item(), rel=0.05)
    assert torch.equal(model.weight, before)


REFUSED = {
    "an empty loader": (lambda: ([],), {}, "batches is empty"),
    "a loader that drops its only batch": (
        lambda: (DataLoader(TensorDataset(X, Y), 64, drop_last=True),), {}, "drop_last"
    ),
    "a stream that is empty": (lambda: (lambda: iter([]),), {}, "no batch"),
    "an iterator": (lambda: (iter(PAIRS),), {}, "lambda: iter"),
    "an exhausted generator": (lambda: ((x for x in []),), {}, "pass the loader itself"),
    "one batch": (lambda: ({"x": X},), {}, r"\[batch\]"),
    "a number": (lambda: (3,), {}, "DataLoader"),
    "start above to": (lambda: (PAIRS,), {"start": 1.0, "to": 1e-3}, "0 < start < to"),
    "start at 0": (lambda: (PAIRS,), {"start": 0.0}, "0 < start < to"),
    "too few points": (lambda: (PAIRS,), {"points": 3}, "at least 10"),
    "points that are no number": (lambda: (PAIRS,), {"points": 20.5}, "whole number"),
    "no accumulation": (lambda: (PAIRS,), {"accumulate": 0}, "accumulate=0"),
    "no seeds": (lambda: (PAIRS,), {"seeds": 0}, "seeds=0"),
    "an empty list of seeds": (lambda: (PAIRS,), {"seeds": []}, "seeds is empty"),
    "empty held-out data": (lambda: (PAIRS,), {"held_out": []}, "held_out is empty"),
    "an empty held-out stream": (lambda: (PAIRS,), {"held_out": lambda: iter([])}, "held_out is empty"),
    "a loss for each example": (lambda: (PAIRS,), {"loss": nn.CrossEntropyLoss(reduction="none")}, r"\(8,\)"),
    "a loss that is a number": (lambda: (PAIRS,), {"loss": lambda model, batch: 0.5}, "a float, not"),
    "a loss without graph": (
        lambda: (PAIRS,), {"loss": lambda model, batch: model(batch[0]).mean().detach()}, "does not depend"
    ),
    "a loss that is no function": (lambda: (PAIRS,), {"loss": "mse"}, "loss='mse'"),
    "no loss at all": (lambda: ([X],), {"loss": None}, "gave no loss"),
    "no labels": (lambda: ([X],), {}, "no labels for CrossEntropyLoss"),
    "no norm to clip to": (lambda: (PAIRS,), {"clip": 0.0}, "clip=0.0 is no norm"),
    "one held-out batch": (lambda: (PAIRS,), {"held_out": (X, Y)}, r"held_out is one batch.*\[\(inputs, "),
    "few held-out losses": (lambda: (PAIRS,), {"held_out": PAIRS, "held_out_every": 9}, "leaves 2 held-out"),
    "half a seed": (lambda: (PAIRS,), {"seeds": 2.5}, "seeds=2.5"),
    "a seed in words": (lambda: (PAIRS,), {"seeds": "3"}, "seeds='3'"),
    "a start in words": (lambda: (PAIRS,), {"start": "1e-7"}, "start='1e-7'"),
    "a type for autocast": (lambda: (PAIRS,), {"autocast": torch.bfloat16}, "write a context"),
    "progress that is no function": (lambda: (PAIRS,), {"progress": True}, "as in print"),
    "a plan that is none": (lambda: (PAIRS,), {"plan": 1e-3}, "etude.plan"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_before_the_first_update(case):
    make, keys, message = REFUSED[case]
    model, made = fresh(), []
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.register_step_pre_hook(lambda *_: made.append(1))
    before, state = model.weight.clone(), torch.get_rng_state()
    with pytest.raises(EtudeError, match=message):
        find(model, *make(), **{"loss": CROSS, "optimizer": optimizer, "points": 12} | keys)
    assert not made
    assert torch.equal(model.weight, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_models_and_optimizers_that_cannot_be_tested():
    with pytest.raises(EtudeError, match="no parameter that trains"):
        find(fresh().requires_grad_(False), PAIRS, loss=CROSS)
    model = fresh()
    with pytest.raises(PlanError, match="every rate of the optimizer is 0"):
        find(model, PAIRS, loss=CROSS, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    with pytest.raises(
        EtudeError, match="the SGD holds no parameter of this Linear: it was made for another"
    ):
        find(model, PAIRS, loss=CROSS, optimizer=torch.optim.SGD(fresh().parameters(), lr=0.1))
    with pytest.raises(
        EtudeError, match=r"find takes a model first, as in find\(model, loader\); got a list"
    ):
        find(PAIRS, model, loss=CROSS)
    other = etude.plan(nn.Sequential(nn.Linear(2, 2)), 1e-3)
    with pytest.raises(PlanError, match="weight"):
        find(model, PAIRS, loss=CROSS, plan=other)


def test_indices_can_stand_for_batches(rig):
    """A loop that draws example numbers and collates for itself, as `etude finetune` does."""
    x, y = rig.data.tensors
    chunks = np.array_split(np.arange(len(x)), 12)
    loss = lambda model, chosen: rig.loss(model(x[chosen]), y[chosen])  # noqa: E731
    found = rig.find(batches=[chunk.tolist() for chunk in chunks], loss=loss, accumulate=3, count=len)
    assert len(found.losses) == 24
