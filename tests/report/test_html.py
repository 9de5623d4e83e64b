import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from etude.errors import MissingExtra
from etude.report import words
from etude.report.html import build
from etude.report.log import read
from etude.report.numbers import rate

CHROMIUM = Path("/usr/bin/chromium")
NASTY = """</script><script>window.bad = 1</script><img src="http://a.org/x.png" onerror="window.bad = 2">'"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = "--disable-component-update --disable-sync"
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=f"{flags} {more}".split())
        yield chromium
        chromium.close()


@pytest.fixture
def look(browser):
    """Opens a report offline; fails at the end for an error on its console and for any further request."""
    contexts, wrong = [], []

    def open_page(file, **options):
        context = browser.new_context(
            **{"offline": True, "viewport": {"width": 1200, "height": 900}} | options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url == file.as_uri() or wrong.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def payload(file):
    text = file.read_text("utf-8")
    return json.loads(re.search(r'<script type="application/json" id="run">(.*?)</script>', text, re.S)[1])


def colours(page, selector):
    """How many colours a canvas shows."""
    return page.evaluate(
        """(selector) => {
            const canvas = document.querySelector(selector);
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const seen = new Set();
            for (let i = 0; i < data.length; i += 4) if (data[i + 3]) seen.add(data.slice(i, i + 3).join());
            return seen.size;
        }""",
        selector,
    )


def hover(page, selector, x, y):
    place = page.locator(selector)
    place.scroll_into_view_if_needed()
    place.hover(position={"x": x, "y": y})
    return page.locator("#tip").inner_text()


def frame(page):
    return page.evaluate("heatFrame()")


def test_it_opens_offline_with_every_chart_drawn(make_run, look):
    page = look(build(make_run()))
    assert page.title() == "run-0 · étude"
    assert colours(page, "#heat") > 100
    for name in ("rates", "loss", "metrics", "norm"):
        assert colours(page, f"#chart-{name} canvas") > 5


def test_nothing_in_the_file_points_outside(make_run):
    file = build(make_run())

    class Links(HTMLParser):
        def __init__(self):
            super().__init__()
            self.found = []

        def handle_starttag(self, tag, attributes):
            names = ("src", "href", "srcset", "data", "poster", "action", "background", "xlink:href")
            self.found += [pair for pair in attributes if pair[0] in names]

    links = Links()
    links.feed(file.read_text("utf-8"))
    assert links.found == [("href", "data:,")]
    text = file.read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", text)


def test_hovering_over_the_heat_map_shows_the_rate_that_was_used(make_run, look):
    run = make_run()
    log = read(run / "log.jsonl")
    page = look(build(run))
    at = frame(page)
    for k, group in ((5, 0), (30, 4), (50, 8)):  # pairs of groups share a row
        row = group // 2
        x = at["left"] + (k + 0.5) * at["used"] / 60
        shown = hover(page, "#heat", x, 5 + (at["rows"] - row - 0.5) * at["cell"])
        assert f"update {k}\n" in shown
        assert log.start["groups"][group]["name"] in shown
        assert rate(log.updates[k]["rates"]["lr"][group]) in shown


def test_hovering_over_a_curve_shows_every_layer_there(make_run, look):
    run = make_run()
    log = read(run / "log.jsonl")
    page = look(build(run))
    box = page.locator("#chart-rates .u-over").bounding_box()
    shown = hover(page, "#chart-rates .u-over", box["width"] * 30.1 / 60, 40)
    assert shown.startswith("update 30\n")
    for i, group in enumerate(log.start["groups"][::2]):
        assert f"{group['name']}\n{rate(log.updates[30]['rates']['lr'][2 * i])}" in shown
    assert "lr × 0.5, by plateau" in hover(page, "#chart-loss .u-over", _at(page, "#chart-loss", 40 / 60), 30)


def _at(page, chart, share):
    return page.locator(f"{chart} .u-over").bounding_box()["width"] * share


def test_the_scale_can_be_switched(make_run, look):
    page = look(build(make_run()))
    axis = "charts[0].axes[1]._values"
    assert "1e-05" in page.evaluate(axis)
    page.get_by_role("button", name="linear").click()
    assert page.get_by_role("button", name="linear").get_attribute("aria-pressed") == "true"
    assert "1e-04" in page.evaluate(axis)
    assert "1e-05" not in page.evaluate(axis)


def test_dark_mode_is_dark_also_in_the_charts(make_run, look):
    file = build(make_run())
    light, dark = look(file, color_scheme="light"), look(file, color_scheme="dark")
    backgrounds = [page.evaluate("getComputedStyle(document.body).backgroundColor") for page in (light, dark)]
    levels = [sum(map(int, re.findall(r"\d+", colour))) for colour in backgrounds]
    assert levels[0] > 700 > 150 > levels[1]
    at = "heatFrame().left + heatFrame().used / 3, 8, 1, 1"
    pixel = f"[...heat.getContext('2d').getImageData({at}).data]"
    high = [sum(page.evaluate(pixel)[:3]) for page in (light, dark)]
    assert high[0] < 200 < 500 < high[1]  # a high rate stands out from the paper in both
    dark.emulate_media(color_scheme="light")
    dark.wait_for_function(f"{pixel}.join() === '{','.join(map(str, light.evaluate(pixel)))}'")


def test_paper_is_light_and_shows_the_recipe(make_run, look):
    page = look(build(make_run()), color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelector('details').open")
    assert page.evaluate("css('--paper')") == "#fdfdfb"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("css('--paper')") == "#161614"


def test_a_phone_needs_no_scrolling_sideways(make_run, look):
    page = look(build(make_run()), viewport={"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.locator("#chart-loss").bounding_box()["width"] > 300


def test_a_fine_tune_that_loses_to_its_probe_is_a_visible_failure(make_run, look):
    page = look(build(make_run(result=make_run.outcome(-0.021))))
    result = page.locator("#result")
    text = result.inner_text()
    assert "FAILURE: the fine-tuned model does not beat its linear probe." in text
    assert re.search(
        r"−2\.1\s+points against the linear probe\s+± 1\.1 standard error, paired, n = 1\u202f000", text
    )
    assert result.locator(".verdict").evaluate("x => getComputedStyle(x).color") == "rgb(179, 55, 43)"
    won = look(build(make_run()))
    assert "FAILURE" not in won.inner_text("body")
    assert "+6.8" in won.inner_text("#result")


def test_of_errors_less_is_better(make_run):
    text = build(make_run(result=make_run.outcome(-0.09, "rmse"))).read_text("utf-8")
    assert 'id="result" class="better"' in text
    assert "rmse (less is better)" in text
    assert "squared error against the ridge probe" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"until": 30, "end": "interrupted"}, "Interrupted after 30 updates of 60 planned."),
        ({"until": 30, "end": "stopped"}, "Stopped after 30 updates of 60 planned."),
        ({"until": 30, "end": None}, "Unfinished. The log breaks off after 30 updates of 60 planned"),
        ({"until": 0, "end": None}, "Unfinished. The log breaks off after 0 updates of 60 planned"),
    ],
)
def test_a_run_that_is_not_finished_says_so(make_run, look, options, said):
    page = look(build(make_run(**options)))
    assert said in page.inner_text("#notice")
    assert page.locator("#result").count() == 0
    assert page.locator("#heat").count() == (0 if options["until"] == 0 else 1)
    assert "2e-05 * (warmup(0.1) >> cosine(to=0.01))" in page.inner_text("#plan")


def test_who_stopped_a_run_is_in_the_headline_and_a_dropped_update_was_not_made(make_run):
    run = make_run(until=1, end="stopped")
    log = run / "log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    stop = {"type": "edit", "edit": "stop", "at": 1.0, "author": "target", "reason": "accuracy 0.9"}
    log.write_text("".join(json.dumps(one) + "\n" for one in [*records[:-1], stop, records[-1]]))
    assert words.state(read(log)) == ("Stopped", "after 1 update of 60 planned, by target: accuracy 0.9.")
    (record,) = (one for one in records if one["type"] == "update")
    record |= {"skipped": True, "t": [0.0, 0.0]}
    log.write_text("".join(json.dumps(one) + "\n" for one in [*records[:-1], stop, records[-1]]))
    assert words.state(read(log))[1] == "after 0 updates of 60 planned, by target: accuracy 0.9."


def test_what_happened_is_told_in_the_order_of_its_happening(make_run):
    """A rollback at 9 to 6 stands before the rate that it cuts at 6."""
    run = make_run(until=9, end=None)
    log = run / "log.jsonl"
    back = {"type": "edit", "edit": "rollback", "at": 9.0, "to": 6.0, "keep": 0, "author": "spike"}
    cut = {"type": "edit", "edit": "scale", "at": 6.0, "by": 0.5, "hyper": "lr", "author": "spike"}
    with log.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in (back, cut))
    told = [mark["text"] for mark in words.marks(read(log)) if mark["kind"] == "edit"]
    assert told == ["rolled back to 6, by spike", "lr × 0.5, by spike"]


def test_a_rate_far_below_the_highest_runs_along_the_bottom_and_does_not_end(make_run, look):
    run = make_run()
    log = run / "log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    for one in records:
        if one["type"] == "update" and one["k"] >= 50:
            one["rates"]["lr"] = [1e-7 * x for x in one["rates"]["lr"]]
    log.write_text("".join(json.dumps(one) + "\n" for one in records))
    page = look(build(run))
    assert page.evaluate("charts[0].data[1].filter((x) => x == null).length") == 0
    last = [one for one in records if one["type"] == "update"][-1]["rates"]["lr"][0]
    box = page.locator("#chart-rates .u-over").bounding_box()
    assert rate(last) in hover(page, "#chart-rates .u-over", box["width"] * 59.1 / 60, 40)


def test_a_finished_run_has_no_notice(make_run):
    assert 'id="notice"' not in build(make_run()).read_text("utf-8")


def test_hostile_text_is_only_text(make_run, look):
    page = look(build(make_run(label=NASTY)))
    assert page.evaluate("window.bad") is None
    assert page.locator("img").count() == 0
    assert NASTY in page.inner_text("#more")
    assert f"no better {NASTY}" in page.inner_text(".events")


def test_a_long_run_is_thinned_and_keeps_its_spikes(make_run, look):
    file = build(make_run(updates=6000, spike=3333))
    shown = payload(file)
    assert len(shown["heat"]["k"]) == 400
    assert {len(line) for line in shown["heat"]["rates"]} == {400}
    for curve in (shown["loss"], shown["norm"]):
        assert len(curve["t"]) <= 2010
    assert len(shown["rates"]["t"]) <= 2010
    assert shown["loss"]["raw"][shown["loss"]["t"].index(3333)] == 99
    assert file.stat().st_size < 600_000
    assert max(map(max, shown["rates"]["values"])) == pytest.approx(2e-4, rel=1e-6)
    page = look(file)
    at = frame(page)
    column = 100
    text = hover(page, "#heat", at["left"] + (column + 0.5) * at["used"] / 400, 8)
    assert f"update {shown['heat']['k'][column]:,}\n".replace(",", "\u202f") in text
    assert rate(shown["heat"]["rates"][-1][column]) in text


def test_a_loss_that_is_not_finite_is_a_gap(make_run, look):
    file = build(make_run(spike=20))
    losses = payload(file)["loss"]
    assert losses["raw"][20:22] == [99.0, None]
    assert losses["smooth"][21] == losses["smooth"][20]
    look(file)


def test_a_frozen_layer_is_shown_as_not_trained(make_run, look):
    page = look(build(make_run(gate="frozen(0.5) >> hold(start=1)")))
    at = frame(page)
    bottom = 5 + (at["rows"] - 0.5) * at["cell"]
    assert "not trained" in hover(page, "#heat", at["left"] + at["used"] / 4, bottom)
    assert "not trained" not in hover(page, "#heat", at["left"] + at["used"] * 3 / 4, bottom)
    assert "rate 0" in page.inner_text("#heat-key")


def test_it_says_whether_the_rates_were_those_of_the_plan(make_run):
    assert "Every rate is the plan’s to the last bit." in build(make_run()).read_text("utf-8")
    assert "differ from the plan’s, by up to 0.01" in build(make_run(factor=1.01)).read_text("utf-8")


def test_edits_and_the_best_checkpoint_are_marked(make_run, look):
    page = look(build(make_run()))
    assert "40 lr × 0.5, by plateau: no better positive" in " ".join(page.inner_text(".events").split())
    marks = page.evaluate("D.marks.map((mark) => [mark.t, mark.kind])")
    assert [40, "edit"] in marks
    assert [40, "best"] in marks
    assert marks.count([60, "checkpoint"]) == 1


def test_what_the_guard_did_is_told_once_for_updates_in_a_row(make_run, look):
    run = make_run()
    log = run / "log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    last = next(i for i, one in enumerate(records) if one.get("k") == 24)
    acts = [
        (20, "discard", "train_loss is nan"), (20, "discard", "train_loss 9"),
        (22, "clip", "grad_norm 40"), (23, "clip", "grad_norm 30"), (24, "discard", "train_loss 8"),
    ]  # fmt: skip
    records[last:last] = [
        {"type": "action", "t": float(k), "k": k, "action": action, "author": "spike", "reason": reason}
        for k, action, reason in acts
    ]
    log.write_text("".join(json.dumps(one) + "\n" for one in records))
    page = look(build(run))
    told = " ".join(page.inner_text(".events").split())
    assert "20 2 updates dropped, by spike: train_loss is nan 22 2 updates clipped, by spike: grad_" in told
    assert "24 update dropped, by spike: train_loss 8" in told
    marks = page.evaluate("D.marks.filter((mark) => mark.kind == 'action').map((mark) => mark.t)")
    assert marks == [20, 22, 24]
    assert "update dropped or clipped" in page.inner_text(".key.marks")
    assert "dropped or clipped" not in build(make_run()).read_text("utf-8")


def test_a_resumed_run_is_one_run(make_run):
    run = make_run(until=45, end=None)
    log = run / "log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    start = records[0] | {"resumed": {"checkpoint": "00000030", "t": 30.0, "updates": 30}}
    again = [record for record in records if record["type"] == "update" and 30 <= record["k"] < 36]
    log.write_text("".join(json.dumps(one) + "\n" for one in [*records, start, *again]))
    shown = payload(build(run))
    assert shown["loss"]["t"] == [float(k) for k in range(36)]
    assert [30.0, "resume"] in [[mark["t"], mark["kind"]] for mark in shown["marks"]]
    assert max(mark["t"] for mark in shown["marks"]) == 30


def test_building_again_replaces_the_page_and_leaves_nothing_else(make_run):
    run = make_run(until=30, end=None)
    before = build(run).read_text("utf-8")
    files = sorted(path.name for path in run.iterdir())
    assert build(run).read_text("utf-8") == before
    assert sorted(path.name for path in run.iterdir()) == files == ["log.jsonl", "recipe.yaml", "report.html"]


def test_without_jinja_it_says_what_to_install(make_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"etude\[report\]"):
        build(make_run())


def test_the_command_rebuilds_the_report_and_prints_its_path(make_run, capsys):
    from etude.cli.report import report
    from etude.errors import CheckpointError

    run = make_run()
    report(run)
    assert Path(capsys.readouterr().out.strip()) == run / "report.html"
    with pytest.raises(CheckpointError, match=r"no log\.jsonl"):
        report(run / "model")
