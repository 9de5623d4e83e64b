"""timm's arguments against the formulas of timm 1.0.31, `scheduler/*.py`, and (marked) against timm itself.

timm brings a torchvision that breaks transformers: it lives in a folder and runs in a process of its own.

    pip install --target build/timm --no-deps timm && ETUDE_TIMM=build/timm make test-all
"""

import json
import math
import os
import subprocess
import sys

import pytest

from etude import Plan
from etude import plan as plan_of
from etude.convert.converted import recognised
from etude.convert.timm.arguments import timm
from etude.errors import RecipeError
from etude.model.leaf import Leaf

UPDATES = 8  # in an epoch
DECAYS = ("linear", "1-sqrt", "cosine", "power", "exp")
BASE = {
    "lr": 1e-3,
    "epochs": 12,
    "warmup_epochs": 3,
    "warmup_lr": 1e-5,
    "min_lr": 1e-5,
    "sched_on_updates": True,
}

GRID = [
    *({"sched": sched, "warmup_prefix": on} for sched in ("cosine", "poly", "tanh") for on in (True, False)),
    *({"sched": "cosine", "warmup_prefix": True, "lr_k_decay": k, "cooldown_epochs": 2} for k in (0.7, 1, 2)),
    {"sched": "poly", "decay_rate": 0.9, "lr_k_decay": 1.5, "warmup_epochs": 0},
    *(
        {
            "sched": sched, "lr_cycle_limit": 3, "lr_cycle_mul": mul, "lr_cycle_decay": decay,
            "min_lr": floor, "warmup_prefix": prefix,
        }
        for sched in ("cosine", "tanh")
        for mul in (1.0, 2.0)
        for decay, floor in ((1.0, 1e-5), (0.5, 0.0), (0.5, 1e-5))
        for prefix in (True, False)
    ),
    *({"sched": "step", "decay_epochs": n, "decay_rate": 0.5, "warmup_prefix": True} for n in (4, 2.5)),
    {"sched": "step", "decay_epochs": 4, "warmup_epochs": 3},
    {"sched": "constant"},
    {"sched": "constant", "warmup_epochs": 0},
    *({"sched": "wsd", "lr_decay_fn": fn, "decay_epochs": 0.25} for fn in DECAYS),
    {"sched": "wsd", "decay_epochs": 4, "warmup_prefix": True, "cooldown_epochs": 1, "min_lr": 0.0},
    {"sched": "wsd", "decay_epochs": 9},
    {"sched": "rsqrt", "min_lr": 0.0, "decay_epochs": 0.25},
    {"sched": "rsqrt", "min_lr": 0.0, "lr_stable_timescale": 2, "lr_decay_fn": "cosine", "cooldown_epochs": 1,
     "decay_epochs": 3},
    {"sched": "none"},
]  # fmt: skip


def run_of(args):
    """The epochs that timm's script trains (`create_scheduler_v2`)."""
    epochs, warm = args["epochs"], args["warmup_epochs"] * args.get("warmup_prefix", False)
    if args["sched"] in ("cosine", "poly", "tanh"):
        cycles = range(args.get("lr_cycle_limit", 1))
        epochs = sum(epochs * args.get("lr_cycle_mul", 1.0) ** i for i in cycles)
    if args["sched"] in ("step", "constant", "none"):
        return epochs + warm * (args["sched"] != "none")
    return epochs + warm + args.get("cooldown_epochs", 0)


def rate(args, t):
    """timm's rate after t epochs."""
    lr, warm, sched, floor = args["lr"], args["warmup_epochs"], args["sched"], args["min_lr"]
    if sched == "none":
        return lr
    if warm and t < warm:
        target = rate(args, warm) if sched == "tanh" and not args.get("warmup_prefix") else lr
        return args["warmup_lr"] + (target - args["warmup_lr"]) * t / warm
    if sched in ("wsd", "rsqrt"):
        return stages(args, t - warm)
    t -= warm * args.get("warmup_prefix", False)
    if sched in ("step", "constant"):
        return lr * args.get("decay_rate", 0.1) ** (t // args["decay_epochs"]) if sched == "step" else lr
    mul, length, begin, i = args.get("lr_cycle_mul", 1.0), args["epochs"], 0.0, 0
    while t >= begin + length - 1e-9:
        begin, length, i = begin + length, length * mul, i + 1
    if i >= args.get("lr_cycle_limit", 1):
        return floor
    top, u = lr * args.get("lr_cycle_decay", 0.5) ** i, (t - begin) / length
    bent = u ** args.get("lr_k_decay", 1.0)
    height = {
        "cosine": lambda: 0.5 * (1 + math.cos(math.pi * bent)),
        "poly": lambda: (1 - bent) ** args.get("decay_rate", 0.1),
        "tanh": lambda: 0.5 * (1 - math.tanh(-7.0 * (1 - u) + 3.0 * u)),
    }[sched]()
    return floor + (top - floor) * height


def stages(args, t):
    """timm's rate t epochs after the warm-up of `wsd` and `rsqrt`."""
    whole = args["epochs"] - args["warmup_epochs"] * (not args.get("warmup_prefix", False))
    over = args.get("decay_epochs", 0.2)
    over = round((over * whole if over < 1 else over) * UPDATES) / UPDATES
    scale = args.get("lr_stable_timescale", args["warmup_epochs"])
    stable = args["lr"] * (1.0 if args["sched"] == "wsd" else (1 + t / scale) ** -0.5)
    u = min(max(0.0, (t - (whole - over)) / over), 1.0)
    left = {
        "linear": 1 - u,
        "1-sqrt": 1 - math.sqrt(u),
        "power": 1 - u**0.5,
        "cosine": 0.5 * (1 + math.cos(math.pi * u)),
        "exp": (0.1**u - 0.1) / 0.9,
    }[args.get("lr_decay_fn", "1-sqrt" if args["sched"] == "wsd" else "linear")]
    return args["min_lr"] + (stable - args["min_lr"]) * left


def rates(converted, epochs, hyper="lr"):
    plan = Plan(converted.hypers, tick=converted.tick).over(epochs * UPDATES, epoch=UPDATES)
    return [plan.at(k)[hyper][0] for k in range(round(epochs * UPDATES))]


def check(args, expected):
    converted = timm(args)
    found = rates(converted, run_of(args))
    warm = round(args["warmup_epochs"] * UPDATES)
    cut = args["sched"] in ("cosine", "poly", "tanh") and not args.get("warmup_prefix")
    begin = warm if cut else 0
    assert found[begin:] == pytest.approx(
        expected[begin:], rel=1e-9 if "exp" in str(args) else 1e-12, abs=1e-16
    )
    if cut and warm:
        [warning] = [warning for warning in converted.warnings if "cut out of the curve" in warning]
        said = float(warning.rpartition("up to ")[2].removesuffix("%.")) / 100
        off = max(abs(a - b) for a, b in zip(found[:begin], expected[:begin], strict=True)) / args["lr"]
        assert said * 0.8 - 1e-4 <= off <= said + 5e-5


@pytest.mark.parametrize("more", GRID, ids=lambda more: "-".join(str(value) for value in more.values()))
def test_curves(more):
    args = BASE | more
    check(args, [rate(args, k / UPDATES) for k in range(round(run_of(args) * UPDATES))])


WORKER = """
import argparse, json, sys, types
import torch
sys.modules["timm"] = timm = types.ModuleType("timm")  # its own __init__ wants torchvision
timm.__path__ = [sys.argv[1]]
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler_factory import scheduler_kwargs

def curve(args, updates):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args["lr"])
    kwargs = scheduler_kwargs(argparse.Namespace(**{"decay_epochs": None, "lr_cycle_decay": 0.5} | args))
    scheduler, epochs = create_scheduler_v2(optimizer, **kwargs, updates_per_epoch=updates)
    rates = []
    for k in range(round(epochs * updates)):
        if scheduler is not None:
            scheduler.step_update(k)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates

jobs, updates = json.load(sys.stdin)
json.dump([curve(args, updates) for args in jobs], sys.stdout)
"""


@pytest.mark.all
def test_timm_itself():
    folder = os.path.join(os.environ.get("ETUDE_TIMM", "build/timm"), "timm")
    if not os.path.isdir(folder):
        pytest.skip("timm in a folder of its own (ETUDE_TIMM)")
    jobs = [BASE | more for more in GRID]
    run = subprocess.run(
        [sys.executable, "-c", WORKER, folder],
        input=json.dumps([jobs, UPDATES]),
        capture_output=True,
        text=True,
        check=True,
    )
    for args, expected in zip(jobs, json.loads(run.stdout), strict=True):
        assert len(expected) == round(run_of(args) * UPDATES)
        check(args, expected)


def test_a_decay_is_rounded_to_whole_updates_by_timm_alone():
    args = BASE | {"sched": "wsd"}  # 0.2 of 9 epochs are 14.4 updates
    converted = timm(args)
    found, expected = rates(converted, 12), [rate(args, k / UPDATES) for k in range(12 * UPDATES)]
    assert found[:81] == pytest.approx(expected[:81], rel=1e-12)
    assert found != pytest.approx(expected, rel=1e-3)
    assert any("rounded to whole updates" in warning for warning in converted.warnings)


def test_milestones_fall_an_epoch_early_or_an_update():
    args = BASE | {
        "sched": "multistep",
        "decay_milestones": [4, 8],
        "warmup_epochs": 0,
        "sched_on_updates": False,
    }
    converted = timm(args)
    # timm, once an epoch: bisect_right(milestones, epoch + 1).
    falls = [(epoch + 1 >= 4) + (epoch + 1 >= 8) for epoch in range(12)]
    assert rates(converted, 12)[::UPDATES] == pytest.approx([1e-3 * 0.1**n for n in falls])
    assert any("one epoch before each milestone, and so" in warning for warning in converted.warnings)
    by_update = timm(args | {"sched_on_updates": True})
    assert rates(by_update, 12)[31:33] == [1e-3, 1e-4]
    assert any("one update before each milestone" in warning for warning in by_update.warnings)


def test_once_an_epoch_is_as_far_off_as_the_warning_says():
    args = BASE | {"sched": "cosine", "warmup_prefix": True, "sched_on_updates": False, "min_lr": 0.0}
    converted = timm(args)
    found = rates(converted, 15)
    expected = [rate(args, k // UPDATES) for k in range(15 * UPDATES)]
    assert found[::UPDATES] == pytest.approx(expected[::UPDATES], rel=1e-12)
    [warning] = [warning for warning in converted.warnings if "once an epoch" in warning]
    said = float(warning.partition("up to ")[2].partition("%")[0]) / 100
    off = max(abs(a - b) for a, b in zip(found, expected, strict=True)) / 1e-3
    assert said * (UPDATES - 1) / UPDATES == pytest.approx(off, rel=0.01)
    assert any("timm trains 15 epochs" in warning for warning in converted.warnings)


def test_stairs_once_an_epoch_are_exact():
    args = BASE | {"sched": "step", "decay_epochs": 4, "warmup_epochs": 0, "sched_on_updates": False}
    assert not timm(args).warnings
    assert timm(args).hypers["lr"] == '0.001 * step(every="4ep")'


def test_layer_decay_is_counted_as_timm_counts_it():
    converted = timm(BASE | {"sched": "cosine", "layer_decay": 0.75, "weight_decay": 0.05})
    blocks = [Leaf(f"blocks.{i}.{part}.weight", (4, 4)) for i in range(3) for part in ("attn", "mlp")]
    leaves = [Leaf("embed.weight", (4, 4), module="Embedding"), *blocks, Leaf("head.weight", (4, 4))]
    settled = plan_of(
        leaves, converted.hypers["lr"], weight_decay=converted.hypers["weight_decay"],
        groups=[("^head", {"depth": "head"})], **converted.settings,
    )  # fmt: skip
    peaks = {row["group"]: row["lr"] for row in settled.table()}
    # timm: lr · 0.75^(depth_max - i), with i = 0 for the embeddings and depth_max for the head.
    assert peaks == pytest.approx(
        {"embeddings": 0.75**4 * 1e-3, "layer.0": 0.75**3 * 1e-3, "layer.1": 0.75**2 * 1e-3,
         "layer.2": 0.75e-3, "head": 1e-3}
    )  # fmt: skip
    assert any("puts it above, at the peak" in warning for warning in converted.warnings)
    floors = timm(BASE | {"sched": "cosine", "layer_decay": 0.75, "layer_decay_min_scale": 0.1})
    assert floors.settings["min_scale"] == 0.1
    still = timm(BASE | {"sched": "cosine", "layer_decay": 0.75, "layer_decay_no_opt_scale": 0.05})
    assert any("layer_decay_no_opt_scale=0.05 freezes" in warning for warning in still.warnings)


def test_a_command_line_and_the_args_it_writes_say_the_same():
    line = (
        "./distributed_train.sh 4 /data --model vit_base_patch16_224 --sched cosine --epochs 12 --lr 1e-3 "
        "--warmup-epochs 3 --warmup-lr 1e-5 --min-lr=1e-5 --sched-on-updates --amp -b 128 --dr 0.1 "
        "--lr-noise 0.4 0.9"
    )
    args = BASE | {"sched": "cosine", "amp": True, "lr_noise": [0.4, 0.9], "lr_k_decay": None}
    assert timm(line) == timm(args)
    assert any("by up to 67%" in warning for warning in timm(line).warnings)
    assert recognised(line) == recognised(args) == ["timm"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lr": None, "lr_base": 0.2}, "lr_base=0.2 with the global batch over 256"),
        ({"lr": 0}, "above 0"),
        ({"sched": "plateau"}, "a controller"),
        ({"sched": "cosin"}, "did you mean 'cosine'"),
        ({"min_lr": 1.0}, "above the peak"),
        ({"warmup_epochs": 12}, "the warm-up takes 12"),
        ({"lr_cycle_limit": 3, "lr_cycle_mul": 1.3}, "choose a multiple"),
        ({"lr_cycle_limit": 9}, "begins below min_lr"),
        ({"sched": "multistep", "decay_milestones": [1], "sched_on_updates": False}, "before the run begins"),
        ({"sched": "wsd", "decay_epochs": 11}, "shorten it"),
        ({"sched": "wsd", "lr_decay_fn": "sqrt"}, "lr_decay_fn"),
        ({"sched": "rsqrt"}, "min-lr"),
        ({"sched": "rsqrt", "min_lr": 0, "warmup_epochs": 0}, "needs a timescale"),
        ({"layer_decay": 1.5}, "at most 1"),
    ],
)
def test_what_cannot_be_said(more, message):
    with pytest.raises(RecipeError, match=message):
        timm(BASE | {"sched": "cosine"} | more)


def test_the_defaults_of_the_script():
    stairs = timm("train.py --sched step --lr 0.1 --warmup-epochs 0 --sched-on-updates")
    assert stairs.hypers == {"lr": '0.1 * step(every="90ep")', "weight_decay": "2e-05"}
    milestones = timm("train.py --sched multistep --lr 0.1 --warmup-epochs 0 --sched-on-updates")
    assert milestones.hypers["lr"] == '0.1 * multistep(at=("90ep", "180ep", "270ep"))'
    one = timm(
        "train.py --sched multistep --lr 0.1 --warmup-epochs 0 --sched-on-updates --decay-milestones 90"
    )
    assert one.hypers["lr"] == '0.1 * multistep(at=("90ep",))'
    usual = timm("train.py --lr 0.1 --sched-on-updates")
    assert usual.hypers["lr"] == '0.1 * cosine() * (linear("5ep", to=1, start=1e-05/0.1) >> hold())'


@pytest.mark.parametrize("sched", ["cosine", "wsd"])
def test_rates_that_are_levels_in_etude_are_pointed_out(sched):
    warnings = timm(BASE | {"sched": sched, "warmup_prefix": True, "decay_epochs": 3}).warnings
    assert sum("min_lr=1e-05 is a rate" in warning for warning in warnings) == 1
    assert sum("warmup_lr=1e-05 is a rate" in warning for warning in warnings) == 1
    without = BASE | {"sched": sched, "warmup_prefix": True, "decay_epochs": 3, "min_lr": 0, "warmup_lr": 0}
    assert not any("is a rate" in warning for warning in timm(without).warnings)
