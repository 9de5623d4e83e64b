"""What may stand at a key of a recipe: numbers, texts, lengths and schedules, as types that pydantic checks.

Every kind takes what YAML, a command line or Python may bring for it (`2e-5`, `"2e-5"`, a numpy scalar, a
`Schedule`) and gives plain Python, so that a recipe can be written as YAML and read back equal.
"""

import os
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from etude.convert.values import number, whole
from etude.errors import ScheduleError

FIND = "find"


def text(value: Any) -> str:
    """A text without line breaks; a number is taken as it is written, a path by its name."""
    if isinstance(value, bool):
        raise ValueError(
            "must be a text (YAML reads yes, no, on and off as true and false: put it in quotes)"
        )
    if isinstance(value, (int, float, os.PathLike)):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("must be a text")
    if not value.strip() or not value.isprintable():
        raise ValueError("must be a printable text that is not empty")
    return value.strip()


def length(value: Any) -> int | float | str:
    """A length of the language above 0: updates (500), a fraction (0.1), or a text with its unit ("2ep").

    >>> length("0.5ep"), length("500"), length(0.1)
    ('0.5ep', 500, 0.1)
    """
    from etude.core.length import Span, measure
    from etude.core.length import length as written

    if value is None:
        raise ValueError("must be a length")
    if isinstance(value, str) and _says_number(value):
        value = float(value) if set(value) & set(".eE") else int(value)
    try:
        checked = written(value, "length")
    except ScheduleError as error:
        raise ValueError(f"must be a length ({error})") from None
    if not measure(checked, Span(1.0, 1.0, 1.0, 1.0), 1.0) > 0:
        raise ValueError("must be a length above 0")
    return checked  # type: ignore[return-value]  # None was refused above


def schedule(value: Any) -> float | str:
    """A number of 0 or more, or the text of a schedule with its peak in front."""
    if not hasattr(value, "over") and not (isinstance(value, str) and not _says_number(value)):
        return _not_negative(number(value))
    from etude.core.path import HOLD, Path

    drawn, written = _drawn(value, "must be a number or a schedule")
    if isinstance(drawn, Path):
        raise ValueError(f"must begin with its peak, as in 2e-4 * ({drawn})")
    if drawn.paths == (HOLD,) and "hold" not in written:
        return _not_negative(number(drawn.peak))
    return written


def rate(value: Any) -> float | str:
    """A schedule whose peak is above 0, or `find`: the range test looks for the peak."""
    if value == FIND:
        return FIND
    checked = schedule(value)
    from etude.core.path import as_schedule

    if not as_schedule(checked).peak > 0:
        raise ValueError("must be above 0: with this peak nothing would be trained")
    return checked


def between(value: Any) -> list[float]:
    """Two numbers above 0, the lower one first."""
    found = [number(one) for one in value] if isinstance(value, list | tuple) else []
    if len(found) != 2 or not 0 < found[0] <= found[1]:
        raise ValueError("must be two numbers above 0, the lower one first")
    return found


def path(value: Any) -> str:
    """The text of a path (or a product of paths) without a peak."""
    if isinstance(value, (bool, int, float)):
        raise ValueError("must be a path without its peak, which is lr")
    drawn, written = _drawn(value, "must be a path")
    if getattr(drawn, "peak", 1) != 1:
        raise ValueError("must be a path without its peak, which is lr")
    return written


def parts(value: str) -> tuple[int, ...] | tuple[float, ...]:
    """What a split says, as `data.load` takes it: fractions (floats of sum 1) or numbers of examples (ints).

    >>> parts("80/10/10"), parts("2000/1000/1000")
    ((0.8, 0.1, 0.1), (2000, 1000, 1000))
    """
    numbers = [number(part) for part in value.split("/")]
    if len(numbers) == 3 and min(numbers) > 0:
        for whole_part in (100, 1):
            if abs(sum(numbers) - whole_part) < 1e-9:
                return tuple(x / whole_part for x in numbers)
        if all(x == int(x) for x in numbers):
            return tuple(int(x) for x in numbers)
    raise ValueError("percentages add up to 100")


def split(value: Any) -> str:
    """Train/validation/test in percent or in numbers of examples, as a text; three in a sequence will do."""
    written = "/".join(
        str(part).strip() for part in (value if isinstance(value, list | tuple) else str(value).split("/"))
    )
    try:
        parts(written)
    except ValueError:
        raise ValueError(
            "must be three percentages that add up to 100, or three numbers of examples"
        ) from None
    return written


def _not_negative(plain: float) -> float:
    if plain < 0:
        raise ValueError("must not be negative")
    return plain


def _says_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _drawn(value: Any, what: str) -> tuple[Any, str]:
    """What a text says, and the text; a `Path` or `Schedule` is its own source. `what` it must be."""
    from etude.core.text import parse

    if hasattr(value, "over"):
        return value, str(value)
    if not isinstance(value, str):
        raise ValueError(what)
    try:
        return parse(value), " ".join(value.split())
    except ScheduleError as error:
        # Of a plain word the language could only say that it has no brackets.
        raise ValueError(f"{what} ({error})" if "(" in value else what) from None


Positive = Annotated[float, BeforeValidator(number), Field(gt=0)]
Share = Annotated[float, BeforeValidator(number), Field(ge=0, le=1)]
Tick = Annotated[float, BeforeValidator(number), Field(ge=0, le=1)]
Seed = Annotated[int, BeforeValidator(whole), Field(ge=0, lt=2**32)]
Count = Annotated[int, BeforeValidator(whole), Field(ge=1)]
Text = Annotated[str, BeforeValidator(text)]
Length = Annotated[int | float | str, BeforeValidator(length)]
Rate = Annotated[float | str, BeforeValidator(rate)]
Between = Annotated[list[float], BeforeValidator(between)]
Schedule = Annotated[float | str, BeforeValidator(schedule)]
Path = Annotated[str, BeforeValidator(path)]
Split = Annotated[str, BeforeValidator(split)]
# YAML reads a bare `no` as false.
Precision = Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(lambda v: "no" if v is False else v)]
