"""Levels at many times at once: to the last bit those of single times, whatever numpy's functions do."""

import math

import numpy as np
import pytest

from etude import Group, Plan
from etude.core import exact
from etude.core.passage import Share
from etude.core.shapes import SHAPES
from etude.core.text import parse

PATHS = [
    *(shape.example for shape in SHAPES.values() if not shape.gate_only),
    "cosine(exponent=2)", "cosine(k=3, to=0.1)", "poly(power=1, k=1)",
    "cyclic(up=30, gamma=0.999, start=0.1)", "cyclic(up=30, by=0.5)",
    "exp_warmup(100) >> hold(50) >> inv_sqrt()", "rex(d=0.9, to=1/3)",
    "warmup(0.13) >> cosine(0.41, to=0.3) >> hold(0, start=0.7) >> tanh(to=0.1)",
    "repeat(cosine(start=1), 3, stretch=2, fade=0.7)", "step(times=3, by=0.7)", "quarter_cosine(to=1/7)",
]  # fmt: skip


def drawn(path, total=400.3):
    """The line of a path, or of one word with others around it where it needs them."""
    if path.startswith("inv_"):
        path = f"hold(3) >> {path}"
    elif path.endswith("warmup(0.1)"):
        path = f"{path} >> hold()"
    return parse(path).over(total).lines[0]


class Otherwise:
    """numpy, with transcendental functions that are one unit in the last place above those of `math`."""

    def __getattr__(self, name):
        if name in ("cos", "sin", "tanh", "expm1"):
            return lambda x: np.nextafter(np.array([getattr(math, name)(one) for one in x.tolist()]), 9)
        return getattr(np, name)


def bits(levels):
    return [float(level).hex() for level in levels]


@pytest.mark.parametrize("library", [np, Otherwise()], ids=["numpy", "another numpy"])
@pytest.mark.parametrize("tick", [0, 0.5, 1])
@pytest.mark.parametrize("path", PATHS)
def test_levels_are_those_of_single_times_to_the_last_bit(path, tick, library):
    line = drawn(path)
    for first, count in ((0, 400), (17, 9), (399, 30), (5, 1)):
        times = np.arange(first, first + count, dtype=float) + tick
        assert bits(exact.line_levels(line, times, library)) == bits(map(line.level, times.tolist()))


def test_a_word_that_takes_a_power_is_known_by_its_formula():
    """numpy's powers are not those of Python, so these lines are asked for single times."""
    powers = {name for name in SHAPES if exact.takes_power(name, drawn_params(name))}
    assert powers == {"poly", "exp", "step", "multistep"}
    assert exact.takes_power("cosine", (("k", 2.0),))
    assert exact.takes_power("cyclic", (("up", 10), ("down", 10), ("gamma", 0.9)))
    assert exact.takes_power("cyclic", (("up", 10), ("down", 10), ("by", 0.9)))
    assert not exact.takes_power("cosine", (("k", 1.0), ("exponent", 1.0)))


def drawn_params(name):
    if SHAPES[name].gate_only:
        return ()
    return next(row.params for row in drawn(SHAPES[name].example).rows if row.shape == name)


def test_numpys_own_function_is_used_only_where_it_agrees():
    assert not exact.agrees("cos", Otherwise())
    assert exact.agrees("cos", np) == bool(np.cos(np.linspace(0, 3, 999)).tolist() == cosines())


def cosines():
    return [math.cos(x) for x in np.linspace(0, 3, 999).tolist()]


def test_gates_and_factors_keep_their_order_of_multiplication():
    gates = ["warmup(0.3) >> poly()", "frozen(0.2) >> hold(0.3, start=0.7) >> hold(start=0.1)", None]
    groups = [Group(f"g{i}", (f"{i}",), {"lr": 0.3 + i}, gate) for i, gate in enumerate(gates)]
    rates = Plan({"lr": "3e-4 * (warmup(0.13) >> cosine()) * linear(to=0.7)"}, groups).over(100)
    share = rates.passage(60).shares["lr"]
    times = np.arange(60.5, 99.5)
    expected = [bits(share.levels(t)) for t in times.tolist()]
    assert [bits(row) for row in exact.levels(share, times, np)] == expected


def test_groups_whose_gates_stand_open_or_shut_are_of_one_kind():
    gates = [
        "frozen(0.5) >> hold(start=1)",
        "frozen(0.6) >> hold(start=1)",
        "linear()",
        None,
        "hold(start=0.3)",
    ]
    groups = [Group(f"g{i}", (f"{i}",), {"lr": 1 / (i + 3)}, gates[i % 5]) for i in range(12)]
    rates = Plan({"lr": "1e-3 * cosine()", "weight_decay": 0.1}, groups).over(100)
    for begin in (10, 55, 80):
        shares = rates.passage(begin).shares
        merged = shares["lr"].merged()
        assert len(merged.gates) == 3 < len(shares["lr"].gates)
        for t in (begin, begin + 0.5, begin + 1.25):
            assert bits(merged.values(t)) == bits(shares["lr"].values(t))
        assert shares["weight_decay"].merged() is shares["weight_decay"]


def test_a_share_with_one_standing_gate_stays_as_it_is():
    curve = parse("cosine()").over(10)
    line = parse("linear()").over(10).lines[0]
    share = Share(curve, (1.0, line), (0, 1, 0), (1.0, 2.0, 3.0))
    assert share.merged() is share
