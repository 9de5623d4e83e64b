"""What controllers are worth: real fine-tunes with them and without, at the best rate and at five times that.

Run: PYTHONPATH=PACKAGES nice -n 10 python benchmarks/controllers.py  (what the CSV lacks; an hour of a core)
     python benchmarks/controllers.py --table                         (the table of the docs)
docs/finder.md says where PACKAGES and the data of the pairs come from.

Three pairs of the finder's, 160 updates of AdamW (2.7 epochs), clipped to 1, an evaluation every 10 updates.
Controllers have their defaults, and read the loss of 128 held-out examples; the loss that is judged is that
of 192 others. The best rate is that of `warmup >> linear` over 60 updates, from finder/truth.csv. Seeds are
paired: head, order of the data and dropout are the same for all runs of one.
"""

import copy
import math
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measured import complete, rows

import etude

TABLE = Path(__file__).with_suffix(".csv")
sys.path.append(str(Path(__file__).with_name("finder")))
BEST = {"l3-tweets": -10, "l6x2-spam": -11, "dino4-mnist": -12}  # thirds of a decade
FACTORS = {"best": 0, "× 4.6": 2}  # further thirds
SEEDS = range(3)
UPDATES, EVERY, VALIDATION = 160, 10, 2
SHAPES = {
    "hold": "warmup(0.1) >> hold()",
    "linear": "warmup(0.1) >> linear()",
    "wsd": "warmup(0.1) >> hold() >> linear(0.2)",
}
CONTROLLERS = {
    "plateau": etude.plateau,
    "greedy": etude.greedy,
    "early_stop": etude.early_stop,
    "cooldown": etude.cooldown,
}
CASES = (
    ("linear", "none"),
    ("hold", "none"),
    ("hold", "plateau"),
    ("hold", "greedy"),
    ("hold", "early_stop"),
    ("wsd", "none"),
    ("wsd", "cooldown"),
)


class Row(NamedTuple):
    """One run: which, and the judged loss at its end and of the weights with the best evaluation."""

    pair: str
    rate: str
    shape: str
    controller: str
    seed: int
    loss: float
    accuracy: float
    best: float
    updates: int
    level: float
    seconds: float


@torch.no_grad()
def judged(pair: Any, model: torch.nn.Module, batches: slice) -> tuple[float, float]:
    """Mean loss and accuracy over some of the held-out batches."""
    model.eval()
    total = right = n = 0.0
    for inputs, labels in islice(pair.held_out(), batches.start, batches.stop):
        logits = model(*inputs)
        total += float(pair.loss(logits, labels, reduction="sum"))
        right += float((logits.argmax(-1) == labels).sum())
        n += len(labels)
    model.train()
    return (total / n if math.isfinite(total) else math.inf), right / n


def run(name: str, factor: str, shape: str, controller: str, seed: int) -> Row:
    """One fine-tune; `level` is what the controller has made of the rate by its end."""
    from tasks import PAIRS
    from truth import rate_of

    began, pair = time.process_time(), PAIRS[name]
    model = pair.model(seed).train()
    rate = rate_of(BEST[name] + FACTORS[factor])
    plan = etude.plan(model, lr=f"{rate!r} * ({SHAPES[shape]})", layer_decay=1)
    optimizer = torch.optim.AdamW(plan.torch_groups(model), fused=True)
    controllers = [CONTROLLERS[controller]()] if controller in CONTROLLERS else []
    driver = etude.Driver(plan.over(UPDATES), etude.torch.sink(optimizer), controllers)
    batches, k = pair.batches(seed), 0
    lowest, kept = math.inf, copy.deepcopy(model.state_dict())
    torch.manual_seed(seed)
    while k < driver.total:
        driver.apply(k)
        inputs, labels = next(batches)
        pair.loss(model(*inputs), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        k += 1
        if k % EVERY == 0:
            loss, _ = judged(pair, model, slice(0, VALIDATION))
            if loss < lowest:
                lowest, kept = loss, copy.deepcopy(model.state_dict())
            driver.observe(k, {"eval_loss": loss})
    level = math.prod(edit.by for edit in driver.edits if isinstance(edit, etude.Scale))
    loss, accuracy = judged(pair, model, slice(VALIDATION, None))
    model.load_state_dict(kept)
    best, _ = judged(pair, model, slice(VALIDATION, None))
    seconds = round(time.process_time() - began, 1)
    return Row(name, factor, shape, controller, seed, loss, accuracy, best, k, level, seconds)


def cases() -> Iterator[tuple[str, str, str, str, int]]:
    """Every (pair, rate, shape, controller, seed) that is measured."""
    for seed in SEEDS:
        for name in BEST:
            for factor in FACTORS:
                yield from ((name, factor, *case, seed) for case in CASES)


def table(measured: list[Row]) -> str:
    """Of each shape and controller the loss minus that of the same seed without one, as Markdown.

    ± is the standard error over seeds and pairs.
    """
    head = ("rate", "schedule", "controller", "loss at the end", "of the best evaluation",
            "end − without", "best − without", "updates", "level")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    by = {row[:5]: row for row in measured}
    for factor in FACTORS:
        for shape, controller in CASES:
            some = [row for row in measured if row[1:4] == (factor, shape, controller)]
            if not some:
                continue
            plain = [by[row.pair, factor, shape, "none", row.seed] for row in some]
            ends = [a.loss - b.loss for a, b in zip(some, plain, strict=True)]
            bests = [a.best - b.best for a, b in zip(some, plain, strict=True)]
            apart = ("", "") if controller == "none" else (_mean(ends), _mean(bests))
            cells = (
                factor, SHAPES[shape], controller, f"{statistics.mean(row.loss for row in some):.3f}",
                f"{statistics.mean(row.best for row in some):.3f}", *apart,
                f"{statistics.mean(row.updates for row in some):.0f}",
                f"{statistics.geometric_mean(row.level for row in some):.2g}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return f"{statistics.mean(values):+.3f} ± {error:.3f}"


def main() -> None:
    """Measure what has not been measured, then print the table."""
    torch.set_num_threads(1)
    if "--table" not in sys.argv:
        complete(TABLE, Row, cases(), run)
    print(table(rows(TABLE, Row)))


if __name__ == "__main__":
    main()
