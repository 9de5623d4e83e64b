"""Cuts of the rate whose product has a lower bound."""


def lowered(level: float, factor: float, least: float) -> tuple[float, float]:
    """By what a cut multiplies the rate, and the product of all cuts after it, which was `level` before.

    That is `factor`, or what is left to `least`; there it is 1, and nothing changes any more.

    >>> lowered(1.0, 0.5, 0.3), lowered(0.5, 0.5, 0.3), lowered(0.3, 0.5, 0.3)
    ((0.5, 0.5), (0.6, 0.3), (1.0, 0.3))
    """
    after = max(level * factor, least)
    if after == level:
        return 1.0, level
    return factor if after > least else after / level, after
