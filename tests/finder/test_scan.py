import math

import numpy as np
import pytest
import torch
from torch import nn

from etude import EtudeError, Group, Plan, parse
from etude.finder.losses import loss_function
from etude.finder.processes import Processes
from etude.finder.scan import Scan, line_scan
from etude.finder.snapshot import Snapshot
from etude.finder.updates import Trainee


class Bowl(nn.Module):
    """½ Σ h w² + Σ s w, for a batch (h, s)."""

    def __init__(self, *w: float):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        h, slope = batch.to(torch.float64)
        return 0.5 * (h * self.w**2).sum() + (slope * self.w).sum()


H = torch.tensor([[1.0, 4.0, 10.0], [0.0, 0.0, 0.0]])
PLAN = Plan({"lr": 2e-5}, [Group("w")])


def trainee(model, optimizer, loss=lambda model, batch: model(batch), **options):
    device = torch.device("cpu")
    return Trainee(
        model, optimizer, loss_function(loss), lambda batch: 1.0, device, Processes(model, device), **options
    )


def scanned(model, optimizer, window, held_out, plan=PLAN, **options):
    with Snapshot(model, optimizer) as kept:
        return line_scan(trainee(model, optimizer), kept, plan, window, held_out, **options)


def named(model, make=torch.optim.SGD, **options):
    return make([{"params": list(model.parameters()), "name": "w"}], lr=1e-9, **options)


def test_the_edge_of_gradient_descent_on_a_bowl_is_twice_slope_over_curvature():
    model = Bowl(1, 2, -3)
    scan = scanned(model, named(model), [H], [H], to=10.0)
    gradient = H[0].double() * model.w.detach()
    expected = 2 * gradient.dot(gradient) / gradient.dot(H[0] * gradient)
    assert scan.edge == pytest.approx(float(expected), rel=1e-6)
    assert scan.suggestion.rate == pytest.approx(scan.edge / 2)
    assert scan.before == pytest.approx(model(H).item())
    assert scan.suggestion.low <= scan.best <= scan.suggestion.high == scan.edge


def test_the_direction_is_that_of_the_optimizer():
    """Adam's first update is the sign of the gradient, plus its weight decay times the weight."""
    model = Bowl(1, 2, -3)
    adam = named(model, torch.optim.AdamW, weight_decay=0.1, eps=1e-12)
    scan = scanned(model, adam, [H], [H], to=10.0)
    w = model.w.detach()
    d = w.sign() + 0.1 * w
    h = H[0].double()
    assert scan.edge == pytest.approx(float(2 * (h * w).dot(d) / (h * d).dot(d)), rel=1e-6)


def test_a_clipped_gradient_goes_less_far_for_the_same_rate():
    model = Bowl(1, 2, -3)
    optimizer = named(model)
    with Snapshot(model, optimizer) as kept:
        clipped = line_scan(trainee(model, optimizer, clip=1.0), kept, PLAN, [H], [H], to=1e3)
    gradient = H[0].double() * model.w.detach()
    free = scanned(model, optimizer, [H], [H], to=10.0)
    assert clipped.edge == pytest.approx(free.edge * float(gradient.norm()), rel=1e-4)


def test_the_groups_keep_the_ratios_of_their_plan_and_what_is_frozen_stays():
    """At a hundredth of the ratio the same update is a hundred times further along the peak."""
    model = nn.ParameterDict({"sharp": nn.Parameter(torch.ones(1).double()), "still": torch.ones(1).double()})

    def loss(model, batch):
        return batch * (model["sharp"] ** 2).sum() + 100 * (model["still"] - 1.5).pow(2).sum()

    groups = [{"params": [model["sharp"]], "name": "sharp"}, {"params": [model["still"]], "name": "still"}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    edges = []
    for ratio in (1.0, 0.01):
        gate = parse("frozen(0.5) >> hold(start=1)")
        plan = Plan({"lr": 1.0}, [Group("sharp", scale={"lr": ratio}), Group("still", gate=gate)])
        with Snapshot(model, optimizer) as kept:
            batch = torch.ones(1)
            scan = line_scan(trainee(model, optimizer, loss), kept, plan, [batch], [batch], to=1e3)
        edges.append(scan.edge)
        assert model["still"].requires_grad
    assert edges == pytest.approx([1.0, 100.0])


def test_losses_are_those_of_the_held_out_batches():
    model = Bowl(1, 1, 1)
    other = torch.stack([2 * H[0], -H[0]])  # the same slope where we stand, twice the curvature
    scan = scanned(model, named(model), [H], [other, other], to=10.0)
    assert scan.before == pytest.approx(model(other).item())
    assert scan.edge == pytest.approx(scanned(model, named(model), [H], [H], to=10.0).edge / 2)


def test_a_window_is_one_gradient_its_mean():
    model = Bowl(1, 1, 1)
    left = torch.stack([H[0], torch.tensor([3.0, 0.0, 0.0])])
    right = torch.stack([H[0], torch.tensor([-3.0, 0.0, 0.0])])
    both = scanned(model, named(model), [left, right], [H], to=10.0)
    assert both.edge == pytest.approx(scanned(model, named(model), [H], [H], to=10.0).edge)


def test_only_forward_passes_follow_the_gradient(rig):
    calls = {"forward": 0, "backward": 0}
    rig.model.register_forward_hook(lambda *_: calls.__setitem__("forward", calls["forward"] + 1))
    rig.model.head.register_full_backward_hook(
        lambda *_: calls.__setitem__("backward", calls["backward"] + 1)
    )
    batches = list(rig.loader)[:3]
    with Snapshot(rig.model, rig.optimizer, scaler=rig.scaler, keep=[rig.ema]) as kept:
        scan = line_scan(_rigged(rig), kept, rig.plan, batches[:1], batches[1:], start=1e-5, to=1e-2)
    assert calls == {"forward": 1 + 2 * (1 + len(scan.steps)), "backward": 1}


def _rigged(rig, loss=None):
    device = torch.device("cpu")
    return Trainee(
        rig.model, rig.optimizer, loss_function(loss or rig.loss), lambda batch: float(len(batch[1])),
        device, Processes(rig.model, device), scaler=rig.scaler,
    )  # fmt: skip


def test_everything_is_put_back_bit_for_bit(rig, straight):
    before = rig.hash()
    batches = list(rig.loader)[:4]
    rig.loader.generator.manual_seed(4)
    before = rig.hash()
    with Snapshot(rig.model, rig.optimizer, scaler=rig.scaler, keep=[rig.ema]) as kept:
        scan = line_scan(_rigged(rig), kept, rig.plan, batches[:2], batches[2:])
        weights = [p.detach().clone() for p in rig.model.parameters()]
    assert len(scan.steps) > 5
    assert rig.hash() == before
    assert all(torch.equal(a, b) for a, b in zip(weights, rig.model.parameters(), strict=True))


@pytest.mark.parametrize("at", [1, 2, 7])
def test_everything_is_put_back_when_a_pass_raises(rig, at):
    batches = list(rig.loader)[:4]
    before, passes = rig.hash(), []

    def loss(model, batch):
        passes.append(batch)
        if len(passes) == at:
            raise RuntimeError("the fault")
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    with Snapshot(rig.model, rig.optimizer, scaler=rig.scaler, keep=[rig.ema]) as kept:
        kept_weights = [p.detach().clone() for p in rig.model.parameters()]
        with pytest.raises(RuntimeError, match="the fault"):
            line_scan(_rigged(rig, loss), kept, rig.plan, batches[:1], batches[1:])
        assert all(torch.equal(a, b) for a, b in zip(kept_weights, rig.model.parameters(), strict=True))
    assert rig.hash() == before


STEPS = [10 ** (k / 5) for k in range(-30, 1)]


@pytest.mark.parametrize(
    ("losses", "before", "said"),
    [
        ([1 + step for step in STEPS], 1.0, "no step along the update lowers the loss"),
        ([1.0] * 31, 1.0, "no step along the update lowers the loss"),
        ([1 - 1e-8] * 30 + [2.0], 1.0, "no step along the update lowers the loss"),
        ([1 - step / 2 for step in STEPS], 1.0, "even at the last step, 1"),
        ([math.nan] * 31, 1.0, "no step"),
        ([1.0] * 31, math.nan, "before the update is nan"),
    ],
)
def test_without_an_edge_there_is_no_suggestion(losses, before, said):
    scan = Scan.of(STEPS, losses, before)
    assert scan.edge is None
    assert not scan.suggestion
    assert said in scan.suggestion.reason


def test_a_loss_that_is_no_number_is_beyond_the_edge():
    losses = [1 - 10 * step if step < 0.02 else math.nan for step in STEPS]
    scan = Scan.of(STEPS, losses, 1.0)
    assert scan.best <= scan.edge < 0.02


def test_the_edge_is_exact_for_any_parabola_and_any_grid():
    for edge in np.logspace(-4, -1, 23):
        scan = Scan.of(STEPS, [3 - step + step**2 / edge for step in STEPS], 3.0)
        assert scan.edge == pytest.approx(edge, rel=1e-6)


def test_a_best_step_far_from_the_parabolas_lowers_the_confidence():
    parabola = Scan.of(STEPS, [1 - step + step**2 / 0.1 for step in STEPS], 1.0)
    early = Scan.of(STEPS, [1 - min(step, 1e-4) + max(step - 1e-4, 0) / 1e3 for step in STEPS], 1.0)
    assert early.suggestion.confidence < parabola.suggestion.confidence
    assert early.suggestion.low <= early.best


def test_it_goes_through_json_to_the_last_bit():
    import json

    scan = Scan.of(STEPS, [1 - step + 5 * step**2 for step in STEPS[:-1]] + [math.inf], 1.0)
    text = json.dumps(scan.to_dict(), allow_nan=False)
    assert Scan.from_dict(json.loads(text)) == scan


def test_gradients_that_overflow_at_every_scale_are_an_error():
    model = Bowl(1, 2, -3)
    optimizer = named(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    endless = torch.tensor([[math.inf, 1.0, 1.0], [0.0, 0.0, 0.0]])
    with Snapshot(model, optimizer, scaler=scaler) as kept, pytest.raises(EtudeError, match="overflowed"):
        line_scan(trainee(model, optimizer, scaler=scaler), kept, PLAN, [endless], [H])
    assert model.w.tolist() == [1, 2, -3]
