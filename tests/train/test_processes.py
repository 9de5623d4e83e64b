"""Two processes that train one model: DDP over gloo, forked from this one to save them the imports."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch._dynamo  # loaded before the fork: each process would take seconds for it
from safetensors.torch import load_file, save_file

from etude.errors import RecipeError
from etude.report.log import read
from etude.train.finetuning import finetune

pytestmark = pytest.mark.timeout(120)


def work(rank: int, store: str, out: str, interrupt: int | None, source: str | None, keys: dict) -> None:
    """One of two processes: a whole run, then the weights as this process has them."""
    from accelerate.state import AcceleratorState

    from etude.train import session
    from etude.train.loop import Loop

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "true"}
    AcceleratorState._reset_state(True)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    make, update, loops = session.make_loop, Loop.update, []

    def watched(prepared):
        loops.append(make(prepared))
        return loops[-1]

    def interrupted(loop):
        update(loop)
        if rank == 1 and loop.clock.updates == interrupt:
            os.kill(os.getpid(), signal.SIGINT)

    session.make_loop, Loop.update = watched, interrupted
    run = finetune(source, resume=source is not None, **keys)
    weights = {name: tensor.contiguous() for name, tensor in loops[0].model.module.state_dict().items()}
    save_file(weights, f"{out}-{rank}.safetensors")
    Path(f"{out}-{rank}.json").write_text(json.dumps({"result": run.result, "seed": torch.initial_seed()}))
    torch.distributed.destroy_process_group()


@pytest.fixture
def pair(processes):
    """Run two processes; the stem of the files with their weights."""

    def both(
        folder: Path, name: str, keys: dict, interrupt: int | None = None, source: str | None = None
    ) -> Path:
        out = folder / f"{name}-weights"
        processes(work, str(folder / f"{name}-store"), str(out), interrupt, source, keys)
        return out

    return both


def assert_equal(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    assert len(found) > 30
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


@pytest.fixture(scope="module")
def steady(tiny, tmp_path_factory):
    """The tiny model without dropout, so that one process can be compared with two."""
    folder = tmp_path_factory.mktemp("steady")
    for file in tiny.model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_two_processes_are_one_run(tiny, steady, tmp_path, pair):
    """161 examples, 4 a process: the last update of an epoch has one example, and one process none.

    The 19 validation texts are a single batch, which the other process does not have.
    """
    keys = tiny.keys(model=steady)
    one = finetune(output=tmp_path / "one", **keys)
    out = pair(tmp_path, "two", keys | {"batch": 4, "output": str(tmp_path / "two")})
    single, double = read(one.folder / "log.jsonl"), read(tmp_path / "two" / "log.jsonl")
    assert double.start["machine"]["processes"] == 2
    assert double.start["span"] == single.start["span"]
    assert len(double.updates) == len(single.updates) == 42
    for a, b in zip(single.updates, double.updates, strict=True):
        assert (a["k"], a["t"], a["rates"]) == (b["k"], b["t"], b["rates"])
    for a, b in zip(single.updates[:21], double.updates[:21], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-3)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=2e-2)
    weights = [load_file(f"{out}-{rank}.safetensors") for rank in (0, 1)]
    assert_equal(*weights)
    before = load_file(f"{steady}/model.safetensors")
    alone = load_file(one.folder / "checkpoints" / "00000042" / "model.safetensors")
    for name, tensor in weights[0].items():
        if name.startswith("bert.encoder") and "key.bias" not in name:  # its gradient is 0 but for rounding
            moved = (alone[name] - before[name.removeprefix("bert.")]).norm()
            assert (tensor - alone[name]).norm() < 0.1 * moved, name
    assert [r["metrics"]["accuracy"] for r in double.evals] == [
        r["metrics"]["accuracy"] for r in single.evals
    ]
    assert_equal(load_file(tmp_path / "two/checkpoints/00000042/model.safetensors"), weights[0])


def test_two_processes_stop_together_and_go_on_bit_for_bit(tiny, tmp_path, pair):
    """With dropout, each process from a generator of its own; Ctrl-C reaches only the second."""
    keys = tiny.keys(batch=4)
    whole = pair(tmp_path, "whole", keys | {"output": str(tmp_path / "whole")})
    halted = pair(tmp_path, "halted", keys | {"output": str(tmp_path / "halted")}, interrupt=10)
    assert_equal(*(load_file(f"{halted}-{rank}.safetensors") for rank in (0, 1)))
    log = read(tmp_path / "halted" / "log.jsonl")
    assert (log.end["reason"], log.end["k"]) == ("interrupted", 10)
    again = pair(tmp_path, "again", {}, source=str(tmp_path / "halted"))
    log = read(tmp_path / "halted" / "log.jsonl")
    assert log.start["resumed"]["updates"] == 10
    assert [record["k"] for record in log.updates] == list(range(42))
    losses = [record["loss"] for record in read(tmp_path / "whole" / "log.jsonl").updates]
    assert [record["loss"] for record in log.updates] == losses
    for rank in (0, 1):
        assert_equal(*(load_file(f"{stem}-{rank}.safetensors") for stem in (again, whole)))
    ends = [json.loads(Path(f"{again}-{rank}.json").read_text()) for rank in (0, 1)]
    assert ends[0]["result"] == ends[1]["result"] == log.end["result"]
    assert ends[0]["seed"] != ends[1]["seed"]


def test_processes_that_accelerate_does_not_see_are_refused_before_they_write(tiny, tmp_path, monkeypatch):
    """What `torchrun` on CPUs starts without ACCELERATE_USE_CPU: each would be a run of its own."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match=r"2 processes were started .* set ACCELERATE_USE_CPU=true"):
        finetune(output=tmp_path / "run", **tiny.keys())
    assert not (tmp_path / "run").exists()
