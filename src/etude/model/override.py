"""The user's word about single parameters: a list of (pattern, settings), of which the first match wins."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from etude.core.path import Path
from etude.core.text import parse
from etude.errors import PlanError, near
from etude.model.ladder import Ladder, Placement
from etude.model.leaf import Leaf
from etude.model.match import Pattern, checked, found, hits, shown
from etude.model.rates.ratio import share

SETTINGS = ("depth", "lr", "lr_scale", "weight_decay", "gate", "freeze")
EXAMPLE = '[("pooler", {"lr_scale": 0.5})]'


class Override(NamedTuple):
    """What one pattern asks for, None where it is silent; `lr` and `weight_decay` as ratios of the peaks."""

    match: Pattern
    depth: int | str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    gate: Path | None = None
    freeze: bool | None = None

    @property
    def what(self) -> str:
        """How messages begin."""
        return f"groups, {shown(self.match)}"


def overrides(entries: Iterable[Any], peak: float, decay: float) -> list[Override]:
    """Read what users write: pairs `(pattern, settings)`, or mappings with the pattern under `match`.

    A pattern is a regular expression or a function of a leaf. `depth` is a number or the name of a rung,
    `lr_scale` a ratio of the peak, `lr` and `weight_decay` absolute values at the peak, `gate` a path that
    the rate is multiplied with, `freeze` whether the parameters stay frozen for good. Raises `PlanError` for
    what is none of these and for settings that contradict.

    >>> read = overrides([("pooler", {"lr": 1e-5}), {"match": "new", "depth": "head"}], peak=2e-5, decay=0)
    >>> read[0].lr, read[1].depth
    (0.5, 'head')
    """
    if isinstance(entries, (str, Mapping)):
        raise PlanError(f"groups takes a list, got {entries!r}: write {EXAMPLE}")
    return [_override(*_pair(entry), peak, decay) for entry in entries]


def _pair(entry: Any) -> tuple[Any, Mapping[str, Any]]:
    if isinstance(entry, Mapping) and "match" in entry:
        entry = entry["match"], {key: value for key, value in entry.items() if key != "match"}
    match entry:
        case [pattern, Mapping() as settings] if isinstance(pattern, str) or callable(pattern):
            return pattern, settings
    raise PlanError(f"groups takes pairs of a pattern and its settings, got {entry!r}: write {EXAMPLE}")


def _override(pattern: Any, settings: Mapping[str, Any], peak: float, decay: float) -> Override:
    match = checked("groups", pattern)
    what = Override(match).what
    if unknown := [key for key in settings if key not in SETTINGS]:
        raise PlanError(f"{what}: unknown setting {unknown[0]!r}{near(unknown[0], SETTINGS)}")
    if not settings:
        raise PlanError(f"{what}: nothing is set; known: {', '.join(SETTINGS)}")
    for words, said in (({"depth", "lr", "lr_scale"}, "the rate"), ({"gate", "freeze"}, "when it trains")):
        if len(twice := words & set(settings)) > 1:
            raise PlanError(f"{what}: {' and '.join(sorted(twice))} both say {said}; write one of them")
    lr = share(what, "lr_scale", settings["lr_scale"], 1.0) if "lr_scale" in settings else None
    if "lr" in settings:
        lr = share(what, "lr", settings["lr"], peak)
    if lr == 0:
        raise PlanError(f'{what}: a rate of 0 freezes nothing; write {{"freeze": True}}')
    weight_decay = settings.get("weight_decay")
    if weight_decay is not None:
        weight_decay = share(what, "weight_decay", weight_decay, decay)
    if not isinstance(freeze := settings.get("freeze"), bool | None):
        raise PlanError(f"{what}: freeze is True or False, got {freeze!r}")
    gate = _gate(what, settings.get("gate"))
    return Override(match, settings.get("depth"), lr, weight_decay, gate, freeze)


def _gate(what: str, value: Any) -> Path | None:
    gate = parse(value) if isinstance(value, str) else value
    if gate is not None and not isinstance(gate, Path):
        raise PlanError(
            f"{what}: gate takes a path of levels, got {value!r}: write for example "
            f'"frozen(0.3) >> warmup(0.05) >> hold()"; its rate goes in lr or lr_scale'
        )
    return gate


def matches(leaves: Sequence[Leaf], entries: Sequence[Override]) -> dict[str, Override]:
    """The override of every tensor that has one, by its owner's name; a pattern may hit any of its names.

    Raises `PlanError` for a pattern that matches nothing or that others before it leave nothing to.
    """
    chosen: dict[str, Override] = {}
    for entry in entries:
        new = [name for name in hits("groups", entry.match, leaves) if name not in chosen]
        if not new:
            raise PlanError(f"{entry.what}: patterns before it match all of its parameters; put it first")
        chosen |= dict.fromkeys(new, entry)
    return chosen


def refuse_shared_numbers(entries: Iterable[Override], ladder: Ladder) -> None:
    """Raise `PlanError` for a pattern that picks blocks by their number in two towers at once.

    The same number lies at another depth in each tower, and mostly one of them was not meant. A pattern that
    hits every block of both ("attention") picks none.
    """
    inside = [one for one in ladder.placements if 1 <= one.depth <= ladder.towers.get(one.tower, 0)]
    for entry in entries if len(ladder.towers) > 1 else ():
        hit = found(entry.match, [one.leaf for one in inside])
        chosen = [one for one in inside if one.leaf.name in hit]
        of: dict[str, dict[int, Placement]] = {}
        for one in chosen:
            of.setdefault(one.tower, {}).setdefault(one.depth, one)
        count = Counter(depth for blocks in of.values() for depth in blocks)
        shared = [depth for depth, towers in count.items() if towers > 1]
        partly = any(len(blocks) < ladder.towers[tower] for tower, blocks in of.items())
        if shared and partly and _picks_numbers(entry.match, [one.leaf for one in chosen]):
            places = [blocks[shared[0]] for blocks in of.values() if shared[0] in blocks]
            raise PlanError(_shared(entry, ladder, places))


def _picks_numbers(pattern: Pattern, hit: Iterable[Leaf]) -> bool:
    """Whether some parameter would not be hit if the numbers in its name were others."""
    return any(
        not found(pattern, [leaf._replace(name=re.sub(r"(?<![^.])\d+(?![^.])", "987654321", leaf.name))])
        for leaf in hit
    )


def _shared(entry: Override, ladder: Ladder, places: Sequence[Placement]) -> str:
    listed = " and ".join(f"{ladder.name(one.tower, one.depth)} ({one.leaf.name})" for one in places)
    says = f"{entry.what} hits {listed}: a number lies at another depth in each tower"
    parts = [one.leaf.name.split(".") for one in places]
    same = next((i for i, steps in enumerate(zip(*parts, strict=False)) if len(set(steps)) > 1), 0)
    if not isinstance(entry.match, str):
        return f"{says}; tell the towers apart, in one entry for each"
    rest = entry.match.removeprefix("^")
    starts = (re.escape(".".join(part[: same + 1])) for part in parts)
    lines = ", ".join(f'(r"^{start}\\..*{rest}", …)' for start in starts)
    return f"{says}; write one entry for each: {lines}"
