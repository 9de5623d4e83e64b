"""From depths to groups: every trainable parameter's settings, and one group per distinct setting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from etude.core.path import Path
from etude.core.plan import Group
from etude.errors import PlanError
from etude.model.ladder import Ladder, Placement
from etude.model.leaf import decays
from etude.model.override import Override


class Setting(NamedTuple):
    """What all parameters of a group share: ratios of the peaks, and the gate of its rate."""

    lr: float
    weight_decay: float
    gate: Path | None = None


class Row(NamedTuple):
    """The parameters of one rung that share a setting; frozen ones have neither setting nor group."""

    depth: int
    rung: str
    group: str | None
    setting: Setting | None
    placements: tuple[Placement, ...]

    @property
    def size(self) -> int:
        """How many numbers these parameters are."""
        return sum(placement.leaf.size for placement in self.placements)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why they stand here, each reason once."""
        return tuple(dict.fromkeys(placement.reason for placement in self.placements))


@dataclass(frozen=True)
class Layout:
    """Where every parameter of a model stands and what it gets.

    `settings` holds the trainable parameters by name, `by_hand` the rates that the user set and no rung has.
    """

    ladder: Ladder
    settings: Mapping[str, Setting]
    by_hand: frozenset[float]

    def groups(self) -> tuple[Group, ...]:
        """One group per distinct setting, from the bottom up, decayed before not decayed."""
        names = self.names()
        members: dict[Setting, list[str]] = {setting: [] for setting in names}
        for name, setting in self.settings.items():
            members[setting].append(name)
        return tuple(
            Group(
                name,
                tuple(members[setting]),
                {"lr": setting.lr, "weight_decay": setting.weight_decay},
                setting.gate,
            )
            for setting, name in names.items()
        )

    def rows(self) -> list[Row]:
        """The plan as a table from the bottom up: one row per rung and setting, frozen parameters last."""
        names = self.names()
        rows = []
        for rung in self.ladder.rungs():
            for setting in (*names, None):
                part = tuple(p for p in rung.placements if self.settings.get(p.leaf.name) == setting)
                if part:
                    rows.append(
                        Row(rung.depth, rung.name, names[setting] if setting else None, setting, part)
                    )
        return rows

    def names(self) -> dict[Setting, str]:
        """The name of each setting's group, in group order: the rungs its rate spans and what else it is.

        `layer.3`, `layer.5..top`, `embeddings..layer.2+head`; `all` where there is one rate; `.no_decay`
        without weight decay; `.x0.5` for a rate that is not the rungs' own; `.gated` for a gate, with its
        number if there are several.
        """
        depths: dict[tuple[float, Path | None], set[int]] = {}
        for placement in self.ladder.placements:
            if setting := self.settings.get(placement.leaf.name):
                depths.setdefault((setting.lr, setting.gate), set()).add(placement.depth)
        gates = list(dict.fromkeys(setting.gate for setting in self.settings.values() if setting.gate))
        order = sorted(
            set(self.settings.values()),
            key=lambda setting: (
                min(depths[setting.lr, setting.gate]),
                setting.lr in self.by_hand,
                setting.lr,
                gates.index(setting.gate) if setting.gate else -1,
                -setting.weight_decay,
            ),
        )
        names = {}
        for setting in order:
            span = "all" if len(depths) == 1 else self._span(depths[setting.lr, setting.gate])
            rate = f".x{setting.lr:g}" if setting.lr in self.by_hand and len(depths) > 1 else ""
            decay = {1.0: "", 0.0: ".no_decay"}.get(setting.weight_decay, f".decay_x{setting.weight_decay:g}")
            number = gates.index(setting.gate) + 1 if setting.gate and len(gates) > 1 else ""
            names[setting] = span + rate + (f".gated{number}" if setting.gate else "") + decay
        return names

    def _span(self, depths: set[int]) -> str:
        runs: list[list[str]] = [[]]
        for rung in self.ladder.rungs():
            if rung.depth in depths:
                runs[-1].append(rung.name)
            elif runs[-1]:
                runs.append([])
        return "+".join("..".join(dict.fromkeys((run[0], run[-1]))) for run in runs if run)


def layout(
    ladder: Ladder,
    overrides: Mapping[str, Override],
    layer_decay: float = 1.0,
    head: float = 1.0,
    decay: bool = True,
) -> Layout:
    """Settle every trainable parameter: its rung's multiplier or the user's, its weight decay or none.

    Without weight decay (`decay=False`) nothing sets biases and norms apart, and they join the others. Raises
    `PlanError` when nothing is trainable and when an override asks for weight decay of biases and norms only.
    """
    settings: dict[str, Setting] = {}
    own: set[float] = set()
    reached: set[Override] = set()
    for placement in ladder.placements:
        leaf, override = placement.leaf, overrides.get(placement.leaf.name)
        if not leaf.trainable:
            continue
        if override and override.lr is not None:
            lr = override.lr
        else:
            lr = ladder.multiplier(placement.depth, layer_decay, head)
            own.add(lr)
        ratio = 1.0
        if decay:
            ratio = float(decays(leaf))
            if ratio and override and override.weight_decay is not None:
                ratio = override.weight_decay
                reached.add(override)
        settings[leaf.name] = Setting(lr, ratio, override.gate if override else None)
    if not settings:
        raise PlanError("no parameter of this model is trainable; set requires_grad before planning")
    for override in overrides.values():
        if override.weight_decay and override not in reached:
            raise PlanError(
                f"groups, {override.match!r} asks for weight decay of biases, norms, vectors or frozen "
                f"parameters only, and those have none"
            )
    return Layout(ladder, settings, frozenset(setting.lr for setting in settings.values()) - own)
