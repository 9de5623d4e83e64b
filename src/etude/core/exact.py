"""Levels at many times at once with numpy, each to the last bit what it is at that time alone.

Sums, products, quotients and roots are rounded in one way on every machine. Cosines and the like are not, and
numpy has its own: they are asked of `math` here. Nor are powers, which a formula writes as `**`: where a word
takes one, its line is asked for single times.
"""

from functools import cache
from typing import Any

from etude.core import vector
from etude.core.line import Line
from etude.core.namespace import SCALARS, Scalars
from etude.core.passage import Share
from etude.core.shapes import SHAPES
from etude.core.stroke import Options

ROUNDED_ALIKE = ("sqrt", "floor", "where")


def levels(share: Share, times: Any, np: Any) -> Any:
    """Curve × gate, as `Share.levels` has them: a row for each of the rising times, a column a kind."""
    level = line_levels(share.curve.lines[0], times, np)
    for line in share.curve.lines[1:]:
        level = level * line_levels(line, times, np)
    level = share.curve.peak * level
    found = np.empty((times.size, len(share.gates)))
    for kind, gate in enumerate(share.gates):
        found[:, kind] = level * (gate if isinstance(gate, float) else line_levels(gate, times, np))
    return found


def line_levels(line: Line, times: Any, np: Any) -> Any:
    """The levels of one line at rising times, which are float64."""
    first, last = line.index(times[0]), line.index(times[-1])
    if any(takes_power(row.shape, row.params) for row in line.rows[first : last + 1]):
        return np.fromiter(map(line.level, times.tolist()), float, times.size)
    return vector.levels(line, times, times[0], times[-1], _Functions(np))


class _Functions:
    """numpy, with the functions of formulas as single numbers have them."""

    def __init__(self, np: Any):
        self._np = np

    def __getattr__(self, name: str) -> Any:
        np = self._np
        if name in ROUNDED_ALIKE or not hasattr(Scalars, name) or agrees(name, np):
            return getattr(np, name)
        one = getattr(SCALARS, name)
        return lambda x: np.fromiter(map(one, x.tolist()), float, x.size)


@cache
def agrees(name: str, np: Any) -> bool:
    """Whether numpy's function and that of `math` are one and the same, tried on four thousand numbers."""
    x = np.linspace(-8, 8, 4096)
    return getattr(np, name)(x).tolist() == list(map(getattr(SCALARS, name), x.tolist()))


@cache
def takes_power(shape: str, params: Options) -> bool:
    """Whether the word's formula, told `params`, takes a power of what depends on time, or to it.

    >>> takes_power("cosine", ()), takes_power("cosine", (("exponent", 2.0),)), takes_power("exp", ())
    (False, True, True)
    """
    probe = _Probe()
    SHAPES[shape].formula(1.0, 0.5, probe, probe, probe, **dict(params))
    return probe.raised


class _Probe:
    """Stands for time and for the functions in a formula: comes out of everything, and notes a power."""

    raised = False

    def _same(self, *others: Any) -> "_Probe":
        return self

    def _power(self, *others: Any) -> "_Probe":
        self.raised = True
        return self

    def __getattr__(self, name: str) -> Any:
        return self._same

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _same
    __neg__ = __lt__ = __le__ = __gt__ = __ge__ = _same
    __pow__ = __rpow__ = _power
