"""Everything a run needs before its first update: data, model, plan and rates, all checked."""

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from etude.control.controller import Controller
from etude.control.driver import Driver
from etude.core.edit import Stretch
from etude.core.length import Span, measure
from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.errors import RecipeError, near
from etude.model.groups import Layout
from etude.planning import layout
from etude.train import control, data, tasks
from etude.train.recipe import Recipe
from etude.train.tasks import Encoded, Task

if TYPE_CHECKING:
    from etude.finder.finding import Finding

SMOKE_UPDATES = 10
SMOKE_EXAMPLES = 200


@dataclass
class Setup:
    """A run that could begin.

    `metric` chooses the best checkpoint, `smoke` shortens every phase, `found` is what the peak rests on.
    """

    recipe: Recipe
    data: data.Dataset
    task: Task
    metric: str
    model: Any
    tokenizer: Any
    notes: tuple[str, ...]
    encoded: Mapping[str, Encoded]
    layout: Layout
    plan: Plan
    rates: Rates
    accelerator: Accelerator
    smoke: bool
    controllers: tuple[Controller, ...]
    found: "Finding | None" = None

    @property
    def span(self) -> Span:
        """The planned clock: updates in all and per epoch, examples and tokens per update."""
        return self.rates.span

    @property
    def eval_every(self) -> float:
        """Planned updates between two evaluations."""
        if self.smoke:
            return SMOKE_UPDATES / 2
        return measure(self.recipe.eval_every, self.span, self.span.total)

    @property
    def global_batch(self) -> int:
        """Examples in a full update, over all processes."""
        return _global_batch(self.recipe, self.accelerator)

    def wrapped(self, *made: Any) -> Any:
        """What Accelerate makes of the model, and of its optimizer, for training on all processes."""
        if any(group.freezes for group in self.plan.groups):
            # DDP waits for the gradients of what is frozen unless it looks for it.
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        return self.accelerator.prepare(*made)

    def losses(self, model: Any, chosen: Sequence[int], part: str = "train") -> torch.Tensor:
        """A loss for each of the chosen examples of a part of the data, on the model's device."""
        labels = getattr(self.data, part).labels
        batch = self.task.collate(self.tokenizer, self.encoded[part], chosen, labels)
        device = self.accelerator.device
        moved = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        truth = moved.pop("labels")
        return self.task.losses(model(**moved).logits, truth)

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """(begin, end) of every update on the planned clock; the last one of an epoch may be smaller."""
        batch, examples = self.global_batch, len(self.data.train)
        target = round(self.rates.total * batch)
        edges = [0]
        while edges[-1] < target:
            edges.append(min(edges[-1] + batch, (edges[-1] // examples + 1) * examples, target))
        return [(begin / batch, end / batch) for begin, end in pairwise(edges)]


def setup(recipe: Recipe, *, smoke: bool = False, weights: Path | None = None) -> Setup:
    """Read the data, load the model, plan the rates; `weights` is a checkpoint to take the model from.

    Raises an `EtudeError` for whatever cannot work.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    accelerator = _accelerator(recipe)
    found = data.load(
        recipe.data,
        text=recipe.text,
        label=recipe.label,
        split=recipe.parts,
        seed=recipe.seed,
        task=recipe.task,
    )
    task = tasks.get(recipe.task or found.task)
    metric = recipe.metric or task.metric
    if metric not in task.metrics:
        raise RecipeError(f"metric: {task.name} has no {metric!r}{near(metric, task.metrics)}")
    controllers = control.make(recipe.control, recipe.patience, task.metrics, metric)
    if smoke:
        found = replace(found, validation=_first(found.validation), test=_first(found.test))
    seed_everything(recipe.seed)
    loaded = task.build(str(weights) if weights else recipe.model, found.labels)
    encoded = {
        part: task.encode(loaded.tokenizer, getattr(found, part).texts, recipe.max_length)
        for part in data.PARTS
    }
    # Who loads the folder cuts texts as they were cut in training.
    loaded.tokenizer.model_max_length = recipe.max_length
    settled, plan = _plan(recipe, loaded.model)
    rates = _smoked(_rates(recipe, plan, encoded["train"], accelerator), smoke)
    Driver(rates, controllers=controllers)  # which refuses those that do not fit the plan
    prepared = Setup(
        recipe, found, task, metric, loaded.model, loaded.tokenizer, loaded.notes, encoded,
        settled, plan, rates, accelerator, smoke, controllers,
    )  # fmt: skip
    if not prepared.eval_every > 0:
        raise RecipeError(f"eval_every: {recipe.eval_every!r} is no time at all; write 0.5ep or 100")
    return prepared


def replanned(prepared: Setup, recipe: Recipe) -> Setup:
    """The same run by a recipe that says other rates; raises an `EtudeError` for what cannot work."""
    settled, plan = _plan(recipe, prepared.model)
    rates = _rates(recipe, plan, prepared.encoded["train"], prepared.accelerator)
    return replace(prepared, recipe=recipe, layout=settled, plan=plan, rates=_smoked(rates, prepared.smoke))


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch; the order of the data has a generator of its own."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _accelerator(recipe: Recipe) -> Accelerator:
    if recipe.precision == "fp16" and not torch.cuda.is_available():
        raise RecipeError(
            "precision: fp16 needs a GPU, and there is none; write precision=bf16 or precision=no"
        )
    from accelerate.state import AcceleratorState

    # A second run in one process (a notebook) may ask for another precision than the first.
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(mixed_precision=recipe.precision)
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started > 1 and accelerator.num_processes == 1:
        raise RecipeError(
            f"{started} processes were started (WORLD_SIZE), and Accelerate would make {started} runs of one "
            f"process each; on CPUs set ACCELERATE_USE_CPU=true"
        )
    return accelerator


def _plan(recipe: Recipe, model: Any) -> tuple[Layout, Plan]:
    settled = layout(model, recipe.lr_schedule, **recipe.plan_options)
    hypers = {"lr": recipe.lr_schedule, "weight_decay": recipe.weight_decay}
    return settled, Plan(hypers, settled.groups(), recipe.tick)


def _global_batch(recipe: Recipe, accelerator: Accelerator) -> int:
    return recipe.batch * recipe.accumulate * accelerator.num_processes


def _rates(recipe: Recipe, plan: Plan, train: Encoded, accelerator: Accelerator) -> Rates:
    batch = _global_batch(recipe, accelerator)
    epoch = len(train.rows) / batch
    total = recipe.updates if recipe.updates is not None else (recipe.epochs or 1) * epoch
    tokens = sum(len(row["input_ids"]) for row in train.rows) / len(train.rows) * batch
    return plan.over(total, epoch, batch, tokens)


def _smoked(rates: Rates, smoke: bool) -> Rates:
    if not smoke:
        return rates
    return rates.edit(Stretch(0, SMOKE_UPDATES, author="smoke", reason="every phase in 10 updates"))


def _first(examples: data.Examples) -> data.Examples:
    return data.Examples(examples.texts[:SMOKE_EXAMPLES], examples.labels[:SMOKE_EXAMPLES])
