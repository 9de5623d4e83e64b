"""Runs that are interrupted, killed, and resumed: equal to the run that was not, to the last bit."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from etude.cli import main
from etude.errors import CheckpointError
from etude.report.log import read
from etude.train import checkpoint
from etude.train.finetuning import finetune

WHOLE = 84


def assert_same_end(run: Path, other: Path) -> None:
    """Weights, moments, generators and clocks of the last checkpoints are equal, and they are not empty."""
    ends = [one / "checkpoints" / f"{WHOLE:08d}" for one in (run, other)]
    for name in ("model.safetensors", "optimizer.safetensors", "rng.safetensors"):
        found, expected = (load_file(end / name) for end in ends)
        assert found.keys() == expected.keys()
        assert len(found) > 0
        for key, tensor in found.items():
            assert torch.equal(tensor, expected[key]), (name, key)
    states = [json.loads((end / "state.json").read_text()) for end in ends]
    assert states[0] == states[1]


@pytest.mark.parametrize("k", [1, 13, 21, 50, 83])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    finished, tiny, tmp_path, interrupt_at, capsys, updates, k
):
    """After the first update, within an epoch, at its end, just before the last update."""
    interrupt_at(k)
    run = finetune(output=tmp_path / "run", **tiny.keys(epochs=4))
    assert run.interrupted
    said = capsys.readouterr().out
    assert "stopping after this update; Ctrl-C again stops at once and saves nothing" in said
    assert f"interrupted; go on with: etude finetune --resume {run.folder}" in said
    log = read(run.folder / "log.jsonl")
    assert (log.end["reason"], log.end["k"], log.end["result"]) == ("interrupted", k, None)
    assert log.checkpoints[-1]["k"] == k
    assert not run.model.exists()
    interrupt_at(-1)
    again = finetune(run.folder, resume=True)
    assert again.result == json.loads((finished / "best.json").read_text())
    log = read(run.folder / "log.jsonl")
    assert log.start["resumed"] == {
        "checkpoint": f"{k:08d}",
        "t": log.updates[k]["t"][0],
        "updates": k,
        "edits": 0,
    }
    assert [record["k"] for record in log.updates] == list(range(WHOLE))
    assert log.abandoned == []
    assert_same_end(run.folder, finished)
    assert updates(run.folder) == updates(finished)


def test_a_run_can_be_interrupted_again_and_again(finished, tiny, tmp_path, interrupt_at, drawn, updates):
    interrupt_at(5)
    folder = finetune(output=tmp_path / "run", **tiny.keys(epochs=4)).folder
    for k in (6, 30, 31, 80):
        interrupt_at(k)
        assert finetune(folder, resume=True).interrupted
    interrupt_at(-1)
    assert not finetune(folder, resume=True).interrupted
    assert_same_end(folder, finished)
    assert updates(folder) == updates(finished)
    assert len(drawn) == 4 * 161
    for epoch in range(4):
        assert sorted(drawn[161 * epoch : 161 * (epoch + 1)]) == list(range(161))


def test_ctrl_c_is_exit_code_130_and_a_second_one_stops_at_once(tiny, tmp_path, interrupt_at, capsys):
    words = ["finetune", *tiny.words(output=tmp_path / "once")]
    interrupt_at(30)
    assert main(words) == 130
    assert checkpoint.newest(tmp_path / "once" / "checkpoints").updates == 30
    interrupt_at(30, times=2)
    words = ["finetune", *tiny.words(output=tmp_path / "twice")]
    assert main(words) == 130
    assert checkpoint.newest(tmp_path / "twice" / "checkpoints").updates == 21
    assert "Traceback" not in capsys.readouterr().err
    log = read(tmp_path / "twice" / "log.jsonl")
    assert log.end is None
    assert len(log.updates) == 30
    interrupt_at(-1)
    assert main(["finetune", "--resume", str(tmp_path / "twice")]) == 0
    log = read(tmp_path / "twice" / "log.jsonl")
    assert [record["k"] for record in log.updates] == list(range(42))
    assert len([record for record in log.abandoned if record["type"] == "update"]) == 9


def start(arguments: list[str]) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=quiet, args=(arguments,))
    process.start()
    return process


def quiet(arguments: list[str]) -> None:
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    os._exit(main(arguments))


def records(log: Path, kind: str) -> list[dict]:
    """All of a kind in the file, whole lines only, without the reader that is tested here too."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.is_file() else []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record["type"] == kind:
            found.append(record)
    return found


def wait_for(condition, process: multiprocessing.Process, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_run_killed_five_times_at_random_moments_ends_as_the_one_that_was_not(
    finished, tiny, tmp_path, updates
):
    """Every update is followed by a checkpoint, so that a kill often falls into the middle of one."""
    run, rng = tmp_path / "run", random.Random()
    words = tiny.words(epochs=4, eval_every=1, keep=1, output=run)
    log, begun = run / "log.jsonl", 0
    for kill in range(5):
        process = start(["finetune", "--resume", str(run)] if kill else ["finetune", *words])
        wait_for(lambda n=kill: len(records(log, "start")) == n + 1, process)
        resumed = records(log, "start")[-1]["resumed"]
        assert (resumed or {}).get("updates", 0) == begun
        wait_for(
            lambda k=begun: records(log, "checkpoint")[-1:] and records(log, "checkpoint")[-1]["k"] > k,
            process,
        )
        time.sleep(rng.uniform(0, 1.0))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        saved = checkpoint.newest(run / "checkpoints")
        complete = [path.name for path in (run / "checkpoints").iterdir() if not path.name.startswith(".")]
        assert saved.updates == max(map(int, complete)) >= records(log, "checkpoint")[-1]["k"] > begun
        moments = load_file(saved.path / "optimizer.safetensors")
        assert moments["step/classifier.weight"] == saved.updates
        assert all(tensor.abs().sum() > 0 for name, tensor in moments.items() if name.startswith("exp_avg/"))
        begun = saved.updates
        assert begun < WHOLE - 1
    assert main(["finetune", "--resume", str(run)]) == 0
    last = records(log, "start")[-1]["resumed"]
    assert last["updates"] == begun
    own = log.read_text().rpartition('"type": "start"')[2].count('"type": "update"')
    assert own == WHOLE - begun
    whole = read(log)
    assert [record["k"] for record in whole.updates] == list(range(WHOLE))
    assert updates(run) == updates(finished)
    for name in ("model.safetensors", "optimizer.safetensors"):
        ends = [load_file(one / "checkpoints" / f"{WHOLE:08d}" / name) for one in (run, finished)]
        assert ends[0].keys() == ends[1].keys()
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_the_newest_run_is_resumed_if_none_is_named(tiny, tmp_path, monkeypatch, interrupt_at, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="there is no run in runs"):
        finetune(resume=True)
    finetune(**tiny.keys(updates=2, epochs=None))
    interrupt_at(1)
    folder = finetune(**tiny.keys(updates=2, epochs=None)).folder
    interrupt_at(-1)
    assert finetune(resume=True).folder == folder
    assert f"resume {folder} after 1 updates" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="runs nearby"):
        finetune("runs/nothing", resume=True)


def test_a_broken_checkpoint_is_skipped_for_the_one_before(halted, tiny, interrupt_at):
    interrupt_at(25)
    finetune(halted, resume=True)
    interrupt_at(-1)
    newest = checkpoint.newest(halted / "checkpoints")
    assert newest.updates == 25
    weights = newest.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    interrupt_at(23)
    with pytest.warns(UserWarning, match=r"00000025 is broken: the bytes of model\.safetensors"):
        finetune(halted, resume=True)
    assert {path.name for path in newest.path.parent.iterdir()} == {"00000021", "00000023"}
    log = read(halted / "log.jsonl")
    assert log.start["resumed"]["updates"] == 21
    assert [record["k"] for record in log.updates] == list(range(23))


def test_where_all_checkpoints_are_broken_it_says_so_and_the_advice_works(halted, tiny, interrupt_at):
    for weights in (halted / "checkpoints").glob("*/model.safetensors"):
        weights.write_bytes(b"?")
    with (
        pytest.warns(UserWarning, match="it is skipped"),
        pytest.raises(CheckpointError, match="has 1 checkpoint, all broken: start again with") as caught,
    ):
        finetune(halted, resume=True)
    words = str(caught.value).partition("start again with etude ")[2].split()
    assert words == ["finetune", str(halted / "recipe.yaml"), "output=null"]
    assert main([*words, "--dry-run"]) == 0


def test_a_run_without_a_checkpoint_says_how_to_start_again(halted):
    import shutil

    shutil.rmtree(halted / "checkpoints")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint yet: start again with etude finetune .*recipe\.yaml"
    ):
        finetune(halted, resume=True)
