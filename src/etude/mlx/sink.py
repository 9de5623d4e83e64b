"""The MLX sink: writes a driver's rates into a planned optimizer's state."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import mlx.core as mx

from etude.core.plan import Group
from etude.errors import PlanError
from etude.mlx.optimizer import PlannedOptimizer


def sink(optimizer: PlannedOptimizer) -> "MlxSink":
    """A sink for an optimizer that `etude.mlx.optimizer(plan, model)` made from a bare plan.

    Rates go into the optimizer's state, which a compiled update reads every time, so edits compile nothing
    anew. Raises `PlanError` for another optimizer, and for one that computes its rates itself.
    """
    if not isinstance(optimizer, PlannedOptimizer) or optimizer.computes:
        kind = type(optimizer).__name__
        raise PlanError(
            f"a driver writes into an optimizer that waits for it, got {kind}: make it with "
            f"etude.mlx.optimizer(plan, model), where plan is not bound to a run by over(…)"
        )
    return MlxSink(optimizer)


class MlxSink:
    """What `sink` makes; see `etude.control.driver.Sink`."""

    def __init__(self, optimizer: PlannedOptimizer):
        self.optimizer = optimizer
        self.groups = [group.name for group in optimizer.plan.groups]

    def bind(
        self, hyper: str, scales: Sequence[float], kinds: Sequence[int]
    ) -> Callable[[Sequence[float], int], None]:
        """A function that writes levels[place + kind] × scale for each group; only rates may change."""
        pairs = list(zip(kinds, scales, strict=True))

        def write(levels: Sequence[float], place: int) -> None:
            numbers = [levels[place + kind] * scale for kind, scale in pairs]
            if hyper == "lr":
                self.optimizer.write("lr", mx.array(numbers, mx.float32))
            elif numbers != self.optimizer.fixed[hyper]:
                raise PlanError(
                    f"{hyper} may not change during a run: MLX's optimizers hold it as one number"
                )

        return write

    def open(self, flags: Sequence[bool]) -> None:
        """Let group i train or not; what does not train keeps its moments too."""
        self.optimizer.write("open", mx.array(list(flags)))

    def read(self, hyper: str) -> list[float]:
        """What the optimizer will use, in group order; rates in the single precision in which it has them."""
        if hyper != "lr":
            return self.optimizer.fixed[hyper]
        rates: Any = self.optimizer.learning_rate.tolist()
        return rates

    def add(self, group: Group, params: Iterable[Any], values: Mapping[str, float]) -> NoReturn:
        """A compiled update knows its optimizers from the start."""
        raise PlanError(
            f"{group.name!r} cannot join: plan all groups at the start; a gate thaws one when its time comes"
        )
