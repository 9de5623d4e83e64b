"""Pictures of a range test: what they show is what was found, and nothing lies over anything else."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from etude.report.finding import picture
from etude.report.finding_html import block
from etude.report.finding_html import picture as svg
from etude.report.finding_terminal import draw, report
from etude.report.finding_view import View, decades, power, written

RATES = [10 ** (-7 + 0.1 * k) for k in range(71)]
SMOOTH = [0.4 + 0.8 / (1 + (rate / 1e-3) ** 1.2) + (rate / 0.05) ** 2 for rate in RATES]
CURVES = [[loss + 0.03 * math.sin(k * (s + 2)) for k, loss in enumerate(SMOOTH)] for s in range(3)]
MARKS = {"steepest": 1e-3, "valley": 9e-4, "minimum": 1.1e-3, "slide": 2e-4}


def view(**changes) -> View:
    values = {
        "rates": RATES, "curves": CURVES, "smooth": SMOOTH, "held_out": (), "marks": MARKS,
        "band": ([loss - 0.03 for loss in SMOOTH], [loss + 0.03 for loss in SMOOTH]),
        "suggested": (3e-4, 9e-4, 2e-3), "stopped": "the loss, 3.5, is over 4 × its best, 0.66", "edge": 0.02,
        "title": "lr=9e-4 (3e-4 … 2e-3, consensus, confidence 0.6)", "reason": "the rules agree",
    }  # fmt: skip
    return View(**{**values, **changes})


FLAT = view(
    smooth=[0.7] * 71, curves=[[0.7] * 71], band=None, marks={}, suggested=None, stopped="", edge=None,
    title="no suggestion (consensus)", reason="the curve is flat: no rate lowers the loss",
)  # fmt: skip
SHORT = FLAT._replace(
    rates=RATES[:3], curves=[[0.7, 0.7, math.nan]], smooth=[0.7, 0.7], stopped="the loss is NaN"
)
EMPTY = FLAT._replace(rates=RATES[:1], curves=[[]], smooth=[], stopped="the scaler skips every update")
ROWS = [("rule", "rate", ""), ("steepest", "1e-3", "<the loss> falls fastest here")]


def line(figure, label):
    return next(one for one in figure.axes[0].lines if one.get_label() == label)


def test_the_lines_are_the_curves_on_a_logarithmic_axis():
    figure = picture(view())
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert line(figure, "smoothed").get_xydata().tolist() == [
        list(p) for p in zip(RATES, SMOOTH, strict=True)
    ]
    light = [one for one in axes.lines if one.get_linewidth() == 0.8]
    assert [one.get_ydata().tolist() for one in light] == CURVES
    assert light[0].get_label() == "3 seeds"
    assert all(one.get_alpha() < 0.6 for one in light)


def test_marks_lie_on_the_smooth_curve_at_their_rates():
    figure = picture(view())
    for name, rate in MARKS.items():
        mark = line(figure, f"{name} {written(rate)}")
        assert mark.get_xdata()[0] == rate
        assert mark.get_ydata()[0] == pytest.approx(float(np.interp(math.log(rate), np.log(RATES), SMOOTH)))


def test_the_suggestion_is_an_upright_line_in_its_range():
    axes = picture(view()).axes[0]
    (span,) = [patch for patch in axes.patches if "range" in patch.get_label()]
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((3e-4, 2e-3))
    upright = line(picture(view()), "suggested 9e-4")
    assert upright.get_xdata() == [9e-4, 9e-4]
    assert line(picture(view()), "edge, line scan 0.02").get_xdata() == [0.02, 0.02]


def test_a_sweep_that_stopped_ends_with_a_cross_and_the_reason():
    figure = picture(view())
    cross = line(figure, f"stopped: {view().stopped}")
    assert cross.get_xdata()[0] == RATES[-1]
    assert not any("stopped" in one.get_label() for one in picture(view(stopped="")).axes[0].lines)


def test_the_divergence_does_not_squeeze_the_descent():
    axes = picture(view(smooth=[*SMOOTH[:-1], 5000.0])).axes[0]
    low, high = axes.get_ylim()
    assert low < min(SMOOTH)
    assert max(SMOOTH[:30]) < high < 2


def test_one_bad_batch_does_not_either():
    curves = [[*curve[:40], 50.0, *curve[41:]] for curve in CURVES]
    assert picture(view(curves=curves)).axes[0].get_ylim() == pytest.approx(
        picture(view()).axes[0].get_ylim(), abs=0.1
    )


@pytest.mark.parametrize("shown", [view(), view(held_out=SMOOTH), FLAT, SHORT, EMPTY], ids="vhfse")
def test_no_text_lies_over_another_or_leaves_the_picture(shown):
    figure = picture(shown._replace(reason="the rules lie far apart, which is said here at length; " * 4))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [axes._left_title, *axes.texts, axes.xaxis.label, axes.yaxis.label]
    texts += figure.legends[0].get_texts()
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    width, height = figure.get_size_inches() * figure.dpi
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
        for other in boxes[i + 1 :]:
            assert not (box.x0 < other.x1 and other.x0 < box.x1 and box.y0 < other.y1 and other.y0 < box.y1)


@pytest.mark.parametrize("width", [30, 48, 80, 120])
def test_a_terminal_picture_keeps_to_its_width(width):
    drawn = draw(view(), width).split("\n")
    assert max(map(len, drawn)) <= width
    assert len(drawn) == 16


def test_the_terminal_shows_the_descent_and_the_rate():
    drawn = draw(view(), 80).split("\n")
    columns = {row.index("┊") for row in drawn if "┊" in row}
    assert len(columns) == 1
    labels = drawn[-1]
    at = columns.pop()
    left, right = labels.index("1e-4"), labels.index("1e-2")
    assert abs(at - (left + (right - left) * (math.log10(9e-4) + 4) / 2)) <= 2
    assert "┊" not in draw(FLAT, 80)


def test_what_cannot_be_drawn_is_left_out():
    for shown in (FLAT, SHORT, EMPTY):
        assert report(shown, ROWS, ["note"]).startswith("no suggestion (consensus)\nthe curve is flat")


def test_the_report_has_its_columns_aligned_and_its_notes_wrapped():
    lines = report(view(), [("a", "b", "c"), ("longer", "1e-3", "x")], ["word " * 40]).split("\n")
    head = next(i for i, text in enumerate(lines) if text.startswith("a "))
    assert lines[head].index("b") == lines[head + 1].index("1e-3")
    assert max(map(len, lines)) <= 80


def test_the_page_is_well_formed_and_escapes_what_it_is_given():
    html = block(view(reason="a < b & c"), ROWS, ["n < m"])
    tree = ElementTree.fromstring(html)
    assert "a < b & c" in "".join(tree.itertext())
    assert "<the loss>" in "".join(tree.itertext())
    assert len(tree.findall(".//table/thead/tr")) == len(tree.findall(".//table/tbody/tr")) == 1


def test_the_page_draws_inside_its_frame():
    for shown in (view(), view(edge=50.0), FLAT, SHORT, EMPTY):
        drawn = svg(shown)
        points = [tuple(map(float, pair.split(","))) for pair in re.findall(r"(-?[\d.]+,-?[\d.]+)", drawn)]
        assert all(0 <= x <= 620 and -1 <= y <= 231 for x, y in points)
        assert all(0 <= float(x) <= 620 for x in re.findall(r' x[12]="(-?[\d.]+)"', drawn))
        assert "nan" not in drawn
    circles = re.findall(r'cx="([\d.]+)"', svg(view()))
    assert len(circles) == len(MARKS)


def test_a_curve_ends_where_it_leaves_at_the_top():
    rates, losses = view().shown(SMOOTH)
    _, high = view().limits()
    assert losses[-1] == high
    assert all(loss <= high for loss in losses)
    assert RATES[len(rates) - 2] < rates[-1] < RATES[len(rates) - 1]


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (3.24e-4, "3.2e-4"),
        (1e-4, "1e-4"),
        (0.01, "0.01"),
        (0.0099999999, "0.01"),
        (2.0, "2"),
        (1234.0, "1.2e3"),
        (None, "–"),
    ],
)
def test_rates_are_written_as_people_write_them(rate, text):
    assert written(rate) == text
    if rate is not None:
        assert float(text) == pytest.approx(rate, rel=0.05)


def test_decades_hold_both_ends():
    assert decades(1e-3, 1.0) == [1e-3, 1e-2, 1e-1, 1.0]
    assert [power(rate) for rate in decades(1e-2, 10)] == ["1e-2", "1e-1", "1", "1e1"]
