"""A Keras learning rate schedule that is saved with the model as text."""

import math
from typing import Any

import keras

from etude.core.path import as_schedule
from etude.core.sampling import sampled


@keras.saving.register_keras_serializable(package="etude")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over a run, for the `learning_rate` of any Keras optimizer on any back end.

    `schedule` is a text, a path or a schedule; `total`, `epoch`, `batch` and `tokens` are those of
    `Schedule.over` (None is an open run), `tick` that of a plan. Keras hands it the optimizer's `iterations`,
    which are saved with the model, so a run that is resumed goes on where it was. An optimizer that
    accumulates gradients counts batches there: say its `gradient_accumulation_steps` here too.

    To load a model that holds one, `import etude.keras` first. Raises `ScheduleError` for a schedule that
    does not fit the run.
    """

    def __init__(
        self,
        schedule: Any,
        total: float | None,
        tick: float = 0.5,
        epoch: float | None = None,
        batch: float | None = None,
        tokens: float | None = None,
        gradient_accumulation_steps: int | None = None,
    ):
        self.schedule = as_schedule(schedule)
        self.total, self.tick = total, tick
        self.units = {"epoch": epoch, "batch": batch, "tokens": tokens}
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self._rate = sampled(self.schedule.over(math.inf if total is None else total, **self.units), tick)

    def __call__(self, step: Any) -> Any:
        """The rate of the update that is made after `step` others."""
        count = keras.ops.convert_to_tensor(step)
        return self._rate(count // (self.gradient_accumulation_steps or 1))

    def get_config(self) -> dict[str, Any]:
        """The schedule as text, and its run."""
        return {
            "schedule": str(self.schedule),
            "total": self.total,
            "tick": self.tick,
            **self.units,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }
