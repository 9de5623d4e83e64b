"""A torch scheduler, also one made of others, as what étude says instead."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from etude.convert.converted import Converted
from etude.convert.pieces import Piece, fit, path, span
from etude.convert.product import product
from etude.convert.pytorch.asked import REQUIRED, Asked
from etude.convert.pytorch.cycles import CYCLIC, ONE_CYCLE, Cycle, cyclic, one_cycle
from etude.convert.pytorch.schedulers import SCHEDULERS
from etude.convert.values import read
from etude.errors import RecipeError, near

CYCLES = {"OneCycleLR": (one_cycle, ONE_CYCLE), "CyclicLR": (cyclic, CYCLIC)}
COMPOSED = {"SequentialLR": ("schedulers", "milestones"), "ChainedScheduler": ("schedulers",)}
FUNCTIONS = ("LambdaLR", "MultiplicativeLR")
KNOWN = (*SCHEDULERS, *CYCLES, *COMPOSED, *FUNCTIONS)
NO_RATE = "No learning rate was found: the text has levels only; put the peak in front, or say lr."
# Each step multiplies the rate that the others left; the others set it, or add to it.
FACTORS = (
    "StepLR",
    "MultiStepLR",
    "ConstantLR",
    "LinearLR",
    "ExponentialLR",
    "PolynomialLR",
    "CosineAnnealingLR",
)


@dataclass(frozen=True)
class Scheduler:
    """A scheduler by its class and arguments; those that are made of others have them in `parts`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple["Scheduler", ...] = ()


def parameters(name: str) -> dict[str, Any]:
    """The arguments of a scheduler after the optimizer, with their defaults (`REQUIRED` for none)."""
    if name in COMPOSED:
        return dict.fromkeys(COMPOSED[name], REQUIRED)
    known = SCHEDULERS.get(name) or CYCLES.get(name)
    return dict(known[1]) if known else {}


def converted(
    scheduler: Scheduler, rate: float | None, total: float | None, traps: list[str], **hypers: str
) -> Converted:
    """What a scheduler says, for an optimizer whose rate is `rate` (None: nobody said) over `total` updates.

    `hypers` are the optimizer's other hyper-parameters, as text. Raises `RecipeError` for what cannot be
    said.

    >>> decay = Scheduler("StepLR", {"step_size": 30})
    >>> converted(decay, 0.1, 90, []).hypers["lr"]
    '0.1 * step(by=0.1, every=30)'
    """
    asked = Asked({}, rate, total, traps)
    if scheduler.name in CYCLES:
        cycle = _cycle(scheduler, asked)
        moved = {"momentum": path(cycle.momentum)} if cycle.momentum else {}
        text = _text(cycle.peak, [cycle.rate])
        return Converted({"lr": text} | hypers | moved, tuple(traps), tick=cycle.tick, total=cycle.total)
    chained = scheduler.parts if scheduler.name == "ChainedScheduler" else (scheduler,)
    if scheduler.name == "ChainedScheduler":
        _check_chained(scheduler, asked)
    factors = [_fitted(part, asked) for part in chained]
    if total is None:
        spans = [updates for updates in map(span, factors) if updates is not None]
        total = max(spans) if len(spans) == len(factors) else None
        factors = [_fitted(part, replace(asked, updates=total, traps=[])) for part in chained]
    if rate is None:
        traps.append(NO_RATE)
    return Converted({"lr": _text(rate, factors)} | hypers, tuple(traps), total=total)


def _text(peak: float | None, factors: list[list[Piece]]) -> str:
    texts = [path(pieces) for pieces in factors]
    if peak is not None:
        return product(peak, *texts)
    return texts[0] if len(texts) == 1 else " * ".join(f"({text})" for text in texts)


def _cycle(scheduler: Scheduler, asked: Asked) -> Cycle:
    make, known = CYCLES[scheduler.name]
    return make(replace(asked, options=_complete(scheduler, known)))


def _fitted(scheduler: Scheduler, asked: Asked, closed: bool = False) -> list[Piece]:
    pieces = _pieces(scheduler, asked)
    return pieces if asked.updates is None else fit(pieces, asked.updates, closed)


def _pieces(scheduler: Scheduler, asked: Asked) -> list[Piece]:
    if scheduler.name == "SequentialLR":
        return _sequence(scheduler, asked)
    if scheduler.name in FUNCTIONS:
        raise RecipeError(
            f"{scheduler.name} holds a Python function, which only Python can read: write what it computes "
            f"as a path, as in warmup(100) >> linear() or exp(to=0.01); etude gallery shows the words"
        )
    if scheduler.name in KNOWN and scheduler.name not in SCHEDULERS:
        raise RecipeError(
            f"{scheduler.name} inside another scheduler sets the rate by itself: convert it alone, and "
            f"write its path where it belongs"
        )
    if scheduler.name not in SCHEDULERS:
        raise RecipeError(
            f"{scheduler.name} is no scheduler that can be converted{near(scheduler.name, KNOWN)}"
        )
    make, known = SCHEDULERS[scheduler.name]
    return make(replace(asked, options=_complete(scheduler, known)))


def _complete(scheduler: Scheduler, known: Mapping[str, Any]) -> dict[str, Any]:
    options = {**known, **{key: value for key, value in scheduler.options.items() if key in known}}
    for key, value in options.items():
        if value is REQUIRED:
            raise RecipeError(f"{scheduler.name} needs {key}")
    return options


def _sequence(scheduler: Scheduler, asked: Asked) -> list[Piece]:
    milestones = [read("milestones", milestone) for milestone in scheduler.options["milestones"]]
    if len(milestones) != len(scheduler.parts) - 1 or milestones != sorted(set(milestones)):
        raise RecipeError(
            f"milestones: {len(scheduler.parts)} schedulers need {len(scheduler.parts) - 1} milestones that "
            f"rise, got {milestones}"
        )
    ends = [*milestones, asked.updates]
    pieces: list[Piece] = []
    begin = 0.0
    for part, end in zip(scheduler.parts, ends, strict=True):
        if asked.updates is not None and begin >= asked.updates:
            asked.traps.append(f"Milestone {begin:g} is not reached in {asked.updates:g} updates.")
            break
        own = replace(asked, updates=None if end is None else end - begin)
        pieces += _fitted(part, own, closed=end != asked.updates)
        begin = end or begin
    return pieces


def _check_chained(scheduler: Scheduler, asked: Asked) -> None:
    for part in scheduler.parts:
        options, why = {**parameters(part.name), **part.options}, ""
        if part.name not in FACTORS:
            why = "sets the rate by itself"
        elif part.name == "CosineAnnealingLR" and options["eta_min"]:
            why = "adds its eta_min"
        elif part.name == "CosineAnnealingLR" and (asked.updates or 0) > (options["T_max"] or math.inf):
            why = "adds to the rate past its T_max"
        if why:
            raise RecipeError(
                f"ChainedScheduler: {part.name} {why}, so the chain is no product; write the product that is "
                f"meant, as in 2e-5 * (warmup(100) >> hold()) * cosine()"
            )
