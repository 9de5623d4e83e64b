import re
from html.parser import HTMLParser

import pytest

from etude import Group, Plan, parse


def shown(value):
    """The text of a representation, and the points of its curve as shares of its width and height."""
    html = value._repr_html_()
    HTMLParser().feed(html)
    assert html.count("<table>") == html.count("</table>")
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    found = re.search(r'<polyline points="([^"]+)"', html)
    if not found:
        return text, []
    points = [tuple(map(float, pair.split(","))) for pair in found[1].split()]
    left, right = points[0][0], points[-1][0]
    low, high = max(y for _, y in points), min(y for _, y in points)
    return text, [((x - left) / (right - left), (low - y) / (low - high)) for x, y in points]


def test_a_schedule_shows_its_text_its_pieces_and_its_curve():
    schedule = parse("2e-5 * (warmup(0.1) >> cosine())")
    text, points = shown(schedule)
    assert "2e-05 * (warmup(0.1) &gt;&gt; cosine())" in text
    assert "warmup 0 – 100 0 2.00e-05" in text
    for x, y in points[::20]:
        assert y == pytest.approx(schedule.over(1000)(1000 * x) / 2e-5, abs=0.02)


@pytest.mark.parametrize(
    ("text", "end"),
    [("warmup(100) >> cosine(200)", "300"), ("3e-4 * (warmup(5000) >> hold() >> sqrt(0.2))", "10 000")],
)
def test_lengths_in_updates_choose_the_run(text, end):
    said, points = shown(parse(text))
    assert f"– {end}" in said.replace("\u202f", " ")
    assert points


def test_lengths_that_need_a_run_show_the_text_alone():
    text, points = shown(parse('2e-5 * (cosine("2ep") >> hold())'))
    assert text == "2e-05 * (cosine(&quot;2ep&quot;) &gt;&gt; hold())"
    assert points == []


def test_a_curve_shows_its_own_run_also_an_open_one():
    assert "warmup 0 – 25 0 1.00e-03" in shown(parse("1e-3 * (warmup(0.1) >> linear())").over(250))[0]
    text, points = shown(parse("1e-3 * (warmup(100) >> inv_sqrt())").over(float("inf")))
    assert "– ∞" in text
    assert points


def test_a_plan_shows_every_group_with_its_peaks_and_takes_names_literally():
    groups = [
        Group("low<b>", ("a",), {"lr": 0.5}),
        Group("head", ("b",), gate=parse("frozen(0.2) >> hold(start=1)")),
    ]
    text, points = shown(Plan({"lr": "2e-5 * cosine()", "weight_decay": 0.01}, groups))
    assert "low&lt;b&gt; 1 1.00e-05 0.01" in text
    assert "head 1 2.00e-05 0.01 frozen(0.2)" in text
    assert points


def test_a_plan_of_many_groups_stays_readable():
    groups = [Group(f"g{i}", (f"p{i}",)) for i in range(100)]
    text, _ = shown(Plan({"lr": "2e-5 * cosine()"}, groups))
    assert "… and 40 more" in text
    assert "g99" not in text
