"""transformers' schedules beside étude: every rate that a real optimizer had in every update, to 1e-12."""

import math
from functools import partial

import pytest
import torch
import transformers as hf

from etude import parse
from etude.errors import ScheduleError

PEAK, SCALES = 3e-3, (1.0, 0.25)

# Warm-ups in updates; a fraction of an update is what `ceil` would have hidden.
TOTALS = (1, 2, 3, 5, 10, 41)
GRID = [(total, w) for total in TOTALS for w in (0, 1, 2, 2.5, 0.31 * total, total - 1) if w < total]


def used(make, updates, *corner):
    """What a real optimizer of two groups has in each update under a schedule of transformers'."""
    weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in SCALES]
    groups = [{"params": [w], "lr": PEAK * scale} for w, scale in zip(weights, SCALES, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=PEAK)
    schedule = make(optimizer, *corner)
    found = []
    for _ in range(updates):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


def wsd(o, total, w, d, **options):
    return hf.get_wsd_schedule(o, w, d, num_training_steps=total, **options)


# name -> (transformers' schedule, étude's text after its warm-up, updates compared past the end)
TABLE = {
    "constant": (lambda o, total, w: hf.get_constant_schedule(o), None, 3),
    "constant_with_warmup": (lambda o, total, w: hf.get_constant_schedule_with_warmup(o, w), "hold()", 3),
    "linear": (lambda o, total, w: hf.get_linear_schedule_with_warmup(o, w, total), "linear()", 3),
    "cosine": (lambda o, total, w: hf.get_cosine_schedule_with_warmup(o, w, total), "cosine()", 0),
    "cosine, three halves": (
        lambda o, total, w: hf.get_cosine_schedule_with_warmup(o, w, total, num_cycles=1.5),
        'wave(half="{third}up")',
        0,
    ),
    "cosine_with_min_lr, a rate": (
        lambda o, total, w: hf.get_cosine_with_min_lr_schedule_with_warmup(o, w, total, min_lr=PEAK / 10),
        "cosine(to=0.1)",
        0,
    ),
    "cosine_with_min_lr, a share": (
        lambda o, total, w: hf.get_cosine_with_min_lr_schedule_with_warmup(o, w, total, min_lr_rate=0.1),
        "cosine(to=0.1)",
        0,
    ),
    "cosine_with_restarts": (
        lambda o, total, w: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, w, total),
        "repeat(cosine(start=1), 1)",
        0,
    ),
    "cosine_with_restarts, seven": (
        lambda o, total, w: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, w, total, 7),
        "repeat(cosine(start=1), 7)",
        0,
    ),
    "polynomial": (
        lambda o, total, w: hf.get_polynomial_decay_schedule_with_warmup(o, w, total),
        f"poly(to={1e-7 / PEAK!r}, power=1)",
        3,
    ),
    "polynomial, squared": (
        lambda o, total, w: hf.get_polynomial_decay_schedule_with_warmup(o, w, total, PEAK / 5, 2),
        "poly(to=0.2, power=2)",
        3,
    ),
    "inverse_sqrt": (
        lambda o, total, w: hf.get_inverse_sqrt_schedule(o, w, 50),
        "inv_sqrt(timescale=50)",
        0,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_every_update(name, agree):
    make, text, more = TABLE[name]
    for total, w in GRID:
        said = "hold()" if text is None else f'warmup("{w}up") >> ' + text.format(third=(total - w) / 3)
        agree(used(make, total + more, total, w), said, total)


@pytest.mark.parametrize(("total", "w"), [(total, w) for total, w in GRID if w > 0])
def test_inverse_sqrt_goes_by_its_warmup(total, w, agree):
    agree(used(lambda o: hf.get_inverse_sqrt_schedule(o, w), total), f'warmup("{w}up") >> inv_sqrt()', total)


WSD = [(3, 1, 1), (5, 0, 2), (7, 3, 3), (10, 1, 4), (41, 10, 20)]
RISES = {
    "linear": "warmup({w}, start={floor})",
    "cosine": "cosine({w}, start={floor}, to=1)",
    "1-sqrt": "poly({w}, start={floor}, to=1, power=0.5)",
}
FALLS = {
    "1-sqrt": "sqrt({d}, to={floor})",
    "linear": "linear({d}, to={floor})",
    "cosine": "cosine({d}, to={floor})",
}


@pytest.mark.parametrize("rise", RISES)
@pytest.mark.parametrize("fall", FALLS)
@pytest.mark.parametrize("floor", [0, 0.1])
def test_warmup_stable_decay(rise, fall, floor, agree):
    make = partial(wsd, warmup_type=rise, decay_type=fall, min_lr_ratio=floor)
    for total, w, d in WSD:
        theirs = used(make, total + 3, total, w, d)
        agree(theirs, f"{RISES[rise]} >> hold() >> {FALLS[fall]}".format(w=w, d=d, floor=floor), total)


def cosine(u):
    return (1 + math.cos(math.pi * u)) / 2


def test_accepted_restart_rounding(differ):
    """Their 30th update of 44 stands at 14.999999999999998 of 22 cycles, not at the start of the 16th."""
    total, cycles = 44, 22
    theirs = used(lambda o: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, 0, total, cycles), total)
    assert max(theirs[30]) < 1e-30
    differ(
        theirs,
        lambda k: cosine((cycles * (k / total)) % 1.0),
        f"repeat(cosine(start=1), {cycles})",
        lambda k: cosine(k % 2 / 2),
        total,
    )


def test_accepted_cosine_climbs(differ):
    theirs = used(lambda o: hf.get_cosine_schedule_with_warmup(o, 2, 10), 20)
    differ(
        theirs,
        lambda k: k / 2 if k < 2 else cosine((k - 2) / 8),
        "warmup(2) >> cosine()",
        lambda k: k / 2 if k < 2 else cosine(min(k - 2, 8) / 8),
        10,
        again="warmup(2) >> wave(half=8)",
        again_total=20,
    )


@pytest.mark.parametrize(("total", "w"), [(1, 0), (5, 0), (5, 1), (7, 3), (41, 10)])
def test_accepted_one_early(total, w, differ):
    def level(t):
        return t / w if t < w else 0.1 + 0.9 * cosine((t - w) / (total - w))

    make = hf.get_cosine_with_min_lr_schedule_with_warmup_lr_rate
    text = f"warmup({w}) >> cosine(to=0.1)"
    differ(
        used(lambda o: make(o, w, total, min_lr_rate=0.1), total),
        lambda k: level(k + 1), text, level, total, again=text, again_tick=1,
    )  # fmt: skip
    if w > 1:
        early = f"linear({w - 1}, start=0.3, to=1) >> cosine({total - w}, to=0.1) >> hold()"
        differ(
            used(lambda o: make(o, w, total, min_lr_rate=0.1, warmup_lr_rate=0.3), total),
            lambda k: 0.3 + 0.7 * k / (w - 1) if k < w else level(k + 1),
            f"linear({w}, start=0.3, to=1) >> cosine(to=0.1)",
            lambda k: 0.3 + 0.7 * k / w if k < w else level(k),
            total,
            again=early,
        )


def test_accepted_warmup_from_the_floor(differ):
    theirs = used(lambda o: wsd(o, 10, 4, 3, decay_type="linear", min_lr_ratio=0.1), 13)

    def level(k, start):
        return start + (1 - start) * k / 4 if k < 4 else 1 - 0.9 * min(max(k - 7, 0), 3) / 3

    differ(
        theirs, lambda k: level(k, 0.1), 'wsd(4, 3, to=0.1, decay_shape="linear")', lambda k: level(k, 0), 10,
        again='wsd(4, 3, to=0.1, decay_shape="linear", warmup_start=0.1)',
    )  # fmt: skip


def test_accepted_longer_than_the_run(agree):
    theirs = used(lambda o: hf.get_linear_schedule_with_warmup(o, 20, 10), 10)
    assert [row[0] for row in theirs] == pytest.approx([PEAK * k / 20 for k in range(10)], rel=1e-14)
    with pytest.raises(ScheduleError, match="too long: its pieces take 20 of 10 updates"):
        parse("warmup(20) >> linear()").over(10)
    agree(theirs, "linear(start=0, to=10/20)", 10)


def test_accepted_sqrt_warmup(differ):
    theirs = used(lambda o: wsd(o, 10, 6, 2, warmup_type="1-sqrt", decay_type="linear"), 10)

    def fall(k):
        return 1 - max(k - 8, 0) / 2

    differ(
        theirs,
        lambda k: 1 - math.sqrt(1 - k / 6) if k < 6 else fall(k),
        'wsd(6, 2, warmup_shape="sqrt", decay_shape="linear")',
        lambda k: math.sqrt(k / 6) if k < 6 else fall(k),
        10,
        again="poly(6, start=0, to=1, power=0.5) >> hold() >> linear(2)",
    )


def test_accepted_timescale(agree):
    """Without a warm-up theirs goes by 10,000 updates, unasked; étude asks."""
    with pytest.raises(ScheduleError, match="write timescale="):
        parse("inv_sqrt()").over(41)
    theirs = used(lambda o: hf.get_inverse_sqrt_schedule(o, 0), 41)
    assert theirs[40][0] == pytest.approx(PEAK * math.sqrt(10_000 / 10_040), rel=1e-14)
    agree(theirs, "inv_sqrt(timescale=10_000)", 41)


@pytest.mark.parametrize(("share", "total"), [(0.1, 95), (0.03, 41), (0.5, 3)])
def test_accepted_ratio_rounding(share, total, differ):
    arguments = hf.TrainingArguments(warmup_steps=share, use_cpu=True, report_to="none")
    w = math.ceil(share * total)
    assert arguments.get_warmup_steps(total) == w

    def level(k, w):
        return k / w if k < w else (total - k) / (total - w)

    theirs = used(
        lambda o: hf.get_linear_schedule_with_warmup(o, arguments.get_warmup_steps(total), total), total
    )
    differ(
        theirs, lambda k: level(k, w), f"warmup({share}) >> linear()",
        lambda k: level(k, share * total), total, again=f"warmup({w}) >> linear()",
    )  # fmt: skip


def test_accepted_ratio_of_one(agree):
    """A share of 1.0 is one update to them; étude asks which is meant."""
    arguments = hf.TrainingArguments(warmup_steps=1.0, use_cpu=True, report_to="none")
    assert arguments.get_warmup_steps(95) == 1
    with pytest.raises(ScheduleError, match="write 1 for one update"):
        parse("warmup(1.0) >> hold()")
