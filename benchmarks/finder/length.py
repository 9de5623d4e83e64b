"""How the best rate moves with the length of the run: runs of 240 updates beside those of 60. Resumable.

`FIT` are the pairs on which a law was fitted, `JUDGE` those that were run after it was frozen, `HEADS` frozen
backbones, which cost nothing and are no fine-tunes. Names that end in `-once` have four times the examples,
so that 240 updates are one epoch; the others go through theirs four times as often as in 60 updates. The
runs stand in truth.csv, with their number of updates. A grid begins with three rates, two steps below the
optimum of 60 updates in the middle (of one epoch, around it), and grows until the lowest mean loss has a
neighbour on both sides; the optimum is the vertex of the parabola through those three, its standard error a
jackknife over the seeds. The last columns are log10 of étude's suggestion (the mean of five sweeps) over the
optimum, as it is and divided by the epochs, which was the law that was frozen.

Run: PYTHONPATH=PACKAGES .venv/bin/python benchmarks/finder/length.py [fit | judge | heads] [UPDATES]
"""

import math
import statistics
import sys
from collections.abc import Mapping
from typing import NamedTuple

import sweeps
import torch
import truth
from runs import UPDATES
from tasks import ONCE, PAIRS

from etude.finder.finding import Finding

LONG = 240
FIT = ("l3-tweets", "l3-tweets-once", "l6x2-brown-llrd", "l6x3-food-lora")
JUDGE = ("l6x2-tweets-lora", "l3-spam-llrd", "effnet-mnist", "l6x2-tweets-lora-once")
HEADS = ("l6-spam-head", "dino6-fashion-head")
PARTS = {"fit": FIT, "judge": JUDGE, "heads": HEADS}

Losses = Mapping[int, Mapping[int, float]]  # third of a decade, seed


class Best(NamedTuple):
    """log10 of the best rate, and its standard error."""

    rate: float
    error: float


def vertex(means: Mapping[int, float]) -> float:
    """log10 of the best rate: of the parabola through the lowest mean and its neighbours.

    >>> round(vertex({-11: 0.9, -10: 0.5, -9: 0.6, -8: 3.0}), 3)
    -3.233
    """
    best = min(means, key=lambda third: means[third])
    below, here, above = (means.get(third, math.inf) for third in (best - 1, best, best + 1))
    if not math.isfinite(below + above):
        return best / 3
    return (best + (below - above) / (2 * (below - 2 * here + above))) / 3


def best(losses: Losses) -> Best:
    """The vertex of the mean over the seeds, and how far it moves when one of them is left out."""
    seeds = sorted({seed for runs in losses.values() for seed in runs})

    def of(chosen: list[int]) -> float:
        return vertex({third: statistics.fmean(runs[s] for s in chosen) for third, runs in losses.items()})

    left_out = [of([seed for seed in seeds if seed != one]) for one in seeds]
    n = len(seeds)
    return Best(of(seeds), ((n - 1) ** 2 / n * statistics.variance(left_out)) ** 0.5)


def wanted(done: Losses, centre: int) -> list[tuple[int, int]]:
    """The runs (third, seed) that are needed next; none when the lowest mean lies inside the grid."""
    grid = {centre - 1, centre + 1, *done}
    first = range(min(grid), max(grid) + 1)
    missing = [(third, seed) for third in first for seed in truth.SEEDS if seed not in done.get(third, {})]
    if missing:
        return missing
    means = [statistics.fmean(done[third].values()) for third in first]
    lowest = means.index(min(means))
    new = [first[0] - 1] if lowest == 0 else [first[-1] + 1] if lowest == len(first) - 1 else []
    return [(third, seed) for third in new for seed in truth.SEEDS]


def short(name: str) -> Losses:
    """The runs of 60 updates of a pair; with one epoch's examples they see as many as its namesake."""
    return truth.read()[name.removesuffix("-once")]


def suggested(name: str) -> float:
    """What étude says of the five recorded sweeps of a pair."""
    recordings = [sweeps.read()[name.removesuffix("-once")][seed] for seed in sweeps.SEEDS]
    held_out = [each.held_out for each in recordings]
    losses = [each.losses[: len(each.held_out)] for each in recordings]
    return Finding.of(recordings[0].rates, losses, held_out=held_out).rate or math.nan


def main(parts: list[str], updates: int) -> None:
    """Run what is missing, and print how far each optimum has moved and what the suggestion is off by."""
    torch.set_num_threads(1)
    pairs = PAIRS | ONCE
    print(f"| pair | epochs | best at {UPDATES} updates | at {updates} | moved | off | off, divided |")
    print("|---|---|---|---|---|---|---|")
    for name in (name for part in parts or ["fit", "judge", "heads"] for name in PARTS[part]):
        before, down = best(short(name)), 0 if name.endswith("-once") else 2
        while runs := wanted(truth.read(updates=updates)[name], round(3 * before.rate) - down):
            for third, seed in runs:
                truth.record(pairs[name], third, seed, updates)
        after = best(truth.read(updates=updates)[name])
        moved, error = after.rate - before.rate, math.hypot(after.error, before.error)
        epochs = updates * pairs[name].batch / len(pairs[name].data.train_labels)
        off = math.log10(suggested(name)) - after.rate
        print(
            f"| {name} | {epochs:g} | {10**before.rate:.2g} | {10**after.rate:.2g} "
            f"| {moved:+.2f} ± {error:.2f} "
            f"| {off:+.2f} | {off - math.log10(epochs):+.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    main([word for word in sys.argv[1:] if not word.isdecimal()], *numbers or [LONG])
