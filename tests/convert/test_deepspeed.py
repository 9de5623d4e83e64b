"""DeepSpeed's blocks against the formulas of deepspeed 0.19.8, `runtime/lr_schedules.py`, written down here.

deepspeed itself builds CUDA code when it is installed; these formulas were run beside its file once, with a
difference of at most 4e-16 of the peak.
"""

import math
import re

import pytest

from etude import Plan
from etude.convert.converted import recognised
from etude.convert.deepspeed.blocks import deepspeed
from etude.errors import RecipeError

UPDATES = 97


def block(kind, lr=None, **params):
    optimizer = {"optimizer": {"type": "AdamW", "params": {"lr": lr}}} if lr else {}
    return {**optimizer, "scheduler": {"type": kind, "params": params}}


def rates(converted, updates=UPDATES, hyper="lr"):
    plan = Plan(converted.hypers, tick=converted.tick).over(updates)
    return [plan.at(k)[hyper][0] for k in range(updates)]


def risen(k, updates, kind):
    """How much of the warm-up is done at update k, which DeepSpeed reads at k - 1."""
    updates = max(2, updates)
    if k - 1 >= updates:
        return 1.0
    return max(0, k - 1) / updates if kind == "linear" else math.log(max(1, k)) / math.log(updates)


def warmup(k, low, high, updates, kind):
    return low + (high - low) * risen(k, updates, kind)


def warmup_decay(k, low, high, updates, total, kind):
    if k - 1 < updates:
        return warmup(k, low, high, updates, kind)
    return low + (high - low) * max(0.0, (total - (k - 1)) / (total - updates))


def warmup_cosine(k, lr, low, floor, updates, total, kind):
    if k == 0:
        return 0.0
    if k - 1 < updates:
        return lr * (low + (1 - low) * risen(k, updates, kind))
    return lr * (
        floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, (k - updates) / (total - updates)))) / 2
    )


def one_cycle(k, low, high, first, second, every, slower):
    if k > first + second:
        return low / (1 + slower * (k - first - second) / every) if every else low
    x = k % (first + second)
    height = x / first if x <= first else (first + second - x) / second
    return low + (high - low) * height


@pytest.mark.parametrize("low", [0.0, 1e-5])
@pytest.mark.parametrize("updates", [1, 30, 97, 200])
def test_warmup(low, updates):
    said = block(
        "WarmupLR", warmup_min_lr=low, warmup_max_lr=1e-3, warmup_num_steps=updates, warmup_type="linear"
    )
    expected = [warmup(k, low, 1e-3, updates, "linear") for k in range(UPDATES)]
    assert rates(deepspeed(said, total=UPDATES)) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("total", [60, 97, 300])
def test_warmup_and_decay(total):
    said = block(
        "WarmupDecayLR", total_num_steps=total, warmup_min_lr=1e-5, warmup_num_steps=30, warmup_type="linear"
    )
    expected = [warmup_decay(k, 1e-5, 0.001, 30, total, "linear") for k in range(UPDATES)]
    converted = deepspeed(said, total=UPDATES)
    assert rates(converted) == pytest.approx(expected, rel=1e-12)
    assert deepspeed(said).total == total


def test_warmup_and_cosine_differ_in_one_update_and_say_by_how_much():
    said = block(
        "WarmupCosineLR",
        3e-4,
        total_num_steps=97,
        warmup_num_steps=30,
        warmup_min_ratio=0.1,
        warmup_type="linear",
    )
    converted = deepspeed(said)
    expected = [warmup_cosine(k, 3e-4, 0.1, 1e-4, 30, 97, "linear") for k in range(UPDATES)]
    found = rates(converted)
    assert found[30] == 3e-4
    assert (found[30] - expected[30]) / 3e-4 == pytest.approx(0.03)
    assert any(
        warning.startswith("Update 30 ") and "0.03 of the peak" in warning for warning in converted.warnings
    )
    found[30] = expected[30]
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("updates", [2, 3, 10, 97, 1000])
@pytest.mark.parametrize("kind", ["WarmupLR", "WarmupDecayLR", "WarmupCosineLR"])
def test_the_logarithm_is_as_near_as_the_warning_says(kind, updates):
    total = updates + 50
    more = {} if kind == "WarmupLR" else {"total_num_steps": total}
    converted = deepspeed(block(kind, 1e-3, warmup_num_steps=updates, **more), total=total)
    expected = {
        "WarmupLR": lambda k: warmup(k, 0, 1e-3, updates, "log"),
        "WarmupDecayLR": lambda k: warmup_decay(k, 0, 1e-3, updates, total, "log"),
        "WarmupCosineLR": lambda k: warmup_cosine(k, 1e-3, 0, 1e-4, updates, total, "log"),
    }[kind]
    off = max(abs(rate - expected(k)) for k, rate in enumerate(rates(converted, total))) / 1e-3
    said = [
        float(percent) for percent in re.findall(r"off by at most ([\d.]+)%", " ".join(converted.warnings))
    ]
    assert said[0] / 100 <= 0.0101
    assert off <= said[0] / 100 + 5e-5
    assert off >= said[0] / 100 * 0.9 - 1e-4


def test_one_cycle_and_its_momentum():
    said = block(
        "OneCycle", cycle_min_lr=1e-4, cycle_max_lr=1e-3, cycle_first_step_size=30, cycle_second_step_size=40,
        decay_step_size=7, decay_lr_rate=0.3,
    )  # fmt: skip
    converted = deepspeed(said)
    expected = [one_cycle(k, 1e-4, 1e-3, 30, 40, 7, 0.3) for k in range(UPDATES)]
    assert rates(converted) == pytest.approx(expected, rel=1e-12)
    # The engine writes the lower momentum when it is built, and follows the cycle from the first update on.
    momentum = [0.8, *(0.9 - (one_cycle(k, 0, 1, 30, 40, 0, 0)) * 0.1 for k in range(1, UPDATES))]
    assert rates(converted, hyper="momentum") == pytest.approx(momentum, rel=1e-12)
    assert (
        "momentum"
        not in deepspeed(block("OneCycle", cycle_min_lr=1e-4, cycle_max_lr=1e-3, cycle_momentum=False)).hypers
    )


@pytest.mark.parametrize("staircase", [False, True])
def test_the_range_test(staircase):
    said = block("LRRangeTest", lr_range_test_step_size=10, lr_range_test_staircase=staircase)
    expected = [1e-3 * (1 + (k // 10 if staircase else k / 10)) for k in range(UPDATES)]
    assert rates(deepspeed(said, total=UPDATES)) == pytest.approx(expected, rel=1e-12)


def test_a_configuration_without_a_scheduler_holds_the_rate_and_the_weight_decay():
    said = {"optimizer": {"type": "AdamW", "params": {"lr": "3e-4", "weight_decay": 0.01}}, "scheduler": None}
    converted = deepspeed(said)
    assert rates(converted) == [3e-4] * UPDATES
    assert rates(converted, hyper="weight_decay") == [0.01] * UPDATES
    assert not converted.warnings


def test_what_hugging_face_fills_in_is_asked_for():
    said = block("WarmupDecayLR", warmup_max_lr="auto", total_num_steps="auto", warmup_num_steps=10)
    said["scheduler"]["params"]["warmup_min_lr"] = "auto"
    with pytest.raises(RecipeError, match='warmup_max_lr is "auto"'):
        deepspeed(said)
    said["scheduler"]["params"]["warmup_type"] = "linear"
    said["optimizer"] = {"type": "AdamW", "params": {"lr": "auto"}}
    filled = deepspeed({**said, "scheduler": {**said["scheduler"]}}, total=50, lr=2e-5)
    assert rates(filled, 50) == pytest.approx([warmup_decay(k, 0, 2e-5, 10, 50, "linear") for k in range(50)])


def test_the_rate_of_the_optimizer_is_never_used_beside_a_scheduler():
    said = block("WarmupLR", 5e-5, warmup_max_lr=1e-3, warmup_type="linear")
    assert any("optimizer's lr, 5e-05, never" in warning for warning in deepspeed(said).warnings)
    assert not any(
        "never" in warning for warning in deepspeed(block("WarmupLR", 1e-3, warmup_type="linear")).warnings
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (block("WarmupLR", warmup_type="linear"), "warmup_max_lr is not said"),
        (block("WarmupLR", warmup_max_lr=0), "a peak is above 0"),
        (block("WarmupLR", warmup_max_lr=[1e-3, 1e-4]), "one for each group"),
        (block("WarmupLR", warmup_max_lr=1e-3, warmup_num_steps=0), "must be at least 1"),
        (block("WarmupCosineLR", total_num_steps=10), "ratio of the optimizer's lr"),
        (block("StepLR", step_size=3), "scheduler type: got 'StepLR'"),
        (block("OneCycle", cycle_min_lr=0, cycle_max_lr=1, cycle_first_stair_count=3), "no stairs"),
        (
            block("OneCycle", cycle_min_lr=0, cycle_max_lr=1, decay_step_size=3, decay_mom_rate=1),
            "decay_mom_rate",
        ),
        (block("WarmupLR", warmup_max_lr=1e-3, warmup_num_steps="auto"), 'warmup_num_steps is "auto"'),
        (block("LRRangeTest"), "LRRangeTest has no end"),
        ({"optimizer": {"type": "AdamW", "params": {"lr": "auto"}}}, "say lr"),
    ],
)
def test_what_cannot_be_said(said, message):
    with pytest.raises(RecipeError, match=message):
        deepspeed(said)


def test_the_format_is_known_by_its_blocks():
    assert recognised(block("WarmupLR", warmup_max_lr=1e-3)) == ["deepspeed"]
    assert recognised({"optimizer": {"type": "AdamW", "params": {}}}) == ["deepspeed"]


def test_the_defaults_of_deepspeed():
    warm = deepspeed(block("WarmupLR", 1e-3, warmup_type="linear"))
    assert warm.hypers["lr"] == "0.001 * (hold(1, start=0) >> warmup(1000) >> hold())"
    cycle = deepspeed(block("OneCycle", cycle_min_lr=0, cycle_max_lr=1e-3))
    assert cycle.hypers["lr"] == "0.001 * (linear(2000, to=1, start=0) >> linear(2000) >> hold())"
    assert any("at update 4000, OneCycle stays at 0" in warning for warning in cycle.warnings)
    falling = block("OneCycle", cycle_min_lr=1e-4, cycle_max_lr=1e-3, decay_step_size=10, decay_lr_rate=0.1)
    assert any("falls as one over the time" in warning for warning in deepspeed(falling).warnings)
    test = deepspeed(block("LRRangeTest"), total=2000)
    assert rates(test, 2000)[-1] == pytest.approx(1e-3 * (1 + 1999 / 2000))


def test_an_unknown_warmup_is_a_logarithm_as_in_deepspeed():
    said = {"warmup_max_lr": 1e-3, "warmup_num_steps": 30}
    unknown, log = (deepspeed(block("WarmupLR", **said, warmup_type=kind)) for kind in ("cosine", "log"))
    assert unknown.hypers == log.hypers
    assert any("'cosine' is unknown to DeepSpeed" in warning for warning in unknown.warnings)
    assert not any("unknown" in warning for warning in log.warnings)


def test_a_rate_that_is_a_level_in_etude_is_pointed_out():
    for low, times in ((1e-5, 1), (0.0, 0)):
        said = block("WarmupLR", warmup_min_lr=low, warmup_max_lr=1e-3, warmup_type="linear")
        assert (
            sum("warmup_min_lr=1e-05 is a rate" in warning for warning in deepspeed(said).warnings) == times
        )
