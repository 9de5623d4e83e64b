"""Recipes that go up and down: one-cycle, slanted triangular, and the cyclical rates of Smith."""

from typing import Any

from etude.core import shapes
from etude.core.named.recipe import above, chosen, recipe, whole
from etude.core.path import Path
from etude.errors import ScheduleError

ANNEALS = {"cosine": shapes.cosine, "linear": shapes.linear}
PHASES = {2: 2, 3: 3}


@recipe
def one_cycle(
    pct_start: Any = 0.3, div: float = 25, final_div: float = 1e4, *, phases: int = 2, anneal: str = "cosine"
) -> Path:
    """From peak/div up to the peak, then down to peak/(div × final_div), in one cycle.

    With 3 phases it comes down to its start as fast as it rose, and falls to the end from there. Its momentum
    is one_cycle_momentum() with the same arguments.

    Source: Smith & Topin, arXiv 1708.07120; `OneCycleLR` in torch, where each phase ends an update earlier.
    fastai and lrsched end at peak/final_div, 25 times as high.
    For: warm-up and decay in one, and one number to find, the peak.
    Use: for convolutional networks from scratch or fine-tuned at a high peak, found with a range test.
    Avoid: expecting it to win: over 82 settings REX had the better average rank. torch's `max_lr` as one
    number sets all groups to it, which ends layer-wise rates; levels are ratios.

    >>> one_cycle()
    cosine(0.3, to=1, start=0.04) >> cosine(to=4e-06)
    >>> one_cycle(phases=3, anneal="linear")
    linear(0.3, to=1, start=0.04) >> linear(0.3, to=0.04) >> linear(to=4e-06)
    """
    piece = chosen(anneal, ANNEALS, "one_cycle(anneal=…)")
    start = 1 / above(0, div, "one_cycle(div=…)")
    end = start / above(0, final_div, "one_cycle(final_div=…)")
    up = piece(pct_start, start=start, to=1)
    if chosen(phases, PHASES, "one_cycle(phases=…)") == 3:
        return up >> piece(pct_start, to=start) >> piece(to=end)
    return up >> piece(to=end)


@recipe
def one_cycle_momentum(
    pct_start: Any = 0.3, low: float = 0.85, high: float = 0.95, *, phases: int = 2, anneal: str = "cosine"
) -> Path:
    """The momentum, or β1, that goes with one_cycle(): low where the rate is high.

    Source: Smith, arXiv 1803.09820; `OneCycleLR` in torch, which cycles momentum whether asked or not.
    Use: as the schedule of momentum, {lr: 1e-3 * one_cycle(), momentum: one_cycle_momentum()}.
    Avoid: with another optimizer's fixed β1 in mind: the run then averages its gradients over fewer updates
    at the peak.

    >>> one_cycle_momentum()
    cosine(0.3, to=0.85, start=0.95) >> cosine(to=0.95)
    >>> one_cycle_momentum(phases=3)
    cosine(0.3, to=0.85, start=0.95) >> cosine(0.3, to=0.95) >> hold()
    """
    piece = chosen(anneal, ANNEALS, "one_cycle_momentum(anneal=…)")
    down = piece(pct_start, start=high, to=low)
    if chosen(phases, PHASES, "one_cycle_momentum(phases=…)") == 3:
        return down >> piece(pct_start, to=high) >> shapes.hold()
    return down >> piece(to=high)


@recipe
def slanted_triangular(cut_frac: Any = 0.1, ratio: float = 32) -> Path:
    """From peak/ratio up in a straight line for a short part of the run, then down to peak/ratio.

    Exact also where total × cut_frac is no whole number: there the paper's formula, which cuts the fraction
    off, reaches its end too early and then goes below zero.

    Source: Howard & Ruder, ULMFiT, arXiv 1801.06146 (cut_frac 0.1, ratio 32, eta_max 0.01).
    Use: to fine-tune as ULMFiT does, with gradual unfreezing and a rate per layer group.
    Avoid: as "optimal for fine-tuning", as some guides have it: no theorem says so, and it spends a fifth of
    the run above 0.8 of the peak, one-cycle three tenths.

    >>> slanted_triangular()
    linear(0.1, to=1, start=0.03125) >> linear(to=0.03125)
    """
    floor = 1 / above(0, ratio, "slanted_triangular(ratio=…)")
    return shapes.linear(cut_frac, start=floor, to=1) >> shapes.linear(to=floor)


@recipe
def triangular(cycles: int = 4, low: float = 0.25, up: float = 0.5) -> Path:
    """Between a lower level and the peak in straight lines, a whole number of times.

    `up` is the share of a cycle that rises. Given by cycles, a run ends at its lower level; who has lengths
    writes cyclic(up=2000, start=0.25).

    Source: Smith, CLR, arXiv 1506.01186; `CyclicLR` in torch, mode "triangular".
    Use: to reproduce a cyclical run; its lower level is a third or a quarter of the peak.
    Avoid: as a default: cosine and linear need one number less. A run that is not a whole number of cycles
    ends high.

    >>> triangular()
    cyclic(start=0.25, up=0.125)
    >>> triangular(2, up=0.2)
    cyclic(start=0.25, up=0.1, down=0.4)
    """
    return _cyclic("triangular", cycles, low, up)


@recipe
def triangular2(cycles: int = 4, low: float = 0.25, up: float = 0.5) -> Path:
    """As triangular(), each cycle half as high above its lower level as the one before.

    Source: Smith, CLR, arXiv 1506.01186; `CyclicLR` in torch, mode "triangular2".
    Use: as triangular(), where the rate should come down over the run.
    Avoid: many cycles: the fifth reaches a sixteenth of the way up.

    >>> triangular2()
    cyclic(start=0.25, up=0.125, by=0.5)
    """
    return _cyclic("triangular2", cycles, low, up, by=0.5)


@recipe
def exp_range(cycles: int = 4, low: float = 0.25, gamma: float = 0.999, up: float = 0.5) -> Path:
    """As triangular(), its height above the lower level times gamma in every update.

    Source: Smith, CLR, arXiv 1506.01186; `CyclicLR` in torch, mode "exp_range" (its default gamma, 1, does
    nothing).
    Use: as triangular2(), with a smooth envelope; for a final ratio r write gamma=r**(1/updates).
    Avoid: a gamma taken over from a run of another length: 0.999 leaves 0.37 after 1000 updates and next
    to nothing after 10 000.

    >>> exp_range()
    cyclic(start=0.25, up=0.125, gamma=0.999)
    """
    return _cyclic("exp_range", cycles, low, up, gamma=gamma)


def _cyclic(name: str, cycles: int, low: float, up: float, **options: float) -> Path:
    cycle = 1 / whole(cycles, f"{name}(cycles=…)")
    share = above(0, up, f"{name}(up=…)")
    if share >= 1:
        raise ScheduleError(f"{name}(up=…) takes the share of a cycle that rises, below 1; got {up!r}")
    if share != 0.5:
        options = {"down": round(cycle * (1 - share), 15), **options}
    return shapes.cyclic(up=round(cycle * share, 15), start=low, **options)
