"""The range test in two gloo processes: one result, a stop that both make, no trace on either.

The processes are forked from this one, which has made the imports.
"""

import gc
import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
import torch
import torch._dynamo  # loaded before the fork, as the next two are: each process would take seconds for it
import torch.distributed.fsdp
import torch.distributed.tensor
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import etude
from etude.finder.find import find

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore:.*fork.*")]

X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
PAIRS = [(X[i : i + 6], Y[i : i + 6]) for i in range(0, 60, 6)]
KEYS = {"points": 20, "start": 1e-4, "to": 1e-1, "seeds": 1}


def net(drop=0.0):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8) if drop else nn.Tanh(), nn.Dropout(drop), nn.Linear(8, 2)
    )


def cross(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def digest(model, optimizer):
    """A hash of weights, buffers, gradients, moments, rates and torch's generator."""
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [p.grad for p in model.parameters() if p.grad is not None]
    tensors += [v for p in model.parameters() for v in optimizer.state[p].values()]
    found = [
        whole(one).detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for one in tensors
    ]
    found += [repr([group["lr"] for group in optimizer.param_groups]).encode()]
    return hashlib.sha256(b"".join([*found, torch.get_rng_state().numpy().tobytes()])).hexdigest()


def uneven(rank, model):
    """Every process has batches of its own, of uneven sizes."""
    mine = [tuple(part[: 2 + 3 * rank] for part in pair) for pair in PAIRS]
    return {"batches": mine, "loss": cross}


def parted(rank, model):
    """The halves of the batches that one process would have."""
    return {"batches": [tuple(part[rank::2] for part in pair) for pair in PAIRS], "loss": cross}


def one_diverges(rank, model):
    """On the second process alone the loss is NaN, from the 14th update on."""
    calls = []

    def loss(model, batch):
        calls.append(1)
        value = cross(model, batch)
        return value * torch.nan if rank == 1 and len(calls) == 14 else value

    return {"batches": PAIRS, "loss": loss}


def one_explodes(rank, model):
    """On the second process alone the loss grows, so that by itself it would stop earlier."""
    calls = []

    def loss(model, batch):
        calls.append(1)
        return cross(model, batch) * (20 ** max(0, len(calls) - 13) if rank == 1 else 1)

    return {"batches": PAIRS, "loss": loss}


def one_loader_fails(rank, model):
    def batches():
        yield from PAIRS[:5]
        if rank == 1:
            raise OSError("the disk is gone")
        yield from PAIRS[5:]

    return {"batches": batches, "loss": cross}


def one_is_interrupted(rank, model):
    calls = []

    def loss(model, batch):
        calls.append(1)
        if rank == 1 and len(calls) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return cross(model, batch)

    return {"batches": PAIRS, "loss": loss}


def sampled(rank, model):
    """A loader for several processes, four batches an update, several seeds, held-out data."""
    data = TensorDataset(X, Y)
    sampler = DistributedSampler(data, num_replicas=2, rank=rank, seed=3)
    loader = DataLoader(data, 3, sampler=sampler)
    return {
        "batches": loader,
        "loss": nn.CrossEntropyLoss(),
        "accumulate": 4,
        "seeds": 2,
        "held_out": PAIRS[rank:],
    }


WAYS = {
    way.__name__: way
    for way in (uneven, parted, one_diverges, one_explodes, one_loader_fails, one_is_interrupted, sampled)
}


def work(rank, store, out, way, wrap):
    """One of two processes."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "true"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    result = accelerated(way) if wrap == "accelerate" else trained(rank, way, wrap)
    Path(f"{out}-{rank}.json").write_text(json.dumps(result))
    gc.collect()  # a wrapper that outlives its process group may wait for it without end
    torch.distributed.destroy_process_group()


def trained(rank, way, wrap):
    """Train two updates, find, train five; and the same without the finder, whose losses are `straight`."""
    drop = 0.2 if way == "sampled" else 0.0
    return {"straight": run(rank, None, wrap, drop)["next"], **run(rank, way, wrap, drop)}


def run(rank, way, wrap, drop):
    result, model = {}, net(drop)
    if wrap == "fsdp":
        fully_shard(model)
    else:
        model = DistributedDataParallel(model, gradient_as_bucket_view=wrap == "ddp views")
    torch.manual_seed(rank)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def train(updates):
        losses = []
        for x, y in PAIRS[:updates]:
            optimizer.zero_grad()
            loss = cross(model, (x[rank::2], y[rank::2]))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    train(2)
    if way is not None:
        before = digest(model, optimizer)
        try:
            found = find(model, optimizer=optimizer, **KEYS | WAYS[way](rank, model))
            result |= {"losses": found.losses, "stopped": found.stopped, "curves": found.curves}
            result |= {"held_out": found.held_out, "rate": found.suggestion.rate}
        except BaseException as error:
            result |= {"error": f"{type(error).__name__}: {error}"}
        result["same"] = digest(model, optimizer) == before
    return result | {"next": train(5)}


def accelerated(way):
    """Everything from `accelerator.prepare`."""
    AcceleratorState._reset_state(True)
    accelerator, model = Accelerator(), net(0.2)
    plan = etude.plan(model, 1e-3, weight_decay=0.01)
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    loader = DataLoader(TensorDataset(X, Y), 5, shuffle=True)
    bare = model
    keys = {"optimizer": optimizer, "loss": cross, "accelerator": accelerator, "plan": plan}
    result = {}
    try:
        find(bare, loader, **KEYS | keys)
    except etude.EtudeError as error:
        result["unprepared"] = str(error)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    keys["optimizer"] = optimizer if way == "theirs" else None
    before, states = digest(model.module, optimizer.optimizer), dict(GradientState().__dict__)
    found = find(model, loader, **KEYS | keys)
    result["losses"], result["rate"] = found.losses, found.suggestion.rate
    result["same"] = digest(model.module, optimizer.optimizer) == before
    result["states"] = GradientState().__dict__ == states
    return result


@pytest.fixture
def pair(processes, tmp_path):
    """`pair(way, wrap)`: what both processes saw."""

    def run(way, wrap="ddp"):
        out = tmp_path / f"{way}-{wrap}"
        processes(work, f"{out}-store", str(out), way, wrap)
        return [json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in range(2)]

    return run


def agreed(both):
    """What both saw alike, once it is seen that neither has a trace of the test."""
    for one in both:
        assert one.pop("next") == one.pop("straight")
        assert one.pop("same")
    first, second = both
    assert repr(first) == repr(second)  # NaN is not equal to itself
    return first


def alone(batches):
    """The losses of one process with the whole batches."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in PAIRS[:2]:
        optimizer.zero_grad()
        cross(model, batch).backward()
        optimizer.step()
    return find(model, batches, optimizer=optimizer, loss=cross, **KEYS).losses


@pytest.mark.parametrize("wrap", ["ddp", "ddp views", "fsdp"])
def test_pain_39_two_processes_find_what_one_finds(pair, wrap):
    """The same losses on both, those of one process with the whole batches."""
    found = agreed(pair("parted", wrap))
    assert len(found["losses"]) == 20
    assert found["losses"] == pytest.approx(alone(PAIRS), rel=1e-4)


def test_every_example_counts_once_whichever_process_has_it(pair):
    """The first two rows of each batch are on both, three more on the second alone."""
    found = agreed(pair("uneven"))
    together = [tuple(torch.cat([part[:2], part[:5]]) for part in batch) for batch in PAIRS]
    assert found["losses"] == pytest.approx(alone(together), rel=1e-4)


@pytest.mark.parametrize("way", ["one_diverges", "one_explodes"])
def test_pain_39_a_stop_is_made_by_both(pair, way):
    found = agreed(pair(way))
    assert found["stopped"]
    assert 13 <= len(found["losses"]) < 20


def test_pain_39_a_loader_that_fails_in_one_process_ends_both(pair):
    first, second = pair("one_loader_fails")
    assert second.pop("error") == "OSError: the disk is gone"
    assert first.pop("error").startswith("EtudeError: process 1 could not go on")
    for one in (first, second):
        assert one["next"] == one["straight"]
        assert one["same"]


def test_pain_39_an_interrupt_of_one_process_ends_both(pair):
    assert agreed(pair("one_is_interrupted")) == {"error": "KeyboardInterrupt: "}


def test_accumulation_seeds_and_held_out_data_agree_too(pair):
    found = agreed(pair("sampled"))
    assert len(found["curves"]) == 2
    assert len(found["losses"]) == len(found["held_out"]) == 20


@pytest.mark.parametrize("way", ["theirs", "new"])
def test_what_accelerate_prepared_for_two_processes(pair, way):
    first, second = pair(way, "accelerate")
    assert first == second
    assert first["same"]
    assert first["states"]
    assert len(first["losses"]) == 20
    assert "accelerator.prepare(model)" in first["unprepared"]
