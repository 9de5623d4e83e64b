"""What never trains: whole rungs from the bottom up, or single parameters by a pattern."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from etude.errors import PlanError, near
from etude.model.ladder import Ladder
from etude.model.leaf import Leaf
from etude.model.match import checked, hits

Freeze = str | int | Callable[[Leaf], bool] | Mapping[str, str | int] | Iterable[Any] | None

RUNG = re.compile(r"embeddings|layer\.\d+|top|joint|head")


def needs_depth(freeze: Freeze) -> bool:
    """Whether the depth of parameters must be known, because a rung is named."""
    return any(
        isinstance(one, int | Mapping) or (isinstance(one, str) and RUNG.fullmatch(one) is not None)
        for one in _parts(freeze)
    )


def frozen(freeze: Freeze, ladder: Ladder, leaves: Sequence[Leaf]) -> set[str]:
    """The owners of the tensors that never train.

    `freeze` is one of these, or a list of them: the name of a rung ("embeddings", "layer.5",
    "encoder.layer.5") or its depth, which means it and everything below it in its tower; a mapping from
    towers to rungs; a regular expression or a function of a leaf, for single parameters. Raises `PlanError`
    for a rung that the model has not, for one that does not say its tower, and for a pattern without a match.
    """
    found: set[str] = set()
    for one in _parts(freeze):
        if isinstance(one, Mapping):
            rungs = [_in_tower(ladder, tower, rung) for tower, rung in one.items()]
        else:
            rungs = _rungs(ladder, one)
        if rungs is None:
            found |= hits("freeze", checked("freeze", one), leaves)
        for tower, depth in rungs or ():
            # What lies outside the towers lies above all of them.
            found |= {
                place.leaf.name
                for place in ladder.placements
                if place.depth <= depth and (place.tower == tower or tower not in ladder.towers)
            }
    return found


def _parts(freeze: Freeze) -> list[Any]:
    if freeze is None:
        return []
    single = isinstance(freeze, str | int | Mapping) or callable(freeze)
    return [freeze] if single else list(freeze)


def _rungs(ladder: Ladder, one: Any) -> list[tuple[str, int]] | None:
    """The rungs that a name or a number means, as (tower, depth); None for what is a pattern."""
    if isinstance(one, bool) or not isinstance(one, str | int) or not ladder.towers:
        return None
    named = {ladder.name(*key): key for key in ladder.known()}
    if one in named:
        return [named[one]]
    if isinstance(one, str) and not RUNG.fullmatch(one):
        tower = next((tower for tower in ladder.towers if tower and one.startswith(f"{tower}.")), "")
        rung = one.removeprefix(f"{tower}.")
        return [_in_tower(ladder, tower, rung)] if tower and RUNG.fullmatch(rung) else None
    if "" in ladder.towers:
        return [_in_tower(ladder, "", one)]
    ends = [key for name, key in named.items() if name.endswith(f".{one}")]
    if one in ("embeddings", "top"):
        return ends
    towers = ", ".join(f"{tower} ({blocks} blocks)" for tower, blocks in ladder.towers.items())
    first = next(iter(ladder.towers))
    raise PlanError(
        f"freeze={one!r} does not say in which tower, and this model has {towers}: write "
        f"freeze={{{first!r}: {one!r}}}"
    )


def _in_tower(ladder: Ladder, tower: str, rung: Any) -> tuple[str, int]:
    if tower not in ladder.towers:
        known = near(tower, ladder.towers) if "" not in ladder.towers else "; it has only one"
        raise PlanError(f"freeze: this model has no tower {tower!r}{known}")
    named = {ladder.name(*key): key for key in ladder.known() if key[0] == tower}
    full = ".".join(filter(None, (tower, str(rung))))
    if full in named:
        return named[full]
    if isinstance(rung, int) and not isinstance(rung, bool) and (tower, rung) in named.values():
        return tower, rung
    names = list(named)
    raise PlanError(
        f"freeze={rung!r} is no rung{' of ' + tower if tower else ''}: write {names[0]}, {names[1]} … "
        f"{names[-1]}, or 0 to {len(names) - 1}"
    )
