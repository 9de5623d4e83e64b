"""`lr: find`: the range test before a run, on its own model, data and plan."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from etude.errors import RecipeError
from etude.finder.epochs import epochs_of
from etude.finder.find import find
from etude.finder.holding import Holding
from etude.finder.store import Memory
from etude.finder.suggestion import written
from etude.train.order import Order
from etude.train.setup import replanned

# A part of the data and the numbers of examples in it.
Batch = tuple[str, Sequence[int]]
# The rule is judged with as many: docs/finder.md.
HELD_OUT = 32

if TYPE_CHECKING:
    from etude.finder.finding import Finding
    from etude.train.setup import Setup


def range_test(prepared: "Setup", **options: Any) -> "Finding":
    """Look for the peak of a run that could begin; it begins afterwards as if nothing had been.

    The updates are those of the run: its batches, accumulation, clipping, precision and processes, at the
    ratios of its plan; what they do is seen from 32 examples of the validation part. `options` are
    those of `etude.find`: start, to, points, seeds, snapshot, progress.
    """
    accelerator, recipe = prepared.accelerator, prepared.recipe
    holding = Holding(Memory())
    holding.references(prepared.model)  # `prepare` puts a forward of its own into it
    model = prepared.wrapped(prepared.model.to(accelerator.device))
    try:
        return find(
            model,
            _passes(prepared),
            loss=_mean_loss(prepared),
            held_out=_held_out(prepared),
            count=lambda batch: len(batch[1]),
            plan=prepared.rates,
            accumulate=recipe.accumulate,
            clip=recipe.clip,
            accelerator=accelerator,
            **options,
        )
    finally:
        accelerator.free_memory()
        holding.put_back()


def peak(prepared: "Setup", finding: "Finding") -> float | None:
    """What a run takes of what was found, in two digits: of several epochs the rate divided by their number.

    So it was best for texts, which a recipe's are; of images it was not, and `find` only widens its range
    (docs/finder.md, "Several epochs").
    """
    return None if finding.rate is None else float(written(finding.rate / _epochs(prepared)))


def taken(prepared: "Setup", finding: "Finding") -> str:
    """The same in words, below what was found."""
    epochs, rate = _epochs(prepared), written(peak(prepared, finding))
    said = f"this run: lr={rate}" + (f", for its {epochs:.3g} epochs" if epochs > 1 else "")
    seen = len(prepared.data.validation)
    return said + (f"; seen from {seen} validation examples, {HELD_OUT} are surer" if seen < HELD_OUT else "")


def _epochs(prepared: "Setup") -> float:
    return max(1.0, epochs_of(None, prepared.rates) or 1.0)


def with_rate(prepared: "Setup", finding: "Finding") -> "Setup":
    """The run at the peak that was found, with its range in the recipe.

    Raises `RecipeError` with the reason if nothing was found.
    """
    said, rate = finding.suggestion, peak(prepared, finding)
    if rate is None or said.low is None or said.high is None:
        raise RecipeError(
            f"lr: find ends without a rate: {said.reason}; write one, as in lr=1e-4, or look at the curve "
            f"with etude find --png curve.png"
        )
    low, high = (float(written(one)) for one in (said.low, said.high))
    recipe = dataclasses.replace(prepared.recipe, lr=rate, lr_range=[low, high])
    return dataclasses.replace(replanned(prepared, recipe), found=finding)


def _passes(prepared: "Setup") -> Callable[[], Iterator[Batch]]:
    """Gives passes over the training data in batches of this process, each in an order of its own."""
    rank, processes = prepared.accelerator.process_index, prepared.accelerator.num_processes
    order = Order(len(prepared.data.train), prepared.recipe.seed)

    def one_pass() -> Iterator[Batch]:
        while True:
            chosen = order.draw(prepared.recipe.batch * processes)
            yield "train", chosen[rank::processes]
            if order.position >= order.examples:
                return

    return one_pass


def _held_out(prepared: "Setup") -> list[Batch]:
    """This process's share of the first examples of the validation part."""
    rank, processes = prepared.accelerator.process_index, prepared.accelerator.num_processes
    return [("validation", range(min(HELD_OUT, len(prepared.data.validation)))[rank::processes])]


def _mean_loss(prepared: "Setup") -> Callable[[Any, Batch], torch.Tensor]:
    def loss(model: Any, batch: Batch) -> torch.Tensor:
        part, chosen = batch
        # A process without an example goes through one with weight 0: the others wait for its gradients.
        return prepared.losses(model, chosen or [0], part).float().mean()

    return loss
