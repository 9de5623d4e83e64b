"""What writing an update's rates costs. Run: .venv/bin/python benchmarks/apply.py

Contestants take turns call by call, in shuffled order, in one process with one thread, each with an optimizer
of its own that holds its first rates already. Every call of a run of 5,000 updates counts, so also those in
which étude computes the next updates ahead or thaws groups: of each update the median over the runs is taken,
to leave out who else is on the machine, and of these the mean over all updates. As étude computes ahead at
the same updates in every run, that work is in the mean.

The floor is a plain loop that writes numbers which were computed before. étude's groups have distinct
multipliers, two of three have a gate (one of them moving), and two edits are in force; the others have one
multiplier and one curve. Ratios are to the floor.
"""

import random
import statistics
import time
import warnings

import torch
import transformers
from rich.console import Console
from rich.table import Table

import etude
from etude import Driver, Group, Plan, Scale

UPDATES, RUNS = 5000, 7
GATES = ["warmup(0.9) >> hold()", "frozen(0.1) >> warmup(0.05) >> hold()", None]


def parameters(groups: int) -> torch.nn.ParameterList:
    """One small parameter per group."""
    return torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(1)) for _ in range(groups))


def driven(groups: int, gates: bool, check: bool) -> Driver:
    """A driver with distinct multipliers, gates and edits."""
    held = parameters(groups)
    scale = [0.9 ** (i % 24) * (1 + i / 1000) for i in range(groups)]
    plan = Plan(
        {"lr": "1e-3 * (warmup(0.1) >> cosine(to=0.01))"},
        [Group(f"g{i}", (str(i),), {"lr": scale[i]}, GATES[i % 3] if gates else None) for i in range(groups)],
    )
    optimizer = torch.optim.SGD(plan.torch_groups(held))
    driver = Driver(plan.over(UPDATES), etude.torch.sink(optimizer, check=check))
    driver.edit(Scale(0, 0.5))
    driver.edit(Scale(0, 0.7, groups="g0"))
    driver.apply(0)  # as the others do when they are made
    return driver


def plain(groups: int) -> torch.optim.Optimizer:
    """An optimizer with as many groups, for the others."""
    return torch.optim.SGD([{"params": [p], "lr": 1e-3} for p in parameters(groups)], lr=1e-3)


def contestants(groups: int) -> dict:
    """Name -> a function of the update's number that writes its rates."""
    rows = driven(groups, True, False).rates.matrix()
    floor = plain(groups).param_groups
    hf = transformers.get_cosine_schedule_with_warmup(plain(groups), 100, UPDATES)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(plain(groups), UPDATES)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(
        plain(groups), 1e-3, total_steps=UPDATES + 1, cycle_momentum=False
    )

    def write(k: int) -> None:
        row = rows[k]
        for i, group in enumerate(floor):
            group["lr"] = row[i]

    return {
        "floor": write,
        "étude, no gates, unchecked": driven(groups, False, False).apply,
        "étude, unchecked": driven(groups, True, False).apply,
        "étude, no gates": driven(groups, False, True).apply,
        "étude": driven(groups, True, True).apply,
        "torch CosineAnnealingLR": lambda k: cosine.step(),
        "transformers cosine": lambda k: hf.step(),
        "torch OneCycleLR": lambda k: one_cycle.step(),
    }


def run(groups: int) -> dict[str, list[int]]:
    """Nanoseconds of every call of one run, and of the clock alone."""
    calls, clock = contestants(groups), time.perf_counter_ns
    names, taken = list(calls), {name: [] for name in [*calls, "clock"]}
    for k in range(UPDATES):
        random.shuffle(names)
        for name in names:
            call = calls[name]
            began = clock()
            call(k)
            taken[name].append(clock() - began)
        began = clock()
        taken["clock"].append(clock() - began)
    return taken


def means(groups: int) -> dict[str, float]:
    """Microseconds per update: of each update the median over the runs, then the mean over the updates."""
    runs = [run(groups) for _ in range(RUNS)]
    usual = {
        name: statistics.fmean(map(statistics.median, zip(*(taken[name] for taken in runs), strict=True)))
        for name in runs[0]
    }
    idle = usual.pop("clock")
    return {name: (nanoseconds - idle) / 1000 for name, nanoseconds in usual.items()}


def main() -> None:
    """Print microseconds and ratios to the floor for 1 to 400 groups."""
    random.seed(17)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    counts = (1, 8, 50, 200, 400)
    measured = {groups: means(groups) for groups in counts}
    table = Table("µs per update (× floor)", *(f"{groups} groups" for groups in counts))
    for name in measured[1]:
        cells = [f"{measured[n][name]:.1f} ({measured[n][name] / measured[n]['floor']:.2f})" for n in counts]
        table.add_row(name, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
