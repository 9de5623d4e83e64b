"""The length table of the design: what is allowed, what is refused, and what the message says to write."""

import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from etude import cosine, hold, linear, repeat, warmup
from etude.core.length import Span, is_absolute, length, measure, snap, span
from etude.core.text import parse
from etude.errors import ScheduleError

RUN = Span(1000, epoch=125.3125, batch=16, tokens=2048)


@pytest.mark.parametrize(
    ("written", "kept", "updates"),
    [
        (500, 500, 500), (0, 0, 0), (np.int64(7), 7, 7), (np.uint8(7), 7, 7), (2**53, 2**53, 2**53),
        (0.1, 0.1, 100), (0.0, 0.0, 0), (0.999, 0.999, 999), (np.float64(0.25), 0.25, 250),
        (np.float32(0.5), 0.5, 500), (np.array(0.5), 0.5, 500), (Fraction(1, 8), 0.125, 125),
        (Decimal("0.5"), 0.5, 500), (-0.0, 0.0, 0),
        ("6%", "6%", 60), ("100%", "100%", 1000), ("0%", "0%", 0), (" 2.5 % ", "2.5%", 25), (".5%", ".5%", 5),
        ("500up", "500up", 500), ("2.5up", "2.5up", 2.5), ("2ep", "2ep", 250.625), ("1 ep", "1ep", 125.3125),
        ("500ex", "500ex", 31.25), ("1e6tok", "1e6tok", 488.28125), ("2.5E+3tok", "2.5E+3tok", 1.220703125),
        (np.str_("2ep"), "2ep", 250.625), (None, None, 0),
    ],
)  # fmt: skip
def test_lengths_that_are_allowed(written, kept, updates):
    checked = length(written)
    assert checked == kept
    assert type(checked) in (int, float, str, type(None))
    assert measure(checked, RUN, 1000) == pytest.approx(updates, rel=1e-15)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (True, "no length"), (np.True_, "no length"), (-1, "negative"), (np.int64(-3), "negative"),
        (1.0, 'write 1 for one update or "100%" for the whole span'), (np.float64(1), "1.0 is ambiguous"),
        (2.0, "write 2 (a whole number)"), (1e3, "write 1000 (a whole number)"), (500.0, "write 500 "),
        (2.5, '"2.5ep"'), (1.0000001, "between 0 and 1"), (-0.1, "between 0 and 1"), (math.nan, "no length"),
        (math.inf, "leave it out"), (-math.inf, "no length"), (1e300, "leave it out"), (9**400, "leave it"),
        ("101%", 'at most "100%"'), ("100.1%", 'at most "100%"'), ("-5%", "no length"), ("5", "no length"),
        ("", "no length"), ("ep", "no length"), ("2 epochs", "no length"), ("1_000up", "no length"),
        ("nan%", "no length"), ("infup", "no length"), ("1e999ex", "not finite"), ("2EP", "no length"),
        ([1], "no length"), (1j, "no length"), (b"6%", "no length"), (np.array([1, 2]), "no length"),
        (hold(), "no length"), (object, "no length"),
    ],
)  # fmt: skip
def test_lengths_that_are_refused(written, says):
    with pytest.raises(ScheduleError) as error:
        length(written)
    assert says in str(error.value)
    assert "np." not in str(error.value) or "np.True_" in str(error.value)


def test_the_length_that_an_error_says_to_write_is_one():
    for wrong in (1.0, 2.0, 1e3):
        with pytest.raises(ScheduleError) as error:
            cosine(wrong)
        said = re.search(r'write (\d+|"[^"]+")', str(error.value))
        assert said
        assert parse(f"cosine({said.group(1)}) >> hold()").over(2000)(2000) == 0


@pytest.mark.parametrize("unit", ["ep", "ex", "tok"])
def test_a_unit_that_the_run_was_not_told(unit):
    keyword = {"ep": "epoch", "ex": "batch", "tok": "tokens"}[unit]
    path = warmup(f"2{unit}") >> hold()
    with pytest.raises(ScheduleError, match=rf"over\(total, {keyword}=…\)"):
        path.over(100)
    assert path.over(100, **{keyword: 10}).table()[0][0][1] == {"ep": 20, "ex": 0.2, "tok": 0.2}[unit]


def test_omitted_lengths_share_what_is_left():
    rows = parse("linear(100, to=0.5) >> hold() >> cosine(0.2, to=0.1) >> hold()").over(1000).table()[0]
    assert [row[:2] for row in rows] == [(0, 100), (100, 450), (450, 650), (650, 1000)]


def test_nothing_is_rounded_and_a_hair_is():
    rows = parse("warmup(0.07) >> hold(0.0715) >> linear()").over(100).table()[0]
    assert [row[1] for row in rows] == [7.0, 14.15, 100]
    assert snap(7.000000002) == 7.000000002
    assert snap(6.9999999995) == 7.0
    assert snap(math.inf) == math.inf


@pytest.mark.parametrize(
    "text", ["cosine(0.5) >> hold(0.6)", "hold(101)", "hold(50) >> cosine(51)", 'hold("101up")']
)
def test_too_long(text):
    with pytest.raises(ScheduleError, match="too long"):
        parse(text).over(100)


@pytest.mark.parametrize(
    "text", ["cosine(0.5)", "cosine(50) >> linear(49)", 'warmup("99%")', "repeat(cosine(9), 3)"]
)
def test_too_short_and_the_line_that_is_said_instead(text):
    with pytest.raises(ScheduleError, match="too short") as error:
        parse(text).over(100)
    said = re.search(r"write (.*) if the last", str(error.value))
    assert said
    *_, before, last = parse(said.group(1)).over(100).table()[0]
    assert last == (before[1], 100, before[3], before[3], "hold", {})


@pytest.mark.parametrize(
    "text", ["hold(100) >> cosine()", 'cosine() >> hold("100%")', "hold(1.0e-1) >> hold(90) >> poly()"]
)
def test_nothing_left_for_an_omitted_length(text):
    with pytest.raises(ScheduleError, match="nothing is left"):
        parse(text).over(100)


def test_nothing_left_is_enough_for_hold():
    assert parse("linear(100, to=0.5) >> hold()").over(100)(100) == 0.5
    assert parse("linear(0.4, to=0.5) >> hold() >> linear(0.6, to=0.1)").over(100)(100) == 0.1


@pytest.mark.parametrize("within", [1e-10, -1e-10])
def test_a_hair_too_long_or_too_short_is_the_run(within):
    curve = parse(f'hold(50) >> linear("{50 + within!r}up")').over(100)
    assert curve.table()[0][-1][1] == 100
    assert curve(100) == 0


def test_a_length_of_zero_draws_nothing_and_moves_the_pen():
    curve = parse("linear(0, to=0.5) >> hold(0.5) >> cosine(0.0, to=0.2) >> linear()").over(100)
    assert [row[4] for row in curve.table()[0]] == ["hold", "linear"]
    assert [curve(t) for t in (0, 25, 50, 75, 100)] == [0.5, 0.5, 0.2, 0.1, 0.0]
    assert parse('warmup("0up") >> linear()').over(10)(0) == 1
    assert parse("linear(to=0.5) >> hold(0, start=0.9)").over(10)(10) == 0.9


@pytest.mark.parametrize(
    "wrong", [0, -1, math.nan, -math.inf, True, "100", None, [1], np.array([1, 2]), 1j, hold(), 10**400]
)
def test_a_run_has_a_positive_length(wrong):
    with pytest.raises(ScheduleError, match="total="):
        linear().over(wrong)


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, True, "100", [1]])
def test_units_are_positive_numbers(wrong):
    for name in ("epoch", "batch", "tokens"):
        with pytest.raises(ScheduleError, match=f"{name}="):
            linear().over(100, **{name: wrong})


def test_a_run_is_told_in_any_kind_of_number():
    assert span(np.int64(100), np.float64(12.5), 8) == Span(100.0, 12.5, 8.0, None)
    assert linear().over(np.float32(100))(50) == 0.5
    assert span(math.inf).total == math.inf


def test_equal_lengths_act_alike():
    assert is_absolute(0.0)
    assert is_absolute("0%")
    assert hold(0) == hold(0.0)
    for zero in ("0", "0.0", '"0%"', '"0up"'):
        assert parse(f"linear({zero}, to=0.5) >> hold()").over(math.inf)(0) == 0.5
        with pytest.raises(ScheduleError, match="draws nothing"):
            repeat(cosine(start=1), 3, over=parse(f"hold({zero})").pieces[0].over)
