"""From depths to groups: every trainable parameter's settings, and one group per distinct setting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from etude.core.plan import Group
from etude.errors import PlanError
from etude.model import naming
from etude.model.ladder import Ladder, Placement
from etude.model.naming import Marks
from etude.model.override import Override
from etude.model.wishes import FROZEN, STILL, Setting, Wishes, is_lora_b


class Row(NamedTuple):
    """The parameters of one rung that share a setting; those of no group have no setting either.

    They are the ones that were frozen before planning, and those that `only` leaves to another plan.
    """

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

    `settings` holds by name the parameters that are in a group; `marks` tell how groups are called.
    """

    ladder: Ladder
    settings: Mapping[str, Setting]
    marks: Marks

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
        """The plan as a table from the bottom up: one row per rung and setting, those of no group last."""
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
        """The name of each setting's group, in group order; see `etude.model.naming`."""
        return naming.names(self.ladder.rungs(), self.settings, self.marks)


def layout(ladder: Ladder, wishes: Wishes) -> Layout:
    """Settle every trainable parameter: its rung's multiplier or the user's, its weight decay, its gate.

    Without weight decay nothing sets biases and norms apart, and they join the others. Raises `PlanError`
    when nothing is left to train and for a wish that reaches no parameter.
    """
    settings: dict[str, Setting] = {}
    rates = {
        (rung.tower, rung.depth): wishes.multipliers.of(ladder, rung.tower, rung.depth)
        for rung in ladder.rungs()
    }
    lora: set[float] = set()
    for placement in ladder.placements:
        leaf, override = placement.leaf, wishes.overrides.get(placement.leaf.name)
        if not leaf.trainable or (wishes.only is not None and leaf.name not in wishes.only):
            continue
        lr = rates[placement.tower, placement.depth]
        if override and override.lr is not None:
            lr = override.lr
        elif wishes.lora_plus != 1 and is_lora_b(placement):
            lr *= wishes.lora_plus
            lora.add(lr)
        gate = wishes.gate(placement)
        settings[leaf.name] = STILL if gate == FROZEN else Setting(lr, wishes.decay(placement), gate)
    _check_wishes(ladder, wishes)
    if not settings:
        raise PlanError("no parameter of this model is trainable; set requires_grad before planning")
    if set(settings.values()) == {STILL}:
        raise PlanError("everything is frozen, and nothing is left to train: freeze less")
    own = frozenset(rates.values())
    by_hand = {override.gate for override in wishes.overrides.values()} - {None, FROZEN}
    used = dict.fromkeys(setting.gate for setting in settings.values() if setting.gate in by_hand)
    marks = Marks(own, frozenset(lora) - own, tuple(gate for gate in used if gate))
    return Layout(ladder, settings, marks)


def _check_wishes(ladder: Ladder, wishes: Wishes) -> None:
    training = [placement for placement in ladder.placements if placement.leaf.trainable]
    if wishes.lora_plus != 1 and not any(map(is_lora_b, training)):
        raise PlanError(
            "lora_plus: this model has no trainable LoRA matrix B; put the adapters in before planning"
        )
    reached: dict[Override, list[Placement]] = {one: [] for one in wishes.overrides.values()}
    for placement in training:
        if override := wishes.overrides.get(placement.leaf.name):
            reached[override].append(placement)
    for override, places in reached.items():
        if not places and override.depth is None:
            raise PlanError(
                f"{override.what} hits only parameters that are frozen already, so it does nothing"
            )
        if override.weight_decay and not any(map(wishes.decay, places)):
            raise PlanError(
                f"{override.what} asks for weight decay of biases, norms, vectors or frozen parameters only, "
                f"and those have none"
            )
