"""The line scan: how far the first update may go until the loss is back, by forward passes alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from etude.errors import EtudeError
from etude.finder.suggestion import Suggestion, no_suggestion, written

if TYPE_CHECKING:
    import torch

    from etude.core.plan import Plan
    from etude.core.rates import Rates
    from etude.finder.snapshot import Snapshot
    from etude.finder.updates import Trainee

PER_DECADE = 5
OVERFLOWS = 20  # a scaler that begins at 2^16 has come down to 1 by then
RESOLUTION = 1e-6  # of a loss in single precision
RISE = 0.01  # above noise, of a loss in half precision too
SHARE = 0.5
CONFIDENCE = 0.5  # one update is all that it has seen


@dataclass(frozen=True)
class Scan:
    """Losses along one update: `losses[i]` is that at w − steps[i] · d, `before` the loss at w itself.

    The steps are rates, peaks of the plan. `best` is the one with the lowest loss, `edge` the first above it
    at which the loss is back at `before`; None where there is none.
    """

    steps: tuple[float, ...]
    losses: tuple[float, ...]
    before: float
    best: float | None
    edge: float | None
    suggestion: Suggestion

    @classmethod
    def of(cls, steps: Sequence[float], losses: Sequence[float], before: float) -> "Scan":
        """Read the edge and the suggestion off the losses of a scan; the formulas stand in `line_scan`.

        >>> steps = [10 ** (k / 5) for k in range(-25, 1)]
        >>> scan = Scan.of(steps, [1 - step + 50 * step**2 for step in steps], 1.0)
        >>> print(scan.suggestion.title)
        lr=0.01 (5e-3 … 0.02, scan, confidence 0.5)
        >>> print(scan.suggestion.reason)
        half of the edge of the first update; the best step was 0.01
        """
        lowest = min(range(len(steps)), key=lambda i: math.inf if math.isnan(losses[i]) else losses[i])
        falls = math.isfinite(before) and losses[lowest] < before - RESOLUTION * abs(before)
        best = steps[lowest] if falls else None
        edge = _crossing(steps, losses, before, lowest) if falls else None
        if edge is not None and best is not None:
            rate = SHARE * edge
            said = f"half of the edge of the first update; the best step was {written(best)}"
            sure = CONFIDENCE / (1 + abs(math.log10(best / rate)))
            suggestion = Suggestion(rate, min(best, rate / 2), edge, "scan", round(sure, 3), said)
        elif falls:
            highest = written(steps[-1])
            suggestion = no_suggestion(
                "scan", f"the loss is below its beginning even at the last step, {highest}"
            )
        elif math.isfinite(before):
            suggestion = no_suggestion("scan", "no step along the update lowers the loss")
        else:
            suggestion = no_suggestion("scan", f"the loss before the update is {before}")
        return cls(tuple(steps), tuple(losses), before, best, edge, suggestion)

    def to_dict(self) -> dict[str, Any]:
        """All of it as strict JSON: a loss that is not finite is a text ("nan", "inf")."""
        losses = [loss if math.isfinite(loss) else str(loss) for loss in (self.before, *self.losses)]
        return asdict(self) | {"steps": list(self.steps), "before": losses[0], "losses": losses[1:]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scan":
        """What `to_dict` gave."""
        return cls(
            steps=tuple(values["steps"]),
            losses=tuple(map(float, values["losses"])),
            before=float(values["before"]),
            best=values["best"],
            edge=values["edge"],
            suggestion=Suggestion.from_dict(values["suggestion"]),
        )


def line_scan(
    trainee: "Trainee",
    kept: "Snapshot",
    plan: "Plan | Rates",
    window: Sequence[Any],
    held_out: Iterable[Any],
    *,
    start: float = 1e-7,
    to: float = 1.0,
) -> Scan:
    """The losses along the first update, η times its direction d, for rates η from `start` to `to`.

    One backward pass over `window` gives the gradient, and the optimizer itself the update: d is what it
    would take off the weights at the rate 1, preconditioned, clipped and with its weight decay, each group at
    its ratio in the plan. Then only forward passes follow, of the batches `held_out`, in evaluation mode: at
    w − η·d, five rates a decade, until the loss is above where it began at two rates in a row. `kept` is the
    snapshot of the training as it stands; it is put back before every pass and at the end, also when
    something raises.

    - Along d a loss with slope −n and curvature c is L(η) = L(0) − nη + cη²/2: lowest at η = n/c, and back at
      L(0) at the **edge** η = 2n/c. That edge is CDAT's σ = 2, its greedy optimum σ = 1 (Roulet et al., arXiv
      2407.06183), and the η_c above which the first update of Adam without a warm-up raises the loss,
      from which GI-Adam starts (Kalra & Barkeshli, arXiv 2406.09405). The edge is found between two rates on
      the straight line of (L(η) − L(0)) / η, which is exact for a parabola.
    - The **suggestion** is half the edge, σ = 1: the best first update if the loss is a parabola. It knows
      nothing of the updates after it. The range goes from a quarter of the edge, or from the best step seen
      if that was lower, up to the edge; confidence begins at ½ and falls as the best step parts from the
      parabola's.

    The mean gradient of several batches, and others for the losses, say more than one: with 8 and 8 the
    suggestion lay within a factor of four of the best rate of a run of 60 updates on the three pairs tried.

    Raises `EtudeError` if the gradients overflow whatever the scaler does.
    """
    batches, steps, losses = list(held_out), [], []
    try:
        direction = _first_update(trainee, plan, list(window))
        kept.put_back()
        before = trainee.mean_loss(iter(batches))
        for step in _grid(start, to):
            kept.put_back()
            for parameter, update in direction:
                parameter.data.sub_(update, alpha=step)
            steps.append(step)
            losses.append(trainee.mean_loss(iter(batches)))
            if len(losses) > 1 and not min(losses[-2:]) < before + RISE * abs(before):
                break
    finally:
        kept.put_back()
    return Scan.of(steps, losses, before)


def _first_update(
    trainee: "Trainee", plan: "Plan | Rates", window: list[Any]
) -> list[tuple["torch.Tensor", "torch.Tensor"]]:
    """Every parameter that trains, and what the first update takes off it at a peak of 1."""
    from etude.control.driver import Driver
    from etude.finder.sweep import sweep_rates
    from etude.finder.updates import training_mode
    from etude.torch.sink import sink

    Driver(sweep_rates(plan, 1.0, 2.0, 2), sink(trainee.optimizer)).apply(0)
    trained = [p for group in trainee.optimizer.param_groups for p in group["params"] if p.requires_grad]
    held = [parameter.detach().clone() for parameter in trained]
    counts = [float(trainee.count(batch)) for batch in window]
    total = math.fsum(shares[0] for shares in trainee.processes.gathered([math.fsum(counts)]))
    with training_mode(trainee.model):
        for _ in range(OVERFLOWS):
            trainee.backward(window, counts, total)
            if trainee.step():
                break
        else:
            raise EtudeError(
                f"the gradients overflowed {OVERFLOWS} times at ever smaller scales: no update to scan"
            )
    return [(p, before.sub_(p.detach())) for p, before in zip(trained, held, strict=True)]


def _grid(start: float, to: float) -> list[float]:
    """Rates from `start` to `to`, both included, at least five a decade.

    >>> [f"{rate:.2g}" for rate in _grid(1e-3, 1e-2)]
    ['0.001', '0.0016', '0.0025', '0.004', '0.0063', '0.01']
    """
    n = max(1, math.ceil(PER_DECADE * math.log10(to / start) - 1e-9))
    return [start * (to / start) ** (k / n) for k in range(n + 1)]


def _crossing(steps: Sequence[float], losses: Sequence[float], before: float, lowest: int) -> float | None:
    """Where the loss, rising from its lowest, is first back at what it was before."""
    for i in range(lowest + 1, len(steps)):
        if not losses[i] < before:
            slope, after = ((losses[k] - before) / steps[k] for k in (i - 1, i))
            part = slope / (slope - after) if math.isfinite(after) else 0.0
            return steps[i - 1] + (steps[i] - steps[i - 1]) * part
    return None
