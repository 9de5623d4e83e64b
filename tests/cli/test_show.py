import re
import subprocess
import sys
from pathlib import Path

import pytest

from etude import parse

WORKHORSE = "2e-5 * (warmup(0.1) >> cosine(to=0.01))"
# What `pip install etude` does not bring.
EXTRAS = ("torch", "transformers", "matplotlib", "jinja2", "sklearn", "datasets", "accelerate")


def without_extras(*arguments):
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in EXTRAS)
    code = f"import sys; {blocked}from etude.cli import main; sys.exit(main({list(arguments)!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_the_console_script_draws_the_curve():
    script = Path(sys.executable).with_name("etude")
    done = subprocess.run(
        [script, "show", WORKHORSE, "--steps", "500"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "\x1b" not in done.stdout  # a pipe is no terminal
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "2.00e-05┤" in done.stdout
    assert re.search(r"\x20{2,}2.00e-07|1.9\de-05", done.stdout)


def test_rates_are_those_that_the_updates_use(etude):
    code, out, _ = etude("show", WORKHORSE)
    assert code == 0
    assert re.search(r"1\.00e-07 +2\.00e-05 +2\.00e-07", out)
    assert re.search(r"update 0 +update 100 +update 999", out)


def test_a_last_update_that_is_cut_short_is_read_in_its_own_middle(etude):
    _, out, _ = etude("show", "1 * linear()", "--steps", "9.5")
    assert "2.63e-02" in out  # (9.5 - 9.25) / 9.5
    assert "update 9" in out


def test_pieces_are_resolved_in_every_unit(etude):
    lengths = ('"1ep"', '"64ex"', '"1e6tok"', '"50%"')
    pieces = " >> ".join(f"linear({length}, to=1)" for length in lengths)
    code, out, _ = etude(
        "show",
        f"2e-5 * ({pieces} >> cosine())",
        "--steps",
        "100",
        "--epoch",
        "30",
        "--batch",
        "16",
        "--tokens",
        "1e5",
        "--table",
    )
    assert code == 0
    for span in ("0 – 30", "30 – 34", "34 – 44", "44 – 94", "94 – 100"):
        assert span in out


def test_several_schedules_lie_in_one_picture(etude, tmp_path):
    file = tmp_path / "both.png"
    code, out, _ = etude("show", WORKHORSE, "1e-5 * hold()", "--png", str(file))
    assert code == 0
    assert out.count("└") == 1
    assert f"aa {WORKHORSE}" in out
    assert "bb 1e-5 * hold()" in out
    assert file.read_bytes().startswith(b"\x89PNG")


def test_it_works_with_the_base_dependencies_alone(tmp_path):
    done = without_extras("show", WORKHORSE, "--table")
    assert done.returncode == 0, done.stderr
    assert "warmup" in done.stdout
    asked = without_extras("show", WORKHORSE, "--png", str(tmp_path / "x.png"))
    assert asked.returncode == 2
    assert asked.stderr.strip().endswith("pip install 'etude[report]'")
    assert "Traceback" not in asked.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["2e-5 * cosin()"], "did you mean 'cosine'?"),
        (["2e-5 * (warmup(2000) >> cosine())"], "too long"),
        (['2e-5 * (cosine("2ep") >> hold())'], "epoch="),
        (["--", "-2e-5 * cosine()"], "never negative"),
        ([WORKHORSE, "--steps", "inf"], "no end to draw"),
        ([WORKHORSE, "--steps", "0"], "positive"),
        ([WORKHORSE, "--png", "curve.docx"], ".png, .svg, .pdf"),
        ([WORKHORSE, "--png", "/nowhere/at/all.png"], "cannot write /nowhere/at/all.png"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(etude, arguments, message):
    code, _, error = etude("show", *arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


def test_a_run_of_a_billion_updates_takes_no_longer(etude):
    _, out, _ = etude("show", "2e-5 * (warmup(123_457) >> cosine())", "--steps", "1e9")
    assert "2.00e-05" in out
    assert "update 123\u202f457" in out


def test_the_highest_rate_of_a_word_that_turns_is_found_inside_it(etude):
    _, out, _ = etude(
        "show", "1e-3 * (cyclic(20_001, up=1000, start=0.1, by=2) >> hold())", "--steps", "30000"
    )
    curve = parse("1e-3 * (cyclic(20_001, up=1000, start=0.1, by=2) >> hold())").over(30_000)
    highest = max(range(30_000), key=lambda k: curve(k + 0.5))
    assert 18_000 < highest < 20_000
    assert f"{curve(highest + 0.5):.2e}" in out
    assert f"update {highest:_}".replace("_", "\u202f") in out
