"""The equation: peak × shape(t) × scale × gate(t) × control, for any update, in any order."""

import itertools
import math

import pytest

from etude import Group, Plan, Scale, parse
from etude.errors import ScheduleError

PLAN = {
    "lr": "4e-3 * (warmup(10) >> linear())",
    "weight_decay": "0.1 * linear(to=0.5)",
    "momentum": "cosine(0.5, start=0.95, to=0.85) >> cosine(to=0.95)",
}
GROUPS = [
    Group("emb", scale={"lr": 0.5, "weight_decay": 0}, gate="frozen(0.5) >> warmup(0.1) >> hold()"),
    Group("body", scale={"lr": 0.25}, gate="hold(0.2, start=0.4) >> hold(start=1)"),
    Group("head", scale={"lr": 10}),
]


def test_every_rate_is_the_product_of_its_factors():
    rates = Plan(PLAN, GROUPS, tick=0).over(100).edit(Scale(40, 0.5)).edit(Scale(60, 0.1, groups="h*"))
    for k in range(100):
        shape = k / 10 if k < 10 else (100 - k) / 90
        gates = [0 if k < 50 else min((k - 50) / 10, 1), 0.4 if k < 20 else 1, 1]
        control = [0.5 if k >= 40 else 1] * 2 + [1 if k < 40 else 0.5 if k < 60 else 0.05]
        scales = [0.5, 0.25, 10]
        expected = [
            4e-3 * shape * scale * gate * edit
            for scale, gate, edit in zip(scales, gates, control, strict=True)
        ]
        found = rates.at(k)
        assert found["lr"] == pytest.approx(expected, rel=1e-12, abs=0)
        decay = 0.1 * (1 - k / 200)
        assert found["weight_decay"] == pytest.approx([0, decay, decay], rel=1e-12, abs=0)
        assert found["momentum"] == [found["momentum"][0]] * 3
    assert rates.at(25)["momentum"][0] == pytest.approx(0.9)


def test_the_last_bit_of_the_peak_of_a_group():
    rates = Plan({"lr": "2e-5 * (warmup(0.1) >> linear())"}, [Group("a", scale={"lr": 0.59049})], 0).over(
        1000
    )
    assert rates.at(100)["lr"] == [2e-5 * 0.59049]


@pytest.mark.parametrize("tick", [0, 0.25, 0.5, 1])
def test_an_update_uses_the_time_that_the_tick_says(tick):
    rates = Plan({"lr": "linear()"}, tick=tick).over(100)
    assert rates.at(10)["lr"] == [pytest.approx(1 - (10 + tick) / 100)]
    assert rates.at(10, 14)["lr"] == [pytest.approx(1 - (10 + 4 * tick) / 100)]
    assert rates.at(10.5, 10.75)["lr"] == [pytest.approx(1 - (10.5 + 0.25 * tick) / 100)]
    assert rates.at(20, 20)["lr"] == [0.8]


def test_the_last_update_is_cut_at_the_end():
    rates = Plan({"lr": "linear()"}, tick=1).over(9.5)
    assert rates.at(9)["lr"] == [0]
    assert len(rates.matrix()) == 10
    assert rates.matrix()[-1] == rates.at(9, 9.5)["lr"] == [0]
    middle = Plan({"lr": "linear()"}).over(9.5)
    assert middle.at(9) == middle.at(9, 9.5) == {"lr": [pytest.approx(0.25 / 9.5)]}
    assert middle.at(30) == middle.at(9.5, 9.5) == {"lr": [0]}


def test_any_time_in_any_order():
    plan = Plan(PLAN, GROUPS)
    rates = plan.over(100).edit(Scale(40, 0.5))
    straight = [rates.at(k) for k in range(100)]
    shuffled = sorted(range(100), key=lambda k: (k * 37) % 101)
    assert [rates.at(k) for k in sorted(shuffled)] == straight
    assert {k: rates.at(k) for k in shuffled} == dict(enumerate(straight))


def test_a_gate_opens_by_its_word_and_never_by_its_rate():
    rates = Plan({"lr": 1}, [
        Group("late", gate="frozen(0.3) >> warmup(0.1) >> hold()"),
        Group("out", gate="cosine(0.5) >> frozen()"),
        Group("zero", gate="hold(start=0)"),
        Group("probe", gate="frozen(0.1) >> hold(start=1)"),
        Group("free"),
    ]).over(100)  # fmt: skip
    assert rates.open(0) == [False, True, True, False, True]
    assert rates.open(9.99) == [False, True, True, False, True]
    assert rates.open(10) == [False, True, True, True, True]
    assert rates.open(29.5) == [False, True, True, True, True]
    assert rates.open(30) == [True, True, True, True, True]
    assert rates.open(50) == [True, False, True, True, True]
    assert rates.open(1000) == [True, False, True, True, True]
    assert rates.at(10)["lr"] == [0, pytest.approx(0.5 + 0.5 * math.cos(math.pi * 0.21)), 0, 1, 1]


def test_an_update_that_begins_frozen_is_frozen_to_its_end():
    rates = Plan({"lr": 1}, [Group("a", gate="frozen(10.5e-2) >> hold(start=1)")], tick=1).over(100)
    assert rates.open(10) == [False]
    assert rates.at(10)["lr"] == [0]
    assert rates.at(11)["lr"] == [1]


def test_a_gate_acts_on_the_rate_only():
    rates = Plan({"lr": 1, "weight_decay": 0.1}, [Group("a", gate="frozen(0.5) >> hold(start=1)")]).over(10)
    assert rates.at(0) == {"lr": [0], "weight_decay": [0.1]}


def test_matrix_has_a_row_for_each_update():
    rates = Plan(PLAN, GROUPS).over(100).edit(Scale(40, 0.5))
    for hyper in PLAN:
        matrix = rates.matrix(hyper)
        assert len(matrix) == 100
        assert matrix == [rates.at(k)[hyper] for k in range(100)]


def test_an_open_run_has_no_matrix():
    rates = Plan({"lr": "warmup(5) >> hold()"}).over(math.inf)
    assert rates.total == math.inf
    assert rates.at(1e9) == {"lr": [1]}
    with pytest.raises(ScheduleError, match="open run"):
        rates.matrix()


@pytest.mark.parametrize("path", ["linear(0.5, to=0) >> hold()", "hold() >> linear(0.2)"])
@pytest.mark.parametrize("scale", [1.0, 0.59049, 10.0])
def test_layer_ratios_survive_everything(path, scale):
    rates = Plan({"lr": f"2e-5 * ({path})"}, [Group("a"), Group("b", scale={"lr": scale})]).over(50)
    for k, by in itertools.product(range(50), (0.5, 0.1)):
        low, high = rates.edit(Scale(10, by)).at(k)["lr"]
        assert high == pytest.approx(low * scale, rel=1e-15, abs=0)


@pytest.mark.parametrize("tick", [0, 0.5, 1])
def test_a_gate_is_its_own_curve_where_the_update_is_read_and_freezes_where_it_begins(tick):
    shape, total = "3e-4 * (warmup(0.13) >> cosine())", 37.3
    gates = ["hold(0.3, start=0.7) >> cosine(0.2) >> hold()", "frozen(0.17) >> warmup(0.11) >> hold()"]
    rates = Plan({"lr": shape}, [Group(f"g{i}", gate=gate) for i, gate in enumerate(gates)], tick).over(total)
    curve = parse(shape).over(total)
    gate, thawing = (
        parse(gates[0]).over(total),
        parse(gates[1].replace("frozen(", "hold(start=0, over=")).over(total),
    )
    for begin in (k * 0.37 for k in range(100)):
        end = begin + 0.37
        t = begin + tick * (end - begin)
        frozen = begin < 0.17 * total
        assert rates.open(begin) == [True, not frozen]
        wanted = [curve(t) * gate(t), 0.0 if frozen else curve(t) * thawing(t)]
        assert rates.at(begin, end)["lr"] == pytest.approx(wanted, rel=1e-12, abs=1e-20)
