"""pytorch-scheduler beside étude: every rate that a real optimizer had in every update, to 1e-12."""

import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as th

ps = pytest.importorskip("pytorch_scheduler", reason="needs pytorch-scheduler")

PEAK, SCALES = 3e-3, (1.0, 0.25)

TOTALS = (1, 2, 3, 5, 7, 10, 41)
GRID = [(total, w) for total in TOTALS for w in (0, 1, 2, 3, total - 1) if w < total]


def used(make, updates, *corner):
    """What a real optimizer of two groups has in each update under a scheduler of pytorch-scheduler's."""
    weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in SCALES]
    groups = [{"params": [w], "lr": PEAK * scale} for w, scale in zip(weights, SCALES, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=PEAK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wrapper asks torch's schedulers for rates as torch dislikes
        schedule = make(optimizer, *corner)
        found = []
        for _ in range(updates):
            found.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
    return found


# name -> (pytorch-scheduler's scheduler, étude's text, updates compared past the end)
TABLE = {
    "identity": (lambda o, total, w: ps.IdentityScheduler(o), lambda total, w: "hold()", 3),
    "cosine": (
        lambda o, total, w: ps.CosineWithWarmupScheduler(o, total, w),
        lambda total, w: f"warmup({w}) >> cosine()", 3,
    ),
    "linear": (
        lambda o, total, w: ps.LinearDecayScheduler(o, total, w),
        lambda total, w: f"warmup({w}) >> linear()", 3,
    ),
    "polynomial": (
        lambda o, total, w: ps.PolynomialScheduler(o, total, 2, warmup_steps=w),
        lambda total, w: f"warmup({w}) >> poly(power=2)", 3,
    ),
    "rex": (lambda o, total, w: ps.RexScheduler(o, total), lambda total, w: "rex()", 3),
    "k-decay": (
        lambda o, total, w: ps.KDecayScheduler(o, total, k=1.5), lambda total, w: "cosine(k=1.5)", 3,
    ),
    "power decay, a half": (
        lambda o, total, w: ps.PowerDecayScheduler(o, total, w),
        lambda total, w: f"warmup({w}) >> inv_sqrt(timescale={w or 1})", 0,
    ),
    "power decay, one": (
        lambda o, total, w: ps.PowerDecayScheduler(o, total, w, alpha=1),
        lambda total, w: f"warmup({w}) >> inv_time(timescale={w or 1})", 0,
    ),
    "inverse sqrt": (
        lambda o, total, w: ps.InverseSqrtScheduler(o, w or 1),
        lambda total, w: f"warmup({w or 1}) >> inv_sqrt()" if total > 1 else "warmup(1)", 0,
    ),
    "trapezoid": (
        lambda o, total, w: ps.TrapezoidalScheduler(o, total, w // 2, w - w // 2),
        lambda total, w: f"warmup({w // 2}) >> hold() >> linear({w - w // 2})" if w else "hold()", 0,
    ),
    "warm-up, hold, cosine": (
        lambda o, total, w: ps.WarmupHoldCosineScheduler(o, total, w // 2, w - w // 2),
        lambda total, w: f"warmup({w // 2}) >> hold({w - w // 2}) >> cosine()", 3,
    ),
    "flat, cosine": (
        lambda o, total, w: ps.FlatCosineScheduler(o, total, (w + 0.5) / total),
        lambda total, w: f"hold({w}) >> cosine()", 3,
    ),
    **{
        f"wsd, {theirs}": (
            lambda o, total, w, theirs=theirs: ps.WSDScheduler(
                o, total, w // 2, w - w // 2, decay_type=theirs
            ),
            lambda total, w, word=word: f"warmup({w // 2}) >> hold({w - w // 2}) >> {word}()", 3,
        )
        for theirs, word in (("cosine", "cosine"), ("linear", "linear"), ("sqrt", "sqrt"))
    },
    **{
        f"warm-up wrapper, {theirs}": (
            lambda o, total, w, theirs=theirs: ps.WarmupScheduler(
                o, ps.RexScheduler(o, total - w), w, theirs
            ),
            lambda total, w, word=word: f"{word}({w}, start=0, to=1) >> rex()", 3,
        )
        for theirs, word in (("linear", "linear"), ("cosine", "cosine"), ("exponential", "square"))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_every_update(name, agree):
    make, text, more = TABLE[name]
    for total, w in GRID:
        agree(used(make, total + more, total, w), text(total, w), total)


@pytest.mark.parametrize("total", [1, 2, 3, 10, 41])
def test_chebyshev_is_a_cosine_in_the_middle_of_each_update(total, agree):
    agree(used(lambda o: ps.ChebyshevScheduler(o, total), total), "cosine()", total, tick=0.5)


@pytest.mark.parametrize(("total", "cycles"), [(1, 3), (2, 2), (5, 3), (41, 2)])
def test_polynomial_in_cycles(total, cycles, agree):
    theirs = used(lambda o: ps.PolynomialScheduler(o, total, 2, cycle=True), total * cycles)
    agree(theirs, f"repeat(poly({total}, start=1, power=2), {cycles})", total * cycles)


def cosine(u):
    return (1 + math.cos(math.pi * u)) / 2


def test_accepted_absolute_floor(differ, agree):
    """A preset's share of the peak is one of the first group's, for all: a quarter of it as 0.1 is 0.4."""

    def level(k, floor):
        return k if k < 1 else floor + (1 - floor) * cosine((k - 1) / 38)

    theirs = used(lambda o: ps.create_from_preset(o, "llm_finetune", 39), 39)
    differ(
        theirs, lambda k: [level(k, 0.1), level(k, 0.4)], "warmup(1) >> cosine(to=0.1)",
        lambda k: level(k, 0.1), 39, again="warmup(1) >> hold()",
        again_gates=("hold(1) >> cosine(to=0.1)", "hold(1) >> cosine(to=0.4)"),
    )  # fmt: skip


def test_accepted_ratio_rounding(differ):
    def level(k, w):
        return k / w if k < w else 0.1 + 0.9 * cosine((k - w) / (95 - w))

    theirs = used(lambda o: ps.create_from_preset(o, "llm_finetune", 95), 95)
    differ(
        [row[:1] for row in theirs], lambda k: level(k, 2), "warmup(0.03) >> cosine(to=0.1)",
        lambda k: level(k, 0.03 * 95), 95, again="warmup(2) >> cosine(to=0.1)", scales=(1.0,),
    )  # fmt: skip


@pytest.mark.parametrize("total", [9, 15, 105])
def test_accepted_slanted_triangle(total, differ):
    """The cut is rounded down to whole updates; where that is 0 the run starts at 1/32 and jumps."""
    cut = math.floor(total * 0.1)

    def level(k, cut):
        return 1 / 32 + 31 / 32 * (k / cut if k < cut else (total - k) / (total - cut))

    again = f"linear({cut}, start=1/32, to=1) >> linear(to=1/32)"
    if cut == 0:
        again = f"hold(1, start=1/32) >> linear(start={level(1, 0)!r}, to=1/32)"
    differ(
        used(lambda o: ps.SlantedTriangularScheduler(o, total), total),
        lambda k: level(k, cut) if k else 1 / 32,
        "slanted_triangular()",
        lambda k: level(k, 0.1 * total),
        total,
        again=again,
    )


@pytest.mark.parametrize("total", [2, 10, 41])
def test_accepted_rex_curve(total, differ):
    """This is the paper's curve; axolotl draws another under the same name."""

    def level(k, d):
        return (1 - k / total) / (1 - d * k / total) if k < total else 0

    theirs = used(lambda o: ps.RexScheduler(o, total), total + 1)
    differ(theirs, lambda k: level(k, 0.5), "rex(d=0.9)", lambda k: level(k, 0.9), total, again="rex()")


@pytest.mark.parametrize("total", [1, 2, 10, 41])
def test_accepted_tanh_ends(total, differ):
    def theirs_is(k):
        return (1 - math.tanh(3 * (2 * k / total - 1))) / 2

    high, low = theirs_is(0), theirs_is(total)
    differ(
        used(lambda o: ps.TanhDecayScheduler(o, total), total + 2),
        lambda k: theirs_is(k) if k < total else 0,
        "tanh(lb=-3, ub=3)",
        lambda k: max((theirs_is(k) - low) / (high - low), 0),
        total,
        again=f"tanh({total}, lb=-3, ub=3, start={high!r}, to={low!r}) >> hold(start=0)",
        again_total=total + 2,
    )


def test_accepted_restart_starts_low(differ):
    """Each cycle's first update is at the floor, also without a warm-up, so the peak is never used."""
    theirs = used(lambda o: ps.CosineAnnealingWarmupRestarts(o, 5, 0, PEAK, PEAK / 10), 10)
    differ(
        [row[:1] for row in theirs],
        lambda k: 0.1 + 0.9 * cosine(k % 5 / 5) * (k % 5 > 0),
        "repeat(cosine(start=1, to=0.1), 2)",
        lambda k: 0.1 + 0.9 * cosine(k % 5 / 5),
        10,
        scales=(1.0,),
    )


def test_restarts_with_a_warmup_of_their_own(agree):
    """Written out: the warm-up keeps its length in every cycle, and lengths are cut to whole updates."""
    theirs = used(
        lambda o: ps.CosineAnnealingWarmupRestarts(o, 5, 2, PEAK, PEAK / 10, cycle_mult=1.5, gamma=0.5), 23
    )
    peaks, lengths = (1, 0.5, 0.25), (5, 7, 11)
    cycles = [
        f"linear(2, start=0.1, to={peak}) >> cosine({length - 2}, to=0.1)"
        for peak, length in zip(peaks, lengths, strict=True)
    ]
    agree([row[:1] for row in theirs], " >> ".join(cycles), 23, scales=(1.0,))


def test_accepted_groups_flattened(differ):
    theirs = used(lambda o: ps.CosineAnnealingWarmupRestarts(o, 5, 2, PEAK, 0.0), 5)

    def level(k):
        return k / 2 if k < 2 else cosine((k - 2) / 3)

    text = "warmup(2) >> cosine()"
    differ(
        theirs, lambda k: [level(k), 4 * level(k)], text, level, 5, again=text,
        again_gates=(None, "hold(start=4)"),
    )  # fmt: skip


def test_accepted_wrapped_recursion(differ):
    """The wrapper asks torch's schedulers at times of its own; their formulas go from the rate before."""
    differ(
        used(lambda o: ps.WarmupScheduler(o, th.CosineAnnealingLR(o, 7), 3), 10),
        lambda k: (
            k / 3 if k < 3 else cosine((k - 3) / 7) if k > 3 else 2 / 3 * 2 / (1 + math.cos(math.pi / 7))
        ),
        "warmup(3) >> cosine()",
        lambda k: k / 3 if k < 3 else cosine((k - 3) / 7),
        10,
    )
    differ(
        used(lambda o: ps.WarmupScheduler(o, th.ExponentialLR(o, 0.9), 3), 10),
        lambda k: k / 3 if k < 3 else 2 / 3 * 0.9 ** (k - 2),
        f"warmup(3) >> exp(to={0.9**7!r})",
        lambda k: k / 3 if k < 3 else 0.9 ** (k - 3),
        10,
        again=f"linear(2, start=0, to=2/3) >> exp(to={2 / 3 * 0.9**8!r})",
    )
