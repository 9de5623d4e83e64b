"""The loop alone, on a linear model in float64: its clock, its rates, its gradients, skipped updates."""

import math
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator

from etude.control.driver import Driver
from etude.core.plan import Group, Plan
from etude.torch import sink
from etude.train.loop import Loop
from etude.train.order import Order

PLAN = Plan(
    {"lr": "0.02 * (warmup(0.1) >> cosine(to=0.01))", "weight_decay": 0.0},
    [Group("weight", ("weight",), {"lr": 0.5}), Group("bias", ("bias",))],
)


class Problem:
    """Least squares; `optimizer` sees each update, and `overflow` the numbers of the losses that explode."""

    def __init__(self, examples: int, overflow: tuple[int, ...] = (), scaler: bool = False):
        self.accelerator = Accelerator(cpu=True)
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if scaler else None
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(examples, 5, dtype=torch.float64, generator=generator)
        self.y = self.x.sum(1) + torch.randn(examples, dtype=torch.float64, generator=generator)
        torch.manual_seed(1)
        self.model = torch.nn.Linear(5, 1).double()
        self.overflow, self.calls, self.seen = overflow, 0, []

    def loop(self, total: float, batch: int = 16, accumulate: int = 1, clip: float | None = None) -> Loop:
        bare = torch.optim.SGD(PLAN.torch_groups(self.model))
        rates = PLAN.over(total, epoch=len(self.y) / (batch * accumulate), batch=batch * accumulate)
        model, optimizer = self.accelerator.prepare(self.model, bare)
        return Loop(
            self.accelerator, model, optimizer, Driver(rates, sink(bare)), Order(len(self.y), seed=17),
            self.losses, batch, accumulate, clip,
        )  # fmt: skip

    def losses(self, model, chosen):
        self.seen += chosen
        losses = (model(self.x[chosen]).squeeze(-1) - self.y[chosen]).square()
        self.calls += 1
        return losses * (math.inf if self.calls - 1 in self.overflow else 1.0)

    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])


def run(loop: Loop) -> list[dict]:
    while not loop.done:
        loop.update()
    return loop.fetch()


def test_the_clock_counts_examples_and_tiles_the_run():
    """205 examples in batches of 16, as 2,005 are: 3 epochs are 39 updates, and 38.4375 of the clock."""
    problem = Problem(205)
    loop = problem.loop(3 * 205 / 16)
    records = run(loop)
    assert [record["k"] for record in records] == list(range(39))
    assert records[0]["t"][0] == 0
    assert all(a["t"][1] == b["t"][0] for a, b in pairwise(records))
    assert records[-1]["t"][1] == loop.t == loop.driver.total == 38.4375
    widths = [16 * (end - begin) for begin, end in (record["t"] for record in records)]
    assert widths == ([16] * 12 + [13]) * 3
    assert sorted(problem.seen) == sorted(list(range(205)) * 3)


@pytest.mark.parametrize(("total", "last"), [(20.0, 3), (12.5, 8), (7.0, 16), (12.8125, 13)])
def test_a_run_ends_at_its_total_exactly_and_its_last_update_is_cut_there(total, last):
    problem = Problem(205)
    records = run(problem.loop(total))
    assert records[-1]["t"][1] == total
    assert 16 * (records[-1]["t"][1] - records[-1]["t"][0]) == last
    assert len(problem.seen) == 16 * total


def test_the_rates_are_the_plans_to_the_last_bit_over_the_interval_of_each_update():
    loop = Problem(205).loop(30)
    rates = loop.driver.rates
    for record in run(loop):
        assert record["rates"] == {"lr": rates.at(*record["t"])["lr"]}
        assert record["rates"]["lr"][0] == 0.5 * record["rates"]["lr"][1] > 0


def test_the_rates_in_the_records_are_those_that_the_optimizer_used(monkeypatch):
    problem = Problem(32)
    loop = problem.loop(2)
    monkeypatch.setattr(loop.driver, "apply", lambda begin, end: None)
    for group, lr in zip(loop.optimizer.param_groups, (0.125, 0.0), strict=True):
        group["lr"] = lr
    before = problem.weights()
    loop.update()
    assert loop.fetch()[0]["rates"]["lr"] == [0.125, 0.0]
    moved = (problem.weights() - before).abs()
    assert moved[:5].min() > 0
    assert moved[5] == 0


def test_an_update_moves_the_weights_by_rate_times_gradient():
    problem = Problem(48)
    loop = problem.loop(3)
    for _ in range(3):
        before = problem.weights()
        loop.update()
        (record,) = loop.fetch()
        chosen, problem.seen = problem.seen, []
        weight, bias = before[:5].requires_grad_(), before[5:].requires_grad_()
        loss = (problem.x[chosen] @ weight + bias - problem.y[chosen]).square().mean()
        slopes = torch.autograd.grad(loss, (weight, bias))
        scaled = [rate * slope for rate, slope in zip(record["rates"]["lr"], slopes, strict=True)]
        torch.testing.assert_close(before.detach() - problem.weights(), torch.cat(scaled))
        assert record["loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert record["grad_norm"] == pytest.approx(float(torch.cat(slopes).norm()), rel=1e-6)


@pytest.mark.parametrize(("batch", "accumulate"), [(4, 4), (5, 3), (1, 16), (15, 1)])
def test_accumulated_updates_are_those_of_the_whole_batch(batch, accumulate):
    """42 examples: the last update of an epoch has 10 or 12, in micro-batches of different sizes."""
    size = batch * accumulate
    runs = []
    for problem, loop in (
        (whole := Problem(42), whole.loop(2 * 42 / size, size)),
        (parts := Problem(42), parts.loop(2 * 42 / size, batch, accumulate)),
    ):
        weights = []
        while not loop.done:
            loop.update()
            weights.append(problem.weights())
        runs.append((problem, loop.fetch(), torch.stack(weights)))
    (whole, one, expected), (parts, many, found) = runs
    assert len(one) == len(many) == 2 * math.ceil(42 / size)
    assert parts.calls == 2 * sum(math.ceil(n / batch) for n in [size] * (42 // size) + [42 % size])
    assert whole.seen == parts.seen
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(one, many, strict=True):
        assert a["t"] == b["t"]
        assert a["rates"] == b["rates"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-6)


def test_a_skipped_update_trains_nothing_and_is_made_up_at_the_end():
    problem = Problem(205, overflow=(0, 5, 6, 20), scaler=True)
    loop = problem.loop(20)
    rates, records = loop.driver.rates, []
    while not loop.done:
        before, t, k = problem.weights(), loop.t, loop.clock.updates
        loop.update()
        (record,) = loop.fetch()
        records.append(record)
        assert record["k"] == k
        moved = not torch.equal(problem.weights(), before)
        assert moved != record["skipped"]
        assert (loop.t > t, loop.clock.updates - k) == ((True, 1) if moved else (False, 0))
    assert [i for i, record in enumerate(records) if record["skipped"]] == [0, 5, 6, 20]
    assert all(record["t"][0] == record["t"][1] for record in records if record["skipped"])
    trained = [record for record in records if not record["skipped"]]
    assert loop.t == trained[-1]["t"][1] == 20
    assert all(a["t"][1] == b["t"][0] for a, b in pairwise(trained))
    assert [record["k"] for record in trained] == list(range(len(trained))) == list(range(loop.clock.updates))
    assert loop.clock.skipped == 4
    assert all(record["rates"]["lr"] == rates.at(*record["t"])["lr"] for record in trained)
    assert loop.order.drawn == len(problem.seen) == 16 * 20 + 4 * 16, "the data goes on, the clock does not"
    assert math.isinf(records[5]["loss"])


def test_gradients_are_clipped_and_their_norm_is_that_before():
    problem = Problem(64)
    loop = problem.loop(4, clip=0.01)
    for _ in range(4):
        before = problem.weights()
        loop.update()
        (record,) = loop.fetch()
        assert record["grad_norm"] > 1
        low, high = record["rates"]["lr"]
        moved = before - problem.weights()
        assert float(torch.cat([moved[:5] / low, moved[5:] / high]).norm()) == pytest.approx(0.01, rel=1e-4)


def test_a_run_that_goes_on_with_another_batch_keeps_its_clock():
    """The clock counts in the batch that was planned, whatever is drawn at a time."""
    problem = Problem(200)
    loop = problem.loop(20, batch=10)
    for _ in range(5):
        loop.update()
    other = Loop(
        loop.accelerator, loop.model, loop.optimizer, loop.driver, loop.order, loop.losses,
        batch=25, clip=None, clock=loop.clock,
    )  # fmt: skip
    assert other.t == 5
    records = run(other)
    assert [record["t"] for record in records] == [[t, t + 2.5] for t in (5, 7.5, 10, 12.5, 15, 17.5)]
    assert sorted(problem.seen) == list(range(200))
