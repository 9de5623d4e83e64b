"""The callback that lets a driver lead a Keras `fit`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from etude.control.driver import Driver
from etude.core.rates import Rates
from etude.errors import EtudeError, PlanError
from etude.keras.planned import Planned
from etude.keras.source import AHEAD, Computed, Table

KEPT = 8  # states in a backup file: as many epochs may have passed since the weights were saved


class Callback(keras.callbacks.Callback):
    """Writes what a driver says before it is used, and shows it the logs of every epoch.

    With an optimizer from `etude.keras.optimizer(optimizer, plan, model)` the rates of the next updates are
    written into its table: at every epoch, after every edit, and when the table is used up. With a plain
    optimizer the driver needs `etude.keras.sink(optimizer)`, and every update is written by itself.

    The number of an update is the optimizer's `iterations`, so a run that is resumed, by `initial_epoch`, by
    `BackupAndRestore` or from a saved model, goes on where it was. `backup` names a JSON file for the
    driver's edits and the memory of its controllers; they are read from it when a run is resumed. The logs of
    each epoch get the rates of its last update as `learning_rate`, or `learning_rate/<group>`. The run ends
    when the driver's does.

    >>> import etude
    >>> Callback(etude.Plan({"lr": 1e-3}).over(100)).driver.total
    100.0
    """

    def __init__(self, driver: Driver | Rates, backup: str | os.PathLike[str] | None = None):
        super().__init__()
        self.driver = driver if isinstance(driver, Driver) else Driver(driver)
        self._backup = None if backup is None else Path(backup)
        self._rates: Rates | None = None  # those that the table holds
        self._filled, self._begun = 0, 0  # the updates from which the table and the epoch go on
        self._resumed = False
        self._fitted: Any = None

    def set_model(self, model: Any) -> None:
        """Keep the model: asking Keras for it brings the state of the jax back end to the host every time."""
        super().set_model(model)
        self._fitted = self.model  # of a model in DistributedDataParallel the one inside

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Check that driver and optimizer fit each other."""
        self._rates = None
        planned = isinstance(self._optimizer, Planned)
        if planned:
            self._check_table(self._optimizer._work.source)
        elif self.driver.sink is None:
            raise PlanError(
                "a driver without a sink needs an optimizer with a table of rates: write "
                "etude.keras.optimizer(optimizer, plan, model), or Driver(rates, etude.keras.sink(optimizer))"
            )
        several = getattr(self._fitted, "steps_per_execution", 1)
        if several > (AHEAD if planned else 1):
            raise PlanError(f"steps_per_execution={several}: nobody can write between these updates")

    def _check_table(self, source: Computed | Table) -> None:
        if not isinstance(source, Table):
            raise PlanError(
                "this optimizer computes its rates itself: make it from a plan that is not bound to a run, "
                "etude.keras.optimizer(optimizer, plan, model)"
            )
        plans = (self.driver.rates.plan, source.plan)
        ours, theirs = ([group.name for group in plan.groups] for plan in plans)
        if ours != theirs:
            raise PlanError(
                f"the driver's groups are {', '.join(ours)}; the optimizer's are {', '.join(theirs)}"
            )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Find out where the run stands; at its first epoch, read the driver's state if it goes on."""
        self._begun = self._updates()
        if not self._resumed and self._backup is not None and self._begun:
            self.driver.load_state_dict(_state(self._backup, self._begun))
        self._resumed = True

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write what the next update uses, if it is not written yet."""
        if self.driver.sink is not None:
            self.driver.apply(self._updates())
            return
        reach = self._estimate(batch) + getattr(self._fitted, "steps_per_execution", 1)
        if self.driver.rates is not self._rates or reach > self._filled + AHEAD:
            if not self._optimizer.built:  # on TensorFlow the first update builds it
                self._optimizer.build(self._fitted.trainable_variables)
            self._filled, self._rates = self._updates(), self.driver.rates
            self._optimizer._work.source.fill(self._rates, self._filled)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """End the run where the driver says."""
        if self._estimate(batch + 1) >= self.driver.total and self._updates() >= self.driver.total:
            self._fitted.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the driver the epoch's logs, put the last rates into them, and save the driver's state."""
        k, logs = self._updates(), {} if logs is None else logs
        asked = self.driver.observe(k, {name: float(value) for name, value in logs.items()})
        if asked:
            raise EtudeError(
                f"a controller asks for {asked[0]}, which fit cannot do: write a loop of your own"
            )
        names = [group.name for group in self.driver.rates.plan.groups]
        for name, rate in zip(names, self.driver.at(max(k - 1, 0))["lr"], strict=True):
            logs["learning_rate" if len(names) == 1 else f"learning_rate/{name}"] = rate
        if self._backup is not None:
            _save(self._backup, k, self.driver.state_dict())
        if k >= self.driver.total:
            self._fitted.stop_training = True

    @property
    def _optimizer(self) -> Any:
        held = self._fitted.optimizer
        return getattr(held, "inner_optimizer", held)  # mixed precision wraps it

    def _updates(self) -> int:
        """How many updates were made; on the jax back end the state comes back from the compiled loop."""
        if hasattr(self._fitted, "jax_state_sync"):
            self._fitted.jax_state_sync()
        return int(keras.ops.convert_to_numpy(self._optimizer.iterations))

    def _estimate(self, batch: int) -> int:
        """How many updates were made before a batch of this epoch, if none was skipped."""
        return self._begun + batch // (self._optimizer.gradient_accumulation_steps or 1)


def _save(file: Path, updates: int, driver: Mapping[str, Any]) -> None:
    held = json.loads(file.read_text("utf-8"))["states"] if file.exists() else []
    earlier = [one for one in held if one["updates"] < updates]
    states = [*earlier[1 - KEPT :], {"updates": updates, "driver": driver}]
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(file.name + ".tmp")
    new.write_text(json.dumps({"etude": 1, "states": states}, allow_nan=False), "utf-8")
    new.replace(file)


def _state(file: Path, updates: int) -> Mapping[str, Any]:
    """The driver's state when the weights had made so many updates: the last that was saved until then."""
    held = json.loads(file.read_text("utf-8"))["states"] if file.exists() else []
    states = [one["driver"] for one in held if one["updates"] <= updates]
    if not states:
        raise EtudeError(
            f"the optimizer has made {updates} updates, and {file} has no state of the driver from then: "
            f"restore that file too, or leave out backup= to go on without edits and memory"
        )
    return states[-1]
