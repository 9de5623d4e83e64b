"""Two processes over gloo, forked from this one to save them the imports: one run's rates, one decision."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch._dynamo  # loaded before the fork: each process would take seconds for it
from transformers import Trainer, TrainerCallback

import etude
from etude import Plan, Scale, early_stop
from etude.errors import EtudeError
from etude.trainer import attach

pytestmark = pytest.mark.timeout(120)

LR = "2e-2 * (warmup(0.3) >> cosine(to=0.01))"


class Judged(Trainer):
    """Its evaluations give what this process alone thinks: the first improves, the second gets worse."""

    def evaluate(self, *args, **keys):
        k = self.state.global_step
        metrics = {"eval_own": [1.0, 1.0 - 0.1 * k, 1.0 + 0.3 * k][1 + self.args.process_index]}
        self.log(metrics)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class ByOne(TrainerCallback):
    """One process alone edits the rates."""

    def __init__(self, attached):
        self.attached = attached

    def on_step_end(self, args, state, control, **more):
        if state.global_step == 3 and args.process_index == 1:
            self.attached.edit(Scale(3, 0.5))


def staged(model):
    """The lower half thaws after two updates."""
    plan = etude.plan(model, LR, layer_decay=0.5)
    gates = ["frozen(2) >> hold(start=1)", *[None] * (len(plan.groups) - 1)]
    return Plan(
        plan.hypers, [replace(group, gate=gate) for group, gate in zip(plan.groups, gates, strict=True)]
    )


def run(case: str, make, used) -> dict:
    """One process of a case, or its only one; batches are halved where two share them."""
    keys = {"train": 40}
    if "WORLD_SIZE" in os.environ:
        keys |= {"per_device_train_batch_size": 2, "ddp_backend": "gloo"}
    if case in ("read", "by one"):
        keys |= {"kind": Judged, "evaluate": 4, "eval_strategy": "steps", "eval_steps": 1}
    trainer = make(**keys)
    if case == "thaw":
        attached = attach(trainer, plan=staged)
    else:
        stop = [early_stop("eval_own", patience=3)] if case == "read" else []
        attached = attach(trainer, LR, layer_decay=0.5, controllers=stop)
    if case == "by one":
        trainer.add_callback(ByOne(attached))
    try:
        rates, said = used(trainer), ""
    except EtudeError as error:
        rates, said = [], str(error)
    weights = {name: p.detach().double().sum().item() for name, p in trainer.model.named_parameters()}
    memory = attached.driver.memory
    return {"rates": rates, "weights": weights, "memory": memory, "said": said, "t": attached.t}


def work(rank: int, store: str, out: str, case: str, make, used) -> None:
    from accelerate.state import AcceleratorState

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "true"}
    AcceleratorState._reset_state(True)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    Path(f"{out}-{rank}.json").write_text(json.dumps(run(case, make, used)))
    torch.distributed.destroy_process_group()


@pytest.fixture
def pair(make, used, processes, tmp_path):
    """Both processes' results of a case."""

    def both(case: str) -> list[dict]:
        processes(work, str(tmp_path / "store"), str(tmp_path / "out"), case, make, used)
        return [json.loads((tmp_path / f"out-{rank}.json").read_text()) for rank in (0, 1)]

    return both


def test_pain_1_two_processes_use_the_rates_of_one(make, used, pair):
    one = run("plain", make, used)
    both = pair("plain")
    assert len(one["rates"]) == 10
    assert both[0]["rates"] == both[1]["rates"] == one["rates"]
    assert both[0]["weights"] == both[1]["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-3)


def test_pain_19_a_layer_that_thaws_is_trained_alike_in_both(make, used, pair):
    one = run("thaw", make, used)
    both = pair("thaw")
    assert [row["embeddings"] > 0 for row in both[0]["rates"]] == [False] * 2 + [True] * 8
    assert both[0]["weights"] == both[1]["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-3)


def test_pain_30_and_31_one_reading_and_one_decision_in_both(pair):
    """The first process sees its metric fall, the second rise; their mean rises, so both stop after four."""
    both = pair("read")
    assert [len(one["rates"]) for one in both] == [4, 4]
    assert both[0]["memory"] == both[1]["memory"] == {"early_stop": {"best": pytest.approx(1.1), "bad": 3}}
    assert both[0]["weights"] == both[1]["weights"]


def test_pain_31_rates_that_differ_are_refused_in_both(pair):
    both = pair("by one")
    for one in both:
        assert "the processes train embeddings at different rates" in one["said"]
        assert "an edit made by hand must be made on every process" in one["said"]
