"""A stage as a value: which rungs train, for how long, at what levels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etude.core.length import Length, is_absolute, is_zero, length
from etude.core.namespace import plain
from etude.core.path import Path, words_of
from etude.core.shapes import SHAPES
from etude.core.text import parse
from etude.errors import PlanError

BOTH = "both say how a stage begins; write the warm-up into the path"


@dataclass(frozen=True, slots=True)
class Stage:
    """What trains between two times: rungs by name, their levels as ratios of their own peaks.

    `path` has the levels of the whole stage, `warmup` is how long what thaws takes to come to `peak`.
    """

    rungs: str = "*"
    over: Length = None
    peak: int | float = 1
    path: Path | None = None
    warmup: Length = None

    def __str__(self) -> str:
        over = [] if self.over is None else [literal(self.over)]
        named = [] if self.rungs == "*" and not over else [f'"{self.rungs}"']
        peak = [] if self.peak == 1 else [f"peak={self.peak!r}"]
        path = [] if self.path is None else [f"path={self.path}"]
        warmup = [] if self.warmup is None else [f"warmup={literal(self.warmup)}"]
        return f"stage({', '.join([*named, *over, *peak, *path, *warmup])})"


def literal(value: Any) -> str:
    """A length or a name as it is written in brackets."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def checked(rungs: str | Sequence[str], over: Any, peak: Any, path: Any, warmup: Any) -> Stage:
    """A stage as it is written; raises an `EtudeError` for what cannot be one."""
    named = together(rungs)
    reach = length(over, "stage over")
    if is_zero(reach):
        raise PlanError(f'stage("{named}", {literal(reach)}) is over before it begins: leave it out')
    level = ratio(peak, "stage(peak=…)")
    drawn, slow = levels(path, "stage"), duration(warmup, "stage")
    if drawn is not None and slow is not None:
        raise PlanError(f"stage(path={drawn}, warmup={literal(slow)}): {BOTH}")
    return Stage(named, reach, level, drawn, slow)


def together(rungs: str | Sequence[str]) -> str:
    """Rungs by name as one text: a list is joined with `+`."""
    named = rungs if isinstance(rungs, str) else "+".join(map(str, rungs))
    if not all(part.strip() for part in named.split("+")):
        raise PlanError(f'{rungs!r} names no rung: write "head", "layer.4..head" or "*" for all of them')
    return named


def ratio(value: Any, what: str) -> int | float:
    """A ratio above 0."""
    found = plain(value)
    if found is None or not 0 < found < math.inf:
        raise PlanError(f"{what} takes a ratio above 0, got {value!r}")
    return found


def duration(value: Any, word: str) -> Length:
    """A warm-up's length; 0 is none."""
    found = length(value, f"{word}(warmup=…)")
    return None if is_zero(found) else found


def levels(value: Any, word: str) -> Path | None:
    """A path that may fill a stage of any length, or None."""
    path = parse(value) if isinstance(value, str) else value
    if path is None:
        return None
    what = f"{word}(path={path})"
    if not isinstance(path, Path):
        raise PlanError(f"{what} takes a path of levels, as in path=warmup(0.1) >> cosine()")
    if any(SHAPES[one.name].gate_only for one in words_of(path)):
        raise PlanError(f"{what}: what a stage does not name is frozen in it; leave frozen() out")
    if all(is_absolute(one.over) for one in words_of(path)):
        raise PlanError(f"{what} has a length of its own: write path={path} >> hold()")
    return path
