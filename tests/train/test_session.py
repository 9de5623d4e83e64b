"""A run under way: when it evaluates and saves, which checkpoint is the best, when it stops."""

import json
import math

import pytest

from etude.report.log import read
from etude.train import data
from etude.train.finetuning import finetune
from etude.train.prediction import predict


def test_the_best_checkpoint_is_the_model(finished):
    best = json.loads((finished / "best.json").read_text())["best"]
    log = read(finished / "log.jsonl")
    values = {r["k"]: r["metrics"]["accuracy"] for r in log.evals if r["split"] == "validation"}
    assert best["value"] == max(values.values())
    assert best["k"] == min(k for k, value in values.items() if value == best["value"])
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        saved = finished / "checkpoints" / best["checkpoint"] / name
        assert (finished / "model" / name).read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("better", [True, False])
def test_the_best_is_that_of_the_metric_in_its_own_direction(tiny, tmp_path, better):
    """A rate that ruins the model at the end makes an early checkpoint the best."""
    run = finetune(
        output=tmp_path / "run",
        **tiny.keys(
            epochs=4, lr="5e-3 * (warmup(0.1) >> hold(0.6) >> hold(start=20))", keep=1,
            metric="accuracy" if better else "loss",
        ),
    )  # fmt: skip
    log = read(run.folder / "log.jsonl")
    values = [r["metrics"]["accuracy" if better else "loss"] for r in log.evals if r["split"] == "validation"]
    best = run.result["best"]
    assert best["value"] == (max(values) if better else min(values)) != values[-1]
    assert best["k"] < 84
    assert {p.name for p in (run.folder / "checkpoints").iterdir()} == {best["checkpoint"], "00000084"}
    assert len(predict(run.folder, ["a great day"])) == 1


def test_a_run_that_diverges_comes_to_its_end_and_says_so(tiny, tmp_path, capsys):
    keys = tiny.keys(data=str(tiny.numbers), epochs=1, clip=None, lr="0.1 * hold(start=1e19)")
    run = finetune(output=tmp_path / "run", **keys)
    log = read(run.folder / "log.jsonl")
    assert log.updates[-1]["loss"] is None
    assert log.end["result"]["best"] is None
    said = capsys.readouterr().out
    assert "best so far" not in said
    assert "FAILURE: the fine-tuned model has diverged" in said


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_stops_a_run_that_no_longer_improves(tiny, tmp_path, patience, capsys):
    """With a rate of 1e-12 no evaluation is better than the first."""
    run = finetune(
        output=tmp_path / "run",
        **tiny.keys(lr="1e-8 * hold()", epochs=20, eval_every=10, patience=patience, weight_decay=0),
    )
    log = read(run.folder / "log.jsonl")
    stopped = 10 * (patience + 1)
    assert log.end["reason"] == "stopped"
    assert log.updates[-1]["t"][1] == pytest.approx(stopped, abs=1)
    (edit,) = log.edits
    assert (edit["edit"], edit["author"]) == ("stop", "early_stop")
    assert edit["at"] == log.updates[-1]["t"][1]
    assert edit["reason"] in capsys.readouterr().out
    assert run.result["best"]["k"] == min(r["k"] for r in log.evals)
    again = finetune(run.folder, resume=True)
    assert again.result == run.result
    assert read(run.folder / "log.jsonl").end["reason"] == "stopped"
    assert len(read(run.folder / "log.jsonl").updates) == len(log.updates)


@pytest.mark.parametrize(
    ("every", "times"),
    [
        ("0.5ep", [11, 20.125, 31.125, 40.25]),
        (7, [7, 14, 21.125, 28.125, 35.125, 40.25]),
        (0.25, [11, 20.125, 31.125, 40.25]),
        (1000, [40.25]),
    ],
)
def test_evaluations_fall_due_by_the_clock(tiny, tmp_path, every, times):
    """After the update that reaches the time; an epoch is 20.125 planned updates."""
    run = finetune(output=tmp_path / "run", **tiny.keys(eval_every=every))
    log = read(run.folder / "log.jsonl")
    assert [r["t"] for r in log.evals if r["split"] == "validation"] == times
    assert [r["t"] for r in log.checkpoints] == times


def test_a_validation_is_without_dropout_and_training_goes_on_with_it(finished, tiny, tmp_path, loops):
    log = read(finished / "log.jsonl")
    dataset = data.load(str(tiny.data), split=(161, 19, 20), seed=17)
    best = json.loads((finished / "best.json").read_text())["best"]["k"]
    logged = next(r["metrics"] for r in log.evals if r["k"] == best)
    found = predict(finished, dataset.validation.texts)
    likely = [
        one.probabilities[dataset.labels[y]] for one, y in zip(found, dataset.validation.labels, strict=True)
    ]
    assert logged["loss"] == pytest.approx(-sum(map(math.log, likely)) / len(likely), rel=1e-4)
    finetune(output=tmp_path / "run", **tiny.keys(eval_every=1, epochs=None, updates=3))
    assert loops[0].model.training
