"""The user's word about single parameters: a list of (pattern, settings), of which the first match wins."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from etude.core.namespace import plain
from etude.core.path import Path
from etude.core.text import parse
from etude.errors import PlanError, near
from etude.model.leaf import Leaf

SETTINGS = ("depth", "lr", "lr_scale", "weight_decay", "gate")
EXAMPLE = '[("pooler", {"lr_scale": 0.5})]'


class Override(NamedTuple):
    """What one pattern asks for, None where it is silent; `lr` and `weight_decay` as ratios of the peaks."""

    match: str
    depth: int | str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    gate: Path | None = None


def overrides(entries: Iterable[Any], peak: float, decay: float) -> list[Override]:
    """Read what users write: pairs `(pattern, settings)`, or mappings with the pattern under `match`.

    `depth` is a number or the name of a rung, `lr_scale` a ratio of the peak, `lr` and `weight_decay`
    absolute values at the peak, `gate` a path that the rate is multiplied with. Raises `PlanError` for what
    is none of these and for settings that contradict.

    >>> read = overrides([("pooler", {"lr": 1e-5}), {"match": "new", "depth": "head"}], peak=2e-5, decay=0)
    >>> read[0].lr, read[1].depth
    (0.5, 'head')
    """
    if isinstance(entries, (str, Mapping)):
        raise PlanError(f"groups takes a list, got {entries!r}: write {EXAMPLE}")
    return [_override(*_pair(entry), peak, decay) for entry in entries]


def _pair(entry: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry, Mapping) and "match" in entry:
        entry = entry["match"], {key: value for key, value in entry.items() if key != "match"}
    match entry:
        case [str(pattern), Mapping() as settings]:
            return pattern, settings
    raise PlanError(f"groups takes pairs of a pattern and its settings, got {entry!r}: write {EXAMPLE}")


def _override(match: str, settings: Mapping[str, Any], peak: float, decay: float) -> Override:
    what = f"groups, {match!r}"
    try:
        re.compile(match)
    except re.error as error:
        raise PlanError(f"{what}: not a regular expression, {error}") from None
    if unknown := [key for key in settings if key not in SETTINGS]:
        raise PlanError(f"{what}: unknown setting {unknown[0]!r}{near(unknown[0], SETTINGS)}")
    if not settings:
        raise PlanError(f"{what}: nothing is set; known: {', '.join(SETTINGS)}")
    if len(rate := {"depth", "lr", "lr_scale"} & set(settings)) > 1:
        raise PlanError(f"{what}: {' and '.join(sorted(rate))} both say the rate; write one of them")
    lr = _number(what, "lr_scale", settings["lr_scale"]) if "lr_scale" in settings else None
    if "lr" in settings:
        lr = _ratio(what, "lr", settings["lr"], peak)
    if lr == 0:
        raise PlanError(f"{what}: a rate of 0 freezes nothing; set requires_grad to False before planning")
    weight_decay = settings.get("weight_decay")
    if weight_decay is not None:
        weight_decay = _ratio(what, "weight_decay", weight_decay, decay)
    return Override(match, settings.get("depth"), lr, weight_decay, _gate(what, settings.get("gate")))


def _gate(what: str, value: Any) -> Path | None:
    gate = parse(value) if isinstance(value, str) else value
    if gate is not None and not isinstance(gate, Path):
        raise PlanError(
            f"{what}: gate takes a path of levels, got {value!r}: write for example "
            f'"frozen(0.3) >> warmup(0.05) >> hold()"; its rate goes in lr or lr_scale'
        )
    return gate


def _ratio(what: str, name: str, value: Any, peak: float) -> float:
    value = _number(what, name, value)
    if value and not peak:
        raise PlanError(
            f"{what}: {name}={value:g} is a multiple of the plan's {name}, which is 0; give the plan one"
        )
    return value / peak if value else 0.0


def _number(what: str, name: str, value: Any) -> float:
    found = plain(value)
    if found is None:
        raise PlanError(f"{what}: {name} takes a number, got {value!r}")
    if not (math.isfinite(found) and found >= 0):
        raise PlanError(f"{what}: {name} takes a finite number, 0 or more, got {value!r}")
    return float(found)


def matches(leaves: Sequence[Leaf], entries: Sequence[Override]) -> dict[str, Override]:
    """The override of every tensor that has one, by its owner's name; a pattern may hit any of its names.

    Raises `PlanError` for a pattern that matches nothing or that others before it leave nothing to.
    """
    found: dict[str, Override] = {}
    for entry in entries:
        hit = {leaf.owner for leaf in leaves if re.search(entry.match, leaf.name)}
        if not hit:
            names = [leaf.name for leaf in leaves]
            raise PlanError(f"groups, {entry.match!r} matches no parameter{near(entry.match, names)}")
        new = [name for name in hit if name not in found]
        if not new:
            raise PlanError(
                f"groups, {entry.match!r}: patterns before it match all of its parameters; put it first"
            )
        found |= dict.fromkeys(new, entry)
    return found
