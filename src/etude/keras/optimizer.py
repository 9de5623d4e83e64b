"""A Keras optimizer from a plan."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

import keras

from etude.core.plan import Group, Plan
from etude.core.rates import Rates, rates_from_state
from etude.errors import PlanError
from etude.keras.leaves import parameters
from etude.keras.planned import Planned, Work
from etude.keras.source import Computed, Table

HYPERS = ("lr", "weight_decay")
NOT_PLAIN = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer, Planned)


def optimizer(optimizer: keras.Optimizer, plan: Plan | Rates, model: keras.Model) -> keras.Optimizer:
    """The optimizer, with the rate, the weight decay and the gate that a plan gives each of its variables.

    `plan` was made from `etude.keras.leaves(model)`. Over a run (`plan.over(total)`) everything is computed
    from the optimizer's own `iterations`, which are saved with the model. A bare plan waits for a driver,
    `model.fit(callbacks=[etude.keras.Callback(driver)])`; until it writes, the rates are NaN. The rate that
    `optimizer` was made with is not used, and its weight decay only where the plan has none. While its gate
    freezes a group it stays still, its moments too.

    Any optimizer of Keras, or one of your own that changes variables as Keras asks it to. To load a model
    saved with it, `import etude.keras` first. Raises `PlanError` when plan and model do not have the same
    parameters, for a hyper-parameter other than `lr` and `weight_decay`, and for an optimizer that was used.
    """
    bare = plan.plan if isinstance(plan, Rates) else plan
    if isinstance(optimizer, NOT_PLAIN) or optimizer.built:
        kind = type(optimizer).__name__
        raise PlanError(
            f"a plan goes into a plain optimizer that has not made an update, got {kind}: write "
            f"etude.keras.optimizer(keras.optimizers.AdamW(), plan, model), and wrap that if need be"
        )
    chosen = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
    if "weight_decay" in bare.hypers and any(getattr(optimizer, name, None) for name in chosen):
        raise PlanError(
            "exclude_from_weight_decay and a plan's weight_decay contradict each other: biases and norms do "
            'not decay in a plan, and groups=[(pattern, {"weight_decay": 0})] excludes others'
        )
    if other := [hyper for hyper in bare.hypers if hyper not in HYPERS]:
        raise PlanError(
            f"Keras's optimizers hold {other[0]} as one number: give it to the optimizer and leave it out of "
            f"the plan"
        )
    return _planned(optimizer, plan, _owner(bare, model))


def _owner(plan: Plan, model: keras.Model) -> dict[str, str]:
    """The group of each variable by its path; plan and model must hold the same names."""
    found = parameters(model)
    owner = plan.owners(found, (name for name, one in found.items() if one.trainable))
    return {found[name].path: group for name, group in owner.items()}


def _planned(optimizer: keras.Optimizer, plan: Plan | Rates, owner: Mapping[str, str]) -> keras.Optimizer:
    given = keras.optimizers.serialize(optimizer)
    given["config"]["learning_rate"] = 0.0
    source = Computed(plan) if isinstance(plan, Rates) else Table(plan)
    number = {group.name: i for i, group in enumerate(source.plan.groups)}
    made = _class_of(type(optimizer)).bare(given["config"])
    made._work = Work(source, {path: number[name] for path, name in owner.items()}, given)
    return made


@cache
def _class_of(kind: type[keras.Optimizer]) -> type[Planned]:
    """That kind of optimizer with `Planned` before it; all of them are saved under one name."""
    made = type(f"Planned{kind.__name__}", (PlannedOptimizer, kind), {})
    return keras.saving.register_keras_serializable("etude", "Planned")(made)


@keras.saving.register_keras_serializable("etude", "Planned")
class PlannedOptimizer(Planned):
    """A planned optimizer as it stands in a saved model: the optimizer that it was, and the plan."""

    def get_config(self) -> dict[str, Any]:
        """The plan, the group of each variable, and the optimizer that was given."""
        work, source = self._work, self._work.source
        names = [group.name for group in source.plan.groups]
        return {
            "optimizer": work.given,
            "plan": _state(source),
            "owner": {path: names[number] for path, number in work.owner.items()},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> keras.Optimizer:
        """What `get_config` told of."""
        optimizer = keras.optimizers.deserialize(copy.deepcopy(config["optimizer"]), custom_objects)
        return _planned(optimizer, _plan_from(config["plan"]), config["owner"])


def _state(source: Computed | Table) -> dict[str, Any]:
    if isinstance(source, Computed):
        return source.rates.state()
    return {"plan": source.plan.text, "groups": [group.as_json() for group in source.plan.groups]}


def _plan_from(state: Mapping[str, Any]) -> Plan | Rates:
    if "span" in state:
        return rates_from_state(state)
    groups = [Group(g["name"], tuple(g["params"]), g["scale"], g["gate"]) for g in state["groups"]]
    hypers = {hyper: text for hyper, text in state["plan"].items() if hyper != "tick"}
    return Plan(hypers, groups, state["plan"]["tick"])
