"""The edits: everything that may change the rates of a run that is under way, as values that can be replayed.

An edit at `at` acts on updates that begin at `at` or later and never alters what lies before. Each one says,
in `act`, what regime follows the one in force.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

from etude.core.curve import Curve, refuse_gate_words
from etude.core.length import Span
from etude.core.line import Line, line
from etude.core.namespace import number, plain
from etude.core.path import Path, Schedule
from etude.errors import ScheduleError, near

if TYPE_CHECKING:
    from etude.core.rates import Regime

EDITS: dict[str, type["Edit"]] = {}


@dataclass(frozen=True)
class Edit:
    """A change of the rates from time `at` on, with who asked for it and why."""

    name: ClassVar[str] = ""
    at: float
    author: str = field(default="user", kw_only=True)
    reason: str = field(default="", kw_only=True)

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.lower()
        EDITS[cls.name] = cls

    def __post_init__(self) -> None:
        self._number("at", 0)

    def _number(self, key: str, least: float) -> None:
        value = float(number(getattr(self, key), f"{type(self).__name__}({key}=…)"))
        if value < least:
            raise ScheduleError(f"{type(self).__name__}({key}={value:g}) takes a number of {least:g} or more")
        object.__setattr__(self, key, value)

    def act(self, regime: "Regime", names: tuple[str, ...], run: Span) -> "Regime":
        """The regime that follows; `names` are the groups' names, `run` gives the units of lengths."""
        raise NotImplementedError

    def as_json(self) -> dict[str, Any]:
        """The edit as strict JSON, `edit` first.

        >>> Scale(124, 0.5, author="plateau").as_json()["edit"]
        'scale'
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        if plain.get("total") == math.inf:
            plain["total"] = None
        who = {key: plain.pop(key) for key in ("author", "reason")}
        return {"edit": self.name, **plain, **who}


def edit_from_json(data: Mapping[str, Any]) -> Edit:
    """The edit that `as_json` wrote; raises `ScheduleError` for an unknown one."""
    values = dict(data)
    kind = values.pop("edit", None)
    if kind not in EDITS:
        raise ScheduleError(f"{kind!r} is no edit{near(str(kind), EDITS)}")
    if "total" in values and values["total"] is None:
        values["total"] = math.inf
    try:
        return EDITS[kind](**values)
    except TypeError as error:
        raise ScheduleError(f"the edit {kind!r} was written with other fields: {error}") from None


@dataclass(frozen=True)
class Scale(Edit):
    """Multiply a hyper-parameter of the groups that match a name pattern, for the rest of the run."""

    by: float
    hyper: str = "lr"
    groups: str = "*"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("by", 0)

    def act(self, regime: "Regime", names: tuple[str, ...], run: Span) -> "Regime":
        if self.hyper not in regime.control:
            raise ScheduleError(f"the plan has no {self.hyper!r}{near(self.hyper, regime.control)}")
        hit = [fnmatchcase(name, self.groups) for name in names]
        if not any(hit):
            raise ScheduleError(f"no group matches {self.groups!r}{near(self.groups, names)}")
        old = regime.control[self.hyper]
        new = tuple(value * self.by if chosen else value for value, chosen in zip(old, hit, strict=True))
        return regime._replace(at=self.at, control={**regime.control, self.hyper: new})


@dataclass(frozen=True)
class Stretch(Edit):
    """Run what is left of the planned clock until `total`: every path and every gate, longer or shorter."""

    total: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("total", 0)

    def act(self, regime: "Regime", names: tuple[str, ...], run: Span) -> "Regime":
        if math.isinf(regime.total):
            raise ScheduleError(
                "an open run has no end to stretch: write Advance(at) or Redraw(at, path, total)"
            )
        if not self.at < min(regime.total, self.total):
            raise ScheduleError(
                f"Stretch(at={self.at:g}, total={self.total:g}): nothing is left between {self.at:g} and "
                f"the end at {min(regime.total, self.total):g}; to go on after the end write "
                f"Redraw(at, path, total)"
            )
        old = regime.total
        curves = {
            hyper: Curve(
                curve.peak, tuple(one.stretched(self.at, old, self.total) for one in curve.lines), self.total
            )
            for hyper, curve in regime.curves.items()
        }
        moved = {id(gate): gate and gate.stretched(self.at, old, self.total) for gate in regime.gates}
        gates = tuple(moved[id(gate)] for gate in regime.gates)
        return regime._replace(at=self.at, total=self.total, curves=curves, gates=gates)


@dataclass(frozen=True)
class Advance(Edit):
    """Leave the present piece of the rate's shape for the next, whose length stays: "start the decay now"."""

    def act(self, regime: "Regime", names: tuple[str, ...], run: Span) -> "Regime":
        shape = regime.curves["lr"].lines[0].advanced(self.at, run)
        return _reshaped(regime, self.at, shape, shape.end)


@dataclass(frozen=True)
class Redraw(Edit):
    """From `at` to `total` the rate's shape follows `path`, starting at the level where it is.

    Lengths in `path` are of the stretch from `at` to `total`. A decay bound late, a branch off a stable
    trunk, a second warm-up and an extension are all this edit.
    """

    path: Path
    total: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.path, str):
            from etude.core.text import parse

            object.__setattr__(self, "path", parse(self.path))
        if isinstance(self.path, Schedule) or not isinstance(self.path, Path):
            raise ScheduleError(
                f"Redraw(path={self.path}) takes a path of levels, as in Redraw(800, linear(), 1000)"
            )
        refuse_gate_words(self.path)
        if plain(self.total) == math.inf:
            object.__setattr__(self, "total", math.inf)
        else:
            self._number("total", 0)
        if not self.at < self.total:
            raise ScheduleError(f"Redraw(at={self.at:g}, total={self.total:g}) ends before it begins")

    def act(self, regime: "Regime", names: tuple[str, ...], run: Span) -> "Regime":
        level = regime.curves["lr"].lines[0].level(self.at)
        stretch = run._replace(total=self.total - self.at)
        return _reshaped(regime, self.at, line(self.path, stretch, self.at, level), self.total)


@dataclass(frozen=True)
class Stop(Edit):
    """The run ends at `at`."""

    def act(self, regime: "Regime", names: tuple[str, ...], run: Span) -> "Regime":
        return regime._replace(at=self.at, total=self.at)


@dataclass(frozen=True)
class Rollback(Edit):
    """The clock was at `at` and is at `to`: the weights of a checkpoint are back, which knew `keep` edits.

    The branch goes on with the first `keep` edits of the list; the list itself only grows, so that the
    rates of the abandoned stretch can still be had.
    """

    to: float
    keep: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("to", 0)
        if not 0 <= self.to <= self.at:
            raise ScheduleError(
                f"Rollback(at={self.at:g}, to={self.to:g}) goes forward: `to` lies before `at`"
            )
        if isinstance(self.keep, bool) or not isinstance(self.keep, int) or self.keep < 0:
            raise ScheduleError(f"Rollback(keep={self.keep!r}) takes the number of edits in the checkpoint")


def _reshaped(regime: "Regime", at: float, shape: Line, total: float) -> "Regime":
    curves = {
        hyper: Curve(curve.peak, (shape, *curve.lines[1:]) if hyper == "lr" else curve.lines, total)
        for hyper, curve in regime.curves.items()
    }
    return regime._replace(at=at, total=total, curves=curves)
