"""A run under way: the loop with its log, its progress, its evaluations and its checkpoints."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from etude.control.controller import Action, Clip, Discard, Restore
from etude.control.driver import Driver
from etude.core.edit import Edit, Rollback, Stop
from etude.report.log import Log
from etude.report.terminal import Progress
from etude.torch import processes, sink
from etude.torch.fused import has_fused_adamw
from etude.torch.wrappers import core
from etude.train import checkpoint
from etude.train.checkpoint import Checkpoint
from etude.train.evaluation import logits
from etude.train.folder import RunFolder
from etude.train.interrupt import Interrupt
from etude.train.loop import Loop
from etude.train.order import Order
from etude.train.rollback import roll_back
from etude.train.said import Said
from etude.train.setup import Setup, seed_everything
from etude.train.state import generators, place, put_back, state

# A planned update more or less than this is the same time: evaluations fall due on sums of fractions.
TOLERANCE = 1e-9
# What is said of an action that the loop has carried out.
DONE = {Discard: "the update is dropped", Clip: "the gradient is clipped"}


def make_loop(prepared: Setup) -> Loop:
    """The loop of a run at its first update: fused AdamW on the plan's groups, and the driver over it."""
    accelerator, recipe = prepared.accelerator, prepared.recipe
    model = prepared.model.to(accelerator.device)
    fused = has_fused_adamw(accelerator.device)
    adamw = torch.optim.AdamW(prepared.plan.torch_groups(model), fused=fused)
    gather = processes.gather if accelerator.num_processes > 1 else None
    driver = Driver(prepared.rates, sink(adamw), prepared.controllers, gather=gather)
    model, optimizer = prepared.wrapped(model, adamw)
    model.train()
    # Each process drops out other units; the order of the data has a generator of its own.
    seed_everything(recipe.seed + accelerator.process_index)
    return Loop(
        accelerator, model, optimizer, driver, Order(len(prepared.data.train), recipe.seed), prepared.losses,
        recipe.batch, recipe.accumulate, recipe.clip,
    )  # fmt: skip


class Session:
    """Trains to the end or to an interrupt.

    `best`: metric, value and checkpoint of the best evaluation; `evaluated`: when the last one was.
    """

    def __init__(self, prepared: Setup, loop: Loop, folder: RunFolder, log: Log | None, progress: Progress):
        self.prepared, self.loop, self.folder, self.log, self.progress = prepared, loop, folder, log, progress
        self.best: dict[str, Any] | None = None
        self.evaluated = -1.0
        self._edits = 0
        self._saved = -1  # updates in the last checkpoint
        self._said = Said(progress.message)

    def train(self, interrupt: Interrupt) -> str:
        """Go on to the end of the clock; returns "finished", "stopped" (by a controller) or "interrupted".

        After an interrupt the update under way is finished, and a checkpoint is saved if there is none of
        that update: what was dropped since one is tried again.
        """
        loop, every = self.loop, self.prepared.eval_every
        self.progress.start(loop.driver.total, loop.t, loop.planned_batch)
        if not loop.clock.updates and self._may_go_back:
            self.save()
        try:
            while not loop.done:
                if self._asked(interrupt):
                    self.flush()
                    if self._saved != loop.clock.updates:
                        self.save(interrupted=True)
                    return "interrupted"
                begin = loop.t
                loop.update()
                if self.act(loop.asked):
                    continue
                if loop.clock.updates % self.prepared.recipe.log_every == 0:
                    self.flush()
                due = (loop.t + TOLERANCE) // every > (begin + TOLERANCE) // every
                if due or (loop.done and loop.t > self.evaluated):
                    self.flush()
                    if not self.act(self.evaluate()):
                        self.save()
        finally:
            self._said.end()
            self.progress.stop()
        return "stopped" if _stopped(loop.driver.edits) else "finished"

    def _asked(self, interrupt: Interrupt) -> bool:
        accelerator = self.prepared.accelerator
        if accelerator.num_processes == 1:
            return interrupt.asked
        # All processes leave the loop at the same update, whichever of them was asked.
        flag = torch.tensor(int(interrupt.asked), device=accelerator.device)
        return bool(accelerator.reduce(flag, reduction="sum"))

    @property
    def _may_go_back(self) -> bool:
        return any(Restore in getattr(one, "asks", ()) for one in self.loop.driver.controllers)

    def act(self, asked: tuple[Action, ...]) -> bool:
        """Log and show what the controllers asked for; whether the run went back to a checkpoint for it."""
        loop, back = self.loop, None
        for one in asked:
            self.flush()
            name, said = type(one).__name__.lower(), {"author": one.author, "reason": one.reason}
            self.write({"type": "action", "t": loop.t, "k": loop.clock.updates, "action": name, **said})
            if isinstance(one, Restore):
                back = one
            else:
                self._said.again(f"{one.author}: {one.reason}; {DONE[type(one)]}")
        if back is not None or not asked:
            self._said.end()
        self.log_edits()
        if back is not None:
            roll_back(self, back)
        return back is not None

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

    def evaluate(self) -> tuple[Action, ...]:
        """Score the validation part and remember the best; what the controllers ask for, having read it."""
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
        self.evaluated = t
        asked = loop.driver.observe(t, metrics)
        self.log_edits()
        return asked

    def log_edits(self) -> None:
        """Log and show the edits that came since the last call."""
        for edit in self.loop.driver.edits[self._edits :]:
            self.write({"type": "edit", **edit.as_json()})
            self.progress.message(f"{edit.author}: {edit.reason}")
        self._edits = len(self.loop.driver.edits)

    def save(self, interrupted: bool = False) -> None:
        """Write a checkpoint, then drop those that neither `keep` nor the best needs."""
        accelerator, loop = self.prepared.accelerator, self.loop
        rng = generators(accelerator)
        if accelerator.is_main_process:
            saved = checkpoint.save(
                self.folder.checkpoints,
                loop.clock.updates,
                model=accelerator.unwrap_model(loop.model),
                tokenizer=self.prepared.tokenizer,
                optimizer=core(loop.optimizer),
                rng=rng,
                state=state(loop, self.best, interrupted),
            )
            self.write({"type": "checkpoint", "k": loop.clock.updates, "t": loop.t, "name": saved.name})
            best = self.best["checkpoint"] if self.best else None
            checkpoint.prune(self.folder.checkpoints, self.prepared.recipe.keep, best)
        self._saved = loop.clock.updates
        accelerator.wait_for_everyone()

    def restore(self, saved: Checkpoint, on_mismatch: str | None) -> None:
        """Go on from a checkpoint, whose weights the model has already.

        Raises `PlanMismatch` if it belongs to another plan and `on_mismatch` does not say which to go by.
        """
        loop = self.loop
        loop.driver.load_state_dict(saved.state["driver"], on_mismatch)
        self.prepared.rates, self.prepared.plan = loop.driver.rates, loop.driver.rates.plan
        put_back(loop, saved)
        place(loop, saved)
        self.best = saved.state["best"]
        self._edits = len(loop.driver.edits)
        self._saved = saved.updates


def _stopped(edits: Sequence[Edit]) -> bool:
    """Whether the edits in force end the run: after a rollback they are the first `keep` of the list."""
    after = [False]
    for edit in edits:
        before = after[edit.keep] if isinstance(edit, Rollback) else after[-1]
        after.append(before or isinstance(edit, Stop))
    return after[-1]
