"""What a rollback, an interrupt and a broken checkpoint leave of a run, and of what is said of it."""

import json
import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from etude.core.edit import Rollback, Scale, Stop
from etude.report import words
from etude.report.log import read
from etude.train import checkpoint, evaluation, outcome, session
from etude.train.finetuning import finetune
from etude.train.loop import Loop

BACK = [{"spike": {"policy": "rollback"}}]


@pytest.fixture
def fault(monkeypatch):
    """Call it with numbers of updates, as they are tried, whose losses are to be multiplied by a factor."""
    make = session.make_loop

    def arrange(*tries: int, factor: float = math.nan) -> None:
        def faulty(prepared):
            loop = make(prepared)
            losses, tried = loop.losses, iter(range(10**6))
            loop.losses = lambda *given: losses(*given) * (factor if next(tried) in tries else 1.0)
            return loop

        monkeypatch.setattr(session, "make_loop", faulty)

    return arrange


@pytest.fixture
def break_before_going_back(monkeypatch):
    """Flip a byte of the newest checkpoint whenever a run wants to go back."""
    back = session.roll_back

    def broken(run, asked):
        flip(max(run.folder.checkpoints.iterdir()) / "model.safetensors")
        back(run, asked)

    monkeypatch.setattr(session, "roll_back", broken)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 255
    file.write_bytes(data)


def scored(monkeypatch, *values: float) -> None:
    """Let the evaluations have these accuracies, then 0.1."""
    evaluate, left = session.Session.evaluate, iter(values)

    def told(self):
        score, value = type(self.prepared.task).score, next(left, 0.1)

        def changed(task, *given):
            return {**score(task, *given), "accuracy": value}

        with monkeypatch.context() as patch:
            patch.setattr(type(self.prepared.task), "score", changed)
            return evaluate(self)

    monkeypatch.setattr(session.Session, "evaluate", told)


def test_a_rollback_behind_a_better_checkpoint_still_finds_the_best_of_its_own(
    tiny, tmp_path, monkeypatch, fault, break_before_going_back
):
    """Checkpoints 4, 8, 12 with 0.5, 0.4, 0.6; 12 is broken, and 8 knows of 4 as the best."""
    scored(monkeypatch, 0.5, 0.4, 0.6)
    fault(14)
    with pytest.warns(UserWarning, match="00000012 is broken"):
        run = finetune(output=tmp_path / "run", **tiny.keys(control=BACK, eval_every=4))
    assert run.result["best"] == {"metric": "accuracy", "value": 0.5, "checkpoint": "00000004", "k": 4}
    for name in ("model.safetensors", "config.json"):
        kept = run.folder / "checkpoints/00000004" / name
        assert (run.model / name).read_bytes() == kept.read_bytes()


@pytest.mark.parametrize("gone", [True, False])
def test_a_best_checkpoint_that_is_broken_at_the_end_is_never_the_model(tiny, tmp_path, monkeypatch, gone):
    finish, seen = outcome.finish, []

    def broken(session, console):
        best = session.folder.checkpoints / session.best["checkpoint"]
        seen.append(best.name)
        shutil.rmtree(best) if gone else flip(best / "model.safetensors")
        return finish(session, console)

    monkeypatch.setattr(outcome, "finish", broken)
    scored(monkeypatch, 0.9)
    with pytest.warns(UserWarning, match="00000021.*; the result is that of .*00000042"):
        run = finetune(output=tmp_path / "run", **tiny.keys())
    assert seen == ["00000021"]
    assert run.result["best"] == {"metric": "accuracy", "value": None, "checkpoint": "00000042", "k": 42}
    good = run.folder / "checkpoints/00000042/model.safetensors"
    assert (run.model / "model.safetensors").read_bytes() == good.read_bytes()
    page = (run.folder / "report.html").read_text("utf-8")
    assert "checkpoint of update 42, the newest good one: the best is broken" in page


def test_a_run_that_was_interrupted_goes_back_to_where_the_one_that_was_not_does(
    tiny, tmp_path, fault, interrupt_at, updates
):
    """Interrupted after 10 updates, evaluated after 8; the anomaly is in update 14."""
    keys = tiny.keys(control=BACK, eval_every=8, keep=1)
    fault(14)
    whole = finetune(output=tmp_path / "whole", **keys)
    interrupt_at(10)
    halted = finetune(output=tmp_path / "halted", **keys)
    interrupt_at(-1)
    assert {path.name for path in (halted.folder / "checkpoints").iterdir()} >= {"00000008", "00000010"}
    fault(4)  # the fifth of the resumed run
    finetune(halted.folder, resume=True)
    assert updates(halted.folder) == updates(whole.folder)
    ends = [load_file(one.folder / "checkpoints/00000042/model.safetensors") for one in (whole, halted)]
    assert len(ends[0]) > 30
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    assert [one["to"] for one in read(halted.folder / "log.jsonl").edits if one["edit"] == "rollback"] == [8]


def test_an_interrupt_leaves_the_checkpoint_of_an_evaluation_as_it_is(tiny, tmp_path, monkeypatch, fault):
    """Ctrl-C where an update was dropped behind it: what was dropped is tried again."""
    fault(21, 22)
    update = Loop.update

    def interrupted(loop):
        update(loop)
        if loop.clock.skipped == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "update", interrupted)
        run = finetune(output=tmp_path / "run", **tiny.keys(control="spike"))
    assert run.interrupted
    saved = checkpoint.newest(run.folder / "checkpoints")
    assert (saved.updates, saved.state["interrupted"], saved.state["clock"]["skipped"]) == (21, False, 0)
    fault(0, 1)
    finetune(run.folder, resume=True)
    log = read(run.folder / "log.jsonl")
    assert [one["k"] for one in log.actions] == [21, 21]
    assert log.updates[-1]["t"][1] == 40.25


def test_a_stop_that_a_rollback_has_undone_is_no_stop():
    ended = [Scale(1, 0.5), Stop(4), Rollback(4, 2, 1)]
    assert session._stopped(ended[:2])
    assert not session._stopped(ended)
    assert session._stopped([*ended, Stop(3)])
    assert not session._stopped([*ended, Stop(3), Rollback(3, 2, 3)])
    assert session._stopped([*ended, Stop(3), Rollback(3, 3, 4)])


def test_the_rates_are_the_plans_also_where_a_later_rollback_counts_edits_that_were_undone(
    tiny, tmp_path, fault
):
    """A plateau's cut is undone by the first rollback, and the second keeps the list that has it."""
    plateau = {"plateau": {"patience": 2, "threshold": 0.9, "factor": 0.8, "metric": "train_loss"}}
    fault(14, 30)
    run = finetune(output=tmp_path / "run", **tiny.keys(control=[plateau, *BACK], eval_every=4))
    log = read(run.folder / "log.jsonl")
    backs = [one for one in log.edits if one["edit"] == "rollback"]
    assert len(backs) == 2
    assert len(log.listed) > len(log.edits), "the first has undone a cut"
    assert words.agreement(log) == "Every rate is the plan’s to the last bit."
    state = json.loads((run.folder / "checkpoints/00000042/state.json").read_text())
    assert [{k: v for k, v in one.items() if k != "type"} for one in log.listed] == state["driver"]["edits"]


def test_a_kill_between_a_rollbacks_checkpoint_and_its_record_loses_no_edit(
    tiny, tmp_path, monkeypatch, fault
):
    class Killed(BaseException):
        pass

    fault(30)
    write = session.Session.write

    def killed(self, record):
        if record["type"] == "checkpoint" and len(self.loop.driver.edits):
            raise Killed
        write(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "write", killed)
        with pytest.raises(Killed):
            finetune(output=tmp_path / "run", **tiny.keys(control=BACK))
    fault()
    finetune(tmp_path / "run", resume=True)
    log = read(tmp_path / "run/log.jsonl")
    assert [one["edit"] for one in log.edits] == ["rollback", "scale"]
    assert words.agreement(log) == "Every rate is the plan’s to the last bit."


def test_what_is_said_of_updates_in_a_row_is_said_once(tiny, tmp_path, fault, capsys):
    fault(*range(25, 30), 35)
    finetune(output=tmp_path / "run", **tiny.keys(control="spike"))
    said = [line for line in capsys.readouterr().out.splitlines() if "is dropped" in line]
    text = "spike: train_loss is nan and grad_norm is nan; the update is dropped"
    assert said == [text, f"{text} (4 times more)", text]


def test_ctrl_c_while_the_result_is_measured_leaves_a_run_that_goes_on(tiny, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "baselines", interrupted)
        run = finetune(output=tmp_path / "run", **tiny.keys(epochs=1))
    assert run.interrupted
    assert read(run.folder / "log.jsonl").end["reason"] == "interrupted"
    again = finetune(run.folder, resume=True)
    assert again.result["test"]["fine-tuned"]
    assert again.model.is_dir()
