"""The learning rate range test on the real training path: one update per point, at rates that rise.

Source: Smith, arXiv 1506.01186. The sweep is a schedule like any other, `exp(start=, to=)` in the place of
the plan's own, so every group keeps its ratio, its weight decay and its gate.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from etude.control.driver import Driver
from etude.core.edit import Stretch
from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.shapes import exp
from etude.errors import EtudeError
from etude.finder.batches import Windows
from etude.finder.divergence import Watch, watch
from etude.finder.interrupt import Interrupt
from etude.finder.randomness import global_generators
from etude.finder.updates import Trainee, training_mode
from etude.torch.sink import sink

# A scaler that begins at 2^16 has come down to 1 by then.
OVERFLOWS = 20


@dataclass
class Curve:
    """What a sweep saw: the loss of every update that was made, the held-out loss, why it ended early.

    `skipped` counts the updates that the scaler left out; they are made again, and add no point.
    """

    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    stopped: str = ""
    skipped: int = 0


def sweep_rates(plan: Plan | Rates, start: float, to: float, points: int) -> Rates:
    """The rates of a sweep of `points` updates from `start` to `to`, both included, equal ratios apart.

    One multiplier acts on all groups of the plan; the rates are read as its peak. A plan that is bound to a
    run keeps the lengths of that run in its gates, all shortened alike.

    >>> from etude import Group
    >>> plan = Plan({"lr": "2e-5 * cosine()"}, [Group("body"), Group("head", scale={"lr": 10})])
    >>> sweep_rates(plan, 1e-6, 1e-2, 5).at(4)
    {'lr': [0.01, 0.1]}
    """
    bound = plan.plan if isinstance(plan, Rates) else plan
    swept = Plan({**bound.hypers, "lr": exp(start=start, to=to)}, bound.groups, tick=0)
    last = points - 1
    if not isinstance(plan, Rates) or math.isinf(plan.total):
        return swept.over(last)
    return swept.over(**plan.span._asdict()).edit(Stretch(0, last, author="finder"))


def grid(rates: Rates) -> list[float]:
    """The rate of every point of a sweep.

    >>> [f"{rate:.3g}" for rate in grid(sweep_rates(Plan({"lr": 1}), 1e-4, 1, 5))]
    ['0.0001', '0.001', '0.01', '0.1', '1']
    """
    lr = rates.plan.hypers["lr"].over(rates.total)
    return [lr(k) for k in range(round(rates.total) + 1)]


def sweep(
    trainee: Trainee,
    rates: Rates,
    windows: Windows,
    held_out: Callable[[], Iterator[Any]] | None = None,
    every: int = 1,
    interrupt: Interrupt | None = None,
    tell: Callable[[int, float], None] | None = None,
) -> Curve:
    """Train through the rates of a sweep, one update each, until they end or the loss diverges.

    A window is what one update is made of; `held_out()` gives the batches whose mean loss is taken before
    every `every`-th update. `tell` gets the number of points that are made, and the last loss. The model is
    left as the sweep has made it: see `Snapshot`.
    """
    driver, curve, state = Driver(rates, sink(trainee.optimizer)), Curve(), Watch()
    points = round(rates.total) + 1
    asked = interrupt or Interrupt()
    trainee.optimizer.zero_grad(set_to_none=True)
    with training_mode(trainee.model):
        for k in range(points):
            driver.apply(k)
            if held_out is not None and k % every == 0:
                curve.held_out.append(_apart(trainee, held_out))
            loss = _update(trainee, windows, curve, asked)
            if loss is None:
                break
            curve.losses.append(loss)
            if tell is not None:
                tell(k + 1, loss)
            state, curve.stopped = watch(state, loss)
            if curve.stopped:
                break
    return curve


def _update(trainee: Trainee, windows: Windows, curve: Curve, asked: Interrupt) -> float | None:
    """Make one update; its loss, or None where no update can be made any more."""
    infinite = overflows = 0
    while True:
        window, counts, total = _drawn(trainee, windows, asked)
        share = trainee.backward(window, counts, total)
        made = trainee.step()
        every = trainee.processes.gathered([share, made])
        loss = math.fsum(share for share, _ in every)
        if all(made for _, made in every):
            return loss
        curve.skipped += 1
        overflows += 1
        infinite += not math.isfinite(loss)
        if infinite == 3:
            curve.stopped = f"{watch(Watch(), loss)[1]}, and the scaler skips every update"
            return None
        if overflows == OVERFLOWS:
            curve.stopped = f"the scaler skipped {OVERFLOWS} updates in a row, at ever smaller scales"
            return None


def _drawn(trainee: Trainee, windows: Windows, asked: Interrupt) -> tuple[list[Any], list[float], float]:
    """The next window, what its losses are means of, and the sum of that over all processes.

    What keeps one process from going on (its loader fails, Ctrl-C) ends the sweep on all of them here, where
    none waits for another.
    """
    error: BaseException | None = None
    window, counts = [], []
    try:
        if asked.asked:
            raise KeyboardInterrupt
        window = windows.next()
        counts = [float(trainee.count(batch)) for batch in window]
    except BaseException as raised:
        error = raised
    every = trainee.processes.gathered([sum(counts), error is not None, isinstance(error, KeyboardInterrupt)])
    if error is not None:
        raise error
    if any(interrupted for *_, interrupted in every):
        raise KeyboardInterrupt
    if failed := [rank for rank, (_, failed, _) in enumerate(every) if failed]:
        raise EtudeError(f"process {failed[0]} could not go on with its batches; its own error says why")
    total = math.fsum(count for count, _, _ in every)
    if not total > 0:
        raise EtudeError("the batches of an update hold no example or no labelled token")
    return window, counts, total


def _apart(trainee: Trainee, held_out: Callable[[], Iterator[Any]]) -> float:
    """The held-out loss; what it draws at random is no part of the training."""
    put_back = global_generators()
    try:
        return trainee.mean_loss(held_out())
    finally:
        put_back()
