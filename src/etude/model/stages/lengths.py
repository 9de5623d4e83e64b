"""Sums and differences of written lengths, exact: 0.1 + 0.2 is 0.3, "1ep" + "2ep" is "3ep"."""

from decimal import Decimal

from etude.core.length import UNITS, Length

# What a length counts: "" fractions of the run, "up" updates, and the other units of the language.
Counted = tuple[Decimal, str]


def counted(length: Length) -> Counted:
    """How much of what a written length is; updates have the unit "up", fractions none.

    >>> counted(0.25), counted(500), counted("1e3ex")
    ((Decimal('0.25'), ''), (Decimal('500'), 'up'), (Decimal('1E+3'), 'ex'))
    """
    if isinstance(length, str):
        unit = next(unit for unit in ("%", *UNITS) if length.endswith(unit))
        count = Decimal(length.removesuffix(unit))
        return (count / 100, "") if unit == "%" else (count, unit)
    return Decimal(repr(length)), "up" if isinstance(length, int) else ""


def written(count: Decimal, unit: str) -> Length:
    """The length that counts so much of a unit.

    >>> written(Decimal("0.3"), ""), written(Decimal(40), "up"), written(Decimal("3.0"), "ep")
    (0.3, 40, '3ep')
    """
    if not unit:
        return "100%" if count == 1 else float(count)
    if unit == "up" and count == int(count):
        return int(count)
    return f"{count.normalize():f}{unit}"


def plus(one: Length, other: Length) -> Length:
    """The two together; None where they count different things.

    >>> plus(0.1, "20%"), plus("1ep", "2.5ep"), plus(100, 0.1)
    (0.3, '3.5ep', None)
    """
    return _combined(one, other, 1)


def minus(one: Length, other: Length) -> Length:
    """What is left of the first without the second; None where they count different things.

    >>> minus(0.3, 0.05), minus("1ep", 100)
    (0.25, None)
    """
    return _combined(one, other, -1)


def times(length: Length, factor: int) -> Length:
    """A length so many times over.

    >>> times("1ep", 3), times(0.1, 3)
    ('3ep', 0.3)
    """
    count, unit = counted(length)
    return written(count * factor, unit)


def _combined(one: Length, other: Length, sign: int) -> Length:
    (a, unit), (b, its) = counted(one), counted(other)
    return written(a + sign * b, unit) if unit == its else None
