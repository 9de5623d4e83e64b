"""`lr: find`: the range test of a recipe, and the run at what it found."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from etude.errors import RecipeError
from etude.finder.finding import Finding
from etude.finder.suggestion import written
from etude.report.log import read as read_log
from etude.train.finetuning import finetune
from etude.train.rate import range_test, taken, with_rate
from etude.train.recipe import read
from etude.train.session import make_loop
from etude.train.setup import setup


def prepared(tiny, **changes):
    recipe, _ = read(None, tiny.keys(**changes))
    return setup(recipe)


def a_dip():
    return Finding.of(
        [1e-5 * 1.2**i for i in range(60)], [[2 - min(i, 40) / 25 + max(0, i - 45) for i in range(60)]]
    )


def losses(run, count=5):
    loop = make_loop(run)
    for _ in range(count):
        loop.update()
    return [record["loss"] for record in loop.fetch()], loop.model.state_dict()


def test_the_run_after_a_range_test_is_the_run_without_one(tiny):
    plain, weights = losses(prepared(tiny))
    tested = prepared(tiny)
    found = range_test(tested, points=30, seeds=1)
    assert len(found.losses) > 10
    assert max(found.losses) > 1.5 * min(found.losses)  # it did train, and too fast in the end
    again, after = losses(tested)
    assert again == plain
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


def test_the_sweep_is_over_the_plan_and_its_batches(tiny):
    """A head at ten times the rate, two batches an update: the first loss is that of the first update."""
    run = prepared(tiny, head=10, accumulate=2)
    found = range_test(run, points=12, to=1e-5, seeds=1)
    assert found.rates[0] == 1e-7
    assert found.rates[-1] == pytest.approx(1e-5)
    loop = make_loop(prepared(tiny, head=10, accumulate=2, lr=1e-7))
    loop.update()
    assert found.losses[0] == pytest.approx(loop.fetch()[0]["loss"], rel=0.02)  # dropout draws anew


def test_the_range_is_for_the_epochs_of_the_run(tiny):
    """The sweep is the same, whatever the length of the run; what is said of it is not."""
    once, often = (
        range_test(prepared(tiny, epochs=epochs, schedule="constant()"), points=40, seeds=1)
        for epochs in (1, 4)
    )
    assert often.losses == once.losses
    assert often.rate == once.rate
    assert often.suggestion.low == pytest.approx(once.suggestion.low / 4)


def test_a_run_of_several_epochs_takes_what_it_finds_divided_by_them(tiny):
    once, often = (prepared(tiny, lr="find", epochs=epochs, schedule="constant()") for epochs in (1, 4))
    found = a_dip()
    assert with_rate(once, found).recipe.lr == float(written(found.rate))
    assert with_rate(often, found).recipe.lr == float(written(found.rate / 4))
    assert f"this run: lr={written(found.rate / 4)}, for its 4 epochs" in taken(often, found)


def test_few_validation_examples_are_told(tiny, monkeypatch):
    run = prepared(tiny, epochs=1)
    found = a_dip()
    said, seen = f"this run: lr={written(found.rate)}", len(run.data.validation)
    assert taken(run, found) == f"{said}; seen from {seen} validation examples, 32 are surer"
    monkeypatch.setattr("etude.train.rate.HELD_OUT", seen)
    assert taken(run, found) == said


def test_a_run_takes_what_it_finds(tiny, tmp_path, capsys):
    run = finetune(output=tmp_path / "run", **tiny.keys(lr="find", epochs=1))
    recipe, _ = read(run.folder / "recipe.yaml")
    start = read_log(run.folder / "log.jsonl").start
    found = Finding.from_dict(start["found"])
    assert recipe.lr == pytest.approx(found.rate, rel=0.06)  # two digits
    assert f"this run: lr={written(recipe.lr)}; seen from" in capsys.readouterr().out
    low, high = recipe.lr_range
    assert low <= recipe.lr <= high
    assert start["recipe"]["lr"] == recipe.lr
    used = [max(one["rates"]["lr"]) for one in read_log(run.folder / "log.jsonl").updates]
    assert 0.9 * recipe.lr < max(used) <= recipe.lr
    assert "How the rate was found" in run.report.read_text("utf-8")


def test_without_a_suggestion_nothing_begins(tiny, tmp_path):
    flat = Finding.of([1e-6 * 1.2**i for i in range(40)], [[1.0] * 40])
    with pytest.raises(RecipeError, match=f"without a rate: {flat.suggestion.reason}.*lr=1e-4"):
        with_rate(prepared(tiny, lr="find"), flat)


def test_a_failed_search_leaves_no_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("etude.train.rate.find", lambda *_, **__: Finding.of([1, 2, 3], [[float("nan")]]))
    with pytest.raises(RecipeError, match="lr: find ends without a rate"):
        finetune(output=tmp_path / "run", **tiny.keys(lr="find"))
    assert not (tmp_path / "run").exists()


def test_a_one_cycle_recipe_takes_the_rate_as_its_peak(tiny, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text('lr: "1e-3 * one_cycle()"\n')
    recipe, _ = read(file, ["lr=find"])
    assert recipe.lr_schedule == "1 * (cosine(0.3, to=1, start=0.04) >> cosine(to=4e-06))"
    found = a_dip()
    run = with_rate(prepared(tiny, lr="find", schedule=recipe.schedule, epochs=1), found)
    assert run.plan.hypers["lr"].peak == run.recipe.lr == float(f"{found.rate:.1e}")
    assert max(row[0] for row in run.rates.matrix()) <= run.recipe.lr


def test_a_group_with_a_rate_of_its_own_is_refused(tiny):
    with pytest.raises(RecipeError, match=r"lr: find and a group with an lr of its own.*lr_scale"):
        read(None, {"lr": "find", "groups": [{"match": "pooler", "lr": 1e-5}]})


def test_a_smoke_run_looks_for_nothing(tiny, tmp_path, capsys):
    run = finetune(output=tmp_path / "run", smoke=True, **tiny.keys(lr="find"))
    assert read(run.folder / "recipe.yaml")[0].lr == 1e-4
    assert "looks for no rate" in capsys.readouterr().out


def work(rank, store, out, keys):
    torch.set_num_threads(1)
    import os

    from accelerate.state import AcceleratorState

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "ACCELERATE_USE_CPU": "true"}
    AcceleratorState._reset_state(True)  # the process that this one is forked from has been one of its own
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    recipe, _ = read(None, keys)
    run = setup(recipe)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    found = range_test(run, points=20, seeds=1)
    kept = all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
    again, after = losses(run)
    save_file({name: tensor.contiguous() for name, tensor in after.items()}, f"{out}-{rank}.safetensors")
    with open(f"{out}-{rank}.json", "w") as file:
        json.dump({"found": found.to_dict(), "kept": kept, "losses": again}, file)
    torch.distributed.destroy_process_group()


def test_two_processes_find_one_rate_and_go_on_together(tiny, processes, tmp_path):
    """161 examples, 4 a process: in the last update of an epoch one process has none."""
    processes(work, str(tmp_path / "store"), str(tmp_path / "out"), tiny.keys(batch=4))
    first, second = (json.loads((tmp_path / f"out-{rank}.json").read_text()) for rank in (0, 1))
    assert first["kept"]
    assert second["kept"]
    assert first["found"] == second["found"]
    assert len(first["found"]["losses"]) > 8
    ours, theirs = (load_file(tmp_path / f"out-{rank}.safetensors") for rank in (0, 1))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
