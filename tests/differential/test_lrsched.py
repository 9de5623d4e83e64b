"""lrsched beside étude: its schedules are functions of an update's number, its groups multiples of them."""

import math

import pytest

lrsched = pytest.importorskip("lrsched", reason="needs lrsched")

PEAK = 3e-3

# Updates of the run and a length of at least one update; lrsched refuses a warm-up of none.
GRID = [
    (total, n) for total in (1, 2, 3, 5, 7, 10, 41) for n in (1, 2, 3, total - 1, total) if 0 < n <= total
]
SHORT = [(total, n) for total, n in GRID if n < total]


def used(schedule, updates):
    """What each of two groups has in each update."""
    groups = lrsched.scale_by_group(schedule, multipliers={"g0": 1.0, "g1": 0.25})
    return [list(groups(k).values()) for k in range(updates)]


def warmed(schedule, n, start=0.0):
    return lrsched.with_warmup(schedule, warmup_steps=n, start_lr=start)


def wsd(total, n, shape, **options):
    lengths = {"warmup_steps": n // 2, "decay_steps": n - n // 2, "total_steps": total}
    levels = {"base_lr": PEAK, "final_lr": PEAK / 10, "warmup_start": 0.0}
    return lrsched.warmup_stable_decay(decay_shape=shape, **lengths | levels | options)


# name -> (lrsched's schedule, étude's text, the corners it can be asked for, updates compared past the end)
TABLE = {
    "constant": (lambda total, n: lrsched.constant(lr=PEAK), lambda total, n: "hold()", GRID, 3),
    "step_decay": (
        lambda total, n: lrsched.step_decay(base_lr=PEAK, drop=0.3, step_size=n),
        lambda total, n: f"step(by=0.3, every={n})", GRID, 0,
    ),
    "multi_step": (
        lambda total, n: lrsched.multi_step(base_lr=PEAK, milestones=[n + 1, n, n], gamma=0.3),
        lambda total, n: f"multistep(at=({n}, {n}, {n + 1}), by=0.3)", GRID, 0,
    ),
    "exponential": (
        lambda total, n: lrsched.exponential(base_lr=PEAK, gamma=0.9),
        lambda total, n: f"exp(to={0.9**total!r})", GRID, 0,
    ),
    "exponential_decay": (
        lambda total, n: lrsched.exponential_decay(base_lr=PEAK, decay_rate=0.3, decay_steps=n),
        lambda total, n: f"exp(to={0.3 ** (total / n)!r})", GRID, 0,
    ),
    "polynomial": (
        lambda total, n: lrsched.polynomial(base_lr=PEAK, end_lr=PEAK / 10, total_steps=n, power=2),
        lambda total, n: f"poly({n}, to=0.1, power=2) >> hold()", GRID, 3,
    ),
    "polynomial_decay": (
        lambda total, n: lrsched.polynomial_decay(start_lr=PEAK, end_lr=0.0, total_steps=total, power=0.5),
        lambda total, n: "poly(power=0.5)", GRID, 3,
    ),
    "linear": (
        lambda total, n: warmed(lrsched.linear(base_lr=PEAK, end_lr=0.0, total_steps=total - n), n),
        lambda total, n: f"warmup({n}) >> linear()", SHORT, 3,
    ),
    "cosine": (
        lambda total, n: warmed(
            lrsched.cosine(base_lr=PEAK, min_lr=PEAK / 10, total_steps=total - n), n, PEAK / 5
        ),
        lambda total, n: f"warmup({n}, start=0.2) >> cosine(to=0.1)", SHORT, 3,
    ),
    "cosine_restarts": (
        lambda total, n: lrsched.cosine_restarts(base_lr=PEAK, min_lr=PEAK / 10, period=n, t_mult=2),
        lambda total, n: f"repeat(cosine({n}, start=1, to=0.1), 3, stretch=2)",
        [(7 * n, n) for n in (1, 2, 5)], 0,
    ),
    "inverse_sqrt": (
        lambda total, n: lrsched.inverse_sqrt(base_lr=PEAK, warmup_steps=n),
        lambda total, n: f"warmup({n}) >> inv_sqrt()", SHORT, 0,
    ),
    "wsd, linear": (
        lambda total, n: wsd(total, n, "linear"),
        lambda total, n: f"warmup({n // 2}) >> hold() >> linear({n - n // 2}, to=0.1)", GRID, 3,
    ),
    "wsd, 1-sqrt": (
        lambda total, n: wsd(total, n, "1-sqrt", warmup_start=PEAK / 5),
        lambda total, n: f"warmup({n // 2}, start=0.2) >> hold() >> sqrt({n - n // 2}, to=0.1)", GRID, 3,
    ),
    "wsd without a decay": (
        lambda total, n: wsd(total, n, "linear", decay_steps=0),
        lambda total, n: f"warmup({n // 2}) >> hold()", GRID, 3,
    ),
    "triangular": (
        lambda total, n: lrsched.triangular(min_lr=PEAK / 4, max_lr=PEAK, step_size=n),
        lambda total, n: f"cyclic(up={n}, start=1/4)", GRID, 0,
    ),
    "triangular2": (
        lambda total, n: lrsched.triangular2(min_lr=PEAK / 4, max_lr=PEAK, step_size=n),
        lambda total, n: f"cyclic(up={n}, start=1/4, by=0.5)", GRID, 0,
    ),
    "exp_range": (
        lambda total, n: lrsched.exp_range(min_lr=PEAK / 4, max_lr=PEAK, step_size=n, gamma=0.97),
        lambda total, n: f"cyclic(up={n}, start=1/4, gamma=0.97)", GRID, 0,
    ),
    "sequential": (
        lambda total, n: lrsched.sequential([
            (n, lrsched.constant(lr=PEAK / 2)),
            (total - n, lrsched.linear(base_lr=PEAK, end_lr=0.0, total_steps=total - n)),
        ]),
        lambda total, n: f"hold({n}, start=0.5) >> linear(start=1)", SHORT, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_every_update(name, agree):
    make, text, grid, more = TABLE[name]
    for total, n in grid:
        agree(used(make(total, n), total + more), text(total, n), total)


@pytest.mark.parametrize(("total", "share"), [(7, 0.3), (41, 0.3), (10, 0.25), (3, 0.9), (95, 0.3)])
def test_one_cycle_in_whole_updates(total, share, agree):
    n = min(max(1, round(share * total)), total - 1)
    theirs = lrsched.one_cycle(max_lr=PEAK, total_steps=total, pct_start=share, initial_div=25, final_div=1e4)
    agree(used(theirs, total + 3), f"cosine({n}, start=0.04, to=1) >> cosine(to=1e-4)", total)


def test_accepted_one_cycle_end(differ):
    """Its final_div divides the peak; torch's and optax's divides the start."""
    theirs = lrsched.one_cycle(max_lr=PEAK, total_steps=10, pct_start=0.3, initial_div=25, final_div=1e4)

    def level(k, end):
        up, down = (1 - math.cos(math.pi * k / 3)) / 2, (1 + math.cos(math.pi * (k - 3) / 7)) / 2
        return 0.04 + 0.96 * up if k < 3 else end + (1 - end) * down

    differ(
        used(theirs, 11), lambda k: level(k, 1 / 1e4), "one_cycle(0.3, 25, 1e4)",
        lambda k: level(k, 1 / 25e4), 10, again="one_cycle(0.3, 25, 1e4 / 25)",
    )  # fmt: skip


def test_accepted_ratio_rounding(differ):
    """0.3 of 95 updates, 28.5, is 28 to Python's round, half to even."""
    theirs = lrsched.one_cycle(max_lr=PEAK, total_steps=95, pct_start=0.3, initial_div=25, final_div=25e4)

    def level(k, w):
        up, down = (1 - math.cos(math.pi * k / w)) / 2, (1 + math.cos(math.pi * (k - w) / (95 - w))) / 2
        return 0.04 + 0.96 * up if k < w else 4e-6 + (1 - 4e-6) * down

    differ(
        used(theirs, 95), lambda k: level(k, 28), "one_cycle(0.3)", lambda k: level(k, 28.5), 95,
        again="one_cycle(28)",
    )  # fmt: skip


def test_accepted_after_the_end(differ):
    """After its last phase it holds the last update's rate, not the level that the phase was going to."""
    theirs = lrsched.sequential([(4, lrsched.linear(base_lr=PEAK, end_lr=0.0, total_steps=4))])
    differ(
        used(theirs, 8), lambda k: 1 - min(k, 3) / 4, "linear()", lambda k: 1 - min(k, 4) / 4, 4,
        again="linear(3, to=1/4) >> hold()", again_total=8,
    )  # fmt: skip
