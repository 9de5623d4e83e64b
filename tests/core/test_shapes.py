"""Every word of the language: a golden row, the contract of its formula, the same numbers for arrays."""

import math
import random

import numpy as np
import pytest

from etude import Group, Plan
from etude.core.length import Span
from etude.core.namespace import SCALARS
from etude.core.shapes import SHAPES
from etude.core.text import parse
from etude.errors import ScheduleError

# word -> (path, total, {time: level}); worked out by hand from the formula in its docstring.
GOLDEN = {
    "hold": ("hold(0.25, start=0.3) >> hold()", 100, {0: 0.3, 10: 0.3, 25: 0.3, 100: 0.3, 150: 0.3}),
    "linear": ("linear(to=0.2)", 100, {0: 1, 25: 0.8, 50: 0.6, 100: 0.2, 150: 0.2}),
    "warmup": ("warmup(10) >> hold()", 100, {0: 0, 3: 0.3, 9.5: 0.95, 10: 1, 100: 1}),
    "cosine": ("cosine(to=0.01)", 900, {0: 1, 300: 0.7525, 450: 0.505, 600: 0.2575, 900: 0.01, 1800: 0.01}),
    "poly": ("poly(to=0.1, power=3)", 100, {0: 1, 20: 0.5608, 50: 0.2125, 100: 0.1, 150: 0.1}),
    "exp": ("exp(to=0.0001)", 100, {0: 1, 25: 0.1, 50: 0.01, 75: 0.001, 100: 0.0001, 101: 0.0001}),
    "sqrt": ("sqrt(to=0.1)", 100, {0: 1, 1: 0.91, 25: 0.55, 64: 0.28, 100: 0.1, 150: 0.1}),
    "inv_sqrt": ("warmup(100) >> inv_sqrt()", 10_000, {50: 0.5, 100: 1, 400: 0.5, 2500: 0.2, 10_000: 0.1}),
    "exp_warmup": ("exp_warmup(40, timescale=10, to=0.5) >> hold()", 100,
                   {0: 0, 10: 0.5 * (1 - math.exp(-1)) / (1 - math.exp(-4)), 40: 0.5, 100: 0.5}),
    "quarter_cosine": ("quarter_cosine(to=0.1)", 90, {0: 1, 30: 0.1 + 0.9 * 0.75**0.5, 60: 0.55, 90: 0.1}),
    "wave": ("wave(half=30, low=0.2)", 100, {0: 1, 10: 0.8, 15: 0.6, 30: 0.2, 60: 1, 90: 0.2, 100: 0.4}),
    "inv_time": ("warmup(100) >> inv_time()", 10_000, {50: 0.5, 100: 1, 200: 0.5, 400: 0.25, 10_000: 0.01}),
    "step": ("step(every=30, by=0.5)", 100, {0: 1, 29: 1, 30: 0.5, 60: 0.25, 90: 0.125, 150: 0.125}),
    "multistep": ("multistep(at=(30, 0.8), by=0.5)", 100, {0: 1, 29: 1, 30: 0.5, 79: 0.5, 150: 0.25}),
    "square": ("square(to=0.2)", 100, {0: 1, 25: 0.95, 50: 0.8, 100: 0.2, 150: 0.2}),
    "rex": ("rex(to=0.1)", 100, {0: 1, 50: 0.7, 80: 0.4, 100: 0.1, 150: 0.1}),
    "tanh": ("tanh(lb=-2, ub=2, to=0.2)", 100,
             {0: 1, 25: 0.6 + 0.4 * math.tanh(1) / math.tanh(2), 50: 0.6, 100: 0.2, 150: 0.2}),
    "cyclic": ("cyclic(up=20, start=0.1)", 100, {0: 0.1, 10: 0.55, 20: 1, 30: 0.55, 40: 0.1, 60: 1, 100: 1}),
    "frozen": ("frozen(0.3) >> warmup(0.1) >> hold()", 100, {0: 0, 29: 0, 30: 0, 35: 0.5, 40: 1, 100: 1}),
}  # fmt: skip
MORE = [
    ("inv_sqrt(timescale=300)", 900, {0: 1, 100: math.sqrt(0.75), 900: 0.5}),
    ("inv_sqrt(timescale=0.5)", 100, {0: 1, 150: 1 / math.sqrt(3)}),
    ("cosine(exponent=2, to=0.2)", 100, {50: 0.4, 100: 0.2}),
    ("cosine(k=2)", 100, {0: 1, 50: 0.5 + math.sqrt(0.125), 100: 0}),
    ("poly(power=3, k=2)", 100, {50: 0.421875, 100: 0}),
    ("rex(d=0.9)", 100, {50: 0.5 / 0.55, 90: 0.1 / 0.19, 100: 0}),
    ("exp_warmup(100) >> hold()", 100, {20: (1 - math.exp(-1)) / (1 - math.exp(-5)), 100: 1}),
    ("step(times=2, start=0.5)", 90, {0: 0.5, 29.5: 0.5, 30: 0.05, 60: 0.005, 90: 0.005, 150: 0.005}),
    ("step(times=6)", 49, {6: 1, 7: 0.1, 42: 1e-6, 49: 1e-6}),
    ("multistep(at=50)", 100, {49: 1, 50: 0.1}),
    ("cyclic(up=20, down=60, start=0.1, top=0.9, by=0.5)", 160, {20: 0.9, 50: 0.5, 80: 0.1, 100: 0.5}),
    ("cyclic(up=50, start=0, gamma=0.99)", 200, {25: 0.5 * 0.99**25, 50: 0.99**50, 150: 0.99**150}),
    ("cyclic(up=50, start=0.95, top=0.85)", 200, {0: 0.95, 50: 0.85, 75: 0.9, 100: 0.95}),
    ("hold(10) >> repeat(wave(half=0.5, low=0.2, start=1), 2, fade=0.5)", 100, {10: 1, 32.5: 0.2, 77.5: 0.1}),
    ("repeat(multistep(30, at=(10, 20), start=1), 2, stretch=2)", 90, {9: 1, 10: 0.1, 30: 1, 50: 0.1}),
    ("poly()", 100, {50: 0.25, 90: 0.01}),
    ("poly(power=0.5, to=0)", 100, {75: 0.5, 99: 0.1}),
    ("exp(start=1e-7, to=10)", 80, {0: 1e-7, 10: 1e-6, 40: 1e-3, 70: 1, 80: 10}),
    ("cosine(0.3, start=0.04, to=1) >> cosine(to=4e-6)", 100, {0: 0.04, 15: 0.52, 65: 0.500002, 100: 4e-6}),
    ("linear(0.1, start=1/32, to=1) >> linear(to=1/32)", 1000, {0: 0.03125, 50: 0.515625, 1000: 0.03125}),
    ("cosine(0.3, start=0.95, to=0.85) >> cosine(to=0.95)", 10, {0: 0.95, 3: 0.85, 10: 0.95}),
    ("warmup(0.5, start=0.2, to=0.6) >> linear()", 10, {0: 0.2, 2.5: 0.4, 5: 0.6, 7.5: 0.3, 10: 0}),
]  # fmt: skip


def factors_of_gate(text, total):
    rates = Plan({"lr": 1}, [Group("one", gate=text)], tick=0).over(total)
    return lambda t: rates.at(t)["lr"][0]


def test_every_word_has_a_golden_row():
    assert set(GOLDEN) == set(SHAPES)


@pytest.mark.parametrize(("text", "total", "levels"), [*GOLDEN.values(), *MORE])
def test_golden_levels(text, total, levels):
    curve = factors_of_gate(text, total) if "frozen" in text else parse(text).over(total)
    for t, level in levels.items():
        assert curve(t) == pytest.approx(level, rel=1e-14, abs=1e-17), t


def options(shape, rng):
    given = {
        "power": rng.choice([0.5, 1, 2.0, 3.7]), "exponent": rng.choice([1, 2, 0.7]),
        "k": rng.choice([1, 2, 0.7]),
        "timescale": 10 ** rng.uniform(0, 5), "half": 10 ** rng.uniform(0, 5), "low": rng.choice([0, 0.2]),
        "every": 10 ** rng.uniform(0, 5), "times": rng.choice([None, 1, 3]), "by": rng.choice([0.1, 0.5, 1]),
        "at": tuple(sorted(10 ** rng.uniform(0, 5) for _ in range(rng.randrange(4)))),
        "d": rng.choice([0.5, 0.9, 0.1]), "lb": rng.choice([-7.0, -1.0]), "ub": rng.choice([3.0, 0.5]),
        "up": 10 ** rng.uniform(0, 5), "down": 10 ** rng.uniform(0, 5), "top": rng.choice([1.0, 0.5]),
        "gamma": rng.choice([1, 0.9999]),
    }  # fmt: skip
    return {name: given[name] for name in shape.options}


def settled(shape, given, total):
    """The options as the formula gets them from a piece at the beginning of a run of `total` updates."""
    return given if shape.settle is None else shape.settle(dict(given), 0.0, total)


def levels(shape, rng):
    a, b = 10 ** rng.uniform(-8, 2), 10 ** rng.uniform(-8, 2)
    corner = rng.randrange(8)
    if corner == 0:
        b = a
    elif corner == 1:
        b = a * (1 + rng.uniform(-1e-12, 1e-12))
    elif corner == 2 and not shape.positive:
        b = 0.0
    elif corner == 3 and not shape.positive:
        a = 0.0
    return a, b


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_formula_meets_both_levels_to_the_last_bit(shape):
    rng = random.Random(shape.name)
    for _ in range(2000):
        a, b = levels(shape, rng)
        given = options(shape, rng)
        total = 10 ** rng.uniform(0, 6)
        given = settled(shape, given, total)
        if shape.gate_only:
            a = b = 0.0
        elif not shape.takes_to:
            b = shape.formula(a, a, 1.0, total, SCALARS, **given)
        assert shape.formula(a, b, 0.0, 0.0, SCALARS, **given) == a
        assert shape.formula(a, b, 1.0, total, SCALARS, **given) == b


# What a word needs in its brackets beside its levels.
WRITTEN = {
    "inv_sqrt": ", timescale=0.3", "inv_time": ", timescale=0.3", "wave": ", half=0.1", "step": ", times=3",
    "multistep": ", at=(0.03, 0.2)", "cyclic": ", up=0.1", "exp_warmup": ", timescale=0.05",
}  # fmt: skip


@pytest.mark.parametrize("shape", [s for s in SHAPES.values() if not s.gate_only], ids=lambda s: s.name)
def test_curve_meets_its_written_levels_to_the_last_bit(shape):
    rng = random.Random(shape.name)
    for _ in range(300):
        a, b = levels(shape, rng)
        to = f", to={b!r}" if shape.takes_to else ""
        if not shape.takes_to or shape.example.endswith("(0.1)"):
            to += WRITTEN.get(shape.name, "")
        total, share = 10 ** rng.uniform(0.1, 5), rng.uniform(0.01, 0.9)
        piece = f"{shape.name}({share!r}, start={a!r}{to})"
        curve = parse(f"{piece} >> hold(0.05, start=0.7) >> hold()").over(total)
        begin, end, first, last = curve.table()[0][0][:4]
        assert first == a
        assert curve(begin) == a
        if shape.takes_to:
            assert last == b
        whole = parse(f"{shape.name}('100%', start={a!r}{to})").over(total)
        assert whole(0) == a
        assert whole(whole.total) == whole(3 * total) == whole.table()[0][-1][3]
        if shape.takes_to:
            assert whole(whole.total) == b
        assert end < total


# The error of two products and a sum: where its levels are equal to twelve digits `mix` wavers by two units
# in the last place, and a word with quotients as weights by four.
WAVER = 4


@pytest.mark.parametrize("shape", [s for s in SHAPES.values() if not s.turns], ids=lambda s: s.name)
def test_formula_is_monotone_and_stays_between_its_levels(shape):
    rng = random.Random(shape.name)
    for _ in range(400):
        a, b = levels(shape, rng)
        total = 10 ** rng.uniform(0, 6)
        given = settled(shape, options(shape, rng), total)
        width = rng.choice([2**-53, 1e-15, 1e-12, 1e-6, 1e-3])
        begin = rng.choice([0.0, rng.random(), 1 - 40 * width])
        times = [min(1.0, begin + i * width) for i in range(40)]
        drawn = [shape.formula(a, b, u, u * total, SCALARS, **given) for u in times]
        rises = b > a and shape.takes_to
        edge = drawn[0]
        for level in drawn:
            back = edge - level if rises else level - edge
            assert back <= WAVER * math.ulp(max(edge, level)), (a, b, given)
            edge = max(edge, level) if rises else min(edge, level)
            if shape.takes_to:
                assert min(a, b) - WAVER * math.ulp(a) <= level <= max(a, b) + WAVER * math.ulp(max(a, b))


# How many powers a formula takes: numpy's and the C library's may differ in the last place of each.
POWERS = {
    "poly": 2,
    "exp": 2,
    "cosine": 2,
    "exp_warmup": 2,
    "tanh": 2,
    "step": 1,
    "multistep": 1,
    "cyclic": 40,
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_arrays_get_the_numbers_that_single_times_get(shape):
    rng = random.Random(shape.name)
    for _ in range(200):
        a, b = levels(shape, rng)
        total = 10 ** rng.uniform(0, 6)
        given = settled(shape, options(shape, rng), total)
        times = np.array([0.0, 1.0, *(rng.random() for _ in range(30))])
        vector = shape.formula(a, b, times, times * total, np, **given)
        for u, value in zip(times, vector, strict=True):
            single = shape.formula(a, b, float(u), float(u) * total, SCALARS, **given)
            slack = 1.5 * POWERS.get(shape.name, 0) * math.ulp(max(a, b, given.get("top", 0)))
            assert abs(value - single) <= slack, (a, b, given, u)


def test_curve_takes_arrays_of_any_shape_and_kind():
    curve = (2e-5 * parse("warmup(0.1) >> linear(0.2, to=0.5) >> hold(0) >> cosine(start=0.9)")).over(1000)
    times = np.array([[-5, 0, 50, 99], [100, 300, 301, 2000]])
    values = curve(times)
    assert values.shape == (2, 4)
    assert values.dtype == np.float64
    assert values.tolist() == [[curve(int(t)) for t in row] for row in times]
    assert curve(np.float64(50)) == curve(np.int64(50)) == curve(50) == 1e-5
    assert curve(times.astype(np.float64)).tolist() == values.tolist()


def test_a_time_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="number or an array"):
        parse("hold()").over(10)([1, 2])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        ("exp()", "needs a target: write exp(to=0.01)"),
        ("exp(0.5)", "needs a target: write exp(to=0.01)"),
        ("warmup()", "needs a length: write warmup(0.1)"),
        ("hold(to=0.5)", "knows no 'to'"),
        ("frozen(start=1)", "knows no 'start'"),
        ("inv_sqrt(to=0.1)", "knows no 'to'"),
        ("cosine(pwoer=2)", "knows no 'pwoer'"),
        ("poly(pwoer=2)", "did you mean 'power'"),
        ("poly(power=0)", "above 0"),
        ("poly(power=-1)", "0 or more"),
        ("linear(to=-0.1)", "0 or more"),
        ("linear(start=-0.1)", "0 or more"),
        ("exp(to=0)", "above 0"),
        ("exp(start=0, to=1)", "above 0"),
        ("inv_sqrt(timescale=0)", "above 0"),
        ("inv_sqrt(timescale=0.0)", "above 0"),
        ('inv_sqrt(timescale="0%")', "above 0"),
        ("inv_sqrt(timescale=1000.0)", "write 1000 "),
        ("cosine(0.1, 0.2)", "takes one length"),
        ("cosine(0.1, over=0.2)", "takes one length"),
        ("step()", "takes one of every= and times=, got neither: write for example step(times=3)"),
        ("step(every=10, times=2)", "got every and times"),
        ("wave()", "half"),
        ("multistep()", "at"),
        ("multistep(at=())", "at"),
        ("multistep(at=(10, 0))", "above 0"),
        ("cyclic(start=0.1)", "up"),
        ("rex(d=1)", "takes d below 1"),
        ("tanh(lb=3, ub=-7)", "takes lb below ub"),
        ("wave(half=10, low=-0.1)", "0 or more"),
        ("exp_warmup(0.1, timescale=0)", "above 0"),
        ("cosine(to=1e400)", "finite"),
        ('cosine(to="6%")', "takes a number"),
    ],
)  # fmt: skip
def test_brackets_that_make_no_sense(make, says):
    with pytest.raises(ScheduleError) as error:
        parse(make)
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["linear(0.5) >> exp(to=0.1)", "warmup(0.1) >> linear(0.2) >> exp(to=1)"])
def test_exp_needs_a_level_above_zero_to_start_from(text):
    with pytest.raises(ScheduleError, match="levels above 0"):
        parse(text).over(100)
    assert parse(text.replace("exp(", "exp(start=0.5, ")).over(100)(100) in (0.1, 1)


def test_inv_sqrt_at_the_start_needs_a_time_scale():
    with pytest.raises(ScheduleError, match="timescale=1000"):
        parse("inv_sqrt()").over(100)
    assert parse("inv_sqrt(timescale=1000)").over(100)(100) == pytest.approx(math.sqrt(1000 / 1100))


def test_a_time_scale_is_a_length():
    span = Span(1000, epoch=100)
    curve = parse('inv_sqrt(timescale="2ep")').over(span.total, epoch=span.epoch)
    assert curve(600) == 0.5
    with pytest.raises(ScheduleError, match="epoch="):
        parse('inv_sqrt(timescale="2ep")').over(1000)


def test_none_is_no_level():
    from etude import cosine, linear, warmup

    assert linear(start=None) == linear()
    for make in (lambda: warmup(0.1, start=None), lambda: cosine(to=None)):
        with pytest.raises(ScheduleError, match="takes a number, got None"):
            make()
