"""The rules of the finders: pure functions from a curve to a suggestion, each with its source.

A rule takes the rates and the raw losses of a sweep, smooths them (`smoothing.smooth`) and looks for its
mark. It answers with no suggestion, and the reason, where the curve is too short, flat, rising from the start
or not a number; otherwise it disagrees with the others as it likes. `RULES` holds them by name.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from etude.finder.smoothing import Smoothed, smooth
from etude.finder.suggestion import Suggestion, no_suggestion, written

Rule = Callable[[Sequence[float], Sequence[float]], Suggestion]
Mark = Callable[[Smoothed], tuple[float, float, float, str]]

RULES: dict[str, Rule] = {}
POINTS = 10
"""A curve of fewer points says nothing."""
CLEAR = 5.0
"""A fall of so many standard errors is no chance: one flat curve of 100 points in a hundred has it."""


def smoothed(rates: Sequence[float], losses: Sequence[float]) -> Smoothed | str:
    """The smooth curve up to the first loss that is not finite, or why no rule can say anything of it.

    >>> smoothed([1e-5, 1e-4], [0.7, 0.6])
    'the curve is too short: 2 points; 10 are the least'
    """
    finite = np.isfinite(np.asarray(losses, dtype=float))
    n = len(finite) if finite.all() else int(np.argmin(finite))
    if n < POINTS:
        ended = "" if n == len(finite) else f", then the loss is no number at {written(float(rates[n]))}"
        return f"the curve is too short: {n} points{ended}; {POINTS} are the least"
    curve = smooth(rates[:n], losses[:n])
    fall, error = _fall(curve)
    if fall <= max(CLEAR * error, 1e-9 * float(np.max(np.abs(curve.loss)))):
        rises = curve.loss[-1] - curve.loss[0] > max(CLEAR * error, fall)
        return (
            "the loss only rises: begin at a lower rate"
            if rises
            else "the curve is flat: no rate lowers the loss"
        )
    return curve


def _fall(curve: Smoothed) -> tuple[float, float]:
    """The deepest fall of the loss from an earlier point to a later one, and its standard error."""
    falls = np.maximum.accumulate(curve.loss) - curve.loss
    low = int(np.argmax(falls))
    high = int(np.argmax(curve.loss[: low + 1]))
    return float(falls[low]), float(np.hypot(curve.error[low], curve.error[high]))


def rule(mark: Mark) -> Rule:
    """Register a rule by its name; `mark` finds (rate, low, high, reason) on a curve that says something."""
    name = mark.__name__

    def judge(rates: Sequence[float], losses: Sequence[float]) -> Suggestion:
        curve = smoothed(rates, losses)
        if isinstance(curve, str):
            return no_suggestion(name, curve)
        rate, low, high, reason = mark(curve)
        return Suggestion(rate, low, high, name, confidence(curve), reason)

    for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
        setattr(judge, attribute, getattr(mark, attribute))
    RULES[name] = judge
    return judge


def confidence(curve: Smoothed) -> float:
    """How clearly the fall of the curve stands out of its noise: 0 … 1, ½ where it is just clear enough."""
    fall, error = _fall(curve)
    return 1.0 if error == 0 else round(float(fall / (fall + CLEAR * error)), 3)


@rule
def steepest(curve: Smoothed) -> tuple[float, float, float, str]:
    """Where the loss falls fastest per log rate; the range is where it falls at least half as fast.

    Only up to the lowest loss counts: what falls behind it comes back from a divergence.
    `argmin dL / d log η`: torch-lr-finder 0.2.2 and ignite's `FastaiLRFinder` (by index, the same on a log
    grid). Lightning divides by dη instead, which makes any wiggle at small rates infinitely steep.

    >>> rates = [10 ** (-6 + k / 10) for k in range(61)]
    >>> print(steepest(rates, [1 / (1 + 300 * rate) + rate for rate in rates]))
    lr=3.2e-3 (6.3e-4 … 0.016, steepest, confidence 1.0): the loss falls fastest here
    """
    i = int(np.argmin(curve.slope[: np.argmin(curve.loss) + 1]))
    low, high = _stretch(curve.slope <= curve.slope[i] / 2, i)
    return *_rates(curve, i, low, high), "the loss falls fastest here"


@rule
def valley(curve: Smoothed) -> tuple[float, float, float, str]:
    """The middle of the longest descent; the range is its middle third.

    fastai 2.8 `valley` (its default): the longest decreasing subsequence of the losses, by the number of
    points; of its length one third and half of a third are gone down. fastai takes the subsequence as
    contiguous and may begin one point before the first; here it begins where it begins.

    >>> rates = [10 ** (-6 + k / 10) for k in range(61)]
    >>> print(valley(rates, [1 / (1 + 300 * rate) + rate for rate in rates]))
    lr=1.6e-4 (3.2e-5 … 1.3e-3, valley, confidence 1.0): the middle of the longest descent, 1e-6 … 0.05
    """
    begin, end = _descent(curve.loss.tolist())
    third = (end - begin) / 3
    low, middle, high = begin + int(third), begin + int(third) + int(third / 2), begin + int(2 * third)
    span = " … ".join(written(float(10 ** curve.x[i])) for i in (begin, end))
    return *_rates(curve, middle, low, high), f"the middle of the longest descent, {span}"


@rule
def minimum(curve: Smoothed) -> tuple[float, float, float, str]:
    """A tenth of the rate at the lowest loss; the range is a tenth of where the loss is as good.

    fastai 2.8 `minimum`, of the smoothed curve. "As good" is within 5% of the fall and one standard error.

    >>> rates = [10 ** (-6 + k / 10) for k in range(61)]
    >>> print(minimum(rates, [1 / (1 + 300 * rate) + rate for rate in rates]))
    lr=5e-3 (2.5e-3 … 0.013, minimum, confidence 1.0): a tenth of the rate at the lowest loss, 0.05
    """
    i = int(np.argmin(curve.loss))
    fall, _ = _fall(curve)
    low, high = _stretch(curve.loss <= curve.loss[i] + 0.05 * fall + curve.error[i], i)
    rate, least, most = (float(10 ** (curve.x[k] - 1)) for k in (i, low, high))
    end = "; it still falls at the end of the sweep" if i == len(curve.x) - 1 else ""
    return rate, least, most, f"a tenth of the rate at the lowest loss, {written(10 * rate)}{end}"


WINDOW, LEVEL = 15 * 8 / 100, 0.005 * 100 / 8


@rule
def slide(curve: Smoothed) -> tuple[float, float, float, str]:
    """The low end of a window slid down from the highest rate until the slopes at both its ends agree.

    fastai 2.8 `slide` (from ESRI's arcgis): window 15 points, slopes within .005 a point, on fastai's own
    grid of 100 points over 8 decades; here 1.2 decades and a sixteenth of the fall a decade, so that neither
    the number of points nor the unit of the loss matters. Where no slopes agree it is the lowest rate. The
    range is the window's lower half.

    >>> rates = [10 ** (-6 + k / 10) for k in range(61)]
    >>> slide(rates, [1 / (1 + 300 * rate) + rate for rate in rates]).reason
    'the slopes agree over 7.9e-4 … 0.013'
    """
    fall, _ = _fall(curve)
    slope, x = curve.slope, curve.x
    left = right = len(x) - 1
    for right in range(len(x) - 1, -1, -1):
        left = int(np.argmin(np.abs(x - (x[right] - WINDOW))))
        if left == 0 or abs(slope[right] - slope[left]) <= LEVEL * fall:
            break
    span = f"{written(float(10 ** x[left]))} … {written(float(10 ** x[right]))}"
    return *_rates(curve, left, left, (left + right) // 2), f"the slopes agree over {span}"


def _rates(curve: Smoothed, i: int, low: int, high: int) -> tuple[float, float, float]:
    rate, least, most = (float(10 ** curve.x[k]) for k in (i, low, high))
    return rate, least, most


def _stretch(holds: NDArray[np.bool_], i: int) -> tuple[int, int]:
    """The first and the last point of the stretch around point `i` in which something holds."""
    low = high = i
    while low > 0 and holds[low - 1]:
        low -= 1
    while high < len(holds) - 1 and holds[high + 1]:
        high += 1
    return low, high


def _descent(losses: Sequence[float]) -> tuple[int, int]:
    """The first and the last point of the longest strictly decreasing subsequence (Schensted 1961)."""
    ends: list[float] = []  # the highest possible last loss, negated, of a subsequence of each length
    begins: list[int] = []
    best = (0, 0)
    for i, loss in enumerate(losses):
        k = bisect_left(ends, -loss)
        begin = begins[k - 1] if k else i
        if k == len(ends):
            best = (begin, i)
        ends[k:] = [-loss, *ends[k + 1 :]]
        begins[k:] = [begin, *begins[k + 1 :]]
    return best
