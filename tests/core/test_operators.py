"""The operator table of the design: what each expression is, and the line that an error says to write."""

import math
import re

import numpy as np
import pytest
import torch

from etude import cosine, hold, linear, parse, poly, repeat, sqrt, warmup
from etude.core.path import Path, Schedule, as_schedule
from etude.errors import ScheduleError

A, B = warmup(0.1), cosine(to=0.01)


def test_paths_join_and_group_to_the_left():
    assert A >> B >> hold() == (A >> B) >> hold() == A >> (B >> hold())
    assert isinstance(A >> B, Path)
    assert str(A >> B) == "warmup(0.1) >> cosine(to=0.01)"


def test_a_number_makes_a_schedule_from_either_side():
    assert 2e-5 * A == A * 2e-5 == Schedule(2e-5, (A,))
    assert 2 * (3 * A) == (3 * A) * 2 == 6 * A
    assert str(2e-5 * A) == "2e-05 * warmup(0.1)"
    assert Schedule(0, (A,)) == 0 * A


def test_the_number_multiplies_the_whole_path():
    assert 2e-5 * A >> B == 2e-5 * (A >> B)
    assert str(2e-5 * A >> B) == "2e-05 * (warmup(0.1) >> cosine(to=0.01))"
    assert parse("2e-5 * warmup(0.1) >> cosine(to=0.01)") == 2e-5 * (A >> B)


def test_factors_span_the_whole_run_and_the_first_is_the_shape():
    product = 2 * (warmup(0.5) >> hold()) * linear()
    assert product.paths == (warmup(0.5) >> hold(), linear())
    assert str(product) == "2 * (warmup(0.5) >> hold()) * linear()"
    curve = product.over(100)
    assert [curve(t) for t in (0, 25, 50, 75, 100)] == [0, 0.75, 1.0, 0.5, 0]
    assert A * B == 1 * A * B == Schedule(1, (A, B))
    assert Schedule(6, (A, B)) == (2 * A) * (3 * B)
    assert (2 * A) * B * linear() == Schedule(2, (A, B, linear()))


@pytest.mark.parametrize(
    "number",
    [
        np.float64(0.5),
        np.float32(0.5),
        np.array(0.5),
        torch.tensor(0.5),
        torch.tensor(0.5, dtype=torch.float64),
    ],
    ids=lambda x: type(x).__name__ + str(x.dtype),
)
def test_numbers_of_other_libraries_from_either_side(number):
    for schedule in (number * B, B * number, number * (1 * B), (1 * B) * number):
        assert schedule == 0.5 * B
        assert type(schedule.peak) is float
        assert str(schedule) == "0.5 * cosine(to=0.01)"
    for inside in (cosine(number), cosine(to=number), cosine(start=number), repeat(B, 2, fade=number)):
        assert "float" not in str(inside)
        assert "tensor" not in str(inside)
        assert parse(str(inside)) == inside
    assert type(np.int64(3) * B).__name__ == "Schedule"
    assert str(np.int64(3) * B) == "3 * cosine(to=0.01)"
    assert str(repeat(B, np.int64(3), stretch=np.float64(2))) == "repeat(cosine(to=0.01), 3, stretch=2.0)"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: np.float64(2e-5) >> B, "2e-05 * (cosine(to=0.01))"),
        (lambda: 5 >> (A >> B), "5 * (warmup(0.1) >> cosine(to=0.01))"),
        (lambda: 5 >> 2 * B, "5 * (2 * cosine(to=0.01))"),
        (lambda: A >> 2e-5 * B, "2e-05 * (warmup(0.1) >> cosine(to=0.01))"),
        (lambda: 2e-5 * A >> 3 * B, "2e-05 * (warmup(0.1) >> cosine(to=0.01))"),
        (lambda: (A >> B) * hold() >> poly(), "1 * (warmup(0.1) >> cosine(to=0.01)) * (hold() >> poly())"),
        (lambda: 3 * A * B * hold() >> linear(), "3 * warmup(0.1) * cosine(to=0.01) * (hold() >> linear())"),
        (lambda: A >> (2 * B * linear()), "2 * (warmup(0.1) >> cosine(to=0.01)) * linear()"),
        (lambda: repeat(2e-5 * B, 3, stretch=2), "2e-05 * repeat(cosine(to=0.01), 3, stretch=2)"),
        (lambda: repeat("2 * cosine()", 3, over=0.5), "2 * repeat(cosine(), 3, over=0.5)"),
        (lambda: A + B, "warmup(0.1) >> cosine(to=0.01)"),
        (lambda: A - B, "warmup(0.1) >> cosine(to=0.01)"),
        (lambda: B + 2, "2 * (cosine(to=0.01))"),
        (lambda: 2 + B, "2 * (cosine(to=0.01))"),
        (lambda: np.float64(2) - B, "2.0 * (cosine(to=0.01))"),
        (lambda: (A >> B) / 2, "1 / 2 * (warmup(0.1) >> cosine(to=0.01))"),
        (lambda: (2e-5 * B) / np.float64(4), "1 / 4.0 * (2e-05 * cosine(to=0.01))"),
        (lambda: -B, "cosine(to=0.01)"),
        (lambda: -(3 * B), "3 * cosine(to=0.01)"),
    ],
)  # fmt: skip
def test_a_refused_expression_says_a_line_that_parses(make, line):
    with pytest.raises(ScheduleError) as error:
        make()
    message = str(error.value)
    assert f"write {line}" in message or f"as in {line}" in message
    assert "np." not in message
    parse(line)


def test_the_number_that_an_error_says_to_write_instead_of_a_negative_one():
    with pytest.raises(ScheduleError) as error:
        -2e-5 * B
    said = re.search(r"write (\S+)$", str(error.value))
    assert said
    assert parse(f"{said.group(1)} * cosine()").peak == 2e-5


@pytest.mark.parametrize(
    "make",
    [
        lambda: A >> 5, lambda: A >> "hold()", lambda: A >> None, lambda: 2 * A >> 5, lambda: A * B >> 5,
        lambda: "hold()" >> A, lambda: None >> A, lambda: [1] >> A,
        lambda: A * "2", lambda: "2" * A, lambda: A * None, lambda: A * True, lambda: True * A,
        lambda: np.True_ * A, lambda: A * [1.0], lambda: A * (1 + 2j), lambda: (2 * A) * "x",
        lambda: np.array([1.0, 2.0]) * A, lambda: A * np.array([1.0, 2.0]), lambda: torch.ones(2) * A,
        lambda: A * math.nan, lambda: math.inf * A, lambda: A * -1, lambda: -1 * A, lambda: 10**400 * A,
        lambda: 1e200 * (1e200 * A), lambda: 10**200 * (10**200 * A), lambda: np.float64("nan") * A,
        lambda: A + 1, lambda: 1 + A, lambda: A + B, lambda: A - B, lambda: 1 - A, lambda: A / B,
        lambda: 1 / A,
        lambda: A // 2, lambda: 2 // A, lambda: A % 2, lambda: A**2, lambda: 2**A, lambda: A @ B,
        lambda: A << B,
        lambda: A / 0, lambda: 2 * A + B, lambda: 2 * A / B, lambda: -A, lambda: A + None,
        lambda: repeat(A * B, 2), lambda: repeat(5, 2), lambda: repeat(None, 2), lambda: repeat("5", 2),
    ],
)  # fmt: skip
def test_everything_else_is_refused(make):
    with pytest.raises(ScheduleError) as error:
        make()
    assert "Error" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"times": 0}, "1 or more"), ({"times": -1}, "1 or more"), ({"times": 2.0}, "whole number"),
        ({"times": True}, "whole number"), ({"times": "3"}, "whole number"),
        ({"times": None}, "whole number"),
        ({"times": 2, "stretch": 0}, "above 0"), ({"times": 2, "fade": -1}, "above 0"),
        ({"times": 2, "stretch": math.nan}, "finite"), ({"times": 2, "fade": math.inf}, "finite"),
        ({"times": 2, "stretch": "2"}, "takes a number"), ({"times": 2, "stretch": True}, "takes a number"),
        ({"times": 2, "over": 0}, "draws nothing"), ({"times": 2, "over": 1.0}, "ambiguous"),
        ({"times": 400, "stretch": 10.0}, "passes 1e"), ({"times": 10**9}, "pieces"),
        ({"times": 9**999}, "pieces"),
        ({"times": 400, "fade": 10}, "passes 1e"),
    ],
)  # fmt: skip
def test_repeat_refuses(given, says):
    with pytest.raises(ScheduleError) as error:
        repeat(cosine(start=1), **given)
    assert says in str(error.value)


def test_repeats_within_repeats_are_counted():
    with pytest.raises(ScheduleError, match="pieces"):
        repeat(repeat(repeat(cosine(start=1), 100), 100), 100)


def test_schedules_are_values():
    assert {2e-5 * A, 2e-5 * A, A >> B, A >> B} == {2e-5 * A, A >> B}
    assert hash(repeat(B, 3)) == hash(repeat(cosine(to=0.01), 3))
    assert A != B
    with pytest.raises(AttributeError):
        A.pieces = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0.01, "0.01 * hold()"), (0, "0 * hold()"), (np.float64(0.01), "0.01 * hold()"),
        (B, "1 * cosine(to=0.01)"),
        (2 * B, "2 * cosine(to=0.01)"), ("0.01", "0.01 * hold()"), ("1/4 * cosine()", "0.25 * cosine()"),
        (" cosine() ", "1 * cosine()"), (torch.tensor(2), "2 * hold()"),
    ],
)  # fmt: skip
def test_what_stands_for_a_schedule(given, text):
    assert str(as_schedule(given)) == text


@pytest.mark.parametrize("given", [None, True, math.nan, math.inf, -1e-5, [1], 1j, "", "nan", object()])
def test_what_does_not_stand_for_a_schedule(given):
    with pytest.raises(ScheduleError):
        as_schedule(given)


def test_repr_is_the_source():
    schedule = 3e-4 * (warmup(500) >> hold() >> sqrt(0.2)) * linear(to=0.9)
    text = "0.0003 * (warmup(500) >> hold() >> sqrt(0.2)) * linear(to=0.9)"
    assert repr(schedule) == str(schedule) == text
