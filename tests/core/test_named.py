"""Every recipe: a golden row, its documentation, and the paper or library that it is known from."""

import doctest
import inspect
import math
import warnings

import pytest
import torch
import transformers as hf
from torch.optim import lr_scheduler as th

from etude import Group, Plan, linear, parse, warmup
from etude.core import named
from etude.core.named import NAMED, noam, one_cycle, sgdr, temperature, wsd
from etude.core.path import Path, Schedule
from etude.errors import EtudeWarning, ScheduleError

# recipe -> (what is written, total, {time: level}); worked out by hand. Their doctests hold the words.
GOLDEN = {
    "constant": ("constant()", 10, {0: 1, 10: 1}),
    "constant_with_warmup": ("constant_with_warmup(4)", 10, {0: 0, 1: 0.25, 4: 1, 10: 1}),
    "linear_with_warmup": ("linear_with_warmup()", 100, {5: 0.5, 10: 1, 55: 0.5, 100: 0}),
    "linear_to_zero": ("linear_to_zero(20)", 100, {10: 0.5, 20: 1, 60: 0.5, 100: 0}),
    "cosine_with_warmup": ("cosine_with_warmup(to=0.1)", 100, {10: 1, 40: 0.775, 55: 0.55, 100: 0.1}),
    "polynomial": ("polynomial()", 100, {0: 1, 50: 0.25, 90: 0.01, 100: 0}),
    "exponential": ("exponential()", 100, {0: 1, 50: 0.1, 75: 0.01**0.75, 100: 0.01}),
    "rex_with_warmup": ("rex_with_warmup(20)", 100, {20: 1, 60: 2 / 3, 100: 0}),
    "inverse_sqrt": ("inverse_sqrt(100)", 10_000, {50: 0.5, 100: 1, 400: 0.5, 10_000: 0.1}),
    "steps": ("steps()", 100, {0: 1, 24: 1, 25: 0.1, 50: 0.01, 75: 0.001, 100: 0.001}),
    "multi_step": ("multi_step(by=0.5)", 100, {0: 1, 29: 1, 30: 0.5, 60: 0.25, 90: 0.125}),
    "wsd": ("wsd()", 100, {5: 0.5, 10: 1, 80: 1, 85: 0.5, 100: 0}),
    "trapezoid": ("trapezoid(to=0.2)", 100, {10: 1, 80: 1, 90: 0.6, 100: 0.2}),
    "flat_cosine": ("flat_cosine()", 120, {0: 1, 90: 1, 100: 0.75, 105: 0.5, 120: 0}),
    "tri_stage": ("tri_stage()", 100, {0: 0.01, 5: 0.505, 50: 1, 75: 0.1, 100: 0.01}),
    "one_cycle": ("one_cycle()", 100, {0: 0.04, 15: 0.52, 30: 1, 65: 0.500002, 100: 4e-6}),
    "one_cycle_momentum": ("one_cycle_momentum()", 100, {0: 0.95, 15: 0.9, 30: 0.85, 65: 0.9, 100: 0.95}),
    "slanted_triangular": (
        "slanted_triangular()", 100, {0: 1 / 32, 5: 33 / 64, 10: 1, 55: 33 / 64, 100: 1 / 32},
    ),
    "triangular": ("triangular()", 80, {0: 0.25, 5: 0.625, 10: 1, 20: 0.25, 70: 1, 80: 0.25}),
    "triangular2": ("triangular2()", 80, {0: 0.25, 10: 1, 20: 0.25, 30: 0.625, 50: 0.4375, 80: 0.25}),
    "exp_range": ("exp_range(gamma=0.99)", 80, {0: 0.25, 10: 0.25 + 0.75 * 0.99**10, 20: 0.25, 80: 0.25}),
    "cosine_with_restarts": (
        "cosine_with_restarts()", 100, {5: 0.5, 10: 1, 25: 0.5, 40: 1, 55: 0.5, 70: 1, 100: 0},
    ),
    "sgdr": ("sgdr()", 70, {0: 1, 5: 0.5, 10: 1, 20: 0.5, 30: 1, 50: 0.5, 70: 0}),
    "oscillating_cosine": ("oscillating_cosine()", 100, {0: 1, 10: 0.5, 20: 0, 40: 1, 60: 0, 100: 0}),
    "noam": ("noam(256, 100)", 400, {50: 0.003125, 100: 0.00625, 400: 0.003125}),
    "untuned_warmup": ("untuned_warmup(0.9) >> hold()", 40, {10: 0.5, 20: 1, 40: 1}),
    "temperature": ("temperature(2e-5 * linear(), 2)", 10, {0: 4e-5, 5: 2e-5, 10: 0}),
    "llm_pretraining": ("llm_pretraining()", 10_000, {1000: 1.5e-4, 2000: 3e-4, 6000: 1.5e-4}),
    "supervised_finetuning": ("supervised_finetuning()", 900, {50: 1e-5, 100: 2e-5, 500: 1e-5}),
    "preference_tuning": ("preference_tuning()", 900, {25: 2.5e-7, 50: 5e-7, 900: 5e-7}),
    "lora_finetuning": ("lora_finetuning()", 100, {5: 1e-4, 10: 2e-4, 55: 1e-4, 100: 0}),
    "embedding_training": ("embedding_training()", 100, {5: 1e-5, 10: 2e-5, 55: 1e-5, 100: 0}),
    "one_cycle_similar_domain": ("one_cycle_similar_domain()", 100, {0: 4e-5, 30: 1e-3, 100: 4e-9}),
    "one_cycle_new_domain": ("one_cycle_new_domain()", 100, {0: 2e-5, 40: 5e-4, 100: 2e-9}),
    "one_cycle_bert": ("one_cycle_bert()", 100, {0: 2e-6, 10: 2e-5, 100: 2e-10}),
    "one_cycle_vit": ("one_cycle_vit()", 100, {0: 4e-7, 30: 1e-5, 100: 4e-11}),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_every_recipe_is_documented_drawn_and_has_a_golden_row(name):
    text = inspect.getdoc(NAMED[name])
    assert text.partition("\n")[0].endswith(".")
    for paragraph in ("Source: ", "Use: ", "Avoid: "):
        assert f"\n{paragraph}" in text, f"{name} says no {paragraph.strip(': ')}"
    examples = doctest.DocTestParser().get_examples(text)
    assert any(example.want for example in examples)
    assert name in GOLDEN
    assert getattr(named, name) is NAMED[name]


def test_every_golden_row_is_of_a_recipe():
    assert set(GOLDEN) == set(NAMED)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_levels(name):
    written, total, levels = GOLDEN[name]
    found = parse(written)
    assert parse(str(found)) == found
    curve = found.over(total)
    for t, level in levels.items():
        assert curve(t) == pytest.approx(level, rel=1e-13, abs=1e-16), t


OPTIONAL = [name for name, make in NAMED.items() if "warmup_shape" in inspect.signature(make).parameters]
EXP = (1 - math.exp(-2.5)) / (1 - math.exp(-5))
RISES = {"linear": 0.5, "cosine": 0.5, "sqrt": math.sqrt(0.5), "square": 0.25, "exp": EXP}


@pytest.mark.parametrize("shape", RISES)
@pytest.mark.parametrize("name", OPTIONAL)
def test_every_recipe_with_a_warmup_takes_its_length_shape_and_start(name, shape):
    path = NAMED[name](warmup=0.2, warmup_shape=shape, warmup_start=0.1)
    assert parse(str(path)) == path
    curve = path.over(100)
    assert curve(0) == 0.1
    assert curve(10) == pytest.approx(0.1 + 0.9 * RISES[shape], rel=1e-13)
    assert curve(20) == 1
    assert curve(math.nextafter(20, 0)) == pytest.approx(1)
    without = NAMED[name](warmup=0, **({"timescale": 100} if name == "inverse_sqrt" else {}))
    assert without.over(100)(0) == 1


def test_which_recipes_take_a_warmup():
    assert len(OPTIONAL) == 16
    assert "constant" not in OPTIONAL


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("one_cycle(pct=0.3)", "one_cycle(…) knows no 'pct'"),
        ("one_cycle(anneal='cos')", "'cosine', 'linear'"),
        ("one_cycle(phases=4)", "one of 2, 3, got 4"),
        ("one_cycle(div=0)", "above 0, got 0"),
        ("one_cycl()", "did you mean 'one_cycle'"),
        ("wsd", "write wsd()"),
        ("noam(64, 10, 1, 1)", "it takes d_model, warmup, factor"),
        ("noam(warmup=0.1)", "whole number of 1 or more"),
        ("noam(warmup=0)", "whole number"),
        ("temperature()", "it takes schedule, t"),
        ("temperature(cosine(), 0)", "above 0"),
        ("triangular(0)", "whole number"),
        ("triangular(up=1)", "below 1"),
        ("wsd(decay_shape='exp')", "write to=0.01"),
        ("wsd(decay_shape='1-sqrt')", "'sqrt', 'linear'"),
        ("wsd(warmup_shape=2)", "'linear', 'cosine', 'exp', 'sqrt', 'square', got 2"),
        ("untuned_warmup(1)", "below 1"),
        ("multi_step(at=30, warmup=0.1)", "both as fractions of the run (0.3, 0.05)"),
        ("multi_step(at=30, warmup=30)", "inside the warm-up"),
        ("multi_step(at='2ep', warmup='1ep')", "both in updates"),
        ("sgdr(first=25)", "write sgdr(3, stretch=2)"),
        ("sgdr(3, first=25, total=100)", "without cycles="),
        ("sgdr(stretch=0)", "above 0"),
        ("sgdr(first=4, total=100, stretch=0.5)", "shorter than an update"),
        ("2e-5 * (warmup(0.1) >> noam())", "one number stands in front"),
    ],
)
def test_says_what_is_wrong(text, says):
    with pytest.raises(ScheduleError) as error:
        parse(text)
    assert says in str(error.value)


def test_a_warmup_without_a_length_is_refused():
    with pytest.raises(ScheduleError, match="or warmup=0 for none"):
        NAMED["wsd"](warmup=None)


def test_recipes_compose_with_words():
    assert parse("2e-5 * one_cycle()") == 2e-5 * one_cycle()
    assert parse("repeat(one_cycle(), 2)").over(100)(65) == one_cycle().over(50)(15) == 1
    assert isinstance(wsd(), Path)
    assert isinstance(temperature(wsd(), 2), Schedule)
    assert str(named.untuned_warmup(0.98) >> linear()) == "warmup(100) >> linear()"


# Their library's run beside ours


def used(make, updates, lr=1.0, read="lr"):
    """What a real optimizer has in each update under another library's schedule."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = make(optimizer)
        values = []
        for _ in range(updates):
            values.append(optimizer.param_groups[0][read])
            optimizer.step()
            schedule.step()
    return values


def ours(schedule, total, updates=None, tick=0):
    rates = Plan({"lr": schedule}, [Group("all")], tick=tick).over(total)
    return [rates.at(k)["lr"][0] for k in range(updates or int(total))]


def near(mine, theirs, tolerance=1e-12):
    assert len(mine) == len(theirs) > 0
    assert mine == pytest.approx(theirs, rel=tolerance, abs=tolerance)


TOTAL = 97


@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize(("anneal", "theirs"), [("cosine", "cos"), ("linear", "linear")])
@pytest.mark.parametrize("pct", [0.3, 0.25])
def test_one_cycle_is_torch_where_its_phases_end(phases, anneal, theirs, pct):
    """torch's phases end at pct·T - 1 (and 2·pct·T - 2) and T - 1: ours over T - 1 with that rise."""

    def make(optimizer):
        return th.OneCycleLR(
            optimizer, 1.0, total_steps=TOTAL, pct_start=pct, anneal_strategy=theirs, three_phase=phases == 3
        )

    rise = f"{pct * TOTAL - 1}up"
    rate = one_cycle(rise, phases=phases, anneal=anneal)
    momentum = named.one_cycle_momentum(rise, phases=phases, anneal=anneal)
    near(ours(rate, TOTAL - 1, TOTAL), used(make, TOTAL))
    near(ours(momentum, TOTAL - 1, TOTAL), used(make, TOTAL, read="momentum"))


def test_one_cycle_meets_torch_as_the_run_grows():
    """Ours ends at T, theirs at T - 1: the difference is of the order of one update's change."""
    worst = {}
    for total in (100, 1000):
        theirs = used(lambda o, n=total: th.OneCycleLR(o, 1.0, total_steps=n), total)
        worst[total] = max(abs(a - b) for a, b in zip(ours(one_cycle(), total), theirs, strict=True))
    assert 0.01 < worst[100] < 0.06
    assert worst[1000] == pytest.approx(worst[100] / 10, rel=0.1)


def test_restarts_are_torchs():
    def make(optimizer):
        return th.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2, eta_min=0.1)

    near(ours(sgdr(to=0.1), 70), used(make, 70))
    near(ours(sgdr(first=10, total=70, to=0.1), 70), used(make, 70))
    assert str(sgdr(first=10, total=70)) == "repeat(cosine(10, start=1), 3, stretch=2)"


@pytest.mark.parametrize("total", [4, 47, 100, 133])
@pytest.mark.parametrize("stretch", [1, 2, 3])
def test_a_cycle_that_the_run_cuts_is_drawn_exactly(total, stretch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = sgdr(first=10, total=total, stretch=stretch, to=0.1)
    make = lambda o: th.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=stretch, eta_min=0.1)  # noqa: E731
    near(ours(path, total), used(make, total))
    assert parse(str(path)) == path


def test_a_run_that_would_end_high_warns_and_says_what_to_write():
    with pytest.warns(EtudeWarning) as caught:
        path = sgdr(first=25, total=100)
    (message,) = [str(one.message) for one in caught]
    assert caught[0].filename == __file__
    assert "ends at 85% of its peak, 25 updates into a cycle of 100; write sgdr(2, stretch=2)" in message
    assert ours(path, 100)[99] == pytest.approx(0.8645, abs=1e-4)  # what guides recommend
    assert ours(sgdr(2, stretch=2), 100)[99] < 1e-3
    with pytest.warns(EtudeWarning, match=r"write sgdr\(3, stretch=2\), whose first cycle takes 142\.9"):
        sgdr(first=140, total=1000)
    with pytest.warns(EtudeWarning, match=r"write sgdr\(3, stretch=2\), whose first cycle takes 85\.71"):
        sgdr(first=100, total=600)
    with pytest.warns(EtudeWarning, match=r"write sgdr\(1, stretch=2\)"):
        sgdr(first=100, total=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sgdr(first=100, total=700)
        sgdr(first=100, total=99)  # ends at 0.02% of its peak


def test_cycles_grow_fade_and_warm_up():
    curve = sgdr(3, stretch=2, fade=0.5, to=0.1, warmup=0.2).over(700)
    for begin, length, high in ((0, 100, 1), (100, 200, 0.5), (300, 400, 0.25)):
        assert curve(begin) == pytest.approx(0.1 * high)
        assert curve(begin + 0.2 * length) == pytest.approx(high)
        assert curve(begin + 0.6 * length) == pytest.approx(0.55 * high)
        assert curve(math.nextafter(begin + length, 0)) == pytest.approx(0.1 * high)
    fading = sgdr(first=100, total=299, fade=0.5, to=0.1)
    assert fading.over(299)(199.9999) == pytest.approx(0.275, abs=1e-5)


def test_hard_restarts_are_transformers():
    make = lambda o: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, 10, TOTAL, num_cycles=3)  # noqa: E731
    near(ours(named.cosine_with_restarts(3, warmup=10), TOTAL), used(make, TOTAL))


@pytest.mark.parametrize("total", [100, 400])
def test_slanted_triangular_is_the_papers_where_its_cut_is_whole(total):
    cut = math.floor(total * 0.1)

    def paper(t):  # Howard & Ruder, equation 3
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / 0.1 - 1))
        return (1 + p * (32 - 1)) / 32

    near(ours(named.slanted_triangular(), total), [paper(t) for t in range(total)])


@pytest.mark.parametrize("total", [3, 9, 10, 57, 105])
def test_slanted_triangular_is_exact_and_positive_where_it_is_not(total):
    curve = named.slanted_triangular().over(total)
    assert curve(0.1 * total) == pytest.approx(1, rel=1e-14)
    assert curve(0) == curve(total) == 1 / 32
    assert min(ours(named.slanted_triangular(), total)) >= 1 / 32


@pytest.mark.parametrize(("up", "down"), [(10, 10), (4, 16)])
@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclical_rates_are_torchs(mode, up, down):
    extra = {"gamma": 0.98} if mode == "exp_range" else {}

    def make(optimizer):
        return th.CyclicLR(optimizer, 0.25, 1.0, up, down, mode=mode, cycle_momentum=False, **extra)

    near(ours(NAMED[mode](4, up=up / (up + down), **extra), 80), used(make, 80))


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
@pytest.mark.parametrize("cycles", [1, 3, 7])
@pytest.mark.parametrize("total", [10, 97, 1000])
def test_a_run_given_by_cycles_ends_at_its_lower_level(mode, cycles, total):
    assert NAMED[mode](cycles).over(total)(total) == pytest.approx(0.25, abs=1e-12)


def test_noam_is_the_papers_formula_at_tick_1():
    def rate(step):  # Vaswani et al., equation 3; the annotated Transformer multiplies it by a factor
        return 2 * 512**-0.5 * min(step**-0.5, step * 50**-1.5)

    near(ours(noam(512, 50, 2), 400, tick=1), [rate(k + 1) for k in range(400)])


def test_inverse_sqrt_and_wsd_are_transformers():
    near(ours(named.inverse_sqrt(10), TOTAL), used(lambda o: hf.get_inverse_sqrt_schedule(o, 10), TOTAL))
    for ours_is, theirs in (("linear", "linear"), ("cosine", "cosine"), ("sqrt", "1-sqrt")):
        make = lambda o, shape=theirs: hf.get_wsd_schedule(  # noqa: E731
            o, 10, 20, TOTAL, min_lr_ratio=0.1, decay_type=shape
        )
        near(ours(wsd(10, 20, 0.1, decay_shape=ours_is, warmup_start=0.1), TOTAL), used(make, TOTAL))


def test_stairs_and_decays_are_torchs():
    near(ours(named.steps(3), 80), used(lambda o: th.StepLR(o, 20), 80))
    near(ours(named.multi_step((30, 60)), 90), used(lambda o: th.MultiStepLR(o, [30, 60]), 90))
    gamma = 0.05 ** (1 / TOTAL)
    near(ours(named.exponential(0.05), TOTAL), used(lambda o: th.ExponentialLR(o, gamma), TOTAL))
    near(ours(named.polynomial(3), TOTAL), used(lambda o: th.PolynomialLR(o, TOTAL, 3), TOTAL), 1e-11)


def test_milestones_count_from_the_beginning_of_the_run():
    for path in (named.multi_step((0.5, 0.75), warmup=0.05), named.multi_step((50, 75), warmup=5)):
        curve = path.over(100)
        assert [curve(t) for t in (5, 49.9, 50, 74.9, 75)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_tri_stage_is_fairseqs_formula():
    def rate(k, total=200):  # fairseq, tri_stage_lr_scheduler: ratios 0.1, 0.4, 0.5; scales 0.01
        up, hold, down = 0.1 * total, 0.4 * total, 0.5 * total
        if k < up:
            return 0.01 + (1 - 0.01) * k / up
        return 1.0 if k < up + hold else math.exp(math.log(0.01) * (k - up - hold) / down)

    near(ours(named.tri_stage(), 200), [rate(k) for k in range(200)])


def test_flat_cosine_is_fastais_formula():
    def rate(pos):  # fastai, combined_cos(0.75, lr, lr, 0)
        return 1.0 if pos < 0.75 else (1 + math.cos(math.pi * (pos - 0.75) / 0.25)) / 2

    near(ours(named.flat_cosine(), 120), [rate(k / 120) for k in range(120)])


def test_the_oscillating_cosine_is_what_torch_draws_past_its_end():
    near(
        ours(named.oscillating_cosine(20), TOTAL),
        used(lambda o: th.CosineAnnealingLR(o, T_max=20), TOTAL),
    )


def test_an_untuned_warmup_is_as_long_as_its_paper_says():
    assert named.untuned_warmup() == warmup(2000)
    assert named.untuned_warmup(0.95) == warmup(40)


def test_rex_has_both_curves_that_go_by_its_name():
    for d, level in ((0.5, 0.621), (0.9, 0.891)):  # the paper's, axolotl's
        assert named.rex_with_warmup(0, d).over(100)(55) == pytest.approx(level, abs=5e-4)
