"""fastai's calls against the formulas of fastai 2.8.12, `callback/schedule.py`, written down here.

fastai computes them in float32; run beside its own functions once, they differed by at most 2e-7 of the peak.
"""

import math

import pytest

from etude import Plan
from etude import plan as plan_of
from etude.convert.converted import recognised
from etude.convert.fastai.calls import fastai
from etude.errors import RecipeError
from etude.model.leaf import Leaf

UPDATES = 97


def cosine(start, end, position):
    return start + (1 + math.cos(math.pi * (1 - position))) * (end - start) / 2


def joined(shares, curves):
    """fastai's `combine_scheds`: curves over their shares of the run."""

    def at(position):
        begin = 0.0
        for i, (share, curve) in enumerate(zip(shares, curves, strict=True)):
            if position < begin + share or i == len(shares) - 1:
                return curve((position - begin) / share)
            begin += share
        raise AssertionError

    return at


def two(share, start, middle, end):
    """fastai's `combined_cos`."""
    return joined([share, 1 - share], [lambda u: cosine(start, middle, u), lambda u: cosine(middle, end, u)])


def rates(converted, updates=UPDATES, hyper="lr", **units):
    plan = Plan(converted.hypers, tick=converted.tick).over(updates, **units)
    return [plan.at(k)[hyper][0] for k in range(updates)]


def expected(curve, updates=UPDATES):
    return [curve(k / updates) for k in range(updates)]


def test_one_cycle_and_its_momentum():
    converted = fastai("learn.fit_one_cycle(5, 3e-3)")
    assert rates(converted) == pytest.approx(expected(two(0.25, 3e-3 / 25, 3e-3, 3e-3 / 1e5)), rel=1e-12)
    assert rates(converted, hyper="momentum") == pytest.approx(
        expected(two(0.25, 0.95, 0.85, 0.95)), rel=1e-12
    )
    assert any("div_final=100000 divides the peak" in warning for warning in converted.warnings)


def test_one_cycle_with_everything_said():
    source = """
    epochs = 5
    peak = 3e-3
    learn = vision_learner(dls, resnet18, moms=(0.9, 0.8, 0.9))
    learn.fit_one_cycle(epochs, lr_max=peak, div=10.0, div_final=1e3, pct_start=0.4, wd=0.1, cbs=[Graph()])
    """.replace("\n    ", "\n")
    converted = fastai(source)
    assert rates(converted) == pytest.approx(expected(two(0.4, 3e-4, 3e-3, 3e-6)), rel=1e-12)
    assert rates(converted, hyper="momentum") == pytest.approx(expected(two(0.4, 0.9, 0.8, 0.9)), rel=1e-12)
    assert rates(converted, hyper="weight_decay") == [0.1] * UPDATES


def test_the_epochs_of_one_fit_need_not_be_known():
    assert fastai("learn.fit_one_cycle(args.epochs, 3e-3)") == fastai("learn.fit_one_cycle(5, 3e-3)")


def test_flat_and_cosine():
    converted = fastai("learn.fit_flat_cos(5, 3e-3)")
    assert rates(converted) == pytest.approx(expected(two(0.75, 3e-3, 3e-3, 3e-8)), rel=1e-12)
    assert "momentum" not in converted.hypers


@pytest.mark.parametrize(("cycles", "grow"), [(3, 2), (1, 2), (2, 3)])
def test_restarts(cycles, grow):
    whole = sum(grow**i for i in range(cycles))
    curve = joined([grow**i / whole for i in range(cycles)], [lambda u: cosine(3e-3, 0, u)] * cycles)
    found = rates(fastai(f"learn.fit_sgdr({cycles}, 1, 3e-3, cycle_mult={grow})"), 98)
    assert found == pytest.approx(expected(curve, 98), rel=1e-12, abs=1e-16)


def test_fine_tune_is_two_cycles_of_which_the_first_is_for_the_last_group():
    converted = fastai(
        "learn = vision_learner(dls, resnet18, lr=7)\nlearn.fine_tune(4, 2e-3, freeze_epochs=2)"
    )
    found = rates(converted, 60, epoch=10)
    first, second = two(0.99, 2e-3 / 25, 2e-3, 2e-8), two(0.3, 1e-3 / 5, 1e-3, 1e-8)
    assert found == pytest.approx(expected(first, 20) + expected(second, 40), rel=1e-9)
    momentum = expected(two(0.99, 0.95, 0.85, 0.95), 20) + expected(two(0.3, 0.95, 0.85, 0.95), 40)
    assert rates(converted, 60, hyper="momentum", epoch=10) == pytest.approx(momentum, rel=1e-9)
    assert any('frozen("2ep") >> hold(start=1)' in warning for warning in converted.warnings)
    assert converted.settings == {"convention": "fastai(0.01)"}


def test_fine_tune_by_its_defaults_and_without_its_first_epoch():
    found = rates(fastai("learn.fine_tune(4)"), 50, epoch=10)
    assert found[10:] == pytest.approx(expected(two(0.3, 1e-3 / 5, 1e-3, 1e-8), 40), rel=1e-9)
    alone = fastai("learn.fine_tune(4, 4e-3, freeze_epochs=0, div=10)")
    assert rates(alone, 40) == pytest.approx(expected(two(0.3, 2e-4, 2e-3, 2e-8), 40), rel=1e-12)


def test_several_fits_follow_one_another_in_epochs():
    source = """
learn.fit_one_cycle(1, 2e-3)
learn.unfreeze()
learn.fit_one_cycle(3, slice(1e-5, 1e-3))
learn.fit_sgdr(2, 1, 5e-4)
learn.fit(1, 1e-4)
"""
    converted = fastai(source)
    found = rates(converted, 80, epoch=10)
    restarts = joined([1 / 3, 2 / 3], [lambda u: cosine(5e-4, 0, u)] * 2)
    assert found == pytest.approx(
        [
            *expected(two(0.25, 2e-3 / 25, 2e-3, 2e-8), 10),
            *expected(two(0.25, 1e-3 / 25, 1e-3, 1e-8), 30),
            *expected(restarts, 30),
            *[1e-4] * 10,
        ],
        rel=1e-9,
        abs=1e-15,
    )
    assert any("a gate says them" in warning for warning in converted.warnings)


def test_slices_are_the_convention_of_fastai():
    leaves = [Leaf("embed.weight", (4, 4), module="Embedding"), Leaf("head.weight", (4, 4))]
    leaves[1:1] = [Leaf(f"layers.{i}.weight", (4, 4)) for i in range(3)]

    def peaks(source):
        converted = fastai(source)
        assert any("over every rung" in warning for warning in converted.warnings)
        plan = plan_of(
            leaves, converted.hypers["lr"], groups=[("^head", {"depth": "head"})], **converted.settings
        )
        return [row["lr"] for row in plan.table()]

    assert peaks("learn.fit_one_cycle(5, slice(3e-3))") == pytest.approx(
        [3e-4, 3e-3]
    )  # one group for all that share it
    even = [3e-5 * 100 ** (i / 4) for i in range(5)]
    assert peaks("learn.fit_one_cycle(5, lr_max=slice(3e-5, 3e-3))") == pytest.approx(even)
    # A tenth as the lower bound is spread too: only slice(high) has a tenth for all but the last.
    assert peaks("learn.fit_one_cycle(5, slice(3e-4, 3e-3))")[1] == pytest.approx(3e-4 * 10**0.25)
    assert max(rates(fastai("learn.fit_one_cycle(5, slice(3e-5, 3e-3))"), 100)) == 3e-3


def test_rates_that_the_source_leaves_open():
    own = fastai("learn.fit_one_cycle(5)")
    assert max(rates(own, 100)) == 1e-3
    assert any("takes fastai's own, 0.001" in warning for warning in own.warnings)
    assert max(rates(fastai("learn = Learner(dls, model, lr=5e-3)\nlearn.fit_flat_cos(5)"))) == 5e-3
    found = "learn.fit_one_cycle(5, learn.lr_find().valley)"
    with pytest.raises(RecipeError, match=r"lr_max = learn\.lr_find"):
        fastai(found)
    assert max(rates(fastai(found, lr=4e-3), 100)) == 4e-3
    assert max(rates(fastai("learn.fit_one_cycle(5, slice(1e-5, suggested))", lr=4e-3), 100)) == 4e-3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("learn.fit_one_cycle(5, 0)", "line 1: a rate of 0"),
        ("learn.fit_one_cycle(5, 1e-3, div=0)", "div: got 0"),
        ("learn.fit_one_cycle(5, 1e-3, pct_start=1)", "a share lies between"),
        ("learn.fit_one_cycle(5, 1e-3, moms=0.9)", "three numbers"),
        ("learn.fit_one_cycle(5, 1e-3, wd=args.wd)", r"wd = args\.wd \(line 1\)"),
        ("learn.fit_sgdr(3, 1, 1e-3, cycle_mult=1)", "cycle_mult"),
        ("learn.fit_one_cycle(n, 1e-3)\nlearn.fit_one_cycle(2, 1e-4)", "each must say its epochs"),
        ("learn.fine_tune(n)", "each must say its epochs"),
        ("learn.fit_sgdr(n, 1)", r"n_cycles = n \(line 1\)"),
        ("learn.fit_one_cycle(lr_max=1e-3)\nlearn.fit_one_cycle(2, 1e-4)", "each must say its epochs"),
        ("learn.save('x')", "fits nothing"),
        ("learn.fit_one_cycle(", "no Python source"),
    ],
)
def test_what_cannot_be_said(source, message):
    with pytest.raises(RecipeError, match=message):
        fastai(source)


def test_the_format_is_known_by_its_calls():
    assert recognised("learn.fine_tune(3)") == ["fastai"]
    assert recognised("learn.fit_one_cycle(3, 1e-3)") == ["fastai"]
