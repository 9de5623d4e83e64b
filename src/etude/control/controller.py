"""What a controller is: a pure reducer from readings to edits, and what it may ask of the loop."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from etude.core.edit import Edit
from etude.errors import ScheduleError


@dataclass(frozen=True)
class Discard:
    """Asked of the loop: drop the update that is being made; the clock stays. With `end` the run ends."""

    reason: str = ""
    end: bool = False
    author: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Clip:
    """Asked of the loop: clip the gradient of the update that is being made to this norm."""

    norm: float
    reason: str = ""
    author: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Restore:
    """Asked of the loop: load the last checkpoint, then `edit(Rollback(...))`.

    From there on the rate is multiplied by `by`, with a `Scale`; with `end` the run ends there, with a
    `Stop`. The memory of `author` stays as it is, that of the other controllers comes from the checkpoint.
    The data goes on behind what was drawn, and behind that of `ahead` updates more.
    """

    reason: str = ""
    by: float = 1.0
    ahead: int = 0
    end: bool = False
    author: str = field(default="", kw_only=True)


Action = Discard | Clip | Restore


@runtime_checkable
class Controller(Protocol):
    """A reducer without state of its own: the driver keeps what `init` and `update` return.

    It is asked once per reading that has all the metrics it `reads`. Its state is strict JSON (None, never
    infinity), so that a checkpoint can hold it. One whose answer depends on the schedule, on where its decay
    begins or the run ends, has `sees_rates` set: its `update` is given the rates in force too, as `rates`.
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


def checked(controllers: Any) -> tuple[Controller, ...]:
    """A list of controllers; raises `ScheduleError` for anything else, and for two that have one name."""
    if isinstance(controllers, Controller) or not isinstance(controllers, Iterable):
        raise ScheduleError(f"controllers={controllers!r} is no list: write controllers=[etude.plateau()]")
    found = tuple(controllers)
    for one in found:
        called = getattr(one, "__name__", one)
        if callable(one) and called in CONTROLLERS:
            raise ScheduleError(f"etude.{called} makes a controller: write etude.{called}()")
        if isinstance(one, type) or not isinstance(one, Controller):
            raise ScheduleError(f"{one!r} is no controller: write one such as etude.plateau()")
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ScheduleError(
            f'two controllers have the name {", ".join(twice)}: give one of them another, as in name="head"'
        )
    return found


CONTROLLERS: dict[str, Callable[..., Controller]] = {}

_Maker = TypeVar("_Maker", bound=Callable[..., Controller])


def controller(make: _Maker) -> _Maker:
    """Register a controller under its own name, by which recipes ask for it."""
    CONTROLLERS[make.__name__] = make
    return make
