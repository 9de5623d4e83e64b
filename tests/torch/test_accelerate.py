"""Accelerate: two processes have the rates of one, update for update, with batches that accumulate.

Each run is made in processes forked from this one, which saves them the imports.
"""

import json
import os
import re
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="the processes are accelerate's")

import torch
import torch._dynamo  # loaded before the fork, as the next two are: each process would take seconds for it
import torch.distributed.fsdp
import torch.distributed.tensor
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch.utils.data import DataLoader, TensorDataset

import etude
from etude import Driver, Group, Plan, Scale
from etude.torch import LRScheduler

pytestmark = pytest.mark.timeout(120)

EXAMPLES, BATCH, ACCUMULATE, EPOCHS = 40, 4, 4, 2
UPDATES = 6  # 10 batches an epoch: two updates of 4 and one of 2
PLAN = Plan(
    {"lr": "0.1 * (warmup(0.3) >> cosine(to=0.1))"},
    [Group("body", ("0.weight", "0.bias"), {"lr": 0.5}), Group("head", ("1.weight", "1.bias"))],
)


@dataclass(frozen=True)
class Halve:
    """Halve the rate after two readings in a row that are not below the best."""

    name: str = "halve"
    reads: tuple[str, ...] = ("loss",)

    def init(self):
        return {"best": None, "bad": 0}

    def update(self, state, t, reading):
        value = reading["loss"]
        if state["best"] is None or value < state["best"]:
            return {"best": value, "bad": 0}, None
        if state["bad"] == 0:
            return {**state, "bad": 1}, None
        return {**state, "bad": 0}, Scale(t, 0.5, author=self.name, reason=f"loss {value:g}")


def examples(n=EXAMPLES):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, generator=generator)
    return TensorDataset(x, x.sum(1, keepdim=True))


def train(way, accelerator, batch, losses=None):
    """One run; what every real update used and the weights at its end.

    `losses` are this process's readings after each update.
    """
    gated, way = way.startswith("gated"), way.removeprefix("gated ")
    plan = GATED if gated else PLAN
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    scheduler = driver = None

    def mean(reading):
        values = torch.tensor(list(reading.values()), dtype=torch.float64)
        return dict(zip(reading, accelerator.reduce(values, "mean").tolist(), strict=True))

    rates, given = plan.over(UPDATES), {"controllers": [Halve()], "reduce": mean}
    if way == "driver":
        driver = Driver(rates, etude.torch.sink(optimizer), **given)
    elif way != "late":
        scheduler = LRScheduler(optimizer, rates, **given)
    loader = DataLoader(examples(), batch_size=batch)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if way == "late":
        scheduler = LRScheduler(optimizer, rates, **given)
    if way in ("prepared", "split"):
        scheduler = accelerator.prepare(scheduler)
    k, used, moved = 0, [], []
    for x, y in (batch for _ in range(EPOCHS) for batch in loader):
        if driver:
            driver.apply(k)
        with accelerator.accumulate(model):
            accelerator.backward(torch.nn.functional.mse_loss(model(x), y))
            held = [group["lr"] for group in optimizer.param_groups]
            optimizer.step()
            if way in ("prepared", "split", "unguarded"):
                scheduler.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
            used.append(held)
            moved.append(next(accelerator.unwrap_model(model).parameters()).tolist())
            k += 1
            if way in ("scheduler", "late"):
                scheduler.step()
            if losses:
                reading = {"loss": losses[k - 1]}
                plain = getattr(scheduler, "scheduler", scheduler)
                driver.observe(k, reading) if driver else plain.observe(reading)
    weights = [w.tolist() for w in accelerator.unwrap_model(model).parameters()]
    return {"used": used, "weights": weights, "body": moved}


def work(rank, world, store, out, way, losses):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29501"}
    os.environ["ACCELERATE_USE_CPU"] = "true"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    split = way == "split"
    accelerator = Accelerator(
        gradient_accumulation_steps=ACCUMULATE,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=way.startswith("gated"))],
        dataloader_config=DataLoaderConfiguration(split_batches=split),
    )
    assert accelerator.num_processes == world
    batch = BATCH if split else BATCH // world
    result = train(way, accelerator, batch, losses and losses[rank])
    Path(f"{out}-{rank}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


def run(processes, folder, world, way, losses=None):
    """The results of all processes of one run."""
    stem = folder / f"{way}-{world}-{time.monotonic_ns()}"
    processes(work, world, f"{stem}-store", str(stem), way, losses, count=world)
    return [json.loads(Path(f"{stem}-{rank}.json").read_text()) for rank in range(world)]


GATED = Plan(PLAN.hypers, [replace(PLAN.groups[0], gate="frozen(0.5) >> hold(start=1)"), PLAN.groups[1]])
PLANNED = [PLAN.over(UPDATES).at(k)["lr"] for k in range(UPDATES)]


@pytest.fixture(scope="module")
def single(processes, tmp_path_factory):
    (one,) = run(processes, tmp_path_factory.mktemp("single"), 1, "driver")
    return one


@pytest.mark.parametrize("way", ["driver", "scheduler", "late", "prepared", "split"])
def test_pain_1_two_processes_have_the_rates_of_one(processes, tmp_path, single, way):
    """Also where LRScheduler is given to accelerator.prepare, which calls it once per process."""
    first, second = run(processes, tmp_path, 2, way)
    assert first == second
    assert single["used"] == first["used"] == PLANNED
    for mine, theirs in zip(single["weights"], first["weights"], strict=True):
        assert torch.allclose(torch.tensor(mine), torch.tensor(theirs), atol=1e-4)


@pytest.mark.parametrize("way", ["gated driver", "gated late"])
def test_pain_19_what_thaws_under_ddp_stays_the_same_on_both(processes, tmp_path, way):
    first, second = run(processes, tmp_path, 2, way)
    assert first == second
    assert first["used"] == [GATED.over(UPDATES).at(k)["lr"] for k in range(UPDATES)]
    assert first["body"][0] == first["body"][2] != first["body"][3]


def test_pain_4_a_loop_that_steps_at_every_batch_is_right_from_the_first_update_on(processes, tmp_path):
    """Before it, calls without an update are taken for a preview: here three."""
    (one,) = run(processes, tmp_path, 1, "unguarded")
    assert one["used"][1:] == [PLAN.over(UPDATES).at(k)["lr"] for k in range(4, 4 + UPDATES - 1)]


@pytest.mark.parametrize("way", ["driver", "scheduler", "prepared"])
def test_pains_30_and_31_readings_are_one_on_all_processes(processes, tmp_path, way):
    """Each process alone would cut the rate at other times, or not at all."""
    losses = [[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1.1, 1.0, 1.3, 1.5, 1.6, 1.7]]  # means 1, 0.9, 1, 1.05, …
    first, second = run(processes, tmp_path, 2, way, losses)
    halved = [[rate / (1 if k < 4 else 2) for rate in row] for k, row in enumerate(PLANNED)]
    assert first["used"] == second["used"] == halved


PAGE = (Path(__file__).parents[2] / "docs" / "torch.md").read_text(encoding="utf-8")


def test_the_blocks_of_the_page_run_as_they_are_printed(accelerator):
    import math

    from transformers import BertConfig, BertForSequenceClassification

    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))
    loader = [{"input_ids": torch.randint(50, (4, 8)), "labels": torch.randint(2, (4,))} for _ in range(7)]
    names = {"etude": etude, "torch": torch, "math": math, "Accelerator": Accelerator, "device": "cpu"}
    names |= {"model": model, "loader": loader, "epochs": 2, "evaluate": lambda model: 0.0}
    loop, scheduled, scaled, prepared, reduced = blocks
    exec(loop, names)
    assert (names["k"], names["driver"].read()) == (13, names["driver"].at(13)["lr"])
    exec(scheduled, names)
    assert names["scheduler"].last_epoch == names["state"]["scheduler"]["last_epoch"] == 14
    names["optimizer"] = torch.optim.AdamW(names["plan"].torch_groups(model))
    exec(scaled, names)
    assert names["scheduler"].last_epoch == 14
    names["optimizer"] = torch.optim.AdamW(names["plan"].torch_groups(model))
    names["loader"] = DataLoader(loader, batch_size=None)
    exec(prepared, names)
    assert names["k"] == names["driver"].total == 8
    assert names["driver"].read() == names["driver"].at(7)["lr"]
    exec(reduced, names)
    assert names["mean"]({"a": 0.5, "b": 1.5}) == {"a": 0.5, "b": 1.5}


@pytest.mark.parametrize("prepared", [False, True])
def test_the_state_goes_with_accelerates_checkpoints(tmp_path, accelerator, prepared):
    def build():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
        optimizer = torch.optim.AdamW(PLAN.torch_groups(model))
        scheduler = LRScheduler(optimizer, PLAN.over(UPDATES), [Halve()])
        model, optimizer = accelerator.prepare(model, optimizer)
        if prepared:
            accelerator.prepare(scheduler)
        else:
            accelerator.register_for_checkpointing(scheduler)
        return model, optimizer, scheduler

    def update(model, optimizer, scheduler):
        accelerator.backward(model(torch.ones(2, 3)).square().mean())
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()

    first = build()
    for k in range(3):
        update(*first)
        first[2].observe({"loss": float(k)})
    assert first[2].driver.memory["halve"] == {"best": 0.0, "bad": 0}
    accelerator.save_state(str(tmp_path))
    accelerator.free_memory()
    accelerator._custom_objects.clear()
    again = build()
    accelerator.load_state(str(tmp_path))
    assert again[2].last_epoch == 3
    assert again[2].driver.memory == first[2].driver.memory
    assert again[1].param_groups[0]["lr"] == first[1].param_groups[0]["lr"] == PLANNED[3][0] / 2
    for one in (first, again):
        update(*one)
    for a, b in zip(first[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(a, b)
