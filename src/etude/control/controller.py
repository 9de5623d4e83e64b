"""What a controller is: a pure reducer from readings to edits, and what it may ask of the loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from etude.core.edit import Edit


@dataclass(frozen=True)
class Discard:
    """Asked of the loop: drop the update that is being made; the clock stays."""

    reason: str = ""


@dataclass(frozen=True)
class Restore:
    """Asked of the loop: load the last checkpoint, then `edit(Rollback(...))`."""

    reason: str = ""


Action = Discard | Restore


@runtime_checkable
class Controller(Protocol):
    """A reducer without state of its own: the driver keeps what `init` and `update` return.

    It is asked once per reading that has all the metrics it `reads`. Its state is strict JSON (None, never
    infinity), so that a checkpoint can hold it.
    """

    @property
    def name(self) -> str:
        """Its key in the driver's memory, and the author of its edits."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The metrics it needs."""
        ...

    def init(self) -> dict[str, Any]:
        """The state before the first reading."""
        ...

    def update(
        self, state: Mapping[str, Any], t: float, reading: Mapping[str, float]
    ) -> tuple[dict[str, Any], Edit | Action | None]:
        """The next state, and what is to be done, for a reading made when the clock stood at `t`."""
        ...


CONTROLLERS: dict[str, Callable[..., Controller]] = {}

_Maker = TypeVar("_Maker", bound=Callable[..., Controller])


def controller(make: _Maker) -> _Maker:
    """Register a controller under its own name, by which recipes ask for it."""
    CONTROLLERS[make.__name__] = make
    return make
