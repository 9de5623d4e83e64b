"""Whole runs on a tiny model: what they log, what they leave, what they say."""

import json
import math
import re
from itertools import pairwise

import pytest
from safetensors import safe_open

import etude
from etude.core.plan import Group, Plan
from etude.errors import RecipeError
from etude.report.log import read
from etude.train import preview, recipe
from etude.train.finetuning import finetune
from etude.train.folder import newest, runs
from etude.train.prediction import predict
from etude.train.setup import setup


def rates_of(start):
    """The rates of the plan, rebuilt from the first record of the log alone."""
    hypers = {name: text for name, text in start["plan"].items() if name != "tick"}
    groups = [Group(g["name"], tuple(g["params"]), g["scale"], g["gate"]) for g in start["groups"]]
    return Plan(hypers, groups, start["plan"]["tick"]).over(**start["span"])


def test_the_log_has_the_plans_rates_for_every_update_and_group(finished):
    log = read(finished / "log.jsonl")
    rates = rates_of(log.start)
    assert len(log.updates) == 84
    assert len(log.start["groups"]) == 6
    for record in log.updates:
        assert record["rates"]["lr"] == rates.at(*record["t"])["lr"]
    assert len({tuple(record["rates"]["lr"]) for record in log.updates}) == 84
    low, high = log.updates[10]["rates"]["lr"][0], log.updates[10]["rates"]["lr"][-1]
    assert low == pytest.approx(0.81 * high)
    assert [r["t"][0] for r in log.updates[1:]] == [r["t"][1] for r in log.updates[:-1]]
    assert log.updates[-1]["t"][1] == log.start["span"]["total"] == 4 * 161 / 8
    assert [round(8 * (r["t"][1] - r["t"][0])) for r in log.updates] == ([8] * 20 + [1]) * 4
    assert all(math.isfinite(r["loss"]) and r["grad_norm"] > 0 for r in log.updates)


def test_the_run_learns_and_the_log_tells_it_in_order(finished):
    log = read(finished / "log.jsonl")
    assert log.updates[-1]["loss"] < 0.5 < log.updates[0]["loss"]
    assert [(r["split"], r["k"]) for r in log.evals[:2]] == [("validation", 21), ("validation", 42)]
    assert (log.evals[-1]["split"], log.evals[-1]["k"]) == ("test", 84)
    assert [r["t"] for r in log.evals[:4]] == [epoch * 161 / 8 for epoch in (1, 2, 3, 4)]
    assert [r["name"] for r in log.checkpoints] == ["00000021", "00000042", "00000063", "00000084"]
    assert all(a["seconds"] <= b["seconds"] for a, b in pairwise(log.updates))
    assert log.end["reason"] == "finished"
    assert log.end["result"] == json.loads((finished / "best.json").read_text())
    assert log.end["result"]["test"]["fine-tuned"] == log.evals[-1]["metrics"]
    assert log.evals[-1]["metrics"]["accuracy"] > 0.9
    assert log.start["data"] | {"source": ""} == {
        "source": "", "train": 161, "validation": 19, "test": 20, "labels": ["bad", "good"],
        "note": "split 161/19/20, stratified, seed 17",
    }  # fmt: skip


def test_a_run_folder_holds_what_it_should_and_no_pickle(finished):
    files = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}
    assert {"recipe.yaml", "plan.txt", "log.jsonl", "report.html", "best.json"} <= files
    assert {f"model/{name}" for name in ("model.safetensors", "config.json", "tokenizer.json")} <= files
    assert "checkpoints/00000084/optimizer.safetensors" in files
    assert not any("/." in name or name.startswith(".") for name in files)
    for name in files:
        path = finished / name
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as tensors:
                assert list(tensors.keys())
        else:
            assert path.suffix in (".json", ".jsonl", ".yaml", ".txt", ".html")
            path.read_text(encoding="utf-8")  # pickles and zip files are no text
            if path.suffix == ".json":
                json.loads(path.read_text(), parse_constant=pytest.fail)
    plan = (finished / "plan.txt").read_text()
    assert re.search(r"embeddings +3 +993.152 +0\.81 +4\.05e-03 +0\.01", plan)
    assert "84 updates of 8 examples, 4 epochs; 80.5 full ones" in plan


def test_a_constant_test_part_has_no_r2_and_that_is_null(tiny, tmp_path):
    rows = tiny.numbers.read_text().splitlines()
    constant = tmp_path / "constant"
    parts = {"train": rows[:100], "validation": rows[:1] + rows[100:120], "test": [rows[0], "a,1.5", "b,1.5"]}
    import datasets

    columns = {
        part: datasets.Dataset.from_dict(
            {
                "text": [row.rpartition(",")[0] for row in lines[1:]],
                "label": [float(row.rpartition(",")[2]) for row in lines[1:]],
            }
        )
        for part, lines in parts.items()
    }
    datasets.DatasetDict(columns).save_to_disk(constant)
    run = finetune(output=tmp_path / "run", **tiny.keys(data=str(constant), split=None, epochs=1))
    result = json.loads((run.folder / "best.json").read_text(), parse_constant=pytest.fail)
    assert result["test"]["fine-tuned"]["r2"] is None
    assert result["test"]["fine-tuned"]["rmse"] > 0
    assert read(run.folder / "log.jsonl").end["result"] == result
    assert (run.folder / "report.html").is_file()


def test_a_smoke_run_goes_through_every_phase_in_10_updates(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = finetune(smoke=True, **tiny.keys(epochs=50, lr="1e-3 * (warmup(0.2) >> cosine())", patience=9))
    log = read(run.folder / "log.jsonl")
    assert len(log.updates) == 10
    peak = max(record["rates"]["lr"][-1] for record in log.updates)
    assert [record["rates"]["lr"][-1] for record in log.updates].index(peak) == 2, "the warm-up is 20% of 10"
    assert log.updates[-1]["rates"]["lr"][-1] < 0.05 * peak
    assert [r["t"] for r in log.evals] == [5, 10, 10]
    assert [(edit["author"], edit["total"]) for edit in log.edits] == [("smoke", 10)]
    assert log.end["reason"] == "finished"
    assert "to the last bit" in run.report.read_text("utf-8"), "the report replays the stretch too"
    assert {p.name for p in run.folder.iterdir()} >= {"model", "report.html", "best.json", "checkpoints"}
    assert "its numbers mean nothing" in capsys.readouterr().out
    assert predict(run.folder, ["a great day"])[0].label in ("good", "bad")


def test_a_dry_run_prints_the_plan_and_writes_nothing(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert finetune(dry_run=True, output="here", **tiny.keys()) is None
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    assert re.search(r"layer\.1\.\.head +8 +9.280 +1 +5\.00e-03 +0\.01", said)
    assert re.search(r"0 – 4\.0\d +warmup +0 +5\.00e-03 +10\.0%", said)
    assert re.search(r"first +highest +last", said)
    assert "42 updates of 8 examples" in said


def test_what_a_dry_run_says_of_the_rates_is_what_a_run_does(tiny, tmp_path, capsys):
    keys = tiny.keys(epochs=1, lr="4e-3 * (warmup(0.3) >> linear(to=0.1))")
    finetune(dry_run=True, **keys)
    said = capsys.readouterr().out
    log = read(finetune(output=tmp_path / "run", **keys).folder / "log.jsonl")
    for i, group in enumerate(log.start["groups"]):
        used = [record["rates"]["lr"][i] for record in log.updates]
        shown = re.search(rf"^ {re.escape(group['name'])} +(\S+) +(\S+) +(\S+) *$", said, re.MULTILINE)
        assert shown, group["name"]
        expected = (used[0], max(used), used[-1])
        assert [float(x) for x in shown.groups()] == pytest.approx(expected, rel=5e-3)


def test_a_data_file_is_enough(tiny, tmp_path, monkeypatch, capsys):
    """With the tiny model, which the default would only make slower."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text(tiny.data.read_text())
    run = etude.finetune("my.csv", model=str(tiny.model), updates=3)
    assert re.fullmatch(r"runs/\d{8}-\d{6}-my", run.folder.as_posix())
    assert newest().path == run.folder
    said = capsys.readouterr().out
    assert "160 train, 20 validation, 20 test; 2 classes: bad, good" in said
    assert "split 80/10/10, stratified, seed 17" in said
    assert read(run.folder / "log.jsonl").start["data"]["source"] == "my.csv"


def test_two_runs_in_one_process_are_equal_and_a_third_has_another_precision(tiny, tmp_path):
    logs = [
        read(finetune(output=tmp_path / str(i), **tiny.keys(precision=precision)).folder / "log.jsonl")
        for i, precision in enumerate(("no", "no", "bf16"))
    ]
    losses = [[record["loss"] for record in log.updates] for log in logs]
    assert losses[0] == losses[1] != losses[2]
    assert losses[2] == pytest.approx(losses[0], abs=0.3)
    assert [r["rates"] for r in logs[2].updates] == [r["rates"] for r in logs[0].updates]
    files = [(tmp_path / str(i) / "model" / "model.safetensors").read_bytes() for i in range(2)]
    assert files[0] == files[1]


def test_labels_with_brackets_are_printed_as_they_are(tiny, tmp_path, capsys):
    text = tiny.data.read_text().replace(",good", ",[/good]").replace(",bad", ",[bold]")
    (tmp_path / "my.csv").write_text(text)
    run = finetune(tmp_path / "my.csv", output=tmp_path / "run", **{**tiny.keys(updates=3), "data": None} | {
        "data": str(tmp_path / "my.csv"), "epochs": None
    })  # fmt: skip
    assert "[/good], [bold]" in capsys.readouterr().out
    assert predict(run.folder, ["x"])[0].label in ("[/good]", "[bold]")


def test_what_cannot_be_together(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="leave --dry-run out"):
        finetune(resume=True, dry_run=True)
    with pytest.raises(RecipeError, match="leave --smoke out"):
        finetune(resume=True, smoke=True)
    with pytest.raises(RecipeError, match="write it beside --resume"):
        finetune(on_mismatch="recipe", **tiny.keys())
    with pytest.raises(RecipeError, match="write checkpoint or recipe"):
        finetune(resume=True, on_mismatch="keep")
    assert runs(tmp_path / "runs") == []


def test_in_a_notebook_the_plan_still_goes_to_its_file(tiny, monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert "layer.0" in preview.text(setup(recipe.read(None, tiny.keys())[0]))
