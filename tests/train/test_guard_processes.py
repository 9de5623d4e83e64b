"""The guard in two processes: one of them is at fault, both decide alike and go back to one checkpoint."""

import json
import math
import os
from pathlib import Path

import pytest
import torch._dynamo  # loaded before the fork: each process would take seconds for it
from safetensors.torch import load_file, save_file

from etude.report.log import read
from etude.train.finetuning import finetune

pytestmark = pytest.mark.timeout(120)


def work(rank: int, store: str, out: str, at: int, factor: float, keys: dict) -> None:
    """A whole run, in which the losses of the second process are wrong once."""
    from accelerate.state import AcceleratorState

    from etude.train import rollback, session

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "true"}
    AcceleratorState._reset_state(True)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    make, agreed, loops, asked, restored = session.make_loop, rollback._agreed, [], [], []

    def faulty(prepared):
        loop = make(prepared)
        losses, update, tries = loop.losses, loop.update, iter(range(999))

        def wrong(model, chosen):
            return losses(model, chosen) * (factor if rank == 1 and next(tries) == at else 1.0)

        def watched():
            update()
            asked.extend([len(asked), type(one).__name__, one.reason] for one in loop.asked)

        loop.losses, loop.update = wrong, watched
        loops.append(loop)
        return loop

    def watched_restore(one):
        saved = agreed(one)
        restored.append(str(saved.path))
        return saved

    session.make_loop, rollback._agreed = faulty, watched_restore
    finetune(**keys)
    (loop,) = loops
    weights = {name: tensor.contiguous() for name, tensor in loop.model.module.state_dict().items()}
    save_file(weights, f"{out}-{rank}.safetensors")
    edits = [one.as_json() for one in loop.driver.edits]
    found = {"asked": asked, "restored": restored, "edits": edits, "memory": loop.driver.memory}
    Path(f"{out}-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("factor", [math.nan, 1e4])
@pytest.mark.parametrize("policy", ["skip", "clip", "rollback"])
def test_pain_37_all_processes_decide_together(tiny, tmp_path, processes, policy, factor):
    keys = tiny.keys(batch=4, output=str(tmp_path / "run"), control=[{"spike": {"policy": policy}}])
    processes(work, str(tmp_path / "store"), str(tmp_path / "out"), 30, factor, keys)
    found = [json.loads((tmp_path / f"out-{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0] == found[1]
    ((_, action, reason),) = found[0]["asked"]
    if math.isnan(factor):
        assert action == {"rollback": "Restore"}.get(policy, "Discard")
        assert reason == "train_loss is nan and grad_norm is nan"
    else:
        assert action == {"skip": "Discard", "clip": "Clip", "rollback": "Restore"}[policy]
    log = read(tmp_path / "run" / "log.jsonl")
    back = [str(tmp_path / "run" / "checkpoints" / "00000021")] if policy == "rollback" else []
    assert found[0]["restored"] == back
    assert [one["edit"] for one in found[0]["edits"]] == ["rollback", "scale"] * len(back)
    assert log.updates[-1]["t"][1] == 40.25
    weights = [load_file(tmp_path / f"out-{rank}.safetensors") for rank in (0, 1)]
    assert len(weights[0]) > 30
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
        assert tensor.isfinite().all(), name
