"""What a suggestion says of a run that goes through its examples several times.

The rules were judged on runs of about one epoch. In later ones a model may learn its examples by heart, which
no sweep shows, and the higher the rate the sooner it does: see docs/finder.md.
"""

import math
from dataclasses import replace
from typing import Any

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.errors import EtudeError
from etude.finder.suggestion import Suggestion, written


def for_run(said: Suggestion, epochs: float | None) -> Suggestion:
    """The suggestion for a run of so many `epochs`, None where nobody said: the range reaches further down.

    The best rate of a run of n epochs lay between that of one and an nth of it. The rate stays that of one
    epoch, because which of the two it is depends on how much there is to learn by heart.

    >>> said = Suggestion(6e-4, 3e-4, 1.2e-3, "consensus", 0.8, "…")
    >>> print(for_run(said, 3))
    lr=6e-4 (1e-4 … 1.2e-3, consensus, confidence 0.5): for one epoch, in 3 it may be down to 2e-4; …
    """
    if said.rate is None or said.low is None:
        return said
    if epochs is None:
        return replace(said, reason=f"for one epoch, in more it may be less (say epochs=); {said.reason}")
    if epochs <= 1:
        return said
    least = written(said.rate / epochs)
    return replace(
        said,
        low=said.low / epochs,
        confidence=round(said.confidence / (1 + math.log10(epochs)), 3),
        reason=f"for one epoch, in {epochs:.3g} it may be down to {least}; {said.reason}",
    )


def epochs_of(
    told: float | None, plan: Plan | Rates, batches: Any = None, accumulate: int = 1
) -> float | None:
    """How often a run goes through its examples: as told, or as its plan was bound; None if nobody said.

    A plan that is bound to a number of updates alone takes those of an epoch from a DataLoader.

    >>> from etude import Group
    >>> epochs_of(None, Plan({"lr": "1e-4 * linear()"}, [Group("body")]).over(375, epoch=125))
    3.0
    """
    if told is not None:
        if not 0 < told < math.inf:
            raise EtudeError(f"epochs={told!r}: write how often the run goes through its examples, as in 3")
        return float(told)
    if not isinstance(plan, Rates) or math.isinf(plan.total):
        return None
    epoch = plan.span.epoch or updates_of(batches, accumulate)
    return None if epoch is None else plan.total / epoch


def updates_of(batches: Any, accumulate: int) -> int | None:
    """The updates of an epoch of a DataLoader; None for what is none, and for a stream."""
    from torch.utils.data import DataLoader

    try:
        return math.ceil(len(batches) / accumulate) if isinstance(batches, DataLoader) else None
    except TypeError:
        return None
