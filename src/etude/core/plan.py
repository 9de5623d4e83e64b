"""The plan: which schedule drives each hyper-parameter, and what each group of parameters makes of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etude.core.namespace import number
from etude.core.path import Path, Schedule, as_schedule, words_of
from etude.core.shapes import SHAPES
from etude.core.text import parse
from etude.errors import PlanError, near

if TYPE_CHECKING:
    from etude.core.rates import Rates


@dataclass(frozen=True, eq=True)
class Group:
    """Parameters that share their settings.

    `params` are names, `scale` maps a hyper-parameter to the group's multiplier (1 where none is given), and
    `gate` is the group's own path for the rate, in which `frozen` freezes it; None lets it train throughout.
    """

    name: str
    params: tuple[str, ...] = ()
    scale: Mapping[str, float] = field(default_factory=dict)
    gate: Path | None = None

    __hash__ = None  # type: ignore[assignment]  # plain data, with a mapping inside

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", tuple(self.params))
        scale = {
            hyper: float(number(x, f"the {hyper} multiplier of {self.name!r}"))
            for hyper, x in self.scale.items()
        }
        for hyper, x in scale.items():
            if x < 0:
                raise PlanError(
                    f"group {self.name!r}: the {hyper} multiplier is {x:g}; a multiplier is 0 or more"
                )
        object.__setattr__(self, "scale", scale)
        if isinstance(self.gate, str):
            object.__setattr__(self, "gate", parse(self.gate))
        if self.gate is not None and not isinstance(self.gate, Path):
            raise PlanError(
                f"group {self.name!r}: a gate is a path of levels, got {self.gate}; "
                f"the group's own rate goes in scale"
            )

    @property
    def freezes(self) -> bool:
        """Whether the gate ever freezes the group."""
        return self.gate is not None and any(SHAPES[word.name].gate_only for word in words_of(self.gate))

    def as_json(self) -> dict[str, Any]:
        """The group as strict JSON: name, scale, the gate's text, the names of its parameters."""
        gate = None if self.gate is None else str(self.gate)
        return {"name": self.name, "scale": dict(self.scale), "gate": gate, "params": list(self.params)}


@dataclass(frozen=True)
class Plan:
    """Schedules for the hyper-parameters and the groups they act on; it knows no run and no framework.

    `hypers` maps a hyper-parameter ("lr", "weight_decay", "momentum") to its schedule (a number, a path, a
    schedule or text); "lr" is required. `tick` says where in an update a schedule is read: 0 at its
    beginning, as torch and transformers do, ½ in the middle (the default), 1 at its end.

    Raises `PlanError` for groups that share a name or a parameter, and for a multiplier of a hyper-parameter
    that the plan has not.

    >>> groups = [Group("body"), Group("head", scale={"lr": 10})]
    >>> plan = Plan({"lr": "2e-5 * (warmup(0.1) >> cosine())"}, groups)
    >>> plan.over(1000).at(100, 100)
    {'lr': [2e-05, 0.0002]}
    """

    hypers: Mapping[str, Schedule]
    groups: tuple[Group, ...] = (Group("all"),)
    tick: float = 0.5

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, hypers: Mapping[str, Any], groups: Iterable[Group] = (Group("all"),), tick: float = 0.5
    ):
        if "lr" not in hypers:
            raise PlanError(f'a plan needs a schedule for "lr", got {", ".join(hypers) or "none"}')
        object.__setattr__(
            self, "hypers", {hyper: as_schedule(schedule) for hyper, schedule in hypers.items()}
        )
        object.__setattr__(self, "groups", tuple(groups))
        object.__setattr__(self, "tick", number(tick, "tick"))
        if not 0 <= self.tick <= 1:
            raise PlanError(
                f"tick={tick} lies outside an update: write 0 (its beginning), 0.5 or 1 (its end)"
            )
        self._check_groups()

    def _check_groups(self) -> None:
        if not self.groups:
            raise PlanError("a plan needs at least one group")
        owner: dict[str, str] = {}
        names: set[str] = set()
        for group in self.groups:
            if group.name in names:
                raise PlanError(f"two groups are called {group.name!r}; a name stands for one group")
            names.add(group.name)
            for hyper in group.scale:
                if hyper not in self.hypers:
                    raise PlanError(
                        f"group {group.name!r} scales {hyper!r}, for which the plan has no schedule"
                        f"{near(hyper, self.hypers)}"
                    )
            for param in group.params:
                if param in owner:
                    raise PlanError(
                        f"{param} is in two groups, {owner[param]!r} and {group.name!r}; name it once"
                    )
                owner[param] = group.name

    @property
    def text(self) -> dict[str, Any]:
        """The plan without its groups, as it stands in recipes and checkpoints."""
        return {**{hyper: str(schedule) for hyper, schedule in self.hypers.items()}, "tick": self.tick}

    def scale(self, hyper: str) -> list[float]:
        """Every group's multiplier of a hyper-parameter, in group order."""
        return [group.scale.get(hyper, 1.0) for group in self.groups]

    def over(self, total: float, epoch: Any = None, batch: Any = None, tokens: Any = None) -> "Rates":
        """Bind the plan to a run of `total` planned updates; see `Schedule.over`.

        Raises `ScheduleError` when a schedule or a gate does not fit the run.
        """
        from etude.core.length import span
        from etude.core.rates import Rates

        return Rates(self, span(total, epoch, batch, tokens))

    def table(self) -> list[dict[str, Any]]:
        """One row per group: its name, its number of tensors, the peak of each hyper-parameter, its gate."""
        return [
            {
                "group": group.name,
                "tensors": len(group.params),
                **{
                    hyper: schedule.peak * group.scale.get(hyper, 1.0)
                    for hyper, schedule in self.hypers.items()
                },
                "gate": None if group.gate is None else str(group.gate),
            }
            for group in self.groups
        ]

    def owners(
        self,
        known: Iterable[str],
        trainable: Iterable[str],
        what: str = "the model has",
        instead: str = "plan this model anew or freeze them",
    ) -> dict[str, str]:
        """The name of each planned parameter's group, once the plan and a model hold the same names.

        Raises `PlanError` for a group without parameters, when the plan names a parameter that is not
        `known`, and for a `trainable` one that is in no group. `what` and `instead` are words of messages.
        """
        if empty := [group.name for group in self.groups if not group.params]:
            raise PlanError(f"no parameter is in {_listed(empty)}: leave out a group without parameters")
        owner = {name: group.name for group in self.groups for name in group.params}
        found = set(known)
        if unknown := [name for name in owner if name not in found]:
            raise PlanError(f"{what} no {_listed(unknown)}{near(unknown[0], found)}")
        if loose := [name for name in dict.fromkeys(trainable) if name not in owner]:
            raise PlanError(f"in no group of the plan: {_listed(loose)}; {instead}")
        return owner

    def torch_groups(self, model: Any) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimizer: name, parameters, their names, and the peaks.

        `model` needs only `named_parameters()`. Raises `PlanError` when the plan names a parameter that the
        model has not, or the model has a trainable one that is in no group.
        """
        found = dict(model.named_parameters())
        self.owners(found, (name for name, p in found.items() if p.requires_grad))
        written = [hyper for hyper in ("lr", "weight_decay") if hyper in self.hypers]
        return [
            {
                "name": group.name,
                "params": [found[name] for name in group.params],
                "param_names": list(group.params),
                **{hyper: self.hypers[hyper].peak * group.scale.get(hyper, 1.0) for hyper in written},
            }
            for group in self.groups
        ]

    def _repr_html_(self) -> str:
        from etude.report.notebook import plan_html

        return plan_html(self)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
