"""The written text itself: short, formatted, commented, and refused where it cannot be right."""

import ast
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import etude
from etude import Group, Plan
from etude.core.shapes import SHAPES
from etude.errors import EtudeError, ScheduleError
from etude.export import code
from etude.export.formulas import formulas
from etude.export.target import targets

RULES = "E,F,W,I,B,UP,PT,SIM,RUF,C4,PIE,RET,N"


@pytest.fixture(scope="module")
def texts(runs):
    return {f"{to}, {name}": code(rates, to) for name, rates in runs().items() for to in targets()}


def test_every_target_is_found():
    assert set(targets()) == {"torch", "hf", "lightning", "keras", "optax", "mlx"}


def test_every_text_is_formatted_and_clean(texts, tmp_path):
    pytest.importorskip("ruff", reason="it is what judges")
    for i, text in enumerate(texts.values()):
        (tmp_path / f"pasted_{i}.py").write_text(text)
    ruff = [sys.executable, "-m", "ruff"]
    limits = ["--isolated", "--line-length", "110"]
    check = [*ruff, "check", *limits, "--select", RULES, "--ignore", "RUF001,RUF002,RUF003", str(tmp_path)]
    for command in (check, [*ruff, "format", "--diff", *limits, str(tmp_path)]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[:3000]
    assert len(texts) > 300


def test_no_text_asks_for_étude(texts):
    for text in texts.values():
        tree = ast.parse(text)
        asked = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        asked |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert asked
        assert not {name for name in asked if name.startswith("etude")}


def test_the_usual_run_is_short_and_says_what_it_is(texts):
    text = texts["torch, golden"]
    assert len(text.splitlines()) < 65
    first, lr, run, *_ = text.splitlines()
    assert first.startswith(f"# Written by étude {etude.__version__} (export --to torch)")
    assert lr == "# lr = 2e-05 * (warmup(0.1) >> cosine(to=0.01))"
    assert run == "# 97 updates, k = 0 … 96, each read in its middle (tick 0.5)"
    assert "exponent" not in text.partition("def cosine")[2].partition("def ")[0].partition('"""\n')[2]


def test_the_page_shows_what_is_printed():
    page = (Path(etude.__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    shown = page.partition("```python\n")[2].partition("```")[0]
    plan = Plan({"lr": "2e-5 * (warmup(0.1) >> cosine(to=0.01))"})
    assert shown in code(plan.over(1000), "torch")
    assert all(f"| `{name}` |" in page for name in targets())


def test_groups_and_edits_are_said_on_one_comment_each(texts):
    said = [line for line in texts["mlx, groups, all scheduled"].splitlines() if line.startswith("#")]
    assert "# group body: lr × 0.5, gate frozen(0.3) >> warmup(0.05) >> hold()" in said
    assert '# group the "head": lr × 10, weight_decay × 0' in said
    assert [line for line in said if line.startswith("# edit at 40: scale, by 0.5")]
    assert '(user: a "reason" of two lines)' in " ".join(line.lstrip("# ") for line in said)


@pytest.mark.parametrize("word", SHAPES)
@pytest.mark.parametrize("arrays", [None, "jnp"])
def test_every_word_can_be_written(word, arrays):
    found = formulas({word: set(SHAPES[word].options)}, arrays)
    assert list(found.functions)[-1] == word
    assert not re.search(r"\bxp\b", "".join(found.functions.values()))


def test_options_that_are_not_used_are_left_out():
    plain = formulas({"cosine": set()}, None).functions["cosine"]
    full = formulas({"cosine": {"exponent", "k"}}, None).functions["cosine"]
    assert plain.startswith("def cosine(a, b, u, e):")
    assert " if " not in plain.partition('"""\n')[2]
    assert full.startswith("def cosine(a, b, u, e, *, exponent=1.0, k=1.0):")


def test_names_that_need_quotes_are_quoted():
    plan = Plan({"lr": 1e-3}, [Group('it\'s \\ "quoted"\n', ("a",)), Group("line\u2028end", ("b",))])
    text = code(plan.over(10), "mlx")
    tree = ast.parse(text)
    (groups,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "GROUPS"]
    assert list(ast.literal_eval(groups)) == [group.name for group in plan.groups]


def test_a_name_in_a_comment_cannot_end_it():
    plan = Plan({"lr": 1e-3}, [Group("a\nraise SystemExit #", ("a",)), Group("b\u2028c\rd", ("b",))])
    tree = ast.parse(code(plan.over(10), "torch"))
    assert not [node for node in tree.body if isinstance(node, ast.Raise)]


def test_groups_whose_parameters_are_not_known_are_to_be_filled_in():
    text = code(Plan({"lr": 1e-3}, [Group("body"), Group("head", scale={"lr": 10})]).over(10), "torch")
    assert '# write the names of each group\'s parameters here\nGROUPS = {\n    "body": [],\n' in text


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("tensorflow", "write 'keras'"),
        ("jax", "write 'optax'"),
        ("transformers", "write 'hf'"),
        ("torhc", "did you mean 'torch'"),
        ("paddle", "known: hf, keras, lightning, mlx, optax, torch"),
    ],
)
def test_an_unknown_target(to, said):
    with pytest.raises(EtudeError, match=f"no code is written for '{to}'.*{said}"):
        code(Plan({"lr": 1e-3}).over(10), to)


def test_what_is_no_run_is_refused():
    with pytest.raises(EtudeError, match=r"the rates of a run, not a Plan: plan\.over\(1000\)"):
        code(Plan({"lr": 1e-3}), "torch")


def test_a_hyper_parameter_without_a_place_is_refused():
    with pytest.raises(EtudeError, match="a schedule of 'eps'; known: lr, weight_decay, momentum"):
        code(Plan({"lr": 1e-3, "eps": 1e-8}).over(10), "torch")


def test_an_open_run_that_waits_is_refused_until_it_is_told():
    rates = Plan({"lr": "1e-3 * (warmup(10) >> hold() >> linear(50))"}).over(math.inf)
    with pytest.raises(ScheduleError, match=r"linear\(50\) in this open run waits.*after Advance\(at\)"):
        code(rates, "torch")
    assert "100 updates" in code(rates.edit(etude.Advance(50)), "torch")


def test_a_run_without_an_update_is_refused():
    with pytest.raises(ScheduleError, match="stopped before its first update"):
        code(Plan({"lr": 1e-3}).over(10).edit(etude.Stop(0)), "torch")


def test_no_framework_is_loaded():
    """Writing code for a framework needs nothing but étude."""
    script = (
        "import sys, json; from etude import Plan; from etude.export import code\n"
        "from etude.export.target import targets\n"
        "[code(Plan({'lr': 1e-3}).over(10), to) for to in targets()]\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "etude" in loaded
    assert not loaded & {"torch", "jax", "keras", "mlx", "optax", "numpy", "transformers", "lightning"}
