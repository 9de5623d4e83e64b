"""The range test on the real training path: its grid, its groups, its points, its windows."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etude
from etude import Group, Plan
from etude.errors import EtudeError, PlanError
from etude.finder.batches import Windows
from etude.finder.find import find
from etude.finder.losses import count_function, loss_function
from etude.finder.processes import Processes
from etude.finder.sweep import grid, sweep, sweep_rates
from etude.finder.updates import Trainee

PLAN = Plan({"lr": "2e-5 * cosine()", "weight_decay": "0.1"}, [Group("all", ["weight"])])


def trainee(model, optimizer, loss=None, **more):
    loss = loss if loss is not None else (lambda model, batch: model(batch).sum())
    device = torch.device("cpu")
    counts = count_function(None, loss, model)
    processes = Processes(model, device)
    return Trainee(model, optimizer, loss_function(loss), counts, device, processes, **more)


@pytest.mark.parametrize(("start", "to", "points"), [(1e-7, 1.0, 100), (1e-8, 10.0, 37), (3e-5, 0.7, 10)])
def test_the_points_are_exactly_the_grid_both_ends_included(start, to, points):
    rates = grid(sweep_rates(PLAN, start, to, points))
    assert len(rates) == points
    assert (rates[0], rates[-1]) == (start, to)
    for k, rate in enumerate(rates):
        assert rate == pytest.approx(start * (to / start) ** (k / (points - 1)), rel=1e-13)


def test_every_update_is_made_at_its_point():
    """SGD with the gradient 1 moves a weight by the rate itself."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(sweep_rates(PLAN, 1e-3, 1.0, 10).plan.torch_groups(model))
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(model.weight.item()))
    plan = Plan({"lr": 1.0, "weight_decay": 0.0}, PLAN.groups)
    rates = sweep_rates(plan, 1e-3, 1.0, 10)
    sweep(trainee(model, optimizer), rates, Windows([torch.ones(4, 1)]))
    seen.append(model.weight.item())
    moved = [a - b for a, b in pairwise(seen)]
    # The sum over 4 rows of ones has the gradient 4.
    assert moved == pytest.approx([4 * rate for rate in grid(rates)], rel=1e-3)


def test_one_multiplier_for_all_groups_and_the_gates_are_kept():
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in ("low", "mid", "head")})
    groups = [
        Group("low", ["low.weight"], gate="frozen()"),
        Group("mid", ["mid.weight"], {"lr": 0.25, "weight_decay": 0.0}, "frozen(0.5) >> hold(start=1)"),
        Group("head", ["head.weight"], {"lr": 10}),
    ]
    plan = Plan({"lr": "2e-5 * warmup(0.1)", "weight_decay": 0.01}, groups)
    optimizer = torch.optim.SGD(plan.torch_groups(model), lr=0.1)
    rates = sweep_rates(plan, 1e-4, 1e-1, 21)
    used, open_ = [], []

    def note(*_):
        used.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
        open_.append([one.weight.requires_grad for one in model.values()])

    optimizer.register_step_pre_hook(note)
    loss = lambda model, batch: sum(one(batch).mean() for one in model.values())  # noqa: E731
    low = model["low"].weight.item()
    sweep(trainee(model, optimizer, loss), rates, Windows([torch.ones(4, 1)]))
    points = grid(rates)
    assert len(used) == len(points) == 21
    for k, rate in enumerate(points):
        assert used[k][1] == (0.0 if k < 10 else pytest.approx(0.25 * rate), 0.0)
        assert used[k][2] == (pytest.approx(10 * rate), 0.01)
        assert open_[k] == [False, k >= 10, True]
    assert model["low"].weight.item() == low


def test_a_plan_bound_to_its_run_keeps_the_lengths_of_its_gates():
    """Frozen for 300 of 1000 updates, or for one epoch of four, is as much of the sweep."""
    for gate, epoch in (("frozen(300) >> hold(start=1)", None), ("frozen('1.2ep') >> hold(start=1)", 250)):
        gate = gate.replace("'1.2ep'", '"1.2ep"')
        plan = Plan({"lr": 1e-3}, [Group("low", ["weight"], gate=gate), Group("head", ["bias"])])
        rates = sweep_rates(plan.over(1000, epoch=epoch), 1e-5, 1.0, 101)
        assert [rates.open(k)[0] for k in (0, 29, 30, 100)] == [False, False, True, True]
        assert grid(rates) == grid(sweep_rates(PLAN, 1e-5, 1.0, 101))
        assert rates.at(100)["lr"] == [1.0, 1.0]
        with pytest.raises((PlanError, EtudeError)):
            sweep_rates(plan, 1e-5, 1.0, 101)


def test_pain_41_four_batches_an_update(rig):
    """Accumulation 4, 100 points: 100 updates of 4 batches; each point is the mean loss of its window."""
    losses, made = [], []

    def loss(model, batch):
        value = rig.loss(model(batch[0]), batch[1])
        losses.append((value.item(), len(batch[0])))
        return value

    optimizer = torch.optim.AdamW(rig.plan.torch_groups(rig.model))
    optimizer.register_step_post_hook(lambda *_: made.append(1))
    uneven = [tuple(part[:n] for part in rig.data[:]) for n in (8, 3, 5, 8, 2, 7)]
    found = rig.find(
        batches=uneven, loss=loss, optimizer=optimizer, scaler=None, accumulate=4, points=100, to=1e-3
    )
    assert len(found.losses) == len(made) == 100
    assert found.stopped == ""
    assert len(losses) == 400
    for k, point in enumerate(found.losses):
        window = losses[4 * k : 4 * k + 4]
        assert point == pytest.approx(sum(a * n for a, n in window) / sum(n for _, n in window), rel=1e-6)


def test_a_window_is_one_large_batch():
    """Accumulated over uneven batches, the gradient and the loss are those of all their examples at once."""
    torch.manual_seed(0)
    x, y = torch.randn(20, 5), torch.randint(3, (20,))
    parts = [(x[a:b], y[a:b]) for a, b in ((0, 8), (8, 11), (11, 20))]
    losses, weights = [], []
    for batches, accumulate in (([(x, y)], 1), (parts, 3)):
        torch.manual_seed(1)
        model = nn.Linear(5, 3)
        optimizer = torch.optim.SGD(etude.plan(model, 1.0).torch_groups(model))
        rates = sweep_rates(etude.plan(model, 1.0), 1e-2, 1.0, 10)
        curve = sweep(trainee(model, optimizer, nn.CrossEntropyLoss()), rates, Windows(batches, accumulate))
        losses.append(curve.losses)
        weights.append(model.weight.detach())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["ForCausalLM", "ForTokenClassification"])
def test_a_window_of_texts_is_weighed_by_its_labelled_tokens(kind):
    """The model's own loss, with labels left out at random; next-token losses have no use for the first."""
    from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, GPT2Config

    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "n_positions": 12, "n_embd": 8, "n_layer": 1, "n_head": 2}
    config = GPT2Config(**sizes, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    make = AutoModelForCausalLM if kind == "ForCausalLM" else AutoModelForTokenClassification
    model = make.from_config(config)
    texts = torch.randint(30, (6, 12))
    labels = texts.clone() if kind == "ForCausalLM" else texts % 2
    labels[torch.rand(6, 12) < 0.5] = -100
    labels[0, :9] = -100
    batch = {"input_ids": texts, "labels": labels}
    parts = [{key: value[a:b] for key, value in batch.items()} for a, b in ((0, 1), (1, 3), (3, 6))]
    whole = find(model, [batch], points=10, to=1e-6, seeds=1)
    split = find(model, parts, accumulate=3, points=10, to=1e-6, seeds=1)
    assert split.losses == pytest.approx(whole.losses, rel=1e-5)
    uneven = [model(**part).loss.item() for part in parts]
    assert abs(sum(uneven) / 3 - whole.losses[0]) > 1e-3


def test_a_loss_that_diverges_ends_the_sweep():
    model = nn.Linear(1, 1, bias=False)
    losses = iter([1.0] * 12 + [math.nan] * 9)
    loss = lambda model, batch: model(batch).sum() * 0 + next(losses)  # noqa: E731
    optimizer = torch.optim.SGD(PLAN.torch_groups(model))
    rates = sweep_rates(PLAN, 1e-4, 1.0, 20)
    curve = sweep(trainee(model, optimizer, loss), rates, Windows([torch.ones(1, 1)]))
    assert curve.stopped == "the loss is NaN"
    assert len(curve.losses) == 13
    assert all(a == 1 for a in curve.losses[:12])


def test_a_loader_that_is_used_up_is_gone_through_again():
    drawn = Windows([1, 2, 3], 2)
    assert [drawn.next() for _ in range(4)] == [[1, 2], [3, 1], [2, 3], [1, 2]]
    shuffled = Windows([1, 2, 3], 3, seed=1)
    passes = [tuple(shuffled.next()) for _ in range(20)]
    assert all(sorted(one) == [1, 2, 3] for one in passes)
    assert len(set(passes)) > 3
    made = Windows(lambda: iter([1, 2]), 3)
    assert made.next() == [1, 2, 1]
    with pytest.raises(EtudeError, match="no batch"):
        Windows(lambda: iter([])).next()


def test_gradients_are_clipped_as_in_the_training():
    model = nn.Linear(1, 1, bias=False)
    plan = Plan({"lr": 1.0}, PLAN.groups)
    optimizer = torch.optim.SGD(plan.torch_groups(model))
    before, rates = model.weight.item(), sweep_rates(plan, 1e-3, 1.0, 10)
    sweep(trainee(model, optimizer, clip=0.5), rates, Windows([torch.full((1, 1), 1e3)]))
    assert before - model.weight.item() == pytest.approx(0.5 * sum(grid(rates)), rel=1e-3)


def test_held_out_losses_are_those_of_the_weights_before_the_update():
    """In evaluation mode, weighted by examples, and no part of what the training draws at random."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    x, y = torch.randn(12, 4), torch.randint(2, (12,))
    held = DataLoader(TensorDataset(x, y), 9, shuffle=True)  # draws from torch's generator
    with torch.no_grad():
        model.eval()
        expected = nn.functional.cross_entropy(model(x), y).item()
        model.train()
    keys = {"loss": nn.CrossEntropyLoss(), "points": 12, "start": 1e-4, "to": 1e-2, "seeds": 1}
    torch.manual_seed(1)
    found = find(model, [(x, y)], held_out=held, **keys)
    torch.manual_seed(1)
    alone = find(model, [(x, y)], **keys)
    assert found.held_out[0] == pytest.approx(expected, rel=1e-5)
    assert len(found.held_out) == 12
    assert found.losses == alone.losses
    assert found.held_out[-1] < found.held_out[0]
    torch.manual_seed(1)
    some = find(model, [(x, y)], held_out=held, held_out_every=4, **keys)
    every = [found.held_out[k] for k in (0, 4, 8)]
    assert [some.held_out[k] for k in (0, 4, 8)] == pytest.approx(every, rel=1e-5)
    assert some.held_out[1] == pytest.approx(0.75 * some.held_out[0] + 0.25 * some.held_out[4])
    assert some.held_out[11] == some.held_out[8]
