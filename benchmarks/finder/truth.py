"""The true optimum: every pair over a grid of rates in 1/3-decade steps with paired seeds. Resumable.

Each run is a line of truth.csv, written when it ends; what stands there is not run again. A pair begins with
seven rates around a guess; the grid grows while the best rate is fewer than two rates from one of its ends.

Run: PYTHONPATH=PACKAGES .venv/bin/python benchmarks/finder/truth.py [PAIR ...]
"""

import csv
import statistics
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import torch
from runs import UPDATES, fine_tune
from tasks import PAIRS, Pair

PATH = Path(__file__).with_name("truth.csv")
FIELDS = (
    "pair",
    "third",
    "rate",
    "seed",
    "updates",
    "loss",
    "accuracy",
    "train_loss",
    "seconds",
    "torch",
    "etude",
)
SEEDS = (0, 1, 2)
CENTRE = -9  # thirds of a decade: 10^(-9/3) = 1e-3
LOWEST, HIGHEST = -18, 3  # 1e-6 .. 10

Table = dict[str, dict[int, dict[int, float]]]


def rate_of(third: int) -> float:
    """The grid's rate, written with three digits.

    >>> rate_of(-10), rate_of(-9)
    (0.000464, 0.001)
    """
    return float(f"{10 ** (third / 3):.3g}")


def read(path: Path = PATH, updates: int = UPDATES) -> Table:
    """Held-out losses of the runs of so many updates, by pair, third of a decade and seed."""
    table: Table = defaultdict(lambda: defaultdict(dict))
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if int(row["updates"]) != updates:
                    continue
                table[row["pair"]][int(row["third"])][int(row["seed"])] = float(row["loss"])
    return table


def wanted(done: dict[int, dict[int, float]], seeds: tuple[int, ...] = SEEDS) -> list[tuple[int, int]]:
    """The runs (third, seed) a pair needs next; none when its optimum lies inside the grid."""
    grid = sorted(done) or [CENTRE]
    first = range(min(*grid, CENTRE - 3), max(*grid, CENTRE + 3) + 1)
    missing = [(third, seed) for seed in seeds for third in first if seed not in done.get(third, {})]
    if missing:
        return missing
    means = [statistics.fmean(done[third].values()) for third in first]
    best = first[means.index(min(means))]
    new = [t for t in (first[0] - 1,) if best < first[0] + 2] + [
        t for t in (first[-1] + 1,) if best > first[-1] - 2
    ]
    return [(third, seed) for third in new if LOWEST <= third <= HIGHEST for seed in seeds]


def main(names: list[str]) -> None:
    """Run what is missing, pair by pair."""
    torch.set_num_threads(1)
    for name in names or PAIRS:
        while runs := wanted(read()[name]):
            for third, seed in runs:
                record(PAIRS[name], third, seed)
        best = min(read()[name].items(), key=lambda item: statistics.fmean(item[1].values()))
        print(f"{name:22} best {rate_of(best[0]):g}", flush=True)


def record(pair: Pair, third: int, seed: int, updates: int = UPDATES) -> None:
    """Make one run and write its line."""
    run = fine_tune(pair, rate_of(third), seed, updates)
    numbers = (f"{x:.6g}" for x in (run.loss, run.accuracy, run.train_loss))
    versions = (torch.__version__, metadata.version("etude"))
    append((pair.name, third, rate_of(third), seed, updates, *numbers, f"{run.seconds:.2f}", *versions))


def append(row: tuple[object, ...]) -> None:
    """One more line; the first brings the names of the columns."""
    new = not PATH.exists()
    with PATH.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(FIELDS)
        writer.writerow(row)


if __name__ == "__main__":
    main(sys.argv[1:])
