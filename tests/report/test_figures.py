import math
import re
from pathlib import Path

import numpy as np
import pytest

from etude import Group, Plan, parse
from etude.report import figures
from etude.report.log import read

TEXTS = ("2e-5 * (warmup(0.1) >> cosine(to=0.01))", "1e-5 * (warmup(0.1) >> repeat(cosine(start=1), 2))")


def lines(axes):
    return [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 100]


def test_the_lines_of_an_overlay_are_the_curves():
    curves = {text: parse(text).over(500) for text in TEXTS}
    drawn = lines(figures.schedules(curves).axes[0])
    assert len(drawn) == 2
    for points, curve in zip(drawn, curves.values(), strict=True):
        assert [curve(t) for t in points[:, 0]] == points[:, 1].tolist()
        assert points[-1, 0] == 500


def test_a_jump_is_upright():
    curve = parse(TEXTS[1]).over(500)
    points = lines(figures.schedules({"": curve}).axes[0])[0]
    jump = int(np.argmax(np.abs(np.diff(points[:, 1]))))
    assert points[jump + 1, 0] - points[jump, 0] < 1e-9
    assert points[jump + 1, 1] == 1e-5


def test_boundaries_are_marked():
    axes = figures.schedules({"": parse(TEXTS[0]).over(500)}).axes[0]
    dots = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[50.0]]


def test_rates_per_layer_stand_side_by_side():
    tables = {
        f"layer_decay = {decay}": [
            {"layer": f"layer.{i}", "depth": i, "lr": 2e-5 * decay ** (5 - i)} for i in (5, *range(6))
        ]
        for decay in (1.0, 0.9, 0.65)
    }
    figure = figures.layer_rates(tables, "title")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(tables)
    for axes, rows in zip(figure.axes, tables.values(), strict=True):
        dots = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
        assert dots == {row["depth"]: row["lr"] for row in rows}  # the doubled row shares a line
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [f"layer.{i}" for i in range(6)]


def test_the_heat_map_holds_every_rate_and_leaves_zeros_white():
    plan = Plan(
        {"lr": TEXTS[0]},
        [Group("low", gate=parse("frozen(0.5) >> hold(start=1)")), Group("head", scale={"lr": 10})],
    )
    matrix = plan.over(40).matrix()
    picture = figures.heat_map(matrix, ["low", "head"]).axes[0].images[0].get_array()
    assert picture.shape == (2, 40)
    assert picture.mask[0].tolist() == [k < 20 for k in range(40)]
    assert picture.data[1].tolist() == [row[1] for row in matrix]


def test_a_run_shows_what_its_log_says(make_run):
    log = read(make_run() / "log.jsonl")
    figure = figures.run(log)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    used = np.array([update["rates"]["lr"] for update in log.updates]).T
    heat = panels["Learning rate of every layer at every update"].images[0].get_array()
    assert heat.shape == (5, 60)  # pairs with and without weight decay share a row
    assert np.allclose(heat.data, used[::2], rtol=1e-5)
    losses = {line.get_label(): line.get_ydata() for line in panels["Loss"].lines}
    assert losses["validation"].tolist() == [one["metrics"]["loss"] for one in log.evals]
    assert sorted(bar.get_width() for bar in panels["Test accuracy"].patches) == pytest.approx(
        [0.478, 0.743, 0.811]
    )
    cuts = [line.get_xdata()[0] for line in panels["Loss"].lines if len(line.get_xdata()) == 2]
    assert cuts == [40.0]


def test_a_failure_is_red_and_an_unfinished_run_says_so(make_run):
    lost = figures.run(read(make_run(result=make_run.outcome(-0.02)) / "log.jsonl"))
    assert lost.get_suptitle().startswith("FAILURE")
    assert lost._suptitle.get_color() == figures.FAILURE
    cut = figures.run(read(make_run(until=30, end=None) / "log.jsonl"))
    assert "not finished" in cut.get_suptitle()
    assert cut.axes[0].get_xlim() == (0, 60)
    assert cut.axes[0].images[0].get_extent()[1] == 30


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_pictures_are_saved(tmp_path, kind):
    file = tmp_path / f"picture.{kind}"
    figures.schedules({"a": parse(TEXTS[0]).over(100)}).savefig(file)
    head = file.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if kind == "png" else b"<?xml" in head


def test_the_page_has_the_colours_of_the_pictures():
    script = (Path(figures.__file__).parent / "report.js").read_text("utf-8")
    assert tuple(re.findall(r"#[0-9a-f]{6}", script)) == figures.RAMP


def test_rates_are_written_in_few_digits():
    assert [figures._short_rate(x) for x in (1e-4, 1.5e-5, 0.0)] == ["1e-04", "1.5e-05", "0"]
    assert math.isclose(float(figures._short_rate(3.14159e-5)), 3.14e-5)
