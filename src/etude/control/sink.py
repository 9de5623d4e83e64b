"""The sink: where a driver's rates go; each framework has its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from etude.core.plan import Group

Write = Callable[[Sequence[float], int], None]
"""A sink's `write(levels, place)` for one hyper-parameter."""


class Sink(Protocol):
    """Where rates go: one per framework. Groups are in the order of the plan; one without a name has ""."""

    @property
    def groups(self) -> Sequence[str]:
        """The groups' names."""
        ...

    def bind(self, hyper: str, scales: Sequence[float], kinds: Sequence[int]) -> Write:
        """`write(levels, place)`: group i gets levels[place + kinds[i]] × scales[i].

        `levels` may go on before and after; it is never changed, and may be kept. `write` raises
        `ForeignChange`, once, if another hand wrote since it wrote last.
        """
        ...

    def open(self, flags: Sequence[bool]) -> None:
        """Let group i train or not."""
        ...

    def read(self, hyper: str) -> list[float]:
        """What the optimizer will really use."""
        ...

    def add(self, group: Group, params: Iterable[Any], values: Mapping[str, float]) -> None:
        """Take a further group of parameters into the optimizer, at the end, with its hyper-parameters."""
        ...
