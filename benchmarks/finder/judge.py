"""The table: what every finder suggests on the recorded sweeps, against the true optimum and its band.

Reads truth.csv and sweeps.csv, writes suggestions.csv (a cache, so that the peers' packages are not needed
again) and the tables of docs/finder.md to standard output.

Run: PYTHONPATH=PACKAGES .venv/bin/python benchmarks/finder/judge.py
"""

import csv
import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import sweeps
import truth
from attempts import ATTEMPTS
from sweeps import Recording

from etude.finder.consensus import consensus
from etude.finder.finding import Finding

PATH = Path(__file__).with_name("suggestions.csv")
DEVELOPMENT = ("l3-tweets", "effnet-mnist", "l6x3-food-lora")
SEEN = (  # judged the first two rules, and were known when the third was frozen
    "dino6-fashion", "l6x3-tweets-16shot", "l3-spam-llrd", "l3-brown-tags", "l6-spam-head",
    "dino6-fashion-head",
)  # fmt: skip
CONSTANT = 1e-4
ETUDE = "étude, held-out"
THREE = "étude, held-out, three sweeps"

Suggested = dict[str, dict[str, dict[int, float | None]]]  # finder, pair, seed


class Optimum(NamedTuple):
    """A pair's best rate (log10) and the thirds of a decade that are as good within one standard error."""

    best: float
    band: tuple[int, ...]

    @property
    def width(self) -> float:
        """Decades; a rate of the grid stands for the third of a decade around it."""
        return len(self.band) / 3

    def holds(self, rate: float) -> bool:
        """Whether the nearest rate of the grid is in the band."""
        return round(3 * math.log10(rate)) in self.band


def optimum(losses: Mapping[int, Mapping[int, float]]) -> Optimum:
    """The rate with the lowest mean loss, and those that are no worse by one standard error, paired by seed.

    >>> found = optimum({-9: {0: 0.50, 1: 0.60}, -8: {0: 0.49, 1: 0.60}, -7: {0: 0.8, 1: 0.9}})
    >>> round(found.best, 3), found.band, round(found.width, 2)
    (-2.667, (-9, -8), 0.67)
    """
    best = min(losses, key=lambda third: statistics.fmean(losses[third].values()))

    def as_good(third: int) -> bool:
        differences = [losses[third][seed] - losses[best][seed] for seed in losses[best]]
        if not all(map(math.isfinite, differences)):
            return False
        error = statistics.stdev(differences) / len(differences) ** 0.5
        return third == best or statistics.fmean(differences) <= error

    return Optimum(best / 3, tuple(third for third in sorted(losses) if as_good(third)))


def etude_of(curve: Callable[[Recording], list[float]]) -> Callable[[Recording], float | None]:
    """Étude's default on a curve of a recording, which ends where étude's sweep would."""

    def suggest(recording: Recording) -> float | None:
        losses = curve(recording)[: len(recording.held_out)]
        return consensus(recording.rates[: len(losses)], losses).rate

    return suggest


def of_sweeps(recordings: Mapping[int, Recording], seed: int, count: int) -> float | None:
    """What étude says of `count` sweeps of the model of a seed, as `etude.find(seeds=count)` does."""
    chosen = [recordings[seed + k * len(sweeps.SEEDS)] for k in range(count)]
    held_out = [each.held_out for each in chosen]
    losses = [each.losses[: len(each.held_out)] for each in chosen]
    return Finding.of(chosen[0].rates, losses, held_out=held_out).rate


def finders() -> dict[str, Callable[[Recording], float | None]]:
    """Every finder, on the curve it would see; the peers also on the held-out curve étude has."""
    from peers import PEERS

    out = {
        ETUDE: etude_of(lambda recording: recording.held_out),
        "étude, training losses": etude_of(lambda recording: recording.losses),
    }
    for name, peer in PEERS.items():
        out[name] = lambda recording, peer=peer: peer(recording.rates, recording.losses)
    for name, peer in PEERS.items():
        out[f"{name}, held-out"] = lambda recording, peer=peer: peer(
            recording.rates[: len(recording.held_out)], recording.held_out
        )
    for name, attempt in ATTEMPTS.items():
        out[f"étude, attempt, {name}"] = lambda recording, attempt=attempt: attempt(
            recording.rates[: len(recording.held_out)], recording.held_out
        )
    return out


def suggested() -> Suggested:
    """All suggestions; étude's are made anew, a peer's only where suggestions.csv lacks it."""
    known: Suggested = {}
    if PATH.exists():
        with PATH.open(newline="") as file:
            for row in csv.DictReader(file):
                pairs = known.setdefault(row["finder"], {}).setdefault(row["pair"], {})
                pairs[int(row["seed"])] = float(row["rate"]) if row["rate"] else None
    out: Suggested = {}
    recorded = sweeps.read()
    for name, finder in finders().items():
        for pair, recordings in recorded.items():
            for seed in sorted({*recordings} & {*sweeps.SEEDS}):
                before = {} if name.startswith("étude") else known.get(name, {}).get(pair, {})
                rate = before[seed] if seed in before else finder(recordings[seed])
                out.setdefault(name, {}).setdefault(pair, {})[seed] = rate
    for pair in repeated(recorded):
        out.setdefault(THREE, {})[pair] = {s: of_sweeps(recorded[pair], s, 3) for s in sweeps.SEEDS}
    with PATH.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("finder", "pair", "seed", "rate"))
        for name, pairs in out.items():
            for pair, seeds in pairs.items():
                for seed, rate in seeds.items():
                    writer.writerow((name, pair, seed, "" if rate is None else f"{rate:.4g}"))
    return out


def repeated(recorded: sweeps.Sweeps) -> list[str]:
    """The pairs of which three sweeps of every seed's model were recorded."""
    return [pair for pair, each in recorded.items() if {*sweeps.SEEDS, *sweeps.REPEATS} <= {*each}]


class Score(NamedTuple):
    """A finder over some pairs: mean |log10 error|, pairs and sweeps in the band, spread, refusals."""

    error: float
    middle_error: float
    pairs_hit: int
    sweeps_hit: int
    sweeps: int
    spread: float
    none: int


def score(pairs: Mapping[str, Mapping[int, float | None]], optima: Mapping[str, Optimum]) -> Score:
    """Judge a finder; a pair is hit if the geometric mean over its sweeps is. No suggestion is a miss."""
    errors, middles, spreads, hits, pair_hits, none, count = [], [], [], 0, 0, 0, 0
    for pair, best in optima.items():
        rates = [rate for rate in pairs[pair].values() if rate]
        count += len(pairs[pair])
        none += len(pairs[pair]) - len(rates)
        hits += sum(map(best.holds, rates))
        if not rates:
            continue
        errors.append(statistics.fmean(abs(math.log10(rate) - best.best) for rate in rates))
        middle = statistics.fmean(map(math.log10, rates))
        middles.append(abs(middle - best.best))
        pair_hits += best.holds(10**middle)
        spreads.append(max(rates) / min(rates))
    if not errors:
        return Score(math.nan, math.nan, 0, 0, count, math.nan, none)
    return Score(
        statistics.fmean(errors), statistics.fmean(middles), pair_hits, hits, count, max(spreads), none
    )


def constants(optima: Mapping[str, Optimum], every: Mapping[str, Optimum]) -> Suggested:
    """1e-4 for all; and for each pair the mean log optimum of all others, the development pairs with them."""
    left_out = {
        pair: {0: 10 ** statistics.fmean(o.best for name, o in every.items() if name != pair)}
        for pair in optima
    }
    return {
        "constant 1e-4": {pair: {0: CONSTANT} for pair in optima},
        "best constant, leave-one-out": left_out,
    }


def main() -> None:
    """Print the bands, the scores and the suggestions."""
    said, losses, recorded = suggested(), truth.read(), sweeps.read()
    swept = {pair for pair, seeds in said[ETUDE].items() if len(seeds) == len(sweeps.SEEDS)}
    every = {pair: optimum(runs) for pair, runs in losses.items() if pair in swept and not truth.wanted(runs)}
    fresh = [pair for pair in every if pair not in DEVELOPMENT + SEEN]
    print("| pair | optimum | band | width, decades | étude's five sweeps |\n|---|---|---|---|---|")
    for pair, best in every.items():
        band = f"{truth.rate_of(best.band[0]):.2g} … {truth.rate_of(best.band[-1]):.2g}"
        rates = ", ".join("none" if r is None else f"{r:.1e}" for r in said[ETUDE][pair].values())
        mark = " (development)" if pair in DEVELOPMENT else " (fresh)" if pair in fresh else ""
        print(f"| {pair}{mark} | {10**best.best:.2g} | {band} | {best.width:.2f} | {rates} |")
    parts = {"development": DEVELOPMENT, "judged by the first two rules": SEEN, "fresh": fresh, "all": every}
    for title, names in parts.items():
        optima = {pair: every[pair] for pair in names if pair in every}
        print(
            f"\n| {title}: {len(optima)} pairs | error | of the seeds' mean | pairs hit | sweeps hit "
            "| spread | none |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, pairs in ({THREE: said[THREE]} | said | constants(optima, every)).items():
            if not optima.keys() <= pairs.keys():
                continue
            s = score(pairs, optima)
            print(
                f"| {name} | {s.error:.2f} | {s.middle_error:.2f} | {s.pairs_hit} of {len(optima)} | "
                f"{s.sweeps_hit} of {s.sweeps} | {s.spread:.2g}× | {s.none} |"
            )
    print("\n| spread of | one sweep | two | three | étude's five means of three | in the band |")
    print("|---|---|---|---|---|---|")
    for pair in repeated(recorded):
        rates = [[of_sweeps(recorded[pair], s, n) or math.nan for s in sweeps.SEEDS] for n in (1, 2, 3)]
        spreads = " | ".join(f"{max(each) / min(each):.2f}×" for each in rates)
        hits = sum(map(every[pair].holds, rates[-1]))
        mark = " (fresh)" if pair in fresh else ""
        print(f"| {pair}{mark} | {spreads} | {', '.join(f'{r:.1e}' for r in rates[-1])} | {hits} of 5 |")


if __name__ == "__main__":
    main()
