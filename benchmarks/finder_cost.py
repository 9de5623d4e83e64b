"""What a range test costs beside the updates that it makes. Run: .venv/bin/python benchmarks/finder_cost.py

An encoder of 6 layers (width 384, vocabulary 30,522: 22.7 M parameters, 91 MB), 8 texts of 64 tokens, dropout
on, fused AdamW, layer-wise rates. **Time**: a test of 100 points over the same 100 updates written by hand,
in turns in one process; one thread, CPU time, the median of the ratios. **Memory**: how far the peak of the
resident memory, of a process of its own for each case, lies above that of the updates alone; the state is
weights and buffers, with the user's optimizer also its moments.
"""

import os
import statistics
import subprocess
import sys
import time

import torch
from transformers import BertConfig, BertForSequenceClassification

import etude
from etude import Driver
from etude.finder.find import find
from etude.finder.sweep import sweep_rates

TURNS, POINTS, BATCH, LENGTH = 3, 100, 8, 64
GRID = {"start": 1e-7, "to": 1e-4, "points": POINTS}
CASES = {
    "AdamW made for the test, memory": ("memory", False),
    "AdamW made for the test, disk": ("disk", False),
    "the user's optimizer, memory": ("memory", True),
    "the user's optimizer, disk": ("disk", True),
}


class Training:
    """A model, its plan and its batches."""

    def __init__(self) -> None:
        torch.manual_seed(17)
        sizes = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12}
        config = BertConfig(vocab_size=30522, intermediate_size=1536, **sizes)
        self.model = BertForSequenceClassification(config).train()
        self.plan = etude.plan(self.model, 2e-5, layer_decay=0.9, weight_decay=0.01)
        self.batches = [
            {"input_ids": torch.randint(30522, (BATCH, LENGTH)), "labels": torch.randint(2, (BATCH,))}
            for _ in range(8)
        ]
        self.optimizer = self.fresh()

    def fresh(self) -> torch.optim.AdamW:
        """An optimizer without moments."""
        return torch.optim.AdamW(self.plan.torch_groups(self.model), fused=True)

    def updates(self, optimizer: torch.optim.AdamW) -> None:
        """The updates of a test, by hand; their losses are read, as by anyone who logs them."""
        driver = Driver(sweep_rates(self.plan, **GRID), etude.torch.sink(optimizer))
        for k in range(POINTS):
            driver.apply(k)
            loss = self.model(**self.batches[k % len(self.batches)]).loss
            loss.backward()
            loss.item()
            optimizer.step()
            optimizer.zero_grad()

    def find(self, snapshot: str, own: bool) -> None:
        """The test."""
        optimizer = self.optimizer if own else None
        found = find(
            self.model, self.batches, optimizer=optimizer, plan=self.plan, seeds=1, snapshot=snapshot, **GRID
        )
        assert len(found.losses) == POINTS


def times() -> None:
    """Print the ratio of times of every case, in turns with the updates by hand."""
    training = Training()
    training.updates(training.optimizer)  # it has moments from here on
    ratios: dict[str, list[float]] = {name: [] for name in CASES}
    for turn in range(TURNS):
        seconds: dict[object, float] = {}
        order = [*CASES, True, False]
        for what in order if turn % 2 else reversed(order):
            began = time.process_time()
            if isinstance(what, str):
                training.find(*CASES[what])
            else:
                training.updates(training.optimizer if what else training.fresh())
            seconds[what] = time.process_time() - began
        for name, (_, own) in CASES.items():
            ratios[name].append(seconds[name] / seconds[own])
    print(f"time of a test over that of its {POINTS} updates by hand; the bar is 1.02")
    for name, found in ratios.items():
        print(f"  {name:34}{statistics.median(found):7.3f}   ({min(found):.3f} … {max(found):.3f})")


def peak(case: str) -> None:
    """Print how many bytes the peak of this process grows by in the updates or the test, and the state's."""
    training = Training()
    snapshot, own = CASES.get(case, ("", case.endswith("user's")))
    if own:
        training.updates(training.optimizer)
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here
    if case in CASES:
        training.find(snapshot, own)
    else:
        training.updates(training.optimizer if own else training.fresh())
    tensors = [*training.model.parameters(), *training.model.buffers()]
    if own:
        tensors += [value for state in training.optimizer.state.values() for value in state.values()]
    print(resident("VmHWM") - before, sum(one.numel() * one.element_size() for one in tensors))


def resident(what: str) -> int:
    """A figure of this process's memory, in bytes."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(what))
    return 1024 * int(line.split()[1])


def memory() -> None:
    """Print the extra peak of every case, each in a process of its own."""

    def measured(case: str) -> tuple[int, int]:
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, __file__, case], capture_output=True, text=True, check=True, env=environment
        )
        grown, state = done.stdout.split()
        return int(grown), int(state)

    print("peak memory of a test above that of its updates by hand, over the state; the bar is 1, on disk ~0")
    plain = {own: measured("the updates, the user's" if own else "the updates")[0] for own in (False, True)}
    for name, (_, own) in CASES.items():
        grown, state = measured(name)
        extra = grown - plain[own]
        print(f"  {name:34}{extra / state:7.2f}   ({extra / 1e6:.0f} MB, the state is {state / 1e6:.0f} MB)")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        peak(sys.argv[1])
    else:
        memory()
        times()
