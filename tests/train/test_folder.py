"""Run folders: two runs never share one, and nothing is written over."""

import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from etude.errors import CheckpointError, RecipeError
from etude.train import folder
from etude.train.folder import RunFolder, create, find, is_run, newest, runs


def started(run: RunFolder) -> RunFolder:
    run.recipe.write_text("lr: 2e-4\n")
    run.log.write_text("{}\n")
    return run


def test_a_run_has_its_time_and_name(tmp_path):
    run = create("tweets of 2026/all.csv", root=tmp_path / "runs")
    assert run.path.is_dir()
    assert re.fullmatch(r"\d{8}-\d{6}-tweets-of-2026-all\.csv", run.name)


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path):
    with ProcessPoolExecutor(4) as pool:
        made = list(pool.map(partial(create, root=tmp_path), ["x"] * 40))
    assert len({run.path for run in made}) == 40
    assert len(list(tmp_path.iterdir())) == 40


def test_an_occupied_output_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RecipeError, match=r"output: .*mine is occupied, and nothing is written over"):
        create("x", tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]
    with pytest.raises(RecipeError, match="is a file"):
        create("x", tmp_path / "mine" / "thesis.txt")
    with pytest.raises(RecipeError, match="cannot be made"):
        create("x", tmp_path / "mine" / "thesis.txt" / "below")


def test_an_output_that_is_a_run_can_be_resumed_instead(tmp_path):
    run = started(create("x", tmp_path / "mine"))
    with pytest.raises(RecipeError, match=r"go on with it: etude finetune --resume .*mine"):
        create("x", run.path)


def test_an_output_that_is_new_or_empty_is_the_run_itself(tmp_path):
    (tmp_path / "empty").mkdir()
    assert create("x", tmp_path / "empty").path == tmp_path / "empty"
    assert create("x", tmp_path / "deep" / "new").path.is_dir()


def test_the_newest_run_is_that_started_last_whatever_it_is_called(tmp_path):
    for name in (
        "20260101-000000-z",
        "20261231-235959-a",
        "20261231-235959-b",
        "mine",
        "20270101-000000-not-begun",
    ):
        (tmp_path / name).mkdir()
    for name in ("20260101-000000-z", "20261231-235959-b", "20261231-235959-a"):
        started(RunFolder(tmp_path / name))
        time.sleep(0.002)
    assert newest(tmp_path).name == "20261231-235959-a"
    mine = started(RunFolder(tmp_path / "mine"))
    later = time.mktime((2027, 1, 1, 0, 0, 0, 0, 0, -1))
    os.utime(mine.recipe, (later, later))
    assert [run.name for run in runs(tmp_path)] == [
        "mine",
        "20261231-235959-a",
        "20261231-235959-b",
        "20260101-000000-z",
    ]


def test_no_run_is_one_clear_message(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no run in .*; start one with: etude finetune"):
        newest(tmp_path)


def test_what_is_no_run_is_refused_with_the_runs_nearby(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = started(create("x", root=folder.ROOT))
    assert find(run.path) == run
    for wrong, says in (
        ("nowhere", "there is no folder nowhere"),
        ("runs", "runs is no run: it lacks recipe.yaml and log.jsonl"),
        (run.log, "is a file, not the folder"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(says)) as caught:
            find(wrong)
        assert f"runs nearby: {run.path}" in str(caught.value)
    run.recipe.unlink()
    assert not is_run(run.path)
    with pytest.raises(CheckpointError, match=r"it lacks recipe\.yaml, and no run is nearby"):
        find(run.path)


def test_a_place_that_cannot_hold_runs_is_one_clear_message(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RecipeError, match=r"runs/ for runs cannot be written: .*; write output=FOLDER"):
        create("x", root=tmp_path / "runs")
