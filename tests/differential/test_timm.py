"""timm's schedulers beside étude, in a process of its own: every rate of a real optimizer, to 1e-12.

timm stands in a folder of its own, made with pip where it is absent, because the torchvision that it asks for
breaks transformers. Only its schedulers are loaded, and they need none.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

VERSION = "1.0.31"
PEAK, SCALES = 3e-3, (1.0, 0.25)

TOTALS = (1, 2, 3, 5, 7, 10, 41)
GRID = [(total, w) for total in TOTALS for w in sorted({0, 1, 2, total - 1}) if w < total]

pytestmark = pytest.mark.all

# Reads a line of JSON for each run and answers with the rates of its updates.
CHILD = """
import json, sys, types, warnings
import torch
timm = types.ModuleType("timm")  # its own __init__ would load every model, and torchvision
timm.__path__ = [sys.argv[1] + "/timm"]
sys.modules["timm"] = timm
import timm.scheduler
warnings.simplefilter("ignore")
for line in sys.stdin:
    name, options, updates, groups = json.loads(line)
    weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in groups]
    optimizer = torch.optim.SGD([{"params": [w], **group} for w, group in zip(weights, groups)], lr=1.0)
    schedule = getattr(timm.scheduler, name)(optimizer, **options)
    found = []
    for k in range(updates):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step(k + 1)
    print(json.dumps(found), flush=True)
"""


def installed(folder):
    """A folder that holds timm; skips, with pip's reason, where it cannot be had."""
    if not (folder / VERSION).is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--disable-pip-version-check",
            ]
            made = subprocess.run(
                [*pip, "--target", f"{scratch}/{VERSION}", f"timm=={VERSION}"], capture_output=True, text=True
            )
            if made.returncode:
                pytest.skip(f"timm {VERSION} cannot be installed: {made.stderr.strip().splitlines()[-1]}")
            if not (folder / VERSION).is_dir():  # another worker may have been faster
                Path(scratch, VERSION).rename(folder / VERSION)
    return folder / VERSION


@pytest.fixture(scope="module")
def used(pytestconfig):
    """`used(scheduler, options, updates)`: the rates of a real optimizer of two groups in each update.

    By default the groups have one rate and timm's own `lr_scale`; with `own` each has a rate of its own.
    """
    place = installed(pytestconfig.cache.mkdir("timm"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(place)], text=True, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip

        def ask(scheduler, options, updates, own=False):
            named = [{"lr": PEAK * s} if own else {"lr": PEAK, "lr_scale": s} for s in SCALES]
            child.stdin.write(json.dumps([f"{scheduler}LRScheduler", options, updates, named]) + "\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        yield ask
        child.stdin.close()


def prefixed(total, w, **options):
    return {"t_initial": total - w, "warmup_t": w, "warmup_prefix": True, **options}


def wsd(total, w, d, **options):
    return {"t_initial": total - w, "decay_t": d, "warmup_t": w, "lr_min": PEAK / 10, **options}


def tenth(length):
    """The timescale at which a length of updates brings an exponential down to a tenth."""
    return f'"{length / math.log(10)!r}up"'


# name -> (timm's scheduler, its options, étude's text)
TABLE = {
    "cosine": ("Cosine", lambda total, w: prefixed(total, w), lambda total, w: f"warmup({w}) >> cosine()"),
    "cosine, to a floor": (
        "Cosine", lambda total, w: prefixed(total, w, lr_min=PEAK / 10, warmup_lr_init=PEAK / 5),
        lambda total, w: f"warmup({w}, start=0.2) >> cosine(to=0.1)",
    ),
    "k-decay": (
        "Cosine", lambda total, w: prefixed(total, w, k_decay=1.5),
        lambda total, w: f"warmup({w}) >> cosine(k=1.5)",
    ),
    "polynomial": (
        "Poly", lambda total, w: prefixed(total, w), lambda total, w: f"warmup({w}) >> poly(power=0.5)",
    ),
    "polynomial, k-decay": (
        "Poly", lambda total, w: prefixed(total, w, power=2, k_decay=1.5),
        lambda total, w: f"warmup({w}) >> poly(power=2, k=1.5)",
    ),
    "wsd, linear": (
        "WSD", lambda total, w: wsd(total, w, total - w, decay_fn="linear"),
        lambda total, w: f"warmup({w}) >> linear(to=0.1)",
    ),
    "wsd, 1-sqrt": (
        "WSD", lambda total, w: wsd(total, w, 1),
        lambda total, w: f"warmup({w}) >> hold() >> sqrt(1, to=0.1)",
    ),
    "wsd, cosine": (
        "WSD", lambda total, w: wsd(total, w, (total - w + 1) // 2, decay_fn="cosine"),
        lambda total, w: f"warmup({w}) >> hold() >> cosine({(total - w + 1) // 2}, to=0.1)",
    ),
    "wsd, power": (
        "WSD", lambda total, w: wsd(total, w, (total - w + 1) // 2, decay_fn="power", decay_power=1.7),
        lambda total, w: f"warmup({w}) >> hold() >> poly({(total - w + 1) // 2}, to=0.1, power=1, k=1.7)",
    ),
    "wsd, exponential, made to reach its end": (
        "WSD", lambda total, w: wsd(total, w, total - w, decay_fn="exp"),
        lambda total, w: f"warmup({w}) >> exp_warmup(start=1, to=0.1, timescale={tenth(total - w)})",
    ),
    "rsqrt, then down": (
        "WSD", lambda total, w: wsd(total, w, 1, stable_fn="rsqrt", stable_timescale=4, lr_min=0),
        lambda total, w: f"(warmup({w}) >> inv_sqrt(timescale=4)) * (hold() >> sqrt(1))",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_every_update(name, used, agree):
    scheduler, options, text = TABLE[name]
    for total, w in GRID:
        agree(used(scheduler, options(total, w), total + 3), text(total, w), total)


@pytest.mark.parametrize("w", [0, 1, 3])
@pytest.mark.parametrize("every", [1, 2.5, 4])
def test_step(w, every, used, agree):
    theirs = used("Step", {"decay_t": every, "decay_rate": 0.3, "warmup_t": w}, 41)
    agree(theirs, f'warmup({w}) >> step(by=0.3, every="{every}up")', 41)


@pytest.mark.parametrize(
    ("scheduler", "word"), [("Cosine", "cosine({n}, start=1)"), ("Poly", "poly({n}, start=1, power=0.5)")]
)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_cycles_longer_and_lower(scheduler, word, n, used, agree):
    options = {"t_initial": n, "cycle_mul": 2.0, "cycle_decay": 0.5, "cycle_limit": 3}
    agree(used(scheduler, options, 7 * n + 3), f"repeat({word.format(n=n)}, 3, stretch=2, fade=0.5)", 7 * n)


def cosine(u):
    return (1 + math.cos(math.pi * u)) / 2


@pytest.mark.parametrize(("total", "w"), [(2, 1), (7, 3), (41, 10)])
def test_accepted_warmup_inside(total, w, used, differ):
    """By default the warm-up lies over the decay's beginning: the peak is never used, and the rate jumps."""
    differ(
        used("Cosine", {"t_initial": total, "warmup_t": w}, total),
        lambda k: k / w if k < w else cosine(k / total),
        f"warmup({w}) >> cosine()",
        lambda k: k / w if k < w else cosine((k - w) / (total - w)),
        total,
    )


def test_accepted_milestones(used, differ):
    differ(
        used("MultiStep", {"decay_t": [3, 6], "decay_rate": 0.5}, 10),
        lambda k: 0.5 ** ((k >= 2) + (k >= 5)),
        "multistep(at=(3, 6), by=0.5)",
        lambda k: 0.5 ** ((k >= 3) + (k >= 6)),
        10,
        again="multistep(at=(2, 5), by=0.5)",
    )


def test_accepted_restart_rounding(used, differ):
    """Cycles of 10, 30, 90, 270, 810: the sixth should begin at 1210, and theirs is still in the fifth."""
    ends = [10 * (3**i - 1) // 2 for i in range(7)]

    def level(k, i):
        return cosine((k - ends[i]) / (ends[i + 1] - ends[i]))

    theirs = used("Cosine", {"t_initial": 10, "cycle_mul": 3.0, "cycle_limit": 6}, 1215)
    assert max(theirs[1210]) < 1e-30
    differ(
        theirs,
        lambda k: level(k, math.floor(math.log(1 + 2 * k / 10, 3))),
        "repeat(cosine(10, start=1), 6, stretch=3)",
        lambda k: level(k, max(i for i, end in enumerate(ends) if end <= k)),
        3640,
    )


@pytest.mark.parametrize("total", [2, 10, 41])
def test_accepted_tanh_ends(total, used, differ):
    """The first update has the peak, because timm asks its formula from the second on."""

    def theirs_is(k):
        return (1 - math.tanh(-7 * (1 - k / total) + 3 * k / total)) / 2

    high, low = theirs_is(0), theirs_is(total)
    after = f"tanh({total - 1}, lb={-7 + 10 / total!r}, start={theirs_is(1)!r}, to={low!r})"
    differ(
        used("Tanh", {"t_initial": total}, total + 2),
        lambda k: (theirs_is(k) if k < total else 0) if k else 1,
        "tanh()",
        lambda k: max((theirs_is(k) - low) / (high - low), 0),
        total,
        again=f"hold(1) >> {after} >> hold(start=0)",
        again_total=total + 2,
    )


def test_accepted_absolute_floor(used, differ, agree):
    """Of timm's own `lr_scale` the floor has its share; a group with a rate of its own rises to it."""

    def level(k, floor):
        return floor + (1 - floor) * cosine(k / 10)

    options = {"t_initial": 10, "lr_min": PEAK / 2}
    agree(used("Cosine", options, 13), "cosine(to=0.5)", 10)
    differ(
        used("Cosine", options, 10, own=True), lambda k: [level(k, 0.5), level(k, 2)],
        "cosine(to=0.5)", lambda k: level(k, 0.5), 10,
        again="hold()", again_gates=("cosine(to=0.5)", "cosine(to=2)"),
    )  # fmt: skip


def test_accepted_restart_floor(used, differ):
    options = {"t_initial": 5, "lr_min": PEAK / 10, "cycle_decay": 0.5, "cycle_limit": 2}
    differ(
        used("Cosine", options, 13),
        lambda k: 0.1 + (0.5 ** (k // 5) - 0.1) * cosine(k % 5 / 5) if k < 10 else 0.1,
        "repeat(cosine(start=1, to=0.1), 2, fade=0.5)",
        lambda k: 0.5 ** (k // 5) * (0.1 + 0.9 * cosine(k % 5 / 5)) if k < 10 else 0.05,
        10,
        again="cosine(5, to=0.1) >> cosine(5, start=0.5, to=0.1) >> hold()",
        again_total=13,
    )
