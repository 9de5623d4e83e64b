"""The Keras sink: writes a driver's rate into the one rate variable of a plain optimizer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import keras
import numpy as np

from etude.core.plan import Group
from etude.errors import ForeignChange, PlanError
from etude.keras.planned import Planned

INSTEAD = "give every variable its own with etude.keras.optimizer(optimizer, plan, model)"


def sink(optimizer: keras.Optimizer) -> "KerasSink":
    """A sink for a plan of one group and an optimizer that was made with a number as its rate.

    It needs `etude.keras.Callback(driver)`, which writes before every update. On the jax back end the whole
    state comes back to the host for that (4 ms an update with 200 variables on a CPU); an optimizer made
    with `etude.keras.optimizer(optimizer, plan, model)` needs no such round, and takes several groups. Raises
    `PlanError` for an optimizer with a schedule or with a plan.
    """
    held = getattr(optimizer, "_learning_rate", None)
    if isinstance(optimizer, Planned) or not isinstance(held, keras.Variable):
        kind = type(optimizer).__name__
        raise PlanError(
            f"a sink writes the rate of an optimizer that was made with a number, got {kind} with another: "
            f"write AdamW(learning_rate=1e-3)"
        )
    return KerasSink(optimizer)


class KerasSink:
    """What `sink` makes; see `etude.control.driver.Sink`."""

    def __init__(self, optimizer: keras.Optimizer):
        self.optimizer = optimizer
        self.groups = [""]
        self._written: float | None = None

    def bind(
        self, hyper: str, scales: Sequence[float], kinds: Sequence[int]
    ) -> Callable[[Sequence[float], int], None]:
        """A function that writes levels[place + kind] × scale; it checks first that nobody else wrote."""
        if hyper not in ("lr", "weight_decay"):
            raise PlanError(f"Keras's optimizers hold {hyper} as one number: leave it out of the plan")
        (scale,), (kind,) = scales, kinds
        put = self._put if hyper == "lr" else self._same
        return lambda levels, place: put(levels[place + kind] * scale)

    def _put(self, rate: float) -> None:
        if self._written is not None and (found := self.read("lr")[0]) != self._written:
            old, self._written = self._written, None
            raise ForeignChange(
                f"lr was changed by another hand: it was {old:.6g}, now {found:.6g}. One driver owns an "
                f"optimizer's rate: change it with driver.edit(Scale(t, by)), or write "
                f'Driver(…, foreign="adopt" or "restore")',
                "lr",
                (("0", old, found),),
            )
        self.optimizer.learning_rate = rate
        self._written = float(np.float32(rate))

    def _same(self, decay: float) -> None:
        if decay != (self.optimizer.weight_decay or 0.0):
            raise PlanError(
                f"the plan's weight decay is {decay:g}, the optimizer's {self.optimizer.weight_decay}, and "
                f"Keras holds it as one number: make them equal, or {INSTEAD}"
            )

    def open(self, flags: Sequence[bool]) -> None:
        """A plain optimizer cannot freeze what it trains."""
        if not all(flags):
            raise PlanError(f"the plan freezes its group, which a plain optimizer cannot: {INSTEAD}")

    def read(self, hyper: str) -> list[float]:
        """What the optimizer will use, in the single precision in which it has it."""
        held = self.optimizer.learning_rate if hyper == "lr" else self.optimizer.weight_decay or 0.0
        return [float(keras.ops.convert_to_numpy(held)) if hyper == "lr" else held]

    def add(self, group: Group, params: Iterable[Any], values: Mapping[str, float]) -> NoReturn:
        """A Keras optimizer takes no variables once it is built."""
        raise PlanError(
            f"{group.name!r} cannot join: a Keras optimizer is built once. Plan all groups at the start; a "
            f"gate thaws one when its time comes"
        )
