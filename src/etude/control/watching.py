"""What controllers of one metric share, and how the options of all are checked."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from etude.core.namespace import number, plain
from etude.errors import ScheduleError


@dataclass(frozen=True)
class Watching:
    """A controller of one metric; `word` is what it is called in messages."""

    word: ClassVar[str] = ""
    metric: str

    def __post_init__(self) -> None:
        # A numpy number or a tensor would be written into a path's text, and into a memory that is JSON.
        for one in fields(self):
            if (found := plain(getattr(self, one.name))) is not None:
                object.__setattr__(self, one.name, found)
        check(self.word, "metric", self.metric, isinstance(self.metric, str) and self.metric, "a name")

    @property
    def reads(self) -> tuple[str, ...]:
        """The one metric it watches."""
        return (self.metric,)


def check(word: str, name: str, value: Any, right: Any, asked: str) -> None:
    """Raise `ScheduleError` for a controller's option that is not `right`, with what is `asked`."""
    if not right:
        raise ScheduleError(f"{word}({name}={value!r}) takes {asked}")


def whole(word: str, name: str, value: Any, least: int, of: str = "readings") -> None:
    """Raise `ScheduleError` unless an option is a number of readings, `least` or more."""
    right = isinstance(value, int) and not isinstance(value, bool) and value >= least
    check(word, name, value, right, f"a whole number of {of}, {least} or more")


def at_least(word: str, name: str, value: Any, least: float) -> None:
    """Raise `ScheduleError` unless an option is a finite number of `least` or more."""
    found = number(value, f"{word}({name}=…)")
    check(word, name, value, found >= least, f"a number of {least:g} or more")


def between(word: str, name: str, value: Any, low: float, high: float) -> None:
    """Raise `ScheduleError` unless an option lies between `low` and `high`, neither of them included."""
    found = number(value, f"{word}({name}=…)")
    check(word, name, value, low < found < high, f"a number between {low:g} and {high:g}")
