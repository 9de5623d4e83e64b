"""The gallery: every word and recipe has its texts and picture, and the page in docs/ is the present one."""

import re
from collections import Counter
from pathlib import Path

import pytest

from etude import parse
from etude.core.named import NAMED
from etude.core.shapes import SHAPES
from etude.errors import EtudeError
from etude.report import gallery_page
from etude.report.gallery import DRAWN, FAMILIES, chosen, entries, introduction, picture

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from etude.report.gallery_page import overview, page, single, write

DOCS = Path(__file__).parents[2] / "docs"
ENTRIES = entries()


def test_every_word_and_recipe_is_in_the_gallery():
    assert set(ENTRIES) == {*SHAPES, "repeat", *NAMED}
    assert len(ENTRIES) == len(SHAPES) + 1 + len(NAMED) > 50
    assert list(ENTRIES)[: len(SHAPES)] == list(SHAPES)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_every_entry_says_what_it_is_and_can_be_drawn(entry):
    assert entry.does.endswith(".")
    for label in ("Source", "Use", "Avoid"):
        assert len(entry.labelled.get(label, "")) > 10, f"{entry.name} says nothing under {label}:"
    assert bool(entry.formula) == (entry.family == "words"), f"{entry.name}: write its formula as ': f = …'"
    assert entry.example.startswith(">>> ")
    assert "\n" in entry.example
    shown = picture(entry)
    assert list(shown.curves) == list(entry.drawn)
    assert shown.curves
    for level in shown.curves.values():
        levels = [level(shown.total * k / 50) for k in range(51)]
        assert all(0 <= one <= 1 + 1e-12 for one in levels)
    assert max(level(shown.total * k / 1000) for level in shown.curves.values() for k in range(1001)) > 0.9


@pytest.mark.parametrize("name", DRAWN)
def test_what_shows_a_word_is_written_with_it(name):
    assert name in {*SHAPES, "repeat"}
    assert any(f"{name}(" in text for text in DRAWN[name])


def test_a_family_has_its_sentence():
    families = {entry.family for entry in ENTRIES.values()} - {"words"}
    assert families == set(FAMILIES)
    for family in families:
        assert introduction(family).endswith((".", ":"))


def test_the_paragraphs_of_a_docstring_are_told_apart():
    entry = ENTRIES["cosine"]
    assert entry.formula == "b + (a - b)·((1 + cos πu^k)/2)^exponent"
    assert entry.labelled["Source"].startswith("Loshchilov & Hutter, SGDR, arXiv 1608.03983")
    assert entry.notes[0].startswith("`exponent` above 1")
    assert entry.signature == "cosine(over=None, *, to=0.0, start=None, exponent=1.0, k=1.0)"
    recipe = ENTRIES["wsd"]
    assert recipe.drawn[:2] == ("wsd()", 'wsd(decay=0.4, decay_shape="linear")')
    assert "Hägele et al., arXiv 2405.18392; `get_wsd_schedule` in transformers" in recipe.labelled["Source"]
    assert set(ENTRIES["linear_with_warmup"].labelled) == {"Source", "For", "Use", "Avoid"}
    assert not ENTRIES["linear_with_warmup"].notes


def test_a_frozen_group_is_drawn_as_its_gate():
    level = picture(ENTRIES["frozen"]).curves["frozen(0.3) >> warmup(0.1) >> hold()"]
    assert [level(t) for t in (0, 299, 350, 400, 1000)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_peaks_are_drawn_against_the_highest():
    shown = picture(ENTRIES["temperature"]).curves
    assert [level(0) for level in shown.values()] == pytest.approx([1, 0.25])
    shown = picture(ENTRIES["noam"])
    assert shown.total == 10_000
    assert [level(4000) for level in shown.curves.values()] == pytest.approx([0.559017, 0.790569], rel=1e-5)


def test_a_slip_names_the_near_ones():
    with pytest.raises(EtudeError, match="did you mean 'cosine'"):
        chosen(["cosin"])
    assert list(chosen(["wsd", "hold"])) == ["wsd", "hold"]
    assert chosen([]) == ENTRIES


def test_the_lines_of_a_picture_are_the_curves():
    axes = single(ENTRIES["wsd"]).axes[0]
    shown = picture(ENTRIES["wsd"])
    assert len(axes.lines) == 3
    for line, level in zip(reversed(axes.lines), shown.curves.values(), strict=True):
        points = line.get_xydata()
        assert len(points) < 60  # thinned
        assert points[:, 1] == pytest.approx([level(shown.total * x) for x in points[:, 0]], abs=1e-9)
        assert points[0, 0] == 0
        assert points[-1, 0] == 1


def test_thinning_keeps_a_curve_within_what_the_eye_sees():
    from bisect import bisect_right

    level = parse("repeat(cosine(start=1), 3) >> step(0.3, times=4, start=1)").over(1000)
    points = [(k / 1000, level(k)) for k in range(1001)]
    kept = gallery_page._thinned(points)
    assert 20 < len(kept) < 100
    for x, y in points:
        i = min(max(bisect_right(kept, (x, 2.0)), 1), len(kept) - 1)
        (left, low), (right, high) = kept[i - 1], kept[i]
        assert abs(low + (high - low) * (x - left) / (right - left) - y) <= 0.002 + 1e-12


def test_small_pictures_share_their_axes():
    figure = overview(chosen(["hold", "cosine", "noam", "one_cycle_momentum", "sgdr"]))
    assert [axes.get_title(loc="left") for axes in figure.axes][:3] == ["hold", "cosine", "noam"]
    assert {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes} == {((0, 1), (0, 1.04))}
    assert len({tuple(axes.get_position().size.round(9)) for axes in figure.axes}) == 1


def test_what_is_written_is_what_the_page_names(tmp_path):
    found = chosen(["hold", "exp", "wsd", "tri_stage"])
    files = write(tmp_path / "new", found)
    text = (tmp_path / "new" / "gallery.md").read_text("utf-8")
    named = {tmp_path / "new" / path for path in re.findall(r"\]\((gallery/\w+\.svg)\)", text)}
    assert named == set(files[1:]) == set((tmp_path / "new" / "gallery").iterdir())
    drawn = (tmp_path / "new/gallery/wsd.svg").read_text("utf-8")
    assert "wsd(decay=0.4," in drawn  # text stays text
    assert len(drawn) < 15_000
    again = write(tmp_path / "again", found)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "gallery").write_text("a file")
    with pytest.raises(EtudeError, match="cannot write"):
        write(tmp_path, chosen(["hold"]))


def test_the_page_of_the_documentation_is_the_present_one():
    assert (DOCS / "gallery.md").read_text("utf-8") == page(ENTRIES), "run: etude gallery --docs docs"
    files = {file.stem for file in (DOCS / "gallery").iterdir()}
    members = Counter(entry.family for entry in ENTRIES.values())
    families = {family for family, several in members.items() if several > 1}
    assert files == set(ENTRIES) | families
    assert sum(file.stat().st_size for file in (DOCS / "gallery").iterdir()) < 1_000_000


def test_every_link_of_the_page_leads_somewhere():
    text = (DOCS / "gallery.md").read_text("utf-8")
    for target in re.findall(r"\]\((?!https)([^)#]+)\)", text):
        assert (DOCS / target).exists(), target
    headings = {title.lower() for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    anchors = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert anchors == set(ENTRIES)
    assert anchors <= headings
    assert "[arXiv 1608.03983](https://arxiv.org/abs/1608.03983)" in text
