"""Range tests of every pair with five seeds, recorded to the end of the grid. Resumable.

Each sweep is 100 lines of sweeps.csv: raw training losses, nothing smoothed and nothing stopped, so that any
finder reads the same recording with its own smoothing and its own stop. `REPEATS` are two more sweeps of each
seed's model, in another order, as `etude.find(seeds=3)` makes them; they end where étude's own sweep does.

Run: PYTHONPATH=PACKAGES .venv/bin/python benchmarks/finder/sweeps.py [PAIR ...]
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
from runs import CLIP
from tasks import PAIRS, Pair

import etude
from etude.finder.divergence import Watch, watch

PATH = Path(__file__).with_name("sweeps.csv")
FIELDS = ("pair", "seed", "point", "rate", "loss", "held_out")
SEEDS = (0, 1, 2, 3, 4)
REPEATS = tuple(range(5, 15))  # the model of the seed modulo 5
REPEATED = (
    "dino6-fashion", "l6-spam-head", "l3-brown-tags", "l6x2-spam", "l6x2-tweets-lora", "dino4-mnist",
    "l6x2-brown-llrd", "effnet-fashion", "l6-food",
)  # fmt: skip
START, TO, POINTS = 1e-7, 1.0, 100


class Recording(NamedTuple):
    """A sweep: rates, training losses, and held-out losses as far as étude would have swept."""

    rates: list[float]
    losses: list[float]
    held_out: list[float]


Sweeps = dict[str, dict[int, Recording]]


def sweep(pair: Pair, seed: int) -> list[tuple[float, float, float | None]]:
    """Rate, loss of the update's batch, and of the probe until étude's own stop, for each point."""
    model = pair.model(seed % len(SEEDS)).train()
    plan = etude.plan(model, lr=f"{TO!r} * exp(start={START / TO!r}, to=1)", tick=0, **pair.options)
    optimizer = torch.optim.AdamW(plan.torch_groups(model), fused=True)
    driver = etude.Driver(plan.over(POINTS - 1), etude.torch.sink(optimizer))
    trained = [p for p in model.parameters() if p.requires_grad]
    batches = pair.batches(seed)
    out: list[tuple[float, float, float | None]] = []
    state, stopped = Watch(), ""
    torch.manual_seed(seed)
    for k in range(POINTS):
        driver.apply(k)
        probed = None if stopped else probe_loss(pair, model)
        inputs, labels = next(batches)
        loss = pair.loss(model(*inputs), labels)
        out.append((START * (TO / START) ** (k / (POINTS - 1)), loss.item(), probed))
        if not torch.isfinite(loss):
            break
        if not stopped:
            state, stopped = watch(state, loss.item())
        if stopped and seed in REPEATS:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
    return out


@torch.no_grad()
def probe_loss(pair: Pair, model: torch.nn.Module) -> float:
    """The loss of the probe in evaluation mode."""
    inputs, labels = pair.probe()
    model.eval()
    loss = pair.loss(model(*inputs), labels).item()
    model.train()
    return loss


def read(path: Path = PATH) -> Sweeps:
    """Rates and losses by pair and seed."""
    table: Sweeps = defaultdict(dict)
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                recording = table[row["pair"]].setdefault(int(row["seed"]), Recording([], [], []))
                recording.rates.append(float(row["rate"]))
                recording.losses.append(float(row["loss"]))
                if row["held_out"]:
                    recording.held_out.append(float(row["held_out"]))
    return table


def main(names: list[str]) -> None:
    """Record what is missing."""
    torch.set_num_threads(1)
    for name in names or PAIRS:
        for seed in SEEDS + (REPEATS if name in REPEATED else ()):
            if seed in read()[name]:
                continue
            new = not PATH.exists()
            rows = sweep(PAIRS[name], seed)
            with PATH.open("a", newline="") as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow(FIELDS)
                for k, (rate, loss, held_out) in enumerate(rows):
                    probed = "" if held_out is None else f"{held_out:.6g}"
                    writer.writerow((name, seed, k, f"{rate:.6g}", f"{loss:.6g}", probed))
        print(f"{name:22} done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
