"""Stages under DDP and fully_shard, two gloo processes: what thaws stays the same on both, or it is said.

The processes are forked from this one, which has made the imports.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import torch._dynamo  # loaded before the fork, as the next two are: each process would take seconds for it
import torch.distributed.fsdp
import torch.distributed.tensor
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

import etude
from etude import Driver, Group, Plan
from etude.errors import PlanError

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:.*(fork|find_unused_parameters).*"),
]

UPDATES, WIDTH = 12, 5
PARTS = ("low", "middle", "head")
UNFREEZE = {"low": "frozen(8) >> hold(start=1)", "middle": "frozen(4) >> hold(start=1)"}
FREEZEOUT = {"low": "cosine(4) >> frozen()", "middle": "cosine(8) >> frozen()"}
FIND = {"find_unused_parameters": True}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.low = nn.Sequential(nn.Linear(3, WIDTH), nn.BatchNorm1d(WIDTH))
        self.middle, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.middle(torch.tanh(self.low(x)))))


def plan_of(net, gates):
    names = [name for name, _ in net.named_parameters()]
    groups = [Group(part, [n for n in names if n.startswith(part)], gate=gates.get(part)) for part in PARTS]
    return Plan({"lr": "0.05 * linear()", "weight_decay": 0.01}, groups)


def whole(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach()


def digest(module):
    """A hash of all weights and buffers."""
    state = b"".join(whole(value).contiguous().numpy().tobytes() for value in module.state_dict().values())
    return hashlib.sha256(state).hexdigest()


def prepared(case, net):
    """The model as each case wraps it; what forwards."""
    if case == "accelerate" or case == "accelerate, plain":
        AcceleratorState._reset_state(True)
        from accelerate.utils import DistributedDataParallelKwargs

        handlers = [DistributedDataParallelKwargs(**FIND)] if case == "accelerate" else []
        return Accelerator(cpu=True, kwargs_handlers=handlers).prepare(net)
    if case.startswith("fully_shard"):
        for part in (net.low, net.middle, net.head):
            fully_shard(part)
        return fully_shard(net)
    if case == "fsdp1":
        return FullyShardedDataParallel(net, use_orig_params=True, device_id=torch.device("cpu"))
    given = {
        "plain": {},
        "bucket views": FIND | {"gradient_as_bucket_view": True},
        "static graph": FIND | {"static_graph": True},
    }
    return DistributedDataParallel(net, **given.get(case, FIND))


def train(case, gates, rank, world):
    """Hashes of each part and the rates after every update, what was said when it broke, the last weights."""
    net = Net()
    late = case == "wrapped late"
    model = net if late or world == 1 else prepared(case, net)
    optimizer = torch.optim.AdamW(plan_of(net, gates).torch_groups(net))
    driver = Driver(plan_of(net, gates).over(UPDATES), etude.torch.sink(optimizer))
    if late:
        driver.apply(0)
        model = prepared(case, net)
    data = torch.randn(UPDATES, 8, 3, generator=torch.Generator().manual_seed(1))
    hashes, said = [], ""
    for k in range(UPDATES):
        trained = [p.requires_grad for p in net.parameters()]
        try:
            driver.apply(k)
        except PlanError as error:
            said = f"{k}: {error}"
            assert trained == [p.requires_grad for p in net.parameters()]
            break
        model.train()
        model(data[k][rank::world]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        hashes.append({part: digest(getattr(net, part)) for part in PARTS})
    weights = {name: whole(p).tolist() for name, p in net.named_parameters()}
    return {"hashes": hashes, "said": said, "weights": weights}


def work(rank, store, out, case, gates):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    Path(f"{out}-{rank}.json").write_text(json.dumps(train(case, gates, rank, 2)))
    torch.distributed.destroy_process_group()


@pytest.fixture
def pair(processes, tmp_path, monkeypatch):
    """Both processes' results of a case."""
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29507", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)

    def both(case, gates=UNFREEZE):
        stem = tmp_path / case.replace(" ", "-")
        processes(work, f"{stem}-store", str(stem), case, gates)
        return [json.loads(Path(f"{stem}-{rank}.json").read_text()) for rank in (0, 1)]

    return both


def changes(hashes, part):
    """The updates in which a part changed."""
    column = [row[part] for row in hashes]
    before = [digest(getattr(Net(), part)), *column]
    return [k for k, (old, new) in enumerate(zip(before, column, strict=False)) if old != new]


def close(one, other):
    for name, weight in one.items():
        assert torch.allclose(torch.tensor(weight), torch.tensor(other[name]), atol=2e-3), name


@pytest.mark.parametrize("case", ["find unused", "bucket views", "accelerate", "fully_shard"])
@pytest.mark.parametrize("gates", [UNFREEZE, FREEZEOUT], ids=["unfreeze", "freezeout"])
def test_pain_19_both_processes_are_one_after_every_thaw_and_freeze(pair, case, gates):
    """Also the statistics of the norm in `low`, which DDP takes from the first process while they run."""
    first, second = pair(case, gates)
    assert first["said"] == second["said"] == ""
    assert [row["middle"] for row in first["hashes"]] == [row["middle"] for row in second["hashes"]]
    assert [row["head"] for row in first["hashes"]] == [row["head"] for row in second["hashes"]]
    assert first["weights"] == second["weights"]
    trains = {
        "low": range(8, 12) if gates is UNFREEZE else range(4),
        "middle": range(4, 12) if gates is UNFREEZE else range(8),
        "head": range(12),
    }
    for part, ks in trains.items():
        assert changes(first["hashes"], part) == [*ks], part


def test_two_processes_are_one_process(pair):
    """Without statistics of half a batch: the norm is frozen throughout."""
    gates = UNFREEZE | {"low": "frozen()"}
    alone = train("alone", gates, 0, 1)
    for case in ("find unused", "fully_shard"):
        first, second = pair(case, gates)
        assert first["hashes"] == second["hashes"]
        close(first["weights"], alone["weights"])


@pytest.mark.parametrize("case", ["plain", "static graph", "accelerate, plain"])
def test_a_ddp_that_waits_for_every_gradient_is_refused_when_a_group_first_freezes(pair, case):
    """torch itself says nothing in that update, in which the processes part, and raises in the next."""
    for one in pair(case):
        assert one["said"].startswith(
            "0: DistributedDataParallel waits for all gradients, also those of groups"
        )
        assert "(low, middle): write" in one["said"]
        assert "find_unused_parameters=True" in one["said"]
        assert ("leave out static_graph" in one["said"]) == (case == "static graph")
    for one in pair(case, FREEZEOUT):
        assert one["said"].startswith("4: DistributedDataParallel waits for all gradients")
        assert len(one["hashes"]) == 4


def test_a_layer_that_was_frozen_when_ddp_wrapped_it_is_refused_when_it_thaws(pair):
    for one in pair("wrapped late"):
        assert one["said"].startswith("4: DistributedDataParallel wrapped the model while middle was frozen")
        assert "wrap first" in one["said"]
        assert changes(one["hashes"], "middle") == []


def test_fsdp_of_the_first_kind_is_refused(pair):
    for one in pair("fsdp1"):
        assert one["said"].startswith("0: FullyShardedDataParallel trains whole units")
        assert "fully_shard(model)" in one["said"]


def test_without_gates_every_wrapper_will_do(pair):
    for case in ("plain", "static graph"):
        first, second = pair(case, {})
        assert first["said"] == ""
        assert first["weights"] == second["weights"]
        assert len(first["hashes"]) == UPDATES
