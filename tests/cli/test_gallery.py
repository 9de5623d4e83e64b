import re
import subprocess
import sys
from pathlib import Path

import pytest

from etude.report.gallery import entries

DOCS = Path(__file__).parents[2] / "docs"


def test_it_shows_every_word_and_recipe(etude):
    code, out, _ = etude("gallery")
    assert code == 0
    assert "\x1b" not in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in entries():
        assert any(re.search(rf"  {name}\s*$", line) for line in lines), name
    for text in ("Use: ", "Avoid: ", "Source: "):
        assert out.count(text) == len(entries())
    assert "1┤⠠⠤⠤⠤" in out  # a picture
    assert re.search(r"─ words ─.*─ decays ─.*─ presets ─", out, re.DOTALL)


def test_a_name_is_shown_in_full(etude):
    code, out, _ = etude("gallery", "cosine", "wsd")
    assert code == 0
    assert "cosine(over=None, *, to=0.0, start=None, exponent=1.0, k=1.0)" in out
    assert "f = b + (a - b)·((1 + cos πu^k)/2)^exponent" in out
    assert "bb cosine(exponent=2)" in out
    assert '[f"{s.over(1000)(t):.3g}" for t in (100, 550, 1000)]' in out
    assert "warmup(0.1) >> hold() >> linear(0.4)" in out
    assert "hold(over" not in out


def test_levels_are_written_as_ratios(etude):
    _, out, _ = etude("gallery", "hold")
    assert "e+00" not in out
    assert re.search(r"^ +1┤", out, re.MULTILINE)


def test_pictures_of_one_and_of_several(etude, tmp_path):
    for file, names in (("one.png", ["cosine"]), ("some.svg", ["cosine", "sgdr"])):
        code, out, _ = etude("gallery", *names, "--png", str(tmp_path / file))
        assert code == 0
        assert f"wrote {tmp_path / file}" in out.replace("\n", "")
        assert "Use:" not in out
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "some.svg").read_bytes()


def test_the_page_is_written_as_it_stands_in_the_documentation(etude, tmp_path):
    code, out, _ = etude("gallery", "--docs", str(tmp_path))
    assert code == 0
    pictures = sorted(file.name for file in (tmp_path / "gallery").iterdir())
    assert f"gallery.md and {len(pictures)} pictures" in out.replace("\n", " ")
    assert pictures == sorted(file.name for file in (DOCS / "gallery").iterdir())
    assert (tmp_path / "gallery.md").read_text("utf-8") == (DOCS / "gallery.md").read_text("utf-8"), (
        "run: etude gallery --docs docs"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cosin"], "neither a word nor a recipe; did you mean 'cosine'"),
        (["wsd", "--docs", "/tmp"], "leave wsd out"),
        (["wsd", "--png", "curve.docx"], ".png, .svg, .pdf"),
        (["--docs", "/proc/nowhere"], "cannot write /proc/nowhere"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(etude, arguments, message):
    code, _, error = etude("gallery", *arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


def test_the_terminal_needs_no_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None; from etude.cli import main; "
        "sys.exit(main(['gallery', 'rex']) or main(['gallery', 'rex', '--png', 'x.png']) - 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "rex(d=0.9)" in done.stdout
    assert done.stderr.strip().endswith("pip install 'etude[report]'")
