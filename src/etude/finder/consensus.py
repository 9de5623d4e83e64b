"""Étude's own suggestion, and the one place that says which rule is the default.

Judged on real fine-tunes in docs/finder.md, where the numbers below come from.
"""

from collections.abc import Sequence

import numpy as np

from etude.finder.rules import POINTS, RULES, Rule, confidence, smoothed
from etude.finder.smoothing import Floats, noise_of
from etude.finder.suggestion import Suggestion, no_suggestion, written

EDGE = 0.03
"""Where the held-out loss is rougher than this from one update to the next, updates overshoot."""
PEAK = 0.5
"""The best peak of a run, as a share of the rate at that edge."""
QUIET = 0.005
"""With less noise than this share of its low losses a curve shows the edge: see `noise`."""
KERNEL = 0.4
"""The deviation, in decades, over which roughness is averaged."""
DIP = 0.25
"""The same for noisy losses."""
SEEN = 3.5
"""A dip of fewer standard errors is none."""
LEARNT = 0.01
"""A held-out loss that never falls by this share of the first one may show that nothing is to be learnt."""
WIDE = 0.15
"""Losses further apart than this, in decades, differ by the slope too: the edge is found too low, and lies
anywhere up to the rate of the lowest loss."""
OTHERS = ("steepest", "valley", "minimum")


def consensus(rates: Sequence[float], losses: Sequence[float]) -> Suggestion:
    """Half the rate at which updates begin to overshoot; of a noisy curve the centre of its dip.

    A held-out loss, of the same examples at every point, has hardly any noise: it falls smoothly until
    updates overshoot, then it is rough. The edge is where its second difference passes 3% of the loss, and
    half of it was the best peak of runs of 60 updates. Training losses, each of another batch, hide the edge
    in 1% to 7% of noise. There the suggestion is the mean log rate of where the smooth curve lies below its
    beginning, weighted by the square of how far. The reason says what other rules say.

    >>> rates = [10 ** (-6 + k / 10) for k in range(61)]
    >>> losses = [1 / (1 + 300 * rate) + 10 * rate * (-1) ** k for k, rate in enumerate(rates)]
    >>> found = consensus(rates, losses)
    >>> [written(rate) for rate in (found.low, found.rate, found.high)]
    ['2.4e-4', '4.7e-4', '9.4e-4']
    >>> found.reason.split(";")[0]
    'half of 9.4e-4, above which updates overshoot'
    """
    finite = np.isfinite(np.asarray(losses, dtype=float))
    n = len(finite) if finite.all() else int(np.argmin(finite))
    curve = smoothed(rates, losses)
    if n < POINTS and isinstance(curve, str):
        return no_suggestion("consensus", curve)
    x, y = np.log10(np.asarray(rates[:n], dtype=float)), np.asarray(losses[:n], dtype=float)
    rough = roughness(x, y)
    if noise(y, rough) >= QUIET:
        found = _dip(x, y)
    else:
        found = curve if isinstance(curve, str) else _edge(x, y, rough, confidence(curve))
    if isinstance(found, str):
        return no_suggestion("consensus", found)
    low, rate, high, reason, sure = found
    others = ", ".join(f"{name} {written(RULES[name](rates, losses).rate)}" for name in OTHERS)
    trust = round(float(sure / (1 + np.log10(high / low))), 3)
    return Suggestion(rate, low, high, "consensus", trust, f"{reason}; others: {others}")


def roughness(x: Floats, losses: Floats) -> Floats:
    """The second difference of the losses as a share of the loss: the geometric mean around each point.

    Two values less than there are points, divided by √3, so that noise has the roughness of its first
    difference. `x` is log10 of the rates; less than 1e-5 counts as that. Points exactly on the line between
    their neighbours, which stand for losses not taken, do not count.
    """
    size = np.maximum(np.convolve(np.abs(losses), (0.25, 0.5, 0.25), mode="valid"), 1e-12)
    share = np.abs(np.diff(losses, 2)) / 3**0.5 / size
    weight = np.exp(-0.5 * ((x[1:-1, None] - x[None, 1:-1]) / KERNEL) ** 2) * (share > 1e-12)
    told = weight.sum(1)
    mean = weight @ np.log(np.maximum(share, 1e-5)) / np.maximum(told, 1e-300)
    return np.where(told > 0, np.exp(mean), 1e-5)


def noise(losses: Floats, rough: Floats) -> float:
    """The noise of the first fifth of a sweep, where the rates do nothing yet, as a share of its low losses.

    "Low" is the tenth percentile. What is little noise of the first loss can hide everything where the loss
    has fallen to a hundredth of it.
    """
    n = max(2, len(losses) // 5)
    first, low = abs(float(np.median(losses[:n]))), abs(float(np.quantile(losses, 0.1)))
    return float(np.mean(rough[:n])) * first / max(low, 1e-12)


def _edge(
    x: Floats, losses: Floats, rough: Floats, sure: float
) -> tuple[float, float, float, str, float] | str:
    """Half the rate at the edge, from half of that up to the edge.

    A loss that hardly falls is rough where updates are too large as well: `LEARNT` takes from the confidence.
    Without noise in the gradients the loss stays smooth until it diverges, and does so late, because it has
    come to rest by then: fastai's tenth of the rate at the lowest loss keeps away from that.
    """
    if rough.max() >= EDGE:
        edge = _passes(x[1:-1], rough, EDGE)
        if edge * PEAK < 10 ** x[0]:
            return "updates overshoot from the lowest rate on: sweep from lower rates"
        reason, high = f"half of {written(edge)}, above which updates overshoot", edge
        if (apart := _apart(x, losses, edge)) > WIDE:
            high = max(edge, float(10 ** x[int(np.argmin(losses))]))
            reason += f", or more: the losses lie {apart:.2g} decades apart, and closer ones would tell"
        first = abs(float(np.median(losses[: max(2, len(losses) // 5)])))
        if (fall := max(0.0, first - float(losses.min())) / max(first, 1e-12)) < LEARNT:
            reason += f", but the loss never falls by more than {fall:.1%}: little is learnt at any rate"
        return edge * PEAK**2, edge * PEAK, high, reason, sure * min(1.0, fall / LEARNT)
    lowest = int(np.argmin(losses))
    if lowest == len(losses) - 1:
        return "the loss still falls, smoothly, at the end of the sweep: sweep to higher rates"
    edge = float(10 ** x[lowest])
    if edge / 10 < 10 ** x[0]:
        return f"the loss is lowest at {written(edge)}, near the beginning: sweep from lower rates"
    return (
        edge / 30,
        edge / 10,
        edge / 3,
        f"the loss is smooth; a tenth of {written(edge)}, its lowest",
        sure / 2,
    )


def _apart(x: Floats, losses: Floats, edge: float) -> float:
    """How far apart the losses near the edge were taken, in decades; those on a line between two were not."""
    size = np.maximum(np.abs(losses[1:-1]), 1e-12)
    taken = x[1:-1][np.abs(np.diff(losses, 2)) / size > 1e-12]
    near = np.sort(taken[np.argsort(np.abs(taken - np.log10(edge)))[:5]])
    return float(np.median(np.diff(near))) if len(near) > 1 else float(x[-1] - x[0])


def _passes(x: Floats, rough: Floats, share: float) -> float:
    """The first rate at which the roughness reaches `share`; between two points on a line in log and log."""
    i = int(np.argmax(rough >= share))
    if i == 0:
        return float(10 ** x[0])
    part = np.log(share / rough[i - 1]) / np.log(rough[i] / rough[i - 1])
    return float(10 ** (x[i - 1] + part * (x[i] - x[i - 1])))


def _dip(x: Floats, losses: Floats) -> tuple[float, float, float, str, float] | str:
    """The centre of where the curve lies below its beginning; a loss half above that counts as half above."""
    start = float(np.median(losses[: max(5, len(losses) // 4)]))
    capped = np.minimum(losses, start + 0.5 * abs(start))
    weight = np.exp(-0.5 * ((x[:, None] - x[None, :]) / DIP) ** 2)
    weight /= weight.sum(1, keepdims=True)
    depth = np.maximum(start - weight @ capped, 0)
    if int(np.argmin(weight @ capped)) == len(losses) - 1:
        return "the loss still falls at the end of the sweep: sweep to higher rates"
    error = noise_of(x, losses) * float(np.sqrt((weight**2).sum(1).max()))
    if depth.max() <= max(SEEN * error, 1e-9 * abs(start)):
        return "the loss never lies clearly below where it began"
    centre = float(np.average(x, weights=depth**2))
    spread = float(np.sqrt(np.average((x - centre) ** 2, weights=depth**2)))
    low, rate, high = (float(10 ** (centre + k * spread)) for k in (-1, 0, 1))
    sure = float(depth.max() / (depth.max() + SEEN * error))
    return (
        low,
        rate,
        high,
        "the centre of the dip of noisy losses; held_out= with 32 examples or more would make it surer",
        sure,
    )


DEFAULT: Rule = consensus


def over_seeds(said: Suggestion, singles: Sequence[Suggestion]) -> Suggestion:
    """The mean log rate of several sweeps; `said` is what was said of the mean of their curves.

    A mean of curves is smoother than each of them, so its own rate is too high. The range is the mean of
    theirs and covers the rate of each; confidence keeps half if they lie a decade apart, and the share of
    those that say anything.

    >>> mean, low, high = (Suggestion(rate, rate / 2, 2 * rate, "consensus", 0.8, "…") for rate in (3, 1, 6))
    >>> print(over_seeds(mean, [low, high, no_suggestion("consensus", "the curve is flat")]))
    lr=2.4 (1 … 6, consensus, confidence 0.3): the mean of 2 of 3 sweeps, 1 … 6; of their mean curve: …
    """
    found = [each for each in singles if each.rate is not None]
    if said.rate is None or len(singles) < 2 or not found:
        return said
    rates = [each.rate for each in found if each.rate is not None]
    lows, highs = [each.low for each in found], [each.high for each in found]
    low, rate, high = (_middle(values) for values in (lows, rates, highs))
    parted = float(np.log10(max(rates) / min(rates)))
    sure = said.confidence * len(found) / len(singles) / (1 + parted)
    many = f"{len(found)} of {len(singles)}" if len(found) < len(singles) else f"{len(singles)}"
    span = f"{written(min(rates))} … {written(max(rates))}"
    reason = f"the mean of {many} sweeps, {span}; of their mean curve: {said.reason}"
    return Suggestion(rate, min(low, *rates), max(high, *rates), said.rule, round(sure, 3), reason)


def _middle(values: Sequence[float | None]) -> float:
    """The geometric mean."""
    return float(np.exp(np.mean(np.log(np.asarray(values, dtype=float)))))
