"""What layer-wise rates cost. Run: .venv/bin/python benchmarks/groups.py [--device cuda] [--part step|job]

The optimizer's step, for a model of MiniLM's size (6 layers) and of BERT-base's (12): AdamW over étude's
groups (layer-wise rates, no weight decay on biases and norms), and over other numbers of groups with rates of
their own, against one fused group. All update the same tensors and moments, and take turns in shuffled order.

The whole update of the default job (real MiniLM; data, batch and length of the default recipe): étude's loop,
with its fused AdamW and its groups, against a bare loop with torch.optim.AdamW(model.parameters()).

On the CPU one thread and its CPU time, so that other work on the machine does not count; on a GPU wall time
to the end of its queue. Medians, and medians of the ratios round by round.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

import etude
from etude.train.loop import Loop
from etude.train.recipe import read
from etude.train.session import make_loop
from etude.train.setup import setup

SIZES = {
    "MiniLM's size, 6 layers": {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536},
    "BERT-base's size, 12 layers": {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072},
}
COUNTS = (1, 28, 50, 100, None)
FLOOR = "fused, 1 group"
STEP_BAR, JOB_BAR = 1.2, 0.85


class Clock:
    """Seconds of a call on a device."""

    def __init__(self, device: str):
        self.gpu = device.startswith("cuda")

    def __call__(self, call: Callable[[], Any]) -> float:
        if not self.gpu:
            began = time.process_time()
            call()
            return time.process_time() - began
        torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - began


def contestants(model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
    """AdamW in every way; parameters and moments are the same, and only the count of updates is one's own."""
    plan = etude.plan(model, 2e-5, layer_decay=0.9, head=10, weight_decay=0.01)
    parameters = list(model.parameters())
    made = {f"étude's {len(plan.groups)} groups, fused": adamw(plan.torch_groups(model), fused=True)}
    for way in ("fused", "foreach"):
        for count in COUNTS:
            groups = count or len(parameters)
            if groups <= len(parameters):
                name = f"{way}, {groups} group{'s' * (groups > 1)}"
                made[name] = adamw(split(parameters, groups), **{way: True})
    made["torch's default, 1 group"] = adamw(parameters)
    moments = {p: {key: torch.zeros_like(p) for key in ("exp_avg", "exp_avg_sq")} for p in parameters}
    for optimizer in made.values():
        on = parameters[0].device if optimizer.defaults["fused"] else "cpu"
        for parameter in parameters:
            optimizer.state[parameter] = {"step": torch.zeros((), device=on), **moments[parameter]}
    return made


def adamw(parameters: Any, **given: Any) -> torch.optim.Optimizer:
    """AdamW with a rate too small to carry the weights away."""
    return torch.optim.AdamW(parameters, lr=1e-9, **given)


def split(parameters: list[torch.nn.Parameter], groups: int) -> list[dict[str, Any]]:
    """Neighbours in groups of nearly equal number, each with a rate of its own."""
    edges = [round(i * len(parameters) / groups) for i in range(groups + 1)]
    return [
        {"params": parameters[begin:end], "lr": 1e-9 * (1 + i / groups)}
        for i, (begin, end) in enumerate(pairwise(edges))
    ]


def steps(sizes: dict[str, int], device: str, rounds: int) -> tuple[str, dict[str, tuple[float, float]]]:
    """What the model is, and of each contestant the milliseconds and the ratio to one fused group."""
    config = transformers.BertConfig(num_attention_heads=12, num_labels=3, **sizes)
    with torch.device(device):
        model = transformers.BertForSequenceClassification(config)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    made, clock = contestants(model), Clock(device)
    taken: dict[str, list[float]] = {name: [] for name in made}
    names = list(made)
    for turn in range(rounds + 1):
        random.shuffle(names)
        for name in names:
            seconds = clock(made[name].step)
            if turn:  # the first allocates
                taken[name].append(seconds)
    ratios = {name: [a / b for a, b in zip(t, taken[FLOOR], strict=True)] for name, t in taken.items()}
    tensors = f"{model.num_parameters() / 1e6:.1f} M numbers in {len(list(model.parameters()))} tensors"
    return tensors, {
        name: (statistics.median(t) * 1e3, statistics.median(ratios[name])) for name, t in taken.items()
    }


def bare(loop: Loop, optimizer: torch.optim.Optimizer) -> None:
    """One update without étude: draw, forward, backward, clip, step."""
    chosen = loop.order.draw(loop.global_batch)
    loss = loop.losses(loop.model, chosen).sum() / len(chosen)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(loop.parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def job(rounds: int, updates: int) -> dict[str, tuple[float, float]]:
    """Milliseconds of a whole update of the default job, and the ratio to torch's default AdamW."""
    prepared = setup(read(overrides=["threads=1", "updates=100000"])[0])
    loop = make_loop(prepared)
    clock = Clock(loop.accelerator.device.type)
    default = torch.optim.AdamW(loop.parameters, lr=1e-5)
    ways = {"étude": loop.update, "torch's default": lambda: bare(loop, default)}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        position = loop.order.epoch, loop.order.position
        for name in random.sample(list(ways), len(ways)):
            loop.order.epoch, loop.order.position = position  # the same texts: lengths differ
            seconds = clock(lambda way=ways[name]: [way() for _ in range(updates)])
            if turn:
                taken[name].append(seconds / updates)
        loop.fetch()
    ratios = [a / b for a, b in zip(*taken.values(), strict=True)]
    medians = {name: statistics.median(t) * 1e3 for name, t in taken.items()}
    return {
        "étude": (medians["étude"], statistics.median(ratios)),
        "torch's default": (medians["torch's default"], 1.0),
    }


def main() -> None:
    """Print milliseconds and ratios, and the bars."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--device", default="cpu", help="of the steps; the job runs where Accelerate puts it")
    asked.add_argument("--part", choices=("step", "job", "both"), default="both")
    asked.add_argument("--rounds", type=int, default=11)
    given = asked.parse_args()
    random.seed(17)
    torch.manual_seed(17)
    torch.set_num_threads(1)
    if given.part != "job":
        for size, sizes in SIZES.items():
            tensors, found = steps(sizes, given.device, given.rounds)
            table = Table(f"{size}: {tensors}", "ms", f"× {FLOOR}")
            for name, (milliseconds, ratio) in found.items():
                table.add_row(name, f"{milliseconds:.1f}", f"{ratio:.2f}")
            table.caption = f"the bar for étude's groups is {STEP_BAR}"
            Console().print(table)
    if given.part != "step":
        table = Table("an update of the default job", "ms", "× torch's default")
        for name, (milliseconds, ratio) in job(given.rounds, updates=8).items():
            table.add_row(name, f"{milliseconds:.0f}", f"{ratio:.3f}")
        table.caption = f"the bar for étude is {JOB_BAR}"
        Console().print(table)


if __name__ == "__main__":
    main()
