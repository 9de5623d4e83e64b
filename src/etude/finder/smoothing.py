"""Smoothing that does not lag: a straight line around every point, as wide as the noise needs."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etude.errors import EtudeError

Floats = NDArray[np.float64]


class Smoothed(NamedTuple):
    """A smooth curve, one value for each point in every array.

    `x` is log10 of the rate; `slope` the change of the loss per decade; `noise` the deviation of a raw loss
    from the curve, `error` that of the smooth value, `width` that of the kernel in decades.
    """

    x: Floats
    loss: Floats
    slope: Floats
    noise: float
    error: Floats
    width: float


def smooth(rates: Sequence[float], losses: Sequence[float], width: float | None = None) -> Smoothed:
    """The curve of `losses` over log `rates`, by local linear regression with a Gaussian kernel.

    Each value is that of a line fitted around its own rate, with as much weight to the right as to the left,
    so nothing is shifted; at the ends the line corrects the bias of a mean (Fan & Gijbels 1996, §3.2). The
    finders' usual exponential mean with β = 0.98 lags by up to 50 points, half of a sweep. `width`, the
    deviation of the kernel in decades, is the largest whose leave-one-out error is within a standard error of
    the least (Breiman et al. 1984, §3.4.3); an error above three deviations of the noise counts as three, so
    that the divergence at the end does not decide for all. A single bad batch is first brought to within four
    deviations of its neighbours' median (Hampel's filter).

    Raises `EtudeError` if the rates do not increase from above 0, or a loss is not finite.

    >>> line = smooth([1e-5, 1e-4, 1e-3, 1e-2], [4.0, 3.0, 2.0, 1.0], width=1.0)
    >>> line.loss.round(9).tolist(), line.slope.round(9).tolist()
    ([4.0, 3.0, 2.0, 1.0], [-1.0, -1.0, -1.0, -1.0])
    """
    x, y = _checked(rates, losses)
    noise = noise_of(x, y)
    y = _tamed(y, noise)
    widths = _widths(x) if width is None else (width,)
    fits = [_operators(x.tobytes(), each) for each in widths]
    scores = [_cross_validation(values, y, noise) for values, _ in fits]
    least, error = min(scores)
    chosen = max(i for i, (score, _) in enumerate(scores) if score <= least + error)
    values, slopes = fits[chosen]
    error = noise * np.sqrt((values**2).sum(1))
    return Smoothed(x, values @ y, slopes @ y, noise, error, widths[chosen])


def noise_of(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> float:
    """The deviation of the noise, from how far every point lies off the line through its two neighbours.

    Source: Gasser, Sroka & Jennen-Steinmetz 1986, with the median in place of the mean square, so that
    neither a bad batch nor the divergence counts as noise. 0 with fewer than three points.

    >>> rng = np.random.default_rng(0)
    >>> round(noise_of(np.arange(400), 3 - 0.01 * np.arange(400) + rng.normal(0, 0.2, 400)), 2)
    0.2
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(y) < 3:
        return 0.0
    left = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    off = left * y[:-2] + (1 - left) * y[2:] - y[1:-1]
    return float(1.4826 * np.median(np.abs(off) / np.sqrt(left**2 + (1 - left) ** 2 + 1)))


def _checked(rates: Sequence[float], losses: Sequence[float]) -> tuple[Floats, Floats]:
    rate, y = np.asarray(rates, dtype=float), np.asarray(losses, dtype=float)
    if rate.shape != y.shape or rate.ndim != 1:
        raise EtudeError(f"one loss for every rate; got {rate.size} rates and {y.size} losses")
    if not (np.all(np.isfinite(rate)) and np.all(rate > 0) and np.all(np.diff(rate) > 0)):
        raise EtudeError(f"the rates of a sweep increase from above 0; got {rate.tolist()}")
    if not np.all(np.isfinite(y)):
        raise EtudeError("a loss is not finite; leave out the points from there on")
    return np.log10(rate), y


def _widths(x: Floats) -> tuple[float, ...]:
    """Kernels from half a point to a seventh of the sweep, each 1.25 times the one before."""
    if len(x) < 3:
        return (0.0,)
    apart, longest = float(x[-1] - x[0]) / (len(x) - 1), float(x[-1] - x[0]) / 7
    count = max(0, int(np.log(longest / apart * 2) / np.log(1.25)))
    return tuple(0.5 * apart * 1.25**k for k in range(count + 1))


@lru_cache(maxsize=64)
def _operators(logs: bytes, width: float) -> tuple[Floats, Floats]:
    """The matrices that take raw losses to smooth ones and to their slopes; kernels are as wide as gaps."""
    x = np.frombuffer(logs)
    if len(x) < 2:
        return np.eye(len(x)), np.zeros((len(x), len(x)))
    away = x[None, :] - x[:, None]
    gap = np.diff(x)
    widths = np.maximum(width, 0.5 * np.maximum([gap[0], *gap], [*gap, gap[-1]]))
    weight = np.exp(-0.5 * (away / widths[:, None]) ** 2)
    s0, s1, s2 = (np.sum(weight * away**k, axis=1, keepdims=True) for k in range(3))
    spread = s0 * s2 - s1**2
    return weight * (s2 - s1 * away) / spread, weight * (s0 * away - s1) / spread


def _cross_validation(values: Floats, y: Floats, noise: float) -> tuple[float, float]:
    """The mean squared error at points left out, in deviations of the noise, and its own standard error."""
    left_out = (y - values @ y) / np.maximum(1 - np.diag(values), 1e-9)
    unit = max(noise, 1e-12 * float(np.ptp(y))) or 1.0
    squares = np.minimum(np.abs(left_out) / unit, 3) ** 2
    return float(np.mean(squares)), float(np.std(squares) / np.sqrt(len(y)))


def _tamed(y: Floats, noise: float) -> Floats:
    """A bad batch brought to within four deviations of the median of five; what only rises or falls stays."""
    if len(y) < 5:
        return y
    middle = np.median(np.lib.stride_tricks.sliding_window_view(y, 5), axis=1)
    inner = np.clip(y[2:-2], middle - 4 * noise, middle + 4 * noise)
    return np.concatenate([y[:2], inner, y[-2:]])
