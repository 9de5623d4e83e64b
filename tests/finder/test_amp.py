"""Mixed precision in the range test: what the scaler skips adds no point, and Accelerate's parts are used."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from etude.finder.find import find


class Overflowing(nn.Module):
    """Gives gradients that are infinite in some of its forward passes, with a loss that is finite."""

    def __init__(self, at):
        super().__init__()
        self.linear, self.at, self.passes = nn.Linear(4, 2), set(at), []

    def forward(self, x):
        k = len(self.passes)
        self.passes.append(k)
        out = self.linear(x)
        if k in self.at:
            out.register_hook(lambda grad: grad * torch.inf)
        return out


def test_pain_41_overflowed_updates_add_no_point(rig):
    model, made, rates = Overflowing([0, 1, 5, 9, 20]), [], []
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.register_step_post_hook(lambda *_: made.append(optimizer.param_groups[0]["lr"]))
    seen = []

    def loss(model, batch):
        rates.append(optimizer.param_groups[0]["lr"])
        value = nn.functional.cross_entropy(model(batch[0][:, :4]), batch[1].clamp(max=1))
        seen.append(value.item())
        return value

    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    found = find(
        model, rig.loader, optimizer=optimizer, loss=loss, scaler=scaler, points=30, to=1e-2, seeds=1
    )
    assert len(found.losses) == len(made) == 30
    assert made == pytest.approx(found.rates)
    assert len(rates) == 35
    # The rate of an update that was skipped is tried again, with the next batch.
    assert rates[:4] == [found.rates[0]] * 3 + [found.rates[1]]
    assert found.losses == tuple(loss for k, loss in enumerate(seen) if k not in model.at)
    assert scaler._scale is None


def test_a_scaler_that_begins_far_too_high_comes_down(rig):
    """Without an overflow in the model itself: the scaled gradients alone are infinite at first."""
    keys = {"points": 20, "to": 1e-2, "optimizer": None}
    found = rig.find(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**127), **keys)
    plain = rig.find(scaler=None, **keys)
    assert len(found.losses) == len(plain.losses) == 20
    assert found.stopped == ""


def test_gradients_that_always_overflow_end_the_sweep(rig):
    model = Overflowing(range(12, 100))
    loss = lambda model, batch: model(batch[0][:, :4]).square().mean()  # noqa: E731
    found = find(
        model, rig.loader, loss=loss, scaler=torch.amp.GradScaler("cpu"), points=30, to=1e-2, seeds=1
    )
    assert len(found.losses) == 12
    assert found.stopped == "the scaler skipped 20 updates in a row, at ever smaller scales"


def test_a_loss_that_stays_nan_under_a_scaler_is_a_divergence(rig):
    model = Overflowing([])
    loss = lambda model, batch: model(batch[0][:, :4]).sum() * (torch.nan if len(model.passes) > 12 else 1)  # noqa: E731
    found = find(
        model, rig.loader, loss=loss, scaler=torch.amp.GradScaler("cpu"), points=30, to=1e-2, seeds=1
    )
    assert len(found.losses) == 12
    assert found.stopped == "the loss is NaN, and the scaler skips every update"


def test_clipping_sees_the_gradients_without_their_scale(rig):
    """As torch's own recipe has it: unscale, clip, step."""
    optimizer = lambda groups: torch.optim.SGD(groups, lr=0.1)  # noqa: E731
    keys = {"points": 20, "to": 1e-1, "optimizer": optimizer, "clip": 0.01}
    scaled = rig.find(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**12), **keys)
    assert scaled.losses == pytest.approx(rig.find(scaler=None, **keys).losses, rel=1e-5)


def test_autocast_is_around_every_forward_pass(rig):
    kinds = []
    rig.model.head.register_forward_hook(lambda module, given, out: kinds.append(out.dtype))
    keys = {"points": 10, "scaler": None, "held_out": [rig.data[:8]]}
    rig.find(autocast=torch.autocast("cpu", torch.bfloat16), **keys)
    assert len(kinds) == 20
    assert set(kinds) == {torch.bfloat16}


@pytest.fixture
def mixed():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(True)
    yield Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=4)
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.mark.parametrize("prepared", [True, False])
def test_what_accelerate_prepared_is_found_on(mixed, rig, prepared):
    """Its precision, its loader, its optimizer; it keeps nothing of the test either."""
    from accelerate.state import GradientState

    kinds = []
    rig.model.head.register_forward_hook(lambda module, given, out: kinds.append(out.dtype))
    model, optimizer, loader = rig.model, rig.optimizer, DataLoader(rig.data, 8, shuffle=True)
    if prepared:
        model, optimizer, loader = mixed.prepare(model, optimizer, loader)
    before, iteration = rig.hash(), getattr(loader, "iteration", 0)
    states = dict(GradientState().__dict__)
    found = rig.find(batches=loader, optimizer=optimizer, scaler=None, accelerator=mixed, accumulate=4)
    assert len(found.losses) == 24
    assert set(kinds) == {torch.bfloat16}
    assert len(kinds) == 96
    assert rig.hash() == before
    assert getattr(loader, "iteration", 0) == iteration
    assert GradientState().__dict__ == states
    assert GradientState().active_dataloader is None
    assert (len(mixed._models), len(mixed._optimizers)) == ((1, 1) if prepared else (0, 0))
