"""`etude convert`: every kind of file, YAML that a recipe and a plan accept, and plain messages."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from transformers import get_cosine_schedule_with_warmup

from etude import Plan
from etude.cli import main
from etude.convert import formats
from etude.convert.converted import FORMATS, Converted, foreign, recognised
from etude.errors import RecipeError

ARGUMENTS = {
    "learning_rate": 2e-5, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1, "weight_decay": 0.05,
    "max_steps": 50,
}  # fmt: skip
REST = {key: value for key, value in ARGUMENTS.items() if key != "learning_rate"}
WANTED = {"lr": "2e-05 * (warmup(5) >> cosine())", "weight_decay": 0.05, "tick": 0}
SCRIPT = """
optimizer = AdamW(model.parameters(), lr=2e-5, weight_decay=0.05)
scheduler = get_cosine_schedule_with_warmup(optimizer, 5, 50)
"""


@pytest.fixture
def etude(capsys):
    """Runs the command as the console script does: exit code, standard output, standard error."""

    def run(*arguments):
        return main(["convert", *map(str, arguments)]), *capsys.readouterr()

    return run


def notebook(*cells):
    return json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in cells]})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("args.json", json.dumps(ARGUMENTS)),
        ("args.yaml", OmegaConf.to_yaml(ARGUMENTS)),
        ("args.yml", "learning_rate: 2e-5\n" + OmegaConf.to_yaml(REST)),
        ("args.toml", "\n".join(f"{key} = {json.dumps(value)}" for key, value in ARGUMENTS.items())),
        ("run.sh", "python t.py " + " ".join(f"--{key} {value}" for key, value in ARGUMENTS.items())),
        ("train.py", SCRIPT),
        ("train.ipynb", notebook(("markdown", "# StepLR("), ("code", ["%matplotlib inline\n", SCRIPT]))),
    ],
)
def test_every_kind_of_file_gives_yaml_for_a_recipe_and_a_plan(etude, tmp_path, name, text):
    from etude.train.recipe import read

    file = tmp_path / name
    file.write_text(text)
    code, out, err = etude(file)
    assert code == 0
    assert out.startswith(f"# {name}, over 50 updates\n")
    printed = OmegaConf.to_container(OmegaConf.create(out))
    assert printed == WANTED
    tick = printed.pop("tick")
    assert Plan(printed, tick=tick).over(50).at(5)["lr"] == [2e-5]
    (tmp_path / "recipe.yaml").write_text(out)
    recipe, _ = read(tmp_path / "recipe.yaml")
    assert (recipe.lr, recipe.weight_decay, recipe.tick) == (WANTED["lr"], 0.05, 0)
    assert "- The warm-up starts at 0" in err


@pytest.mark.slow
def test_a_run_with_the_printed_recipe_uses_the_rates_of_transformers(etude, tmp_path, tiny):
    from etude.train.finetuning import finetune

    file = tmp_path / "args.json"
    file.write_text(json.dumps(ARGUMENTS | {"max_steps": 10, "warmup_ratio": 0.21}))
    (tmp_path / "recipe.yaml").write_text(etude(file)[1])
    own = {key: value for key, value in tiny.keys().items() if key not in ("lr", "epochs")}
    finetune(tmp_path / "recipe.yaml", output=tmp_path / "run", updates=10, **own)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    used = [max(one["rates"]["lr"]) for one in log if one["type"] == "update"]
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = get_cosine_schedule_with_warmup(torch.optim.SGD([weight], lr=2e-5), 3, 10).lr_lambdas[0]
    assert used == pytest.approx([2e-5 * theirs(k) for k in range(10)], rel=1e-12)
    assert used[0] == 0


def test_the_total_and_the_peak_may_be_said(etude, tmp_path):
    file = tmp_path / "train.py"
    file.write_text("s = OneCycleLR(o, 0.1, steps_per_epoch=len(loader), epochs=3)\n")
    code, out, err = etude(file)
    assert (code, out) == (2, "")
    assert "steps_per_epoch = len(…) (line 1)" in err
    assert "--total" in err
    code, out, _ = etude(file, "--total", "97")
    assert code == 0
    assert 'lr: 0.1 * (cosine("28.1up", to=1, start=0.04)' in out
    file.write_text("s = StepLR(AdamW(p, lr=args.lr), 30)\n")
    assert "lr: step(by=0.1, every=30)" in etude(file)[1]
    assert "lr: 0.5 * step(by=0.1, every=30)" in etude(file, "--lr", "0.5")[1]


def test_what_a_recipe_has_no_key_for_is_said(etude, tmp_path):
    file = tmp_path / "args.json"
    file.write_text(json.dumps(ARGUMENTS | {"adam_beta1": 0.95}))
    code, out, err = etude(file)
    assert code == 0
    assert "momentum: 0.95" in out
    assert "momentum is for etude.Plan" in err


def test_the_list_has_a_line_for_every_format(etude):
    code, out, _ = etude("--list")
    assert code == 0
    assert [line.partition(" ")[0] for line in out.splitlines()] == list(formats())
    assert all(one.line.endswith(".") for one in formats().values())


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.yaml", "colour: red\nsize: 3\n", "no format is known for the keys colour, size"),
        ("x.py", "print(1)\n", "no format is known for a text that begins with 'print(1)'"),
        ("x.txt", "", "no format is known for a text that begins with 'nothing'"),
        ("x.json", "{", "x.json is no JSON"),
        ("x.yaml", "a: [", "x.yaml is no YAML"),
        ("x.toml", "a =", "x.toml is no TOML"),
        ("x.ipynb", "{}", "x.ipynb is no IPYNB"),
        ("x.yaml", "- 1\n- 2\n", "holds no settings"),
        ("x.json", "[1]", "holds no settings"),
    ],
)
def test_a_file_that_is_none_is_one_message(etude, tmp_path, name, text, says):
    file = tmp_path / name
    file.write_text(text)
    code, out, err = etude(file)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_what_is_asked_wrongly_is_one_message(etude, tmp_path):
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    file = tmp_path / "args.json"
    file.write_text(json.dumps(ARGUMENTS))
    for given, says in [
        ((), "write the file to convert"),
        ((tmp_path / "none.py",), "cannot be read: No such file"),
        ((tmp_path,), "cannot be read: Is a directory"),
        ((binary,), "is no text"),
        ((file, "--format", "hugingface"), "did you mean 'huggingface'"),
        ((file, "--total", "0"), "total: got 0.0; must be a number above 0"),
        ((file, "--lr", "nan"), "lr: got nan; must be a number above 0"),
    ]:
        code, out, err = etude(*given)
        assert (code, out) == (2, ""), given
        assert says in err


def test_a_format_that_contains_another_wins_and_two_others_are_both_named(monkeypatch):
    formats()
    monkeypatch.setattr("etude.convert.converted.FORMATS", dict(FORMATS))
    said = ARGUMENTS | {"finetuning_kind": "x"}

    def register(name, **how):
        foreign(name, lambda one: "finetuning_kind" in one, **how)(
            lambda *_, **__: Converted({"lr": "hold()"})
        )

    register("larger", over=("huggingface",))
    assert recognised(said) == ["larger"]
    register("other", over=("huggingface",))
    assert recognised(said) == ["larger", "other"]
    from etude.convert import read

    with pytest.raises(RecipeError, match="this may be larger or other; say which with --format"):
        read(said)
    assert read(said, format="other").hypers == {"lr": "hold()"}
