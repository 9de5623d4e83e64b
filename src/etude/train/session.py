"""A run under way: the loop with its log, its progress, its evaluations and its checkpoints."""

import random
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from accelerate.utils import DistributedDataParallelKwargs

from etude.control.driver import Driver
from etude.control.early_stop import early_stop
from etude.core.edit import Stop
from etude.report.log import Log
from etude.report.terminal import Progress
from etude.torch import sink
from etude.train import checkpoint
from etude.train.checkpoint import Checkpoint
from etude.train.evaluation import logits
from etude.train.folder import RunFolder
from etude.train.interrupt import Interrupt
from etude.train.loop import Clock, Loop
from etude.train.order import Order
from etude.train.setup import Setup, seed_everything

FORMAT = 1
# Where torch has a fused AdamW; on CPU it is five times faster than torch's default (measured on MiniLM).
FUSED = ("cpu", "cuda", "mps", "xpu")
# A planned update more or less than this is the same time: evaluations fall due on sums of fractions.
TOLERANCE = 1e-9


def make_loop(prepared: Setup) -> Loop:
    """The loop of a run at its first update: fused AdamW on the plan's groups, and the driver over it."""
    accelerator, recipe = prepared.accelerator, prepared.recipe
    model = prepared.model.to(accelerator.device)
    bare = torch.optim.AdamW(prepared.plan.torch_groups(model), fused=accelerator.device.type in FUSED)
    controllers = []
    if recipe.patience is not None:
        greater = prepared.task.metrics[prepared.metric]
        controllers.append(early_stop(prepared.metric, recipe.patience, greater_is_better=greater))
    driver = Driver(prepared.rates, sink(bare), controllers)
    if any(group.freezes for group in prepared.plan.groups):
        # DDP waits for the gradients of what is frozen unless it looks for it.
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    model, optimizer = accelerator.prepare(model, bare)
    model.train()
    labels, task, tokenizer = prepared.data.train.labels, prepared.task, prepared.tokenizer
    encoded = prepared.encoded["train"]

    def losses(model: Any, chosen: Any) -> torch.Tensor:
        batch = task.collate(tokenizer, encoded, chosen, labels)
        moved = {key: value.to(accelerator.device, non_blocking=True) for key, value in batch.items()}
        truth = moved.pop("labels")
        return task.losses(model(**moved).logits, truth)

    # Each process drops out other units; the order of the data has a generator of its own.
    seed_everything(recipe.seed + accelerator.process_index)
    return Loop(
        accelerator, model, optimizer, driver, Order(len(labels), recipe.seed), losses,
        recipe.batch, recipe.accumulate, recipe.clip,
    )  # fmt: skip


class Session:
    """Trains to the end or to an interrupt. `best`: metric, value and checkpoint of the best evaluation."""

    def __init__(self, prepared: Setup, loop: Loop, folder: RunFolder, log: Log | None, progress: Progress):
        self.prepared, self.loop, self.folder, self.log, self.progress = prepared, loop, folder, log, progress
        self.best: dict[str, Any] | None = None
        self._edits = 0

    def train(self, interrupt: Interrupt) -> str:
        """Go on to the end of the clock; returns "finished", "stopped" (by a controller) or "interrupted".

        After an interrupt the update under way is finished and a checkpoint is saved.
        """
        loop, every = self.loop, self.prepared.eval_every
        self.progress.start(loop.driver.total, loop.t, loop.planned_batch)
        try:
            while not loop.done:
                if self._asked(interrupt):
                    self.flush()
                    self.save()
                    return "interrupted"
                begin = loop.t
                loop.update()
                if loop.clock.updates % self.prepared.recipe.log_every == 0:
                    self.flush()
                if loop.done or (loop.t + TOLERANCE) // every > (begin + TOLERANCE) // every:
                    self.flush()
                    self.evaluate()
                    self.save()
        finally:
            self.progress.stop()
        return "stopped" if any(isinstance(edit, Stop) for edit in loop.driver.edits) else "finished"

    def _asked(self, interrupt: Interrupt) -> bool:
        accelerator = self.prepared.accelerator
        if accelerator.num_processes == 1:
            return interrupt.asked
        # All processes leave the loop at the same update, whichever of them was asked.
        flag = torch.tensor(int(interrupt.asked), device=accelerator.device)
        return bool(accelerator.reduce(flag, reduction="sum"))

    def write(self, record: dict[str, Any]) -> None:
        """Append a record to the log; only the main process has one."""
        if self.log is not None:
            self.log.write(record)

    def flush(self) -> None:
        """Fetch losses and norms from the device, log them, show the last."""
        records = self.loop.fetch()
        for record in records:
            self.write({"type": "update", **record})
        if self.log is not None:
            self.log.flush()
        if records:
            last = records[-1]
            self.progress.update(self.loop.t, last["loss"], last["rates"]["lr"], self.loop.driver.total)

    def evaluate(self) -> None:
        """Score the validation part, hand the reading to the controllers, remember the best."""
        prepared, loop = self.prepared, self.loop
        part = prepared.data.validation
        found = logits(
            prepared.accelerator,
            loop.model,
            prepared.task,
            prepared.tokenizer,
            prepared.encoded["validation"],
        )
        metrics = prepared.task.score(found, np.asarray(part.labels))
        t, k = loop.t, loop.clock.updates
        seconds = round(loop.seconds, 3)
        self.write(
            {"type": "eval", "t": t, "k": k, "split": "validation", "metrics": metrics, "seconds": seconds}
        )
        value = metrics[prepared.metric]
        sign = 1 if prepared.task.metrics[prepared.metric] else -1
        better = np.isfinite(value) and (self.best is None or sign * value > sign * self.best["value"])
        if better:
            self.best = {"metric": prepared.metric, "value": value, "checkpoint": f"{k:08d}", "k": k}
        self.progress.eval(t, "validation", metrics, "best so far" if better else "")
        loop.driver.observe(t, metrics)
        self.log_edits()

    def log_edits(self) -> None:
        """Log and show the edits that came since the last call."""
        for edit in self.loop.driver.edits[self._edits :]:
            self.write({"type": "edit", **edit.as_json()})
            self.progress.message(f"{edit.author}: {edit.reason}")
        self._edits = len(self.loop.driver.edits)

    def save(self) -> None:
        """Write a checkpoint, then drop those that neither `keep` nor the best needs."""
        accelerator, loop = self.prepared.accelerator, self.loop
        rng = self._gathered(torch.get_rng_state())
        cuda = self._gathered(torch.cuda.get_rng_state()) if torch.cuda.is_available() else []
        if accelerator.is_main_process:
            saved = checkpoint.save(
                self.folder.checkpoints,
                loop.clock.updates,
                model=accelerator.unwrap_model(loop.model),
                tokenizer=self.prepared.tokenizer,
                optimizer=self._bare_optimizer,
                rng={f"torch/{i}": x for i, x in enumerate(rng)}
                | {f"cuda/{i}": x for i, x in enumerate(cuda)},
                state=self.state(),
            )
            self.write({"type": "checkpoint", "k": loop.clock.updates, "t": loop.t, "name": saved.name})
            best = self.best["checkpoint"] if self.best else None
            checkpoint.prune(self.folder.checkpoints, self.prepared.recipe.keep, best)
        accelerator.wait_for_everyone()

    @property
    def _bare_optimizer(self) -> Any:
        """torch's own optimizer inside Accelerate's."""
        return getattr(self.loop.optimizer, "optimizer", self.loop.optimizer)

    def _gathered(self, state: torch.Tensor) -> list[torch.Tensor]:
        if self.prepared.accelerator.num_processes == 1:
            return [state]
        from accelerate.utils import gather_object

        return gather_object([state])

    def state(self) -> dict[str, Any]:
        """The run as strict JSON: what a checkpoint holds beside weights, moments and torch's generators."""
        loop, accelerator = self.loop, self.prepared.accelerator
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
        version, words, gauss = random.getstate()
        kind, keys, *rest = np.random.get_state()
        return {
            "etude": FORMAT,
            "driver": loop.driver.state_dict(),
            "clock": asdict(loop.clock),
            "data": loop.order.state(),
            "batch": loop.global_batch,
            "processes": accelerator.num_processes,
            "rng": {
                "python": [version, list(words), gauss],
                "numpy": [kind, np.asarray(keys).tolist(), *rest],
            },
            "scaler": scaler,
            "best": self.best,
        }

    def restore(self, saved: Checkpoint, on_mismatch: str | None) -> None:
        """Go on from a checkpoint, whose weights the model has already.

        Raises `PlanMismatch` if it belongs to another plan and `on_mismatch` does not say which to go by.
        """
        loop, accelerator, state = self.loop, self.prepared.accelerator, saved.state
        loop.driver.load_state_dict(state["driver"], on_mismatch)
        self.prepared.rates, self.prepared.plan = loop.driver.rates, loop.driver.rates.plan
        saved.load_optimizer(self._bare_optimizer)
        loop.clock = Clock(**state["clock"])
        place = state["data"]
        loop.order = Order(
            loop.order.examples, place["seed"], place["epoch"], place["position"], place["drawn"]
        )
        self.best = state["best"]
        self._edits = len(loop.driver.edits)
        version, words, gauss = state["rng"]["python"]
        random.setstate((version, tuple(words), gauss))
        kind, keys, *rest = state["rng"]["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        tensors, rank = saved.rng(), accelerator.process_index
        if f"torch/{rank}" in tensors:
            torch.set_rng_state(tensors[f"torch/{rank}"])
        if torch.cuda.is_available() and f"cuda/{rank}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda/{rank}"])
        if state["scaler"] and accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
