"""Rules that were tried and are not the default, so that the table says what each would have given.

All see the held-out curve: `(rates, losses) -> rate`.
"""

from collections.abc import Callable, Sequence

import numpy as np

KERNEL = 0.5  # decades; the default has 0.4
Rule = Callable[[Sequence[float], Sequence[float]], float]


def crossing(x: np.ndarray, share: np.ndarray, level: float) -> float:
    """The rate at which the geometric mean of `share` around each point first reaches `level`."""
    weight = np.exp(-0.5 * ((x[:, None] - x[None, :]) / KERNEL) ** 2)
    moved = np.exp(weight @ np.log(np.maximum(share, 1e-5)) / weight.sum(1))
    reached = moved >= level
    return float(10 ** x[int(np.argmax(reached)) if reached.any() else -1])


def first(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rule frozen first: an update changes the loss by 2% of what it was at the beginning."""
    x, y = np.log10(rates), np.asarray(losses)
    start = float(np.median(y[: max(5, len(y) // 5)]))
    return crossing((x[1:] + x[:-1]) / 2, np.abs(np.diff(y)) / start, 0.02)


def second(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rule frozen second: an update changes the loss by 2.3% of what it is then."""
    x, y = np.log10(rates), np.asarray(losses)
    return crossing((x[1:] + x[:-1]) / 2, 2 * np.abs(np.diff(y)) / (np.abs(y[1:]) + np.abs(y[:-1])), 0.023)


def isotonic(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Where the monotone fit to the log of the changes passes 2%: the lowest point of their running sum."""
    x, y = np.log10(rates), np.asarray(losses)
    start = float(np.median(y[: max(5, len(y) // 5)]))
    share = np.maximum(np.abs(np.diff(y)) / start, 1e-9)
    sums = np.cumsum([0.0, *np.clip(np.log(share / 0.02), -2.3, 2.3)])
    return float(10 ** x[min(int(np.argmin(sums)), len(x) - 1)])


def lowest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at the lowest held-out loss."""
    return float(rates[int(np.argmin(losses))])


ATTEMPTS: dict[str, Rule] = {
    "first rule: 2% of the first loss": first,
    "second rule: 2.3% of the loss then": second,
    "isotonic crossing": isotonic,
    "lowest held-out loss": lowest,
}
