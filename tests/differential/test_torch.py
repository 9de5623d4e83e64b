"""torch's own schedulers beside étude: every rate that a real optimizer had in every update, to 1e-12."""

import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as th
from torch.optim.swa_utils import SWALR

PEAK, SCALES = 3e-3, (1.0, 0.25)
PEAKS = [PEAK * scale for scale in SCALES]

# Updates of the run, and a length inside it or past its end; torch counts whole updates only.
GRID = [(total, n) for total in (1, 2, 3, 5, 7, 10, 41) for n in (1, 2, 3, total - 1, total) if n > 0]


def used(make, updates, *corner, hyper="lr"):
    """What a real optimizer of two groups has in each update under a scheduler of torch's."""
    weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in SCALES]
    groups = [{"params": [w], "lr": peak} for w, peak in zip(weights, PEAKS, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=PEAK, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = make(optimizer, *corner)
        found = [[group[hyper] for group in optimizer.param_groups]]
        for _ in range(updates - 1):
            optimizer.step()
            schedule.step()
            found.append([group[hyper] for group in optimizer.param_groups])
    return found


def cycles(first, longer, total):
    """Warm restarts as text: as many whole cycles as the run holds, and the beginning of one more."""
    done, length, times = 0, first, 0
    while done + length <= total:
        done, length, times = done + length, length * longer, times + 1
    whole = [f"repeat(cosine({first}, start=1), {times}, stretch={longer})"] if times else []
    return " >> ".join(whole + ([f"wave(start=1, half={length})"] if done < total else []))


def waves(o, n, mode, **options):
    return th.CyclicLR(
        o, [peak / 4 for peak in PEAKS], PEAKS, step_size_up=n, step_size_down=n + 2, mode=mode, **options
    )


def warmed(o, total, n):
    parts = [th.LinearLR(o, 1 / 3, 1, n), th.CosineAnnealingLR(o, total - n)]
    return th.SequentialLR(o, parts, milestones=[n])


def three(o, total, n):
    parts = [th.ConstantLR(o, 0.5, n), th.ExponentialLR(o, 0.8), th.PolynomialLR(o, total - 2 * n, 2.0)]
    return th.SequentialLR(o, parts, milestones=[n, 2 * n])


# name -> (torch's scheduler, étude's text, which corners of the grid it can be asked for)
TABLE = {
    "constant": (
        lambda o, total, n: th.ConstantLR(o, 1 / 3, n),
        lambda total, n: f"hold({n}, start=1/3) >> hold(start=1)",
    ),
    "linear up": (
        lambda o, total, n: th.LinearLR(o, 1 / 3, 1, n),
        lambda total, n: f"linear({n}, start=1/3, to=1) >> hold()",
    ),
    "linear down": (
        lambda o, total, n: th.LinearLR(o, 1, 0.1, n),
        lambda total, n: f"linear({n}, to=0.1) >> hold()",
    ),
    "linear to zero": (lambda o, total, n: th.LinearLR(o, 1, 0, total), lambda total, n: "linear()"),
    "polynomial": (
        lambda o, total, n: th.PolynomialLR(o, n, 2.0),
        lambda total, n: f"poly({n}, power=2) >> hold()",
    ),
    "root": (lambda o, total, n: th.PolynomialLR(o, total, 0.5), lambda total, n: "poly(power=0.5)"),
    "exponential": (
        lambda o, total, n: th.ExponentialLR(o, 0.9),
        lambda total, n: f"exp(to={0.9**total!r})",
    ),
    "multiplicative": (
        lambda o, total, n: th.MultiplicativeLR(o, lambda k: 0.9),
        lambda total, n: f"exp(to={0.9**total!r})",
    ),
    "growing": (lambda o, total, n: th.ExponentialLR(o, 1.01), lambda total, n: f"exp(to={1.01**total!r})"),
    "step": (lambda o, total, n: th.StepLR(o, n, 0.3), lambda total, n: f"step(by=0.3, every={n})"),
    "multistep": (
        lambda o, total, n: th.MultiStepLR(o, [total + 5, n + 1, n, n], 0.3),
        lambda total, n: f"multistep(at=({n}, {n}, {n + 1}, {total + 5}), by=0.3)",
    ),
    "cosine": (lambda o, total, n: th.CosineAnnealingLR(o, total), lambda total, n: "cosine()"),
    "cosine, cut": (
        lambda o, total, n: th.CosineAnnealingLR(o, total + n),
        lambda total, n: f"wave(half={total + n})",
    ),
    "cosine, climbing": (lambda o, total, n: th.CosineAnnealingLR(o, n), lambda total, n: f"wave(half={n})"),
    "restarts": (
        lambda o, total, n: th.CosineAnnealingWarmRestarts(o, n),
        lambda total, n: cycles(n, 1, total),
    ),
    "restarts, longer": (
        lambda o, total, n: th.CosineAnnealingWarmRestarts(o, n, 3),
        lambda total, n: cycles(n, 3, total),
    ),
    "triangular": (
        lambda o, total, n: waves(o, n, "triangular"),
        lambda total, n: f"cyclic(start=1/4, up={n}, down={n + 2})",
    ),
    "triangular2": (
        lambda o, total, n: waves(o, n, "triangular2"),
        lambda total, n: f"cyclic(start=1/4, up={n}, down={n + 2}, by=0.5)",
    ),
    "exp_range": (
        lambda o, total, n: waves(o, n, "exp_range", gamma=0.97),
        lambda total, n: f"cyclic(start=1/4, up={n}, down={n + 2}, gamma=0.97)",
    ),
    "averaging, cosine": (
        lambda o, total, n: SWALR(o, [peak / 10 for peak in PEAKS], n),
        lambda total, n: f"cosine({n}, to=0.1) >> hold()",
    ),
    "averaging, linear": (
        lambda o, total, n: SWALR(o, [peak / 10 for peak in PEAKS], n, "linear"),
        lambda total, n: f"linear({n}, to=0.1) >> hold()",
    ),
    "warm-up and cosine": (warmed, lambda total, n: f"linear({n}, start=1/3, to=1) >> cosine()"),
    "three in sequence": (
        three,
        lambda total, n: f"hold({n}, start=0.5) >> exp({n}, start=1, to={0.8**n!r}) >> poly(start=1)",
    ),
    "a product": (
        lambda o, total, n: th.ChainedScheduler([th.ConstantLR(o, 0.5, n), th.ExponentialLR(o, 0.9)]),
        lambda total, n: f"(hold({n}, start=0.5) >> hold(start=1)) * exp(to={0.9**total!r})",
    ),
}
PARTS = {"warm-up and cosine": 1, "three in sequence": 2}  # lengths of n that must leave something over


@pytest.mark.parametrize("name", TABLE)
def test_every_update(name, agree):
    make, text = TABLE[name]
    for total, n in GRID:
        if n * PARTS.get(name, 1) < total + (name not in PARTS):
            agree(used(make, total, total, n), text(total, n), total)


@pytest.mark.parametrize("total", [1, 2, 5, 41])
def test_a_schedule_of_its_own_for_each_group(total, agree):
    theirs = used(lambda o: th.LambdaLR(o, [lambda k: 1 - k / total, lambda k: 0.5]), total)
    agree(theirs, "hold()", total, gates=("linear()", "hold(start=0.5)"))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_momentum_of_a_cycle(n, agree):
    theirs = used(
        lambda o: waves(o, n, "triangular", base_momentum=0.8, max_momentum=0.9), 41, hyper="momentum"
    )
    text = f"cyclic(start=0.9, top=0.8, up={n}, down={n + 2})"
    agree(theirs, text, 41, hyper="momentum", peak=1, scales=(1.0, 1.0))


def test_accepted_zero_first_rate(differ):
    theirs = used(lambda o: th.LambdaLR(o, lambda k: min(k / 4, 1)), 10)
    text = "warmup(4) >> hold()"
    differ(theirs, lambda k: min(k / 4, 1), text, lambda k: min((k + 0.5) / 4, 1), 10, tick=0.5, again=text)


def test_accepted_floor_not_reached(differ):
    theirs = used(lambda o: th.CosineAnnealingWarmRestarts(o, 5), 10)
    text = "repeat(cosine(start=1), 2)"

    def wave(t):
        return (1 + math.cos(math.pi * t / 5)) / 2

    differ(
        theirs,
        lambda k: wave(k % 5),
        text,
        lambda k: 0 if k == 9 else wave((k + 1) % 5),
        10,
        tick=1,
        again=text,
    )


def test_accepted_zero_start(agree):
    with pytest.raises(ValueError, match="greater than 0"):
        used(lambda o: th.LinearLR(o, 0, 1, 4), 1)
    with pytest.raises(ZeroDivisionError):
        used(lambda o: th.ConstantLR(o, 0, 4), 10)
    agree([[0, 0]] * 4 + [PEAKS] * 6, "hold(4, start=0) >> hold(start=1)", 10)
    theirs = used(lambda o: th.LinearLR(o, 1e-8, 1, 4), 10)
    assert theirs[0] == [1e-8 * peak for peak in PEAKS]
    agree(theirs, "warmup(4, start=1e-8) >> hold()", 10)
    agree(used(lambda o: th.LambdaLR(o, lambda k: min(k / 4, 1)), 10), "warmup(4) >> hold()", 10)


def test_accepted_cosine_climbs(differ):
    def wave(k):
        return (1 + math.cos(math.pi * k / 7)) / 2

    theirs = used(lambda o: th.CosineAnnealingLR(o, 7), 20)
    differ(theirs, wave, "cosine(7) >> hold()", lambda k: wave(min(k, 7)), 20, again="wave(half=7)")


def test_accepted_after_the_end(differ):
    """Schedules that know no end go on; one-cycle climbs for one more update and then raises."""
    text = "step(by=0.5, every=3)"
    differ(
        used(lambda o: th.StepLR(o, 3, 0.5), 20), lambda k: 0.5 ** (k // 3),
        text, lambda k: 0.5 ** (min(k, 8) // 3), 8, again=text, again_total=math.inf,
    )  # fmt: skip

    def make(o):
        return th.OneCycleLR(o, PEAKS, 10)

    rates = [row[0] for row in used(make, 11)]
    assert rates[10] == pytest.approx(rates[8], rel=1e-9)
    assert rates[10] > 100 * rates[9]
    with pytest.raises(ValueError, match="Tried to step 11 times"):
        used(make, 12)


def test_accepted_absolute_floor(differ):
    """A group at a quarter of the peak rises to a floor of half the peak."""

    def level(k, floor):
        return floor + (1 - floor) * (1 + math.cos(math.pi * k / 10)) / 2

    differ(
        used(lambda o: th.CosineAnnealingLR(o, 10, eta_min=PEAK / 2), 10),
        lambda k: [level(k, 0.5), level(k, 2)],
        "cosine(to=0.5)",
        lambda k: level(k, 0.5),
        10,
        again="hold()",
        again_gates=("cosine(to=0.5)", "cosine(to=2)"),
    )


def test_accepted_groups_flattened(differ):
    cyclic = used(lambda o: th.CyclicLR(o, PEAK / 4, PEAK, 3), 11)
    assert all(a == b for a, b in cyclic)
    theirs = used(lambda o: th.OneCycleLR(o, PEAK, 11, cycle_momentum=False), 11)
    own = used(lambda o: th.OneCycleLR(o, PEAKS, 11, cycle_momentum=False), 11)
    rise, fall = 0.3 * 11 - 1, 0.7 * 11
    text = f'cosine("{rise}up", start=0.04, to=1) >> cosine("{fall}up", to=4e-6) >> hold()'
    levels = [row[0] / PEAK for row in own]
    differ(
        theirs, lambda k: [levels[k], 4 * levels[k]], text, lambda k: levels[k], 11,
        again=text, again_gates=(None, "hold(start=4)"),
    )  # fmt: skip


@pytest.mark.parametrize("total", [1, 2, 3, 4, 7, 10, 41, 95])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_accepted_one_cycle_phases(total, three_phase, anneal, differ):
    """Each of their phases ends an update early, and with less than four updates the first before the run."""
    ends = [0.3 * total - 1, *([0.6 * total - 2] if three_phase else []), total - 1]
    levels = [0.04, 1, *([0.04] if three_phase else []), 4e-6]

    def level(t, ends):
        phase = next((i for i, end in enumerate(ends) if t <= end), len(ends) - 1)
        begin = ends[phase - 1] if phase else 0
        u = (t - begin) / (ends[phase] - begin)
        w = u if anneal == "linear" else (1 - math.cos(math.pi * u)) / 2
        return levels[phase] + (levels[phase + 1] - levels[phase]) * w

    def make(o):
        return th.OneCycleLR(o, PEAKS, total, anneal_strategy=anneal, three_phase=three_phase)

    word = {"cos": "cosine", "linear": "linear"}[anneal]
    pieces = [f'{word}("{ends[0]!r}up", start=0.04, to=1)']
    pieces += [f'{word}("{0.3 * total - 1!r}up", to=0.04)'] * three_phase
    pieces += [f'{word}("{total - 1 - ends[-2]!r}up", to=4e-6)', "hold()"]
    said = f'one_cycle(phases={3 if three_phase else 2}, anneal="{"cosine" if anneal == "cos" else anneal}")'
    differ(
        used(make, total),
        lambda k: level(k, ends),
        said,
        lambda k: level(k, [0.3 * total, *([0.6 * total] if three_phase else []), total]),
        total,
        again=" >> ".join(pieces) if ends[0] > 0 else None,
    )


def test_accepted_zero_length(differ):
    """What should take no time never happens: the run stays at the start."""
    text = "linear(0, start=0.5, to=1) >> hold()"
    for make in (lambda o: th.LinearLR(o, 0.5, 1, 0), lambda o: th.ConstantLR(o, 0.5, 0)):
        differ(used(make, 5), lambda k: 0.5, text, lambda k: 1, 5, again="hold(start=0.5)")
    stays = used(lambda o: th.PolynomialLR(o, 0), 5)
    differ(stays, lambda k: 1, "poly(0) >> hold()", lambda k: 0, 5, again="hold()")
