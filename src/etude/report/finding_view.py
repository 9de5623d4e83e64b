"""What every picture of a range test shows, whatever draws it."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class View(NamedTuple):
    """A range test as plain numbers. Points whose loss is not finite are left out.

    `curves` are the losses of the seeds, each over the first of the `rates`; `smooth` is what the rules saw,
    smoothed, over the first rates too; `band` the lowest and the highest seed at these. `marks` are the rates
    of the single rules, `suggested` is (low, rate, high) or None; `stopped` why the sweep ended early; `edge`
    the scan's. `title` is what to write next, `reason` why.
    """

    rates: Sequence[float]
    curves: Sequence[Sequence[float]]
    smooth: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None
    held_out: Sequence[float]
    marks: Mapping[str, float]
    suggested: tuple[float, float, float] | None
    stopped: str
    edge: float | None
    title: str
    reason: str

    def points(self, losses: Sequence[float]) -> tuple[list[float], list[float]]:
        """The rates and the losses of a curve, up to the first that is not finite."""
        n = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
        return list(self.rates[:n]), list(losses[:n])

    def shown(self, losses: Sequence[float]) -> tuple[list[float], list[float]]:
        """The points of a curve up to where, past its lowest, it leaves the picture at the top."""
        rates, losses = self.points(losses)
        _, high = self.limits()
        lowest = losses.index(min(losses)) if losses else 0
        above = next((i for i in range(lowest, len(losses)) if losses[i] > high), None)
        if above is None:
            return rates, losses
        part = (high - losses[above - 1]) / (losses[above] - losses[above - 1])
        end = rates[above - 1] * (rates[above] / rates[above - 1]) ** part
        return [*rates[:above], end], [*losses[:above], high]

    def limits(self) -> tuple[float, float]:
        """The losses that a picture shows: the descent with some room; the divergence leaves at the top.

        >>> rates, losses = (1e-4, 1e-3, 1e-2, 1e-1), (1.0, 0.5, 0.4, 50.0)
        >>> low, high = View(rates, [losses], losses, None, (), {}, None, "", None, "", "").limits()
        >>> round(low, 3), round(high, 3)
        (0.34, 1.18)
        """
        raw = [loss for losses in self.curves for loss in self._descent(losses)]
        dark = [*self._descent(self.smooth), *self._descent(self.held_out)]
        low = min([*raw, *dark], default=0.0)
        # One bad batch in fifty may lie above.
        high = max([*sorted(raw)[: 1 + int(0.98 * len(raw))][-1:], *dark], default=1.0)
        room = high - low if high - low > 1e-9 * abs(high) else abs(high) or 1.0
        return low - 0.1 * room, high + 0.3 * room

    def _descent(self, losses: Sequence[float]) -> list[float]:
        """The losses up to the lowest."""
        _, losses = self.points(losses)
        return losses[: losses.index(min(losses)) + 1] if losses else []

    def level(self, rate: float) -> float | None:
        """The smooth curve's loss at a rate, on the straight line (per log rate) between two points."""
        rates, losses = self.points(self.smooth)
        for i in range(1, len(rates)):
            if rates[i - 1] <= rate <= rates[i]:
                part = math.log(rate / rates[i - 1]) / math.log(rates[i] / rates[i - 1])
                return losses[i - 1] * (1 - part) + losses[i] * part
        return None


def decades(low: float, high: float) -> list[float]:
    """The powers of ten from `low` to `high`.

    >>> decades(1e-4, 0.15)
    [0.0001, 0.001, 0.01, 0.1]
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [float(f"1e{k}") for k in range(first, last + 1)]


def power(rate: float) -> str:
    """A power of ten in the fewest letters.

    >>> power(1e-5), power(1.0)
    ('1e-5', '1')
    """
    exponent = round(math.log10(rate))
    return f"1e{exponent}" if exponent else "1"


def written(rate: float | None) -> str:
    """A rate in two digits, as people write it in a schedule.

    >>> written(0.00032), written(1e-4), written(0.15), written(None)
    ('3.2e-4', '1e-4', '0.15', '–')
    """
    if rate is None:
        return "–"
    rounded = float(f"{rate:.1e}")
    if 0.01 <= rounded < 100:
        return f"{rounded:g}"
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
