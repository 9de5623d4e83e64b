"""Megatron's flags against the formulas of megatron-core 0.16.1, `optimizer_param_scheduler.py`.

The formulas are written down here; they were run beside its class once and differed by 3e-16 of the peak.
"""

import math

import pytest

from etude import Plan
from etude.convert.converted import recognised
from etude.convert.megatron import megatron
from etude.errors import RecipeError

ENDINGS = {
    "exponential": lambda u: 2 * 0.5**u - 1,
    "linear": lambda u: 1 - u,
    "cosine": lambda u: 0.5 * (math.cos(math.pi * u) + 1),
    "minus_sqrt": lambda u: 1 - math.sqrt(u),
}


def rate(t, style, lr=3e-4, floor=3e-5, start=0.0, warm=10.0, decay=97.0, ending=20.0, last="exponential"):
    """The rate after t updates; all times in updates, which Megatron multiplies by the global batch."""
    if warm and t <= warm:
        return start + (lr - start) * t / warm
    if style == "constant":
        return lr
    if t > decay:
        return floor
    if style == "inverse-square-root":
        return max(floor, lr * math.sqrt(warm) / math.sqrt(t))
    if style == "WSD":
        u = (t - (decay - ending)) / ending
        return floor + (lr - floor) * (ENDINGS[last](u) if u > 0 else 1.0)
    u = (t - warm) / (decay - warm)
    return floor + (lr - floor) * ENDINGS[style](u)


def line(**said):
    return "python pretrain_gpt.py " + " ".join(
        f"--{key.replace('_', '-')} {value}" for key, value in said.items()
    )


def rates(converted, updates=97, hyper="lr"):
    plan = Plan(converted.hypers, tick=converted.tick).over(updates)
    return [plan.at(k)[hyper][0] for k in range(updates)]


@pytest.mark.parametrize("style", ["constant", "linear", "cosine", "inverse-square-root"])
@pytest.mark.parametrize("warm", [0, 1, 10])
@pytest.mark.parametrize("decay", [60, 97])
def test_styles(style, warm, decay):
    said = line(
        lr=3e-4, min_lr=3e-5, lr_warmup_iters=warm, lr_decay_style=style, lr_decay_iters=decay, train_iters=97
    )
    if style == "inverse-square-root" and not warm:
        with pytest.raises(RecipeError, match="without a warm-up"):
            megatron(said)
        return
    converted = megatron(said)
    assert converted.total == 97
    expected = [rate(k, style, warm=warm, decay=decay) for k in range(97)]
    assert rates(converted) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("last", ENDINGS)
@pytest.mark.parametrize("floor", [0, 3e-5])
def test_stages(last, floor):
    said = line(
        lr=3e-4, min_lr=floor, lr_warmup_iters=10, lr_decay_style="WSD", lr_wsd_decay_iters=20,
        train_iters=97, lr_wsd_decay_style=last,
    )  # fmt: skip
    expected = [rate(k, "WSD", floor=floor, last=last) for k in range(97)]
    assert rates(megatron(said)) == pytest.approx(expected, rel=1e-12, abs=1e-18)
    without = said.replace("--train-iters 97", "")
    assert rates(megatron(without)) == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_inverse_square_root_stops_at_its_floor():
    said = line(
        lr=3e-4, min_lr=1.5e-4, lr_warmup_iters=10, lr_decay_style="inverse-square-root", train_iters=97
    )
    expected = [rate(k, "inverse-square-root", floor=1.5e-4) for k in range(97)]
    assert expected[45] == 1.5e-4
    assert rates(megatron(said)) == pytest.approx(expected, rel=1e-12)


def test_inverse_square_root_jumps_down_where_its_decay_ends():
    said = line(
        lr=3e-4, lr_warmup_iters=10, lr_decay_style="inverse-square-root", lr_decay_iters=60, train_iters=97
    )
    converted = megatron(said)
    expected = [rate(k, "inverse-square-root", floor=0, decay=60) for k in range(97)]
    assert expected[60] > 1e-4
    assert rates(converted) == pytest.approx(expected, rel=1e-12)
    assert any("After update 60 the rate jumps" in warning for warning in converted.warnings)


def test_a_run_that_ends_before_the_decay():
    said = line(lr=3e-4, lr_warmup_iters=10, lr_decay_style="cosine", lr_decay_iters=200, train_iters=97)
    converted = megatron(said)
    expected = [rate(k, "cosine", floor=0, decay=200) for k in range(97)]
    assert rates(converted) == pytest.approx(expected, rel=1e-12)
    assert any("before the decay does at 200" in warning for warning in converted.warnings)


def test_samples_and_a_fraction():
    said = line(
        lr=3e-4, min_lr=3e-5, lr_warmup_fraction=0.013, lr_decay_style="cosine", lr_decay_samples=40000,
        train_samples=49664, global_batch_size=512,
    )  # fmt: skip
    converted = megatron(said)
    assert converted.total == 97
    expected = [rate(k, "cosine", warm=0.013 * 40000 / 512, decay=40000 / 512) for k in range(97)]
    assert rates(converted) == pytest.approx(expected, rel=1e-12)
    assert any("share of lr_decay_iters" in warning for warning in converted.warnings)
    assert any("divided by the global batch, 512" in warning for warning in converted.warnings)


@pytest.mark.parametrize("style", ["linear", "cosine"])
def test_a_weight_decay_that_grows(style):
    said = line(
        lr=3e-4, train_iters=97, weight_decay_incr_style=style, start_weight_decay=0.033, end_weight_decay=0.1
    )
    rising = {"linear": lambda u: u, "cosine": lambda u: 0.5 * (math.cos(math.pi * (1 - u)) + 1)}[style]
    expected = [0.033 + (0.1 - 0.033) * rising(k / 97) for k in range(97)]
    assert rates(megatron(said), hyper="weight_decay") == pytest.approx(expected, rel=1e-12)
    assert rates(megatron(line(lr=1, train_iters=97, weight_decay=0.1)), hyper="weight_decay") == [0.1] * 97


def test_a_launch_script_with_variables_and_a_mapping_say_the_same():
    script = """
    TRAIN_ITERS=97
    LR="3e-4"
    TRAINING_ARGS=(
        --bf16
        --lr $LR --min-lr 3e-5
        --lr-decay-style cosine
        --lr-warmup-iters 10  # a tenth
        --train-iters ${TRAIN_ITERS}
    )
    torchrun ${DISTRIBUTED_ARGS[@]} pretrain_gpt.py ${TRAINING_ARGS[@]} \\
        --lr-warmup-init 1e-5 --decoupled-lr 1e-3
    """
    args = {
        "bf16": True, "lr": 3e-4, "min_lr": 3e-5, "lr_decay_style": "cosine", "lr_warmup_iters": 10,
        "train_iters": 97, "lr_warmup_init": 1e-5, "decoupled_lr": 1e-3, "lr_decay_iters": None,
    }  # fmt: skip
    assert megatron(script) == megatron(args)
    assert rates(megatron(script)) == pytest.approx(
        [rate(k, "cosine", start=1e-5) for k in range(97)], rel=1e-12
    )
    assert megatron(script).settings == {"groups": [("embedding|output_layer", {"lr": 1e-3})]}
    assert any("lr_warmup_init=1e-05 is a rate" in warning for warning in megatron(script).warnings)
    assert any("decoupled_min_lr=0" in warning for warning in megatron(script).warnings)


def test_the_run_and_the_peak_may_be_said_beside_the_flags():
    converted = megatron("--lr-decay-style linear --lr-warmup-iters 10", total=97, lr=3e-4)
    assert rates(converted) == pytest.approx(
        [rate(k, "linear", floor=0) for k in range(97)], rel=1e-12, abs=1e-18
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("--train-iters 97 --lr-warmup-iters 3", "lr: got None"),
        (line(lr=0, train_iters=97), "above 0"),
        (line(lr="$LR", train_iters=97), "must be a number"),
        (line(lr=1e-4, min_lr=1e-3, train_iters=97), "above the peak"),
        (line(lr=1e-4, lr_warmup_fraction=0.1), "which is not said"),
        (line(lr=1e-4, lr_warmup_iters=97, train_iters=97), "Megatron wants it to be shorter"),
        (line(lr=1e-4, train_samples=97), "global_batch_size is not said"),
        (line(lr=1e-4, lr_decay_style="cosin", train_iters=97), "did you mean 'cosine'"),
        (line(lr=1e-4, lr_decay_style="WSD", train_iters=97), "needs lr_wsd_decay_iters"),
        (line(lr=1e-4, lr_decay_style="WSD", lr_wsd_decay_iters=99, train_iters=97), "shorten it"),
        (line(lr=1e-4, lr_decay_style="WSD", lr_wsd_decay_iters=9, lr_wsd_decay_style="exp"), "exponential"),
        (line(lr=1e-4, weight_decay_incr_style="linear"), "start_weight_decay: got None"),
        (line(lr=1e-4, weight_decay_incr_style="square"), "weight_decay_incr_style"),
        ('--lr "3e-4', "close its quotes"),
    ],
)
def test_what_cannot_be_said(said, message):
    with pytest.raises(RecipeError, match=message):
        megatron(said)


def test_the_format_is_known_by_its_flags():
    assert recognised("torchrun pretrain_gpt.py --lr 1e-4 --lr-decay-style cosine") == ["megatron"]
    assert recognised({"lr": 1e-4, "lr_warmup_iters": 10}) == ["megatron"]


def test_embeddings_with_the_same_share_of_their_peak_need_no_warning():
    said = line(lr=3e-4, min_lr=3e-5, train_iters=97, decoupled_lr=1e-3, decoupled_min_lr=1e-4)
    assert not any("decoupled" in warning for warning in megatron(said).warnings)


def test_a_constant_rate_has_no_floor_to_speak_of():
    said = line(lr=3e-4, lr_decay_style="constant", lr_decay_iters=50, train_iters=97)
    assert not megatron(said).warnings
    falling = line(lr=3e-4, lr_decay_style="linear", lr_decay_iters=50, train_iters=97)
    assert any("The decay ends at update 50" in warning for warning in megatron(falling).warnings)
