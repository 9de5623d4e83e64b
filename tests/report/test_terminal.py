import io
import re

import pytest
from rich.console import Console

from etude.core.text import parse
from etude.report.numbers import count, duration, rate, ticks
from etude.report.terminal import Progress, draw, group_table, pieces_table, result_table
from etude.report.words import verdict

WORKHORSE = "2e-5 * (warmup(0.5) >> linear())"


def printed(*what, width=100):
    out = io.StringIO()
    console = Console(file=out, width=width)
    for one in what:
        console.print(one)
    return out.getvalue()


def canvas(text):
    """The rows of a drawing, from the top, without the axis."""
    return [
        line.split("┤" if "┤" in line else "│", 1)[1]
        for line in text.splitlines()
        if "┤" in line or "│" in line
    ]


def test_the_drawn_curve_peaks_where_the_schedule_does():
    rows = canvas(draw({"": parse(WORKHORSE).over(1000)}, width=80, height=20, colour=False))
    top = [i for i, sign in enumerate(rows[0]) if sign != " "]
    bottom = [i for i, sign in enumerate(rows[-1]) if sign != " "]
    middle = (80 - 9) / 2
    assert abs(sum(top) / len(top) - middle) < 2  # the peak is in the middle of the run
    assert min(bottom) <= 1  # the run begins
    assert max(bottom) >= 2 * middle - 3  # and ends at zero


@pytest.mark.parametrize("width", [40, 80, 133])
def test_a_drawing_fits_its_width(width):
    text = draw({"": parse(WORKHORSE).over(12_345)}, width=width, colour=False)
    assert max(map(len, text.splitlines())) <= width
    assert max(map(len, text.splitlines())) > width - 8


def test_colours_only_when_asked_for():
    curve = parse(WORKHORSE).over(10)
    assert "\x1b" not in draw({"": curve}, 60, colour=False)
    assert "\x1b[38" in draw({"": curve}, 60, colour=True)
    assert "\x1b" not in draw({"": curve}, 60)  # pytest's standard output is no terminal


def test_several_curves_have_signs_of_their_own_and_a_key():
    curves = {text: parse(text).over(100) for text in ("2e-5 * linear()", "1e-5 * hold()")}
    text = draw(curves, 60, 12, colour=False)
    assert "aa 2e-5 * linear()" in text
    assert "bb 1e-5 * hold()" in text
    held = next(row for row in canvas(text) if row.count("b") > 20)
    assert text.index(held) > text.index("a")


def test_an_open_run_is_drawn_too():
    assert "┤" in draw({"": parse("1e-3 * (warmup(100) >> inv_sqrt())").over(float("inf"))}, 60, colour=False)


def test_pieces_are_resolved_to_updates_and_rates():
    text = printed(pieces_table("name", parse("2e-5 * (warmup(0.1) >> cosine(to=0.01))").over(1000)))
    assert re.search(r" 0 – 100 +warmup +0 +2.00e-05 +10.0%", text)
    assert re.search(r" 100 – 1\u202f000 +cosine +2.00e-05 +2.00e-07 +90.0%", text)


def test_factors_of_a_product_are_ratios_of_the_peak():
    text = printed(
        pieces_table("", parse("2e-5 * (warmup(0.1) >> hold()) * (hold() >> linear(0.2))").over(100))
    )
    assert "ratios of the peak, 2.00e-05" in text
    assert re.search(r"80 – 100 +linear +1 +0", text)


def test_group_table_counts_groups_once_and_takes_names_literally():
    rows = [
        {
            "depth": 0,
            "layer": "embeddings",
            "group": "low[bold]",
            "count": 1500,
            "lr": 1e-5,
            "reason": "an embedding",
        },
        {"depth": 1, "layer": "layer.0", "group": "low[bold]", "count": 500, "lr": 1e-5, "reason": "block 1"},
    ]
    text = printed(group_table(rows, "title", width=120), width=120)
    assert "title" in text
    assert "low[bold]" in text
    assert f"{count(2000)} parameters in 1 groups" in text
    assert "reason" not in text  # the heading is for people
    assert "low[bold]" not in printed(group_table(rows, width=80), width=80)


def test_a_group_table_shows_only_columns_that_say_something():
    text = printed(group_table([{"group": "all", "tensors": 3, "lr": 2e-5, "gate": None}]))
    assert "gate" not in text
    assert "2.00e-05" in text


def test_result_table_says_failure(make_run):
    lost = printed(result_table(make_run.outcome(-0.021)))
    assert "FAILURE: the fine-tuned model does not beat its linear probe" in lost
    assert "-2.1 ± 1.1 points" in lost
    won = printed(result_table(make_run.outcome(0.068)))
    assert "FAILURE" not in won
    assert "+6.8 ± 1.1 points" in won
    assert "0.01" not in won.split("points")[0].replace("0.011", "")  # the probe's C is no metric


@pytest.mark.parametrize(
    ("difference", "metric", "kind"),
    [
        (0.068, "accuracy", "better"),
        (0.02, "accuracy", "unclear"),
        (0.0, "accuracy", "worse"),
        (-0.02, "accuracy", "worse"),
        (-0.09, "rmse", "better"),
        (0.09, "rmse", "worse"),
    ],
)
def test_verdict_knows_which_way_is_up(make_run, difference, metric, kind):
    assert verdict(make_run.outcome(difference, metric))[0] == kind


def test_plain_progress_is_some_twenty_lines_and_ends_with_the_last_update():
    out = io.StringIO()
    progress = Progress(Console(file=out, width=60))
    progress.start(400, batch=16)
    for k in range(400):
        progress.update(k + 1.0, 0.5 + k / 1000, [1e-5, 3e-5, 2e-4])
    progress.eval(400.0, "validation", {"loss": 0.55, "accuracy": 0.781}, "best so far")
    progress.stop()
    lines = out.getvalue().splitlines()
    assert 20 <= len(lines) <= 23
    assert "\x1b" not in out.getvalue()
    assert lines[-2].startswith("400/400  loss 0.8990  lr 1.00e-05 … 2.00e-04")
    assert "took" in lines[-2]
    assert lines[-1] == "validation at 400: loss 0.5500  accuracy 0.7810  best so far"


def test_progress_of_a_resumed_run_counts_speed_from_where_it_began(monkeypatch):
    clock = iter([100.0] * 2 + [110.0])
    monkeypatch.setattr("etude.report.terminal.perf_counter", lambda: next(clock))
    out = io.StringIO()
    progress = Progress(Console(file=out))
    progress.start(200, t=100.0, batch=16)
    progress.update(150.0, None, [2e-5])
    assert "loss –  lr 2.00e-05  80.0 examples/s  10 s left" in out.getvalue()


def test_the_bar_stays_below_what_is_said_and_leaves_the_terminal_clean():
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=True, width=100))
    progress.start(10, batch=4)
    progress.update(5.0, 0.7, [2e-5])
    progress.message("a line [that] stays")
    progress.update(10.0, 0.6, [2e-5])
    progress.stop()
    progress.stop()
    text = out.getvalue()
    assert "a line [that] stays" in text
    assert "10/10  loss 0.6000" in text
    assert text.rstrip("\n").endswith("\x1b[?25h")  # the cursor is back


def test_numbers_for_people():
    assert rate(2e-5) == "2.00e-05"
    assert count(1_774_464) == "1\u202f774\u202f464"
    assert duration(3599.9) == "1 h 00 min"
    assert duration(59.7) == "1 min 00 s"
    assert ticks(0, 1e-3)[-1] == 1e-3
    assert ticks(3, 3) == [3]
