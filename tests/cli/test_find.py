"""`etude find`: what it prints, writes and returns."""

import json

import pytest

from etude.cli import main
from etude.finder.finding import Finding


def test_it_prints_a_rate_and_writes_what_it_found(tiny, tmp_path, capsys):
    result, png = tmp_path / "found.json", tmp_path / "curve.png"
    words = tiny.words(head=5)
    assert main(["find", *words, "--points", "40", "--json", str(result), "--png", str(png)]) == 0
    said = capsys.readouterr().out
    found = Finding.from_dict(json.loads(result.read_text("utf-8")))
    assert found.rate
    assert len(found.curves) == 3
    assert f"lr={found.suggestion}".split()[0].removeprefix("lr=") in said
    assert "sweep 1 of 3: 25 of 40 rates, " in said
    assert png.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("runs*"))


def test_without_a_rate_it_says_why_and_exits_with_1(tiny, capsys):
    """Between 1e-12 and 1e-11 nothing is learned."""
    assert main(["find", *tiny.words(), "--start", "1e-12", "--to", "1e-11", "--points", "15"]) == 1
    assert "no suggestion" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--start", "1", "--to", "0.1"], "write 0 < start < to"),
        (["--points", "3"], "points=3"),
        (["--png", "curve.foo"], "a picture ends with .png, .svg, .pdf; got 'curve.foo'"),
        (["--png", "/nowhere/curve.png"], "/nowhere/curve.png cannot be written: name a file in a folder"),
        (["--json", "/tmp"], "/tmp cannot be written"),
        (["one.yaml", "two.yaml"], "one recipe or data file"),
    ],
)
def test_bad_input_is_one_message(tiny, capsys, words, message):
    assert main(["find", *tiny.words(), *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
