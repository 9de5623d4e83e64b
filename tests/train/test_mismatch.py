"""Resumed with another recipe: whose plan it goes by, and what cannot be changed."""

import json
from pathlib import Path

import pytest

from etude.cli import main
from etude.errors import PlanMismatch, RecipeError
from etude.report.log import read
from etude.train import checkpoint
from etude.train.finetuning import finetune
from etude.train.order import Order


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_checkpoint_of_another_plan_asks_whose_plan_to_go_by(halted, capsys):
    before = contents(halted)
    resume = ["finetune", "--resume", str(halted), "lr=1e-3", "layer_decay=0.5"]
    capsys.readouterr()
    assert main(resume) == 2
    said = capsys.readouterr().err
    assert "belongs to another plan" in said
    path = "(warmup(0.1) >> cosine(to=0.01))"
    assert f"  lr: 0.005 * {path} in the checkpoint, 0.001 * {path} in the recipe\n" in said
    assert "layer.0 scale: {'lr': 0.9, 'weight_decay': 1.0} in the checkpoint, {'lr': 0.5" in said
    assert "--on-mismatch checkpoint" in said
    assert "--on-mismatch recipe" in said
    assert "Traceback" not in said
    assert contents(halted) == before
    with pytest.raises(PlanMismatch) as caught:
        finetune(halted, resume=True, batch=4)
    assert ("span batch", "8.0", "4.0") in caught.value.rows
    assert "examples per update: 8.0 in the checkpoint, 4.0 in the recipe" in str(caught.value)


def test_on_mismatch_checkpoint_goes_on_as_it_was(halted, tiny, tmp_path, updates):
    whole = finetune(output=tmp_path / "whole", **tiny.keys())
    run = finetune(halted, resume=True, on_mismatch="checkpoint", lr=1e-3, layer_decay=0.5, weight_decay=0.3)
    assert updates(run.folder) == updates(whole.folder)
    assert run.model.joinpath("model.safetensors").read_bytes() == (
        whole.model.joinpath("model.safetensors").read_bytes()
    )
    assert "lr: 0.005" in (run.folder / "recipe.yaml").read_text()
    log = read(run.folder / "log.jsonl")
    for key in ("plan", "span", "groups"):
        assert log.starts[1][key] == log.starts[0][key], "what drives the run, not what was asked for"


def test_on_mismatch_recipe_leaves_no_old_value(halted, tiny, interrupt_at, loops):
    interrupt_at(20)
    changes = {"lr": 1e-3, "layer_decay": 0.5, "weight_decay": 0.3, "schedule": "linear()", "epochs": 3}
    run = finetune(halted, resume=True, on_mismatch="recipe", **changes)
    assert run.interrupted
    (loop,) = loops
    rates = loop.driver.rates
    assert rates.total == 3 * 161 / 8
    log = read(run.folder / "log.jsonl")
    assert log.start["resumed"]["updates"] == 10
    assert len(log.updates) == 20
    for record in log.updates[10:]:
        t = (record["t"][0] + record["t"][1]) / 2
        assert record["rates"]["lr"] == rates.at(*record["t"])["lr"]
        assert record["rates"]["lr"][-1] == pytest.approx(1e-3 * (1 - t / (3 * 161 / 8)))
        assert record["rates"]["lr"][0] == pytest.approx(0.25 * record["rates"]["lr"][-1])
    decays = {group["name"]: group["weight_decay"] for group in loop.optimizer.param_groups}
    assert set(decays.values()) == {0.3, 0.0}
    assert log.start["plan"]["weight_decay"] == "0.3 * hold()"
    assert log.start["groups"][0]["scale"]["lr"] == 0.25
    state = checkpoint.newest(run.folder / "checkpoints").state["driver"]
    assert "0.005" not in json.dumps(state)
    assert "5e-3" not in (written := (run.folder / "recipe.yaml").read_text())
    assert "1e-3" in written or "0.001" in written
    assert "linear" in (run.folder / "plan.txt").read_text()
    interrupt_at(-1)
    assert not finetune(halted, resume=True).interrupted, "the new plan is the run's own by now"
    assert len(read(run.folder / "log.jsonl").updates) == 63


@pytest.mark.parametrize("choice", ["recipe", "checkpoint"])
def test_a_changed_batch_trains_the_remaining_examples_exactly_once(halted, drawn, choice):
    """10 updates of 8 are done; 16 at a time, the rest of 2 epochs of 161 is 81 and 161 examples."""
    first = set(json.loads((halted / "checkpoints/00000010/state.json").read_text())["data"].items())
    assert ("position", 80) in first
    drawn.clear()
    run = finetune(halted, resume=True, on_mismatch=choice, batch=16)
    assert len(drawn) == 2 * 161 - 80
    assert len(set(drawn[:81])) == 81
    assert sorted(drawn[81:]) == list(range(161))
    order = Order(161, seed=17)
    assert set(order.draw(80)).isdisjoint(drawn[:81])
    log = read(run.folder / "log.jsonl")
    planned = 16 if choice == "recipe" else 8
    assert log.start["span"]["batch"] == planned
    sizes = [round(planned * (r["t"][1] - r["t"][0])) for r in log.updates[10:]]
    assert sizes == [16] * 5 + [1] + [16] * 10 + [1]
    assert log.updates[10]["t"][0] == 80 / planned
    assert log.updates[-1]["t"][1] == 2 * 161 / planned
    assert [r["k"] for r in log.updates] == list(range(10 + 17))
    assert len([r for r in log.evals if r["split"] == "validation"]) == 2, "once an epoch"


def test_a_resumed_run_keeps_its_data_and_its_model(halted, tiny):
    before = contents(halted)
    for key, value in (("seed", 18), ("data", str(tiny.numbers)), ("split", "100/50/50"), ("metric", "loss")):
        with pytest.raises(RecipeError, match=f"^{key}: got .* keeps its model, its data and its metric"):
            finetune(halted, resume=True, **{key: value})
    assert contents(halted) == before


def test_settings_that_change_no_rate_can_be_changed_and_stay_changed(halted, interrupt_at):
    interrupt_at(15)
    finetune(halted, resume=True, keep=1, log_every=5)
    assert "keep: 1\n" in (halted / "recipe.yaml").read_text()
    interrupt_at(-1)
    finetune(halted, resume=True)
    assert read(halted / "log.jsonl").start["recipe"]["log_every"] == 5
    assert len(read(halted / "log.jsonl").updates) == 42
