"""That `etude.find` itself sees what sweeps.csv holds: its sweep of a pair, compared point by point.

The recordings go on to the end of the grid, for the peers; étude's own sweep ends where it stops.

Run: PYTHONPATH=PACKAGES .venv/bin/python benchmarks/finder/same.py [PAIR ...]
"""

import sys
from collections.abc import Iterator

import sweeps
import torch
from runs import CLIP
from tasks import PAIRS, Batch, Pair
from torch import Tensor

import etude
from etude.finder.consensus import consensus
from etude.finder.find import find
from etude.finder.finding import Finding


def found(pair: Pair, seed: int) -> Finding:
    """Étude's finder on a pair, in the order and with the random numbers of a recording."""
    model = pair.model(seed).train()
    torch.manual_seed(seed)
    return find(
        model,
        lambda: map(flat, pair.batches(seed)),
        plan=etude.plan(model, lr=1.0, **pair.options),
        loss=lambda model, batch: pair.loss(model(*batch[:-1]), batch[-1]),
        count=lambda batch: int((batch[-1] >= 0).sum()),
        clip=CLIP,
        seeds=1,
        held_out=[flat(pair.probe())],
    )


def flat(batch: Batch) -> tuple[Tensor, ...]:
    """Inputs and labels in one tuple."""
    return (*batch[0], batch[1])


def differences(pair: Pair, finding: Finding) -> Iterator[float]:
    """Relative differences of losses and held-out losses from the recording of seed 0."""
    recording = sweeps.read()[pair.name][0]
    for ours, theirs in ((finding.losses, recording.losses), (finding.held_out or (), recording.held_out)):
        yield max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=False))


def main(names: list[str]) -> None:
    """Print, for each pair, the largest difference and both suggestions."""
    torch.set_num_threads(1)
    for name in names or PAIRS:
        finding, recording = found(PAIRS[name], 0), sweeps.read()[name][0]
        recorded = consensus(recording.rates[: len(recording.held_out)], recording.held_out)
        losses, held_out = differences(PAIRS[name], finding)
        print(
            f"{name:20} {len(finding.losses)} points ({len(recording.held_out)} recorded), largest relative "
            f"difference {losses:.1e}, held-out {held_out:.1e}; suggests {finding.rate:.3g}, "
            f"recording {recorded.rate:.3g}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
