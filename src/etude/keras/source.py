"""Where a planned optimizer finds its numbers: computed from its own count, or written by a driver."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.sampling import counts, level, openings, values

AHEAD = 1024  # updates that a table holds


class Share(NamedTuple):
    """What one group uses in an update; `made` is its own count of updates, None where that is everyone's."""

    lr: Any
    weight_decay: Any
    open: Any
    made: Any


class Row(NamedTuple):
    """What an update uses: the peak × shape that all groups share, and the share of each."""

    level: Any
    shares: tuple[Share, ...]


class Computed:
    """Everything from the optimizer's count of updates, in the graph."""

    def __init__(self, rates: Rates):
        self.plan, self.rates = rates.plan, rates
        self._level, self._lr = level(rates), values(rates, "lr")
        self._decay = values(rates, "weight_decay") if "weight_decay" in rates.plan.hypers else None
        self._open, self._made = openings(rates), counts(rates)
        self._freezes = [group.freezes for group in rates.plan.groups]

    def build(self, optimizer: keras.Optimizer) -> None:
        """Nothing is kept in variables."""

    def row(self, k: Any) -> Row:
        """What update `k` uses."""
        decay = [None] * len(self.plan.groups) if self._decay is None else self._decay(k)
        columns = zip(self._lr(k), decay, self._open(k), self._made(k), self._freezes, strict=True)
        return Row(
            self._level(k),
            tuple(Share(lr, wd, flag, made if own else None) for lr, wd, flag, made, own in columns),
        )


class Table:
    """Everything from a table of the next updates, which a driver's callback fills.

    The table is one of the optimizer's variables: an edit writes it anew and compiles nothing, and no update
    waits for the host. Outside the updates it holds, and until it is filled, all rates are NaN.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self._freezes = [group.freezes for group in plan.groups]
        self._decays = "weight_decay" in plan.hypers
        self._base: Any = None
        self._rows: Any = None

    def build(self, optimizer: keras.Optimizer) -> None:
        """Make the variables in which the rates of the next updates stand."""
        shape = (AHEAD, 1 + 4 * len(self.plan.groups))
        nothing = keras.initializers.Constant(math.nan)
        self._base = optimizer.add_variable((), dtype="int", name="first_planned_update")
        self._rows = optimizer.add_variable(shape, nothing, dtype="float32", name="planned_updates")

    def clear(self) -> None:
        """Forget the rates: those of a checkpoint are not those of the driver that goes on."""
        self._rows.assign(np.full(self._rows.shape, math.nan, np.float32))

    def fill(self, rates: Rates, k: int) -> None:
        """Write the updates from `k` on, as `rates` has them."""
        updates = np.arange(k, k + AHEAD)
        decay = values(rates, "weight_decay")(updates) if self._decays else [0.0] * len(self._freezes)
        own = (*values(rates)(updates), *decay, *openings(rates)(updates), *counts(rates)(updates))
        columns = (level(rates)(updates), *own)
        rows = np.stack([np.broadcast_to(column, updates.shape) for column in columns], axis=1)
        self._rows.assign(rows.astype(np.float32))
        self._base.assign(k)

    def row(self, k: Any) -> Row:
        """What update `k` uses."""
        index = ops.cast(k, "int32") - ops.cast(self._base, "int32")
        held = ops.logical_and(index >= 0, index < AHEAD)
        row = ops.take(self._rows, ops.clip(index, 0, AHEAD - 1), axis=0)
        row = ops.where(held, row, math.nan)
        count = len(self.plan.groups)
        shares = []
        for i, freezes in enumerate(self._freezes):
            lr, decay, flag, made = (row[1 + i + column * count] for column in range(4))
            shares.append(
                Share(
                    lr,
                    decay if self._decays else None,
                    flag > 0.5 if freezes else True,
                    made if freezes else None,
                )
            )
        return Row(row[0], tuple(shares))
