"""From a path to numbers: the golden example, repeats, open runs, and what the curve is outside its run."""

import math

import pytest

from etude import Group, Plan, cosine, hold, linear, parse, repeat, warmup
from etude.errors import ScheduleError

GOLDEN = 2e-5 * (warmup(0.1) >> cosine(to=0.01))


def test_golden_rows():
    assert GOLDEN.over(1000).table() == [
        [(0, 100, 0, 1, "warmup", {}), (100, 1000, 1, 0.01, "cosine", {})],
    ]


def test_golden_curve():
    curve = GOLDEN.over(1000)
    assert [curve(t) for t in (0, 50, 100)] == [0, 1e-5, 2e-5]
    assert curve(550) == pytest.approx(1.01e-5, rel=1e-15, abs=0)
    assert [curve(t) for t in (1000, 1000.5, 1e9)] == [2e-5 * 0.01] * 3
    assert curve(-3) == 0
    assert curve.total == 1000


@pytest.mark.parametrize(
    ("tick", "used"),
    [
        (0.5, {0: 1e-7, 99: 1.99e-5, 100: 1.999998492e-5, 999: 2.00015079e-7}),
        (0, {0: 0, 99: 1.98e-5, 100: 2e-5, 999: 2.00060314e-7}),
        (1, {0: 2e-7, 99: 2e-5, 100: 1.999993969e-5, 999: 2e-7}),
    ],
)
def test_golden_updates(tick, used):
    rates = Plan({"lr": GOLDEN}, tick=tick).over(1000)
    for k, value in used.items():
        assert rates.at(k)["lr"] == [pytest.approx(value, rel=3e-9, abs=0)]
        assert rates.at(k, k + 1) == rates.at(k)


def test_the_middle_of_updates_has_the_area_of_the_curve():
    middle, start = (Plan({"lr": GOLDEN}, tick=tick).over(1000).matrix() for tick in (0.5, 0))
    area = 2e-5 * (100 * 0.5 + 900 * 0.505)
    assert math.fsum(row[0] for row in middle) == pytest.approx(area, rel=1e-6, abs=0)
    assert abs(math.fsum(row[0] for row in start) - area) > abs(math.fsum(row[0] for row in middle) - area)
    assert min(row[0] for row in middle) > 0


def test_the_pen_goes_on_where_it_is():
    curve = parse("linear(0.25, to=0.6) >> hold(0.25) >> cosine(0.25, to=0.9) >> linear()").over(100)
    assert [row[2:4] for row in curve.table()[0]] == [(1, 0.6), (0.6, 0.6), (0.6, 0.9), (0.9, 0)]


# Rows as (begin, end, a, b), from the definition: copy i is stretch^i times as long and fade^i times as high.
REPEATS = [
    ("repeat(cosine(start=1), 3, stretch=2)", 700, [(0, 100, 1, 0), (100, 300, 1, 0), (300, 700, 1, 0)]),
    ("repeat(cosine(start=1, to=0.1), 3, fade=0.5)", 300,
     [(0, 100, 1, 0.1), (100, 200, 0.5, 0.05), (200, 300, 0.25, 0.025)]),
    ("warmup(0.05) >> repeat(cosine(start=1), 2)", 1000, [(0, 50, 0, 1), (50, 525, 1, 0), (525, 1000, 1, 0)]),
    ("repeat(linear(0.25, start=1, to=0.5) >> hold(), 2, over=0.5) >> hold(start=0.1)", 80,
     [(0, 5, 1, 0.5), (5, 20, 0.5, 0.5), (20, 25, 1, 0.5), (25, 40, 0.5, 0.5), (40, 80, 0.1, 0.1)]),
    ("repeat(warmup(10) >> cosine(), 2, stretch=3)", 100,
     [(0, 10, 0, 1), (10, 25, 1, 0), (25, 55, 0, 1), (55, 100, 1, 0)]),
    ("repeat(cosine(10, start=1) >> hold(5), 2, stretch=2) >> hold()", 100,
     [(0, 10, 1, 0), (10, 15, 0, 0), (15, 35, 1, 0), (35, 45, 0, 0), (45, 100, 0, 0)]),
    ("repeat(linear(to=0.5), 3, fade=0.5)", 30,
     [(0, 10, 1, 0.5), (10, 20, 0.5, 0.25), (20, 30, 0.25, 0.125)]),
    ("repeat(warmup(0.5) >> linear(), 2, fade=0.5)", 40,
     [(0, 10, 0, 1), (10, 20, 1, 0), (20, 30, 0, 0.5), (30, 40, 0.5, 0)]),
    ("repeat(repeat(linear(start=1), 2, stretch=2), 2, fade=0.1)", 60,
     [(0, 10, 1, 0), (10, 30, 1, 0), (30, 40, 0.1, 0), (40, 60, 0.1, 0)]),
    ("repeat(repeat(linear(5, start=1), 2), 2, stretch=2, fade=0.5)", 30,
     [(0, 5, 1, 0), (5, 10, 1, 0), (10, 20, 0.5, 0), (20, 30, 0.5, 0)]),
    ("repeat(hold(1, start=1) >> linear(0, to=0.2) >> hold(), 2)", 10,
     [(0, 1, 1, 1), (1, 5, 0.2, 0.2), (5, 6, 1, 1), (6, 10, 0.2, 0.2)]),
    ("repeat(cosine(start=1), 3, stretch=0.5)", 70, [(0, 40, 1, 0), (40, 60, 1, 0), (60, 70, 1, 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "total", "rows"), REPEATS, ids=[text for text, *_ in REPEATS])
def test_repeat(text, total, rows):
    drawn = [row[:4] for row in parse(text).over(total).table()[0]]
    assert [x for row in drawn for x in row] == pytest.approx([x for row in rows for x in row], abs=1e-12)
    assert drawn[-1][1] == total


def test_time_scales_in_a_repeat_are_stretched_too():
    rows = parse("repeat(inv_sqrt(100, start=1, timescale=100), 2, stretch=2)").over(300).table()[0]
    assert [row[5]["timescale"] for row in rows] == [100, 200]
    assert rows[0][3] == rows[1][3] == pytest.approx(0.5**0.5)
    shares = parse("repeat(inv_sqrt(start=1, timescale=0.5), 2, stretch=3)").over(400).table()[0]
    assert [row[5]["timescale"] for row in shares] == [50, 150]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("repeat(cosine(30, start=1), 4)", "too long"),
        ("repeat(cosine(30, start=1), 3)", "too short"),
        ("repeat(cosine(60) >> hold(50), 2, over=0.5)", "over says 50"),
        ("repeat(warmup(60) >> cosine(), 2)", "too long"),
        ("repeat(warmup(0.6) >> cosine(0.3), 2)", "too short"),
        ("repeat(warmup(50) >> cosine(), 2)", "nothing is left for cosine"),
        ("hold(100) >> repeat(cosine(start=1), 2)", "nothing is left for repeat"),
    ],
)
def test_repeats_that_do_not_fit(text, says):
    with pytest.raises(ScheduleError, match=says):
        parse(text).over(100)


def test_over_of_absolute_copies_may_be_said_if_it_is_right():
    assert parse("repeat(cosine(50, start=1), 2, over=100)").over(100)(75) == 0.5


def test_a_gate_word_in_a_schedule_is_refused():
    for text in ("frozen(0.1) >> hold()", "repeat(frozen(1) >> hold(), 2)", "cosine() * frozen()"):
        with pytest.raises(ScheduleError, match="gate"):
            parse(text).over(100)


# --- open runs ---------------------------------------------------------------------------------------------


def test_an_open_run_goes_on():
    curve = (3e-4 * (warmup(500) >> hold())).over(math.inf)
    assert [curve(t) for t in (0, 250, 500, 1e9)] == [0, 1.5e-4, 3e-4, 3e-4]
    slow = (warmup(100) >> parse("inv_sqrt()")).over(math.inf)
    assert slow(400) == 0.5
    assert slow(1e10) == pytest.approx(1e-4, rel=1e-12, abs=0)
    assert slow.table()[0][-1][:2] == (100, math.inf)


def test_what_stands_after_the_endless_piece_waits():
    curve = (warmup("2ep") >> hold() >> linear(0.2)).over(math.inf, epoch=50)
    assert curve(1e6) == 1
    assert [row[4] for row in curve.table()[0]] == ["warmup", "hold"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("warmup(0.1) >> hold()", "no total to take a share of"),
        ("repeat(cosine(start=1), 2) >> hold()", "no total to take a share of"),
        ("warmup(500) >> cosine()", "no total to take a share of"),
        ("warmup(500) >> cosine(1000)", "give it an endless piece"),
        ("warmup(500) >> hold() >> linear()", "every length must be said"),
        ("warmup(500) >> hold() >> linear(0.5) >> cosine(0.5)", "100%"),
        ("inv_sqrt(timescale=0.1)", "no total to take a share of"),
        ("inv_sqrt(10, timescale=0.1) >> hold()", "no total to take a share of"),
        ('warmup(5) >> inv_sqrt(timescale="10%")', "no total to take a share of"),
    ],
)
def test_what_an_open_run_cannot_draw(text, says):
    with pytest.raises(ScheduleError, match=says):
        parse(text).over(math.inf)


def test_only_the_shape_of_lr_may_wait_in_an_open_run():
    waits = "hold() >> linear(0.1)"
    for hypers in ({"lr": 1, "weight_decay": waits}, {"lr": f"hold() * ({waits})"}):
        with pytest.raises(ScheduleError, match="first path of lr"):
            Plan(hypers).over(math.inf)
    with pytest.raises(ScheduleError, match="gate of 'g'"):
        Plan({"lr": 1}, [Group("g", gate=waits)]).over(math.inf)
    thawed = Plan({"lr": waits}, [Group("g", gate="frozen(5) >> hold(start=1)")]).over(math.inf)
    assert [thawed.open(t) for t in (4.9, 5)] == [[False], [True]]
    assert thawed.at(7) == {"lr": [1]}


def test_repeat_may_come_before_the_endless_piece():
    curve = (repeat(linear(10, start=1), 2) >> hold(start=0.3)).over(math.inf)
    assert [curve(t) for t in (5, 15, 20, 1e6)] == [0.5, 0.5, 0.3, 0.3]


def test_the_notebook_shows_schedules_and_curves():
    for shown in (GOLDEN, GOLDEN.over(100), warmup(0.1) >> cosine()):
        html = shown._repr_html_()
        assert "<" in html
        assert "cosine" in html
