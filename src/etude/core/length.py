"""Lengths: how far a piece reaches, in planned updates, as a fraction of its span, or in units of the run."""

import math
import re
from typing import Any, NamedTuple

from etude.core.namespace import number, plain
from etude.errors import ScheduleError

Length = int | float | str | None
"""Updates (`500`), a fraction of the span (`0.1`, `"6%"`), a number with a unit, or None for what is left."""

UNITS = {"up": "updates", "ep": "epochs", "ex": "examples", "tok": "tokens"}
_TEXT = re.compile(r"\s*(\+?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%|up|ep|ex|tok)\s*")

# Two lengths closer than this are one: 0.07 * 100 is 7.
TOLERANCE = 1e-9

# Beyond this a float no longer tells one update from the next.
LONGEST = 2**53


class Span(NamedTuple):
    """A run on the planned clock: its length in updates, and what an epoch and an update are.

    `total` may be `math.inf` for an open run. `epoch` counts planned updates, `batch` examples per planned
    update, `tokens` tokens per planned update; None where nobody said.
    """

    total: float
    epoch: float | None = None
    batch: float | None = None
    tokens: float | None = None


def span(total: Any, epoch: Any = None, batch: Any = None, tokens: Any = None) -> Span:
    """A checked `Span`; raises `ScheduleError` for a total that is not a positive number."""
    values: dict[str, float | None] = {}
    for name, value in {"total": total, "epoch": epoch, "batch": batch, "tokens": tokens}.items():
        if value is None and name != "total":
            values[name] = None
            continue
        found = plain(value)
        endless = name == "total" and found == math.inf
        checked = math.inf if endless else float(number(value, f"over({name}=…)"))
        if not checked > 0:
            raise ScheduleError(f"over({name}=…) takes a positive number, got {value!r}")
        values[name] = checked
    return Span(**values)  # type: ignore[arg-type]


def length(value: Any, what: str = "over") -> Length:
    """The written form of a length, checked.

    Raises `ScheduleError` for a negative number, for a float that is no fraction, and for an unknown unit.

    >>> length(500), length(0.1), length("6 %"), length("2ep")
    (500, 0.1, '6%', '2ep')
    >>> length(1.0)
    Traceback (most recent call last):
    etude.errors.ScheduleError: over=1.0 is ambiguous: write 1 for one update or "100%" for the whole span
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _text(value, what)
    found = plain(value)
    if found is None:
        raise ScheduleError(
            f'{what}={value!r} is no length: write updates (500), a fraction (0.1) or a text ("2ep")'
        )
    if found > LONGEST:
        raise ScheduleError(f"{what} is longer than any run; to take what is left, leave it out")
    if isinstance(found, int):
        if found < 0:
            raise ScheduleError(f"{what}={found} is negative: a length is 0 or more updates")
        return found
    if 0 <= found < 1:
        return abs(found)
    if found == 1:
        raise ScheduleError(
            f'{what}={found} is ambiguous: write 1 for one update or "100%" for the whole span'
        )
    if found > 1 and found.is_integer():
        raise ScheduleError(f"{what}={found} is ambiguous: write {int(found)} (a whole number) for updates")
    raise ScheduleError(
        f"{what}={found} is no length: a fraction lies between 0 and 1; write whole updates (500), "
        f'a fraction (0.1), or a number with its unit ("2.5ep", "500ex", "1e9tok")'
    )


def _text(text: str, what: str) -> str:
    match = _TEXT.fullmatch(text)
    if not match:
        raise ScheduleError(
            f'{what}={text!r} is no length: write a number with %, {", ".join(UNITS)}, as in "6%" or "2ep"'
        )
    count, unit = match.groups()
    if unit == "%" and float(count) > 100:
        raise ScheduleError(f'{what}="{count}%" is more than the whole span: write at most "100%"')
    if math.isinf(float(count)):
        raise ScheduleError(
            f'{what}="{count}{unit}" is not finite: leave the length out to take what is left'
        )
    return count + unit


def _split(text: str) -> tuple[float, str]:
    count, unit = _TEXT.fullmatch(text).groups()  # type: ignore[union-attr]  # checked when it was written
    return float(count), unit


def fraction_of(value: Length) -> float:
    """The share of the span that a relative length takes; 0 for an absolute one."""
    if isinstance(value, float):
        return value
    if isinstance(value, str) and value.endswith("%"):
        return _split(value)[0] / 100
    return 0.0


def is_absolute(value: Length) -> bool:
    """Whether a length means the same whatever the span is."""
    return value is not None and fraction_of(value) == 0


def is_zero(value: Length) -> bool:
    """Whether a length is written and is 0."""
    return value is not None and (_split(value)[0] if isinstance(value, str) else value) == 0


def measure(value: Length, run: Span, reach: float) -> float:
    """A written length in planned updates; `reach` is the length of the span that fractions refer to.

    Raises `ScheduleError` when its unit was not told to `over(...)`.

    >>> measure("2ep", Span(1000, epoch=125.3), 1000)
    250.6
    """
    if isinstance(value, float):
        return value * reach
    if not isinstance(value, str):
        return float(value or 0)
    count, unit = _split(value)
    if unit == "%":
        return count / 100 * reach
    if unit == "up":
        return count
    keyword, per_update = {
        "ep": ("epoch", run.epoch),
        "ex": ("batch", run.batch),
        "tok": ("tokens", run.tokens),
    }[unit]
    if per_update is None:
        raise ScheduleError(
            f'"{value}" is a length in {UNITS[unit]}, and this run was not told what that is: '
            f"write over(total, {keyword}=…) ({_MEANING[keyword]})"
        )
    return count * per_update if unit == "ep" else count / per_update


_MEANING = {
    "epoch": "planned updates per epoch",
    "batch": "examples per planned update",
    "tokens": "tokens per planned update",
}


def snap(boundary: float) -> float:
    """A boundary within 1e-9 of a whole update is that update.

    >>> snap(0.07 * 100)
    7.0
    """
    whole = float(round(boundary)) if math.isfinite(boundary) else boundary
    return whole if abs(boundary - whole) <= TOLERANCE else boundary
