"""Rungs by name: one (`head`), a range (`layer.4..head`), a pattern (`encoder.*`), several (`top+head`)."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from etude.errors import PlanError, near
from etude.model.ladder import Rung

Key = tuple[str, int]
"""Tower and depth, by which a rung is known."""


def key(rung: Rung) -> Key:
    """The tower and the depth of a rung."""
    return rung.tower, rung.depth


def chosen(names: str, rungs: Sequence[Rung]) -> frozenset[Key]:
    """The rungs that a text names: `head`, `layer.4..head`, `encoder.*`, or several of these with `+`.

    A range goes up from its first rung to its last, within one tower and on to what lies above all towers.
    Raises `PlanError` for a name that no rung has and for a range that leads nowhere.

    >>> rungs = [Rung(name, "", depth, 0, ()) for depth, name in enumerate(("layer.0", "layer.1", "head"))]
    >>> sorted(chosen("layer.0+head", rungs)), sorted(chosen("layer.1..head", rungs))
    ([('', 0), ('', 2)], [('', 1), ('', 2)])
    """
    found: set[Key] = set()
    for part in names.split("+"):
        first, dots, last = (word.strip() for word in part.partition(".."))
        found |= _range(first, last, rungs) if dots else {key(rung) for rung in _named(first, rungs)}
    return frozenset(found)


def _named(pattern: str, rungs: Sequence[Rung]) -> list[Rung]:
    found = [rung for rung in rungs if fnmatchcase(rung.name, pattern)]
    if not found:
        raise PlanError(f"this model has no rung {pattern!r}{near(pattern, [rung.name for rung in rungs])}")
    return found


def _range(first: str, last: str, rungs: Sequence[Rung]) -> set[Key]:
    (bottom, *_), (*_, top) = _named(first, rungs), _named(last, rungs)
    above = top.tower != bottom.tower
    if above and top.tower:
        raise PlanError(
            f"{first}..{last} begins in one tower and ends in another: give each its own, as in "
            f"{first}..{_highest(bottom.tower, rungs)}+{_lowest(top.tower, rungs)}..{last}"
        )
    found = {
        key(rung)
        for rung in rungs
        if (rung.tower == bottom.tower and bottom.depth <= rung.depth and (above or rung.depth <= top.depth))
        or (above and rung.tower == top.tower and rung.depth <= top.depth)
    }
    if not found:
        raise PlanError(f"{first}..{last} goes down: a range goes up, write {last}..{first}")
    return found


def _highest(tower: str, rungs: Sequence[Rung]) -> str:
    return [rung.name for rung in rungs if rung.tower == tower][-1]


def _lowest(tower: str, rungs: Sequence[Rung]) -> str:
    return next(rung.name for rung in rungs if rung.tower == tower)


def text(keys: Collection[Key], rungs: Sequence[Rung]) -> str:
    """The text that names these rungs, with ranges where they stand above each other; `*` for all.

    >>> rungs = [Rung(name, "", depth, 0, ()) for depth, name in enumerate(("layer.0", "layer.1", "head"))]
    >>> text([("", 1), ("", 2)], rungs), text([("", 0), ("", 2)], rungs)
    ('layer.1..head', 'layer.0+head')
    """
    if {key(rung) for rung in rungs} <= set(keys):
        return "*"
    runs: list[list[Rung]] = []
    before: Rung | None = None
    for rung in rungs:
        if key(rung) in keys:
            if runs and before is runs[-1][-1] and before.tower == rung.tower:
                runs[-1].append(rung)
            else:
                runs.append([rung])
        before = rung
    return "+".join("..".join(dict.fromkeys((run[0].name, run[-1].name))) for run in runs)
