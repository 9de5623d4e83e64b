"""Recipes that start again: warm restarts, and the cosine that swings back."""

import math
import warnings
from typing import Any

from etude.core import shapes
from etude.core.named.recipe import above, recipe, whole
from etude.core.named.warmups import warmed
from etude.core.path import MOST_PIECES, Path, repeat
from etude.errors import EtudeWarning, ScheduleError


@recipe
def cosine_with_restarts(
    cycles: int = 3,
    warmup: Any = 0.1,
    to: float = 0.0,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Up to the peak once, then several equal cosines, each from the peak.

    Source: `get_cosine_with_hard_restarts_schedule_with_warmup` in transformers (num_cycles; 1 there is 1
    here, a plain cosine).
    For: every cycle ends at a minimum, where a snapshot of the model may be taken.
    Use: where several end points of one run are wanted, as for an ensemble of snapshots (Huang et al., arXiv
    1704.00109).
    Avoid: as a cure for local minima: no comparison was found that shows it, and after each restart the loss
    has to be won again.

    >>> cosine_with_restarts()
    warmup(0.1) >> repeat(cosine(start=1), 3)
    """
    return warmed(repeat(shapes.cosine(start=1, to=to), cycles), warmup, warmup_shape, warmup_start)


@recipe
def sgdr(
    cycles: int | None = None,
    stretch: float = 2,
    fade: float = 1,
    to: float = 0.0,
    warmup: Any = 0,
    *,
    first: int | None = None,
    total: int | None = None,
) -> Path:
    """Warm restarts: cosines from the peak, each `stretch` times as long, `fade` times as high as the last.

    Given by the number of cycles, 3 if nothing is said, so that the run ends at a minimum. `warmup` is the
    length of a linear rise at the head of every cycle; a fraction is one of its cycle, a number of updates
    that of the first cycle, and stretches with it. Who has torch's T_0 writes first=T_0 and total=, both in
    updates: then the last cycle is cut where the run ends, and an `EtudeWarning` says so if that is high.

    Source: Loshchilov & Hutter, SGDR, arXiv 1608.03983; `CosineAnnealingWarmRestarts` in torch (T_0, T_mult).
    For: every cycle ends at a minimum, where a model may be taken.
    Use: where the length of the run is to be decided as it goes, at the end of a cycle.
    Avoid: T_0 = total/4 with T_mult = 2, as some guides have it: the last update of that run is at 86% of
    the peak. Neither
    with Prodigy, whose authors advise against restarts, nor as a default for fine-tuning.

    >>> sgdr()
    repeat(cosine(start=1), 3, stretch=2)
    >>> sgdr(2, stretch=1, fade=0.5, warmup=0.1)
    repeat(warmup(0.1) >> cosine(), 2, fade=0.5)
    >>> sgdr(stretch=4, first=200, total=1000)
    repeat(cosine(200, start=1), 2, stretch=4)
    """
    stretch, fade = above(0, stretch, "sgdr(stretch=…)"), above(0, fade, "sgdr(fade=…)")
    if first is None and total is None:
        cycle = shapes.cosine(start=1, to=to)
        if warmup:
            cycle = warmed(shapes.cosine(to=to), warmup, start=to)
        return repeat(cycle, 3 if cycles is None else cycles, stretch=stretch, fade=fade)
    if cycles is not None or first is None or total is None or warmup:
        raise ScheduleError(
            "sgdr(…) takes cycles=, or first= and total= in updates without cycles= and warmup=: "
            "write sgdr(3, stretch=2) or sgdr(first=100, total=700)"
        )
    return _cut(whole(first, "sgdr(first=…)"), whole(total, "sgdr(total=…)"), stretch, fade, to)


def _cut(first: int, total: int, stretch: float, fade: float, to: float) -> Path:
    """Cycles from a first one of `first` updates, the last one cut at `total`."""
    done, left, last = 0, float(total), float(first)
    while last <= left * (1 + 1e-12) and last >= 1 and done < MOST_PIECES:
        done, left, last = done + 1, left - last, last * stretch
    cycles = repeat(shapes.cosine(first, start=1, to=to), done, stretch=stretch, fade=fade) if done else None
    if cycles is not None and left <= 1e-9 * total:
        return cycles
    if last < 1:
        raise ScheduleError(
            f"sgdr(first={first}, total={total}, stretch={stretch!r}): after {done} cycles the next is "
            f"shorter than an update; write stretch=1 or more"
        )
    peak = fade**done
    end = to + (1 - to) * (1 + math.cos(math.pi * left / last)) / 2
    if end > to + 0.01:
        n = min((max(done, 1), done + 1), key=lambda n: abs(math.log(total / _series(stretch, n) / first)))
        warnings.warn(
            f"sgdr(first={first}, total={total}, stretch={stretch!r}): the run ends at {end * peak:.0%} of "
            f"its peak, {left:g} updates into a cycle of {last:g}; write sgdr({n}, stretch={stretch!r}), "
            f"whose first cycle takes {total / _series(stretch, n):.4g} updates and whose last ends with the "
            f"run",
            EtudeWarning,
            stacklevel=4,
        )
    tail = shapes.wave(start=peak, half=_updates(last), low=to * peak)
    return tail if cycles is None else cycles >> tail


def _series(stretch: float, n: int) -> float:
    return math.fsum(stretch**i for i in range(n))


def _updates(value: float) -> Any:
    return int(value) if float(value).is_integer() else f"{value!r}up"


@recipe
def oscillating_cosine(
    half: Any = 0.2,
    low: float = 0.0,
    warmup: Any = 0,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Down a cosine and up again the same way, over and over, without a jump.

    `half` is the length from a top to the next bottom, torch's T_max.

    Source: `CosineAnnealingLR` in torch past its T_max, `get_cosine_schedule_with_warmup` in transformers
    with num_cycles above 0.5; neither paper nor documentation means it as a schedule.
    Use: to reproduce such a run.
    Avoid: for everything else, and an even number of halves always: the run then ends at its peak.

    >>> oscillating_cosine()
    wave(half=0.2)
    """
    return warmed(shapes.wave(half=half, low=low), warmup, warmup_shape, warmup_start)
