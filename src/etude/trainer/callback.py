"""What is watched while a trainer trains: the rates before each update, the end of the run, evaluations."""

import math
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from etude.control.reading import READINGS
from etude.errors import EtudeError, EtudeWarning, near
from etude.trainer import processes
from etude.trainer.metrics import known_metrics
from etude.trainer.optimizer import rates_in_use

if TYPE_CHECKING:
    from etude.trainer.attachment import Attachment


class Watch(TrainerCallback):
    """The callback of an `Attachment`.

    Raises `EtudeError` for a controller of metrics that no evaluation gives.
    """

    def __init__(self, attached: "Attachment"):
        self.attached = attached
        read = {metric: one.name for one in attached.controllers for metric in one.reads}
        self.reads = {metric: name for metric, name in read.items() if metric not in READINGS}
        for metric, name in self.reads.items():
            if not metric.startswith("eval_"):
                raise EtudeError(
                    f"{name} reads {metric!r}; what a trainer's evaluations give is called eval_…: write "
                    f"{'eval_' + metric!r}; of every update there are {' and '.join(READINGS)}"
                )
        self._given: set[str] = set()
        self._read: dict[str, float] = {}
        self._evaluated = self._saved = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        attached = self.attached
        self._given, self._read = set(), {}
        self._evaluated = self._saved = -1
        resumed = attached.scheduler.resumed
        if resumed is not None:
            self._read = dict.fromkeys(self.reads, resumed)  # what was read by then is in the checkpoint
        elif state.global_step > 0:
            raise EtudeError(
                f"the checkpoint of update {state.global_step} has no scheduler.pt or optimizer.pt "
                f"(save_only_model?), so that its rates cannot go on; start anew from its weights"
            )
        if self.reads and args.eval_strategy == IntervalStrategy.NO:
            raise EtudeError(
                f"{', '.join(sorted(set(self.reads.values())))} needs evaluations: write "
                f'eval_strategy="steps" or "epoch" in TrainingArguments'
            )
        if (known := known_metrics(attached.trainer)) is not None:
            self._refuse_unknown(known)
        if attached.left <= 0 and not self._done(state):
            last = attached.driver.edits[-1] if attached.driver.edits else "the plan"
            raise EtudeError(
                f"this run has ended at {attached.driver.total:g}, by {last}: nothing is left to train"
            )

    def _done(self, state: TrainerState) -> bool:
        """Whether the trainer itself sees that nothing is left: it counts whole epochs."""
        epoch = self.attached.epoch
        return epoch is not None and state.global_step // epoch >= state.num_train_epochs

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        if self._given:
            self._refuse_unknown(self._given)
        self._tell_the_end(state)
        self.attached.guard.begin()

    def _refuse_unknown(self, known: Collection[str]) -> None:
        for metric, name in sorted(self.reads.items()):
            if metric not in known:
                raise EtudeError(f"{name} reads {metric!r}, which no evaluation gives{near(metric, known)}")

    def _tell_the_end(self, state: TrainerState) -> None:
        """The run's last update as the trainer counts: it counts skipped updates too, the clock does not."""
        attached = self.attached
        if not math.isfinite(attached.driver.total):
            return
        state.max_steps = state.global_step + max(1, math.ceil(attached.left - 1e-9))
        planned = attached.driver.rates.span.total
        if attached.epoch is None or attached.driver.total <= planned:
            return
        data = attached.epoch * state.num_train_epochs
        if state.max_steps > data:
            raise EtudeError(
                f"{attached.driver.edits[-1]} lets the run go on until {attached.driver.total:g}, and the "
                f"trainer ends after {data} updates, with its epochs: give it the longest run that "
                f"there may be, and end it sooner"
            )

    def stop(self, trainer: Any) -> None:
        """End the run here, as the trainer ends any: it evaluates and saves at its last update."""
        args, state, control = trainer.args, trainer.state, trainer.control
        control.should_training_stop = True
        if args.eval_strategy == IntervalStrategy.STEPS and args.eval_delay <= state.global_step:
            control.should_evaluate |= self._evaluated != state.global_step
        if args.save_strategy == SaveStrategy.STEPS:
            control.should_save |= self._saved != state.global_step

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        self._saved = state.global_step

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        attached = self.attached
        if attached.left > 0 and attached.driver.total > attached.driver.rates.span.total:
            warnings.warn(
                f"the trainer ended the run at {attached.t:g}, and {attached.driver.edits[-1]} lets it go on "
                f"until {attached.driver.total:g}: its rates did not come to their end. Give it the longest "
                f"run that there may be, and end it sooner",
                EtudeWarning,
                stacklevel=2,
            )

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        attached, trainer = self.attached, self.attached.trainer
        if trainer.lr_scheduler is not attached.scheduler:
            raise EtudeError(
                f"another hand put {type(trainer.lr_scheduler).__name__} in the place of the trainer's "
                f"scheduler, and étude's clock stands still; leave trainer.lr_scheduler as it is"
            )
        attached.guard.ask()
        attached.driver.apply(attached.t)  # answers a foreign write before an update uses it
        planned, used = attached.planned, rates_in_use(trainer.optimizer)
        for name in {**planned, **used}:
            if not math.isclose(planned.get(name, math.nan), used.get(name, math.nan), rel_tol=1e-6):
                raise EtudeError(
                    f"update {attached.t:g}: {name} has the rate {used.get(name)} in the trainer's optimizer "
                    f"and {planned.get(name)} in the plan, so étude drives another optimizer: leave "
                    f"trainer.optimizer as it is"
                )
        attached.used = used

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        attached, metrics = self.attached, more["metrics"]
        self._evaluated = state.global_step
        if not attached.trainer.is_in_train:
            return
        self._given |= metrics.keys()
        t = attached.t
        # While the weights have not moved, by a skipped update, there is nothing new to be read.
        fresh = {m: metrics[m] for m in self.reads if m in metrics and t > self._read.get(m, -1)}
        if fresh:
            self._read |= dict.fromkeys(fresh, t)
            attached.do(attached.scheduler.observe(fresh))
        processes.check_agreement(rates_in_use(attached.trainer.optimizer))
