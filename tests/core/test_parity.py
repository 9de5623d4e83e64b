"""Other people's schedules, run beside ours at tick 0: torch's and transformers', to 1e-12 of the peak."""

import warnings

import pytest
import torch
import transformers as hf
from torch.optim import lr_scheduler as th

from etude import Group, Plan

PEAK = 3e-3
SCALES = (1.0, 0.25)


def used(make, updates):
    """The rates that a real optimizer has in each update under another library's schedule."""
    parameters = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in SCALES]
    groups = [{"params": [p], "lr": PEAK * scale} for p, scale in zip(parameters, SCALES, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=PEAK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = make(optimizer)
        rates = []
        for _ in range(updates):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
    return rates


def ours(text, total, updates=None):
    groups = [Group(f"g{i}", scale={"lr": scale}) for i, scale in enumerate(SCALES)]
    rates = Plan({"lr": f"{PEAK} * ({text})"}, groups, tick=0).over(total)
    return [rates.at(k)["lr"] for k in range(total if updates is None else updates)]


def agree(mine, theirs):
    assert len(mine) == len(theirs) > 0
    for k, (row, other) in enumerate(zip(mine, theirs, strict=True)):
        assert row == pytest.approx(other, rel=1e-12, abs=1e-12 * PEAK), k


TOTALS = [1, 2, 3, 5, 10, 41]


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize(("start", "end"), [(1 / 3, 1), (1, 0), (0.5, 0.1)])
def test_torch_linear(total, start, end):
    theirs = used(lambda o: th.LinearLR(o, start, end, total_iters=total), total + 3)
    agree(ours(f"linear(start={start}, to={end})", total, total + 3), theirs)


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("floor", [0, 0.1])
def test_torch_cosine(total, floor):
    theirs = used(lambda o: th.CosineAnnealingLR(o, T_max=total, eta_min=floor * PEAK), total)
    mine = ours(f"cosine(to={floor})", total)
    agree([row[:1] for row in mine], [row[:1] for row in theirs])
    if floor == 0:  # theirs is one absolute floor for all groups, ours a share of each group's own peak
        agree(mine, theirs)


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("power", [0.5, 1, 2, 3.3])
def test_torch_polynomial(total, power):
    theirs = used(lambda o: th.PolynomialLR(o, total_iters=total, power=power), total + 3)
    agree(ours(f"poly(power={power})", total, total + 3), theirs)


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("gamma", [0.9, 0.999, 1.01])
def test_torch_exponential_by_its_final_ratio(total, gamma):
    theirs = used(lambda o: th.ExponentialLR(o, gamma), total)
    agree(ours(f"exp(to={gamma**total!r})", total), theirs)


@pytest.mark.parametrize(("total", "warmup"), [(2, 1), (7, 1), (7, 3), (10, 9), (100, 10)])
def test_torch_warmup_then_cosine(total, warmup):
    def make(o):
        parts = [th.LinearLR(o, 1 / 3, 1, total_iters=warmup), th.CosineAnnealingLR(o, T_max=total - warmup)]
        return th.SequentialLR(o, parts, milestones=[warmup])

    agree(ours(f"linear({warmup}, start=1/3, to=1) >> cosine()", total), used(make, total))


@pytest.mark.parametrize("first", [1, 2, 5, 11])
@pytest.mark.parametrize(("cycles", "longer"), [(1, 1), (4, 1), (4, 2), (3, 3)])
def test_torch_warm_restarts(first, cycles, longer):
    total = first * sum(longer**i for i in range(cycles))
    theirs = used(lambda o: th.CosineAnnealingWarmRestarts(o, T_0=first, T_mult=longer), total)
    agree(ours(f"repeat(cosine(start=1), {cycles}, stretch={longer})", total), theirs)
    agree(ours(f"repeat(cosine({first}, start=1), {cycles}, stretch={longer})", total), theirs)


# Warm-ups in updates; a fraction of an update is what `ceil` would have hidden.
GRID = [(total, w) for total in TOTALS for w in (0, 1, 2, 2.5, 0.31 * total, total - 1) if w < total]


@pytest.mark.parametrize(("total", "w"), GRID)
def test_transformers_linear(total, w):
    theirs = used(lambda o: hf.get_linear_schedule_with_warmup(o, w, total), total + 3)
    agree(ours(f'warmup("{w}up") >> linear()', total, total + 3), theirs)


@pytest.mark.parametrize(("total", "w"), GRID)
def test_transformers_cosine(total, w):
    theirs = used(lambda o: hf.get_cosine_schedule_with_warmup(o, w, total), total)
    agree(ours(f'warmup("{w}up") >> cosine()', total), theirs)


@pytest.mark.parametrize(("total", "w"), GRID)
def test_transformers_cosine_with_a_floor(total, w):
    theirs = used(
        lambda o: hf.get_cosine_with_min_lr_schedule_with_warmup(o, w, total, min_lr_rate=0.1), total
    )
    agree(ours(f'warmup("{w}up") >> cosine(to=0.1)', total), theirs)


@pytest.mark.parametrize(("total", "w"), GRID)
@pytest.mark.parametrize("power", [1, 2])
def test_transformers_polynomial(total, w, power):
    theirs = used(
        lambda o: hf.get_polynomial_decay_schedule_with_warmup(o, w, total, lr_end=1e-7, power=power),
        total + 3,
    )
    agree(ours(f'warmup("{w}up") >> poly(to={1e-7 / PEAK!r}, power={power})', total, total + 3), theirs)


@pytest.mark.parametrize(("total", "w"), GRID)
def test_transformers_constant(total, w):
    theirs = used(lambda o: hf.get_constant_schedule_with_warmup(o, w), total)
    agree(ours(f'warmup("{w}up") >> hold()', total), theirs)


@pytest.mark.parametrize(("total", "w"), GRID)
@pytest.mark.parametrize("timescale", [None, 50])
def test_transformers_inverse_sqrt(total, w, timescale):
    theirs = used(lambda o: hf.get_inverse_sqrt_schedule(o, w, timescale), total)
    said = timescale or (10_000 if w == 0 else None)
    text = f"inv_sqrt(timescale={said})" if said else "inv_sqrt()"
    agree(ours(f'warmup("{w}up") >> {text}', total), theirs)


@pytest.mark.parametrize(("total", "w"), GRID)
@pytest.mark.parametrize("cycles", [1, 2, 3, 7])
def test_transformers_hard_restarts(total, w, cycles):
    theirs = used(
        lambda o: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, w, total, num_cycles=cycles), total
    )
    mine = ours(f'warmup("{w}up") >> repeat(cosine(start=1), {cycles})', total)
    for k, (row, other) in enumerate(zip(mine, theirs, strict=True)):
        passed = cycles * (k - w) / (total - w)
        if k > w and abs(passed - round(passed)) < 1e-9:  # theirs rounds to the end or the start of a cycle
            assert row == [PEAK * scale for scale in SCALES]
        else:
            assert row == pytest.approx(other, rel=1e-12, abs=1e-12 * PEAK)


@pytest.mark.parametrize(
    ("total", "w", "decay"), [(3, 1, 1), (5, 0, 2), (7, 3, 3), (10, 1, 4), (100, 10, 20)]
)
@pytest.mark.parametrize(
    ("theirs_is", "word"), [("1-sqrt", "sqrt"), ("linear", "linear"), ("cosine", "cosine")]
)
@pytest.mark.parametrize("floor", [0, 0.1])
def test_transformers_wsd(total, w, decay, theirs_is, word, floor):
    theirs = used(
        lambda o: hf.get_wsd_schedule(
            o, w, decay, num_training_steps=total, decay_type=theirs_is, min_lr_ratio=floor
        ),
        total + 3,
    )
    text = f"warmup({w}, start={floor}) >> hold() >> {word}({decay}, to={floor})"
    agree(ours(text, total, total + 3), theirs)


def test_after_the_end_the_rate_holds_where_theirs_rises():
    text, total = "warmup(2) >> cosine()", 10
    theirs = used(lambda o: hf.get_cosine_schedule_with_warmup(o, 2, total), 2 * total)
    assert theirs[-1][0] > 0.5 * PEAK
    assert {row[0] for row in ours(text, total, 3 * total)[total:]} == {0.0}


def test_the_first_update_is_not_wasted():
    text, total = "warmup(10) >> cosine()", 100
    theirs = used(lambda o: hf.get_cosine_schedule_with_warmup(o, 10, total), 1)
    assert theirs[0][0] == 0
    rates = Plan({"lr": f"{PEAK} * ({text})"}).over(total)
    assert rates.at(0)["lr"] == [pytest.approx(PEAK / 20)]
