"""What groups are called: for the rungs that they span, and for what sets them apart on these.

`layer.3`, `layer.5..top`, `embeddings..layer.2+head`; the tower for all of its rungs, and `all` where there
is one rate. Then `.lora_b` for LoRA's B, `.x0.5` for another rate that is not the rungs' own, `.frozen`,
`.gated` for a gate by hand (with its number if there are several), `.no_decay` without weight decay.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from etude.core.path import Path
from etude.model.ladder import Rung
from etude.model.wishes import STILL, Setting

Kind = tuple[float, Path | None]
"""A rate and a gate."""


class Marks(NamedTuple):
    """Rates that some rung itself has, rates that only LoRA's B has, and gates that were given by hand."""

    own: frozenset[float] = frozenset()
    lora: frozenset[float] = frozenset()
    gates: tuple[Path, ...] = ()


def names(rungs: Sequence[Rung], settings: Mapping[str, Setting], marks: Marks) -> dict[Setting, str]:
    """The name of each setting's group, in group order: from the bottom up, decayed before not decayed."""
    spans: dict[Kind, list[int]] = {}
    for i, rung in enumerate(rungs):
        for placement in rung.placements:
            if setting := settings.get(placement.leaf.name):
                spans.setdefault((setting.lr, setting.gate), []).append(i)

    def order(setting: Setting) -> tuple[float, ...]:
        gate = marks.gates.index(setting.gate) if setting.gate in marks.gates else -1
        first = min(spans[setting.lr, setting.gate])
        return first, setting.lr not in marks.own, setting.lr, gate, -setting.weight_decay

    found: dict[Setting, str] = {}
    for setting in sorted(dict.fromkeys(settings.values()), key=order):
        span = "all" if len(spans) == 1 else _span(rungs, {*spans[setting.lr, setting.gate]})
        name = span + _marked(setting, marks, len(spans))
        while name in found.values():
            name += f".x{setting.lr!r}"
        found[setting] = name
    return found


def _marked(setting: Setting, marks: Marks, kinds: int) -> str:
    if setting == STILL:
        return ".frozen"
    rate = decay = gate = ""
    if setting.lr not in marks.own and kinds > 1:
        rate = ".lora_b" if setting.lr in marks.lora else f".x{setting.lr:g}"
    if setting.gate in marks.gates:
        gate = f".gated{marks.gates.index(setting.gate) + 1 if len(marks.gates) > 1 else ''}"
    if setting.weight_decay != 1:
        decay = ".no_decay" if not setting.weight_decay else f".decay_x{setting.weight_decay:g}"
    return rate + gate + decay


def _span(rungs: Sequence[Rung], places: set[int]) -> str:
    """The runs of rungs at these places from the bottom up, none of them across two towers."""
    runs: list[list[Rung]] = []
    for i, rung in enumerate(rungs):
        if i in places:
            if i - 1 not in places or rungs[i - 1].tower != rung.tower:
                runs.append([])
            runs[-1].append(rung)
    return "+".join(_run(rungs, run) for run in runs)


def _run(rungs: Sequence[Rung], run: Sequence[Rung]) -> str:
    """A run by its first and its last rung, or by the tower that it fills."""
    first, last = run[0], run[-1]
    if first.tower and len(run) == sum(rung.tower == first.tower for rung in rungs):
        return first.tower
    if len(run) == 1:
        return first.name
    return f"{first.name}..{last.name.removeprefix(f'{first.tower}.')}"
