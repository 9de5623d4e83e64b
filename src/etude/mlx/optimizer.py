"""A `MultiOptimizer` made from a plan: one MLX optimizer a group, every one with its own rate."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map, tree_merge

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.sampling import openings, values
from etude.errors import EtudeError, PlanError
from etude.mlx.fixed import fixed, keywords
from etude.mlx.leaves import leaves


def optimizer(
    plan: Plan | Rates, model: nn.Module, make_optimizer: Callable[..., optim.Optimizer] = optim.AdamW
) -> "PlannedOptimizer":
    """An optimizer that trains every group of a plan at its own rate: a `MultiOptimizer`, from a plan.

    `plan` was made from `etude.mlx.leaves(model)`. Over a run (`plan.over(total)`) its rates are computed
    from the optimizer's own step, also inside `mx.compile`. A bare plan waits for a driver, whose sink is
    `etude.mlx.sink(optimizer)`; until it writes, the rates are NaN.

    `make_optimizer` is called for each group with `learning_rate=`, and with `weight_decay=`, `momentum=` and
    other hyper-parameters of the plan by their names; use `functools.partial` for options. MLX holds all but
    the rate as plain numbers, which a compiled update never reads again, so only the rate may change during a
    run. A group that its gate freezes stays still, its moments too.

    Raises `PlanError` when plan and model do not have the same parameters, and for a hyper-parameter that the
    optimizer does not take or that would change.
    """
    rates, bare = (plan, plan.plan) if isinstance(plan, Rates) else (None, plan)
    return PlannedOptimizer(rates, bare, model, make_optimizer)


class PlannedOptimizer(optim.MultiOptimizer):
    """What `optimizer` makes; `state["plan"]` holds its step, and the rate and the gate of every group."""

    def __init__(self, rates: Rates | None, plan: Plan, model: nn.Module, make_optimizer: Callable[..., Any]):
        owner, count = _owner(plan, model), len(plan.groups)
        self.plan = plan
        self.fixed = fixed(plan, () if rates is None else rates.edits)
        given = keywords(make_optimizer, self.fixed)
        super().__init__(
            [
                make_optimizer(learning_rate=0.0, **{key: column[i] for key, column in given.items()})
                for i in range(count)
            ],
            [lambda name, _, i=i: owner(name) == i for i in range(count - 1)],
        )
        self._computed = None if rates is None else (values(rates), openings(rates))
        self._freezes = [group.freezes for group in plan.groups]
        self._state = {
            "step": mx.array(0, mx.uint64),
            "lr": mx.full(count, mx.nan),
            "open": mx.ones(count, mx.bool_),
        }
        self.init(model.trainable_parameters())
        self._compute()

    def _compute(self) -> None:
        """The rates and gates of the update that comes next, unless a driver writes them."""
        if self._computed is not None:
            rates, opened = self._computed
            step = self.step.astype(mx.int64)  # what lies before the first update has no unsigned number
            self._state["lr"] = mx.stack([mx.array(rate, mx.float32) for rate in rates(step)])
            self._state["open"] = mx.stack([mx.array(flag) for flag in opened(step)])

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        """The updated parameters: every group by its own optimizer, at its rate of this update."""
        self._compute()
        tree: dict = {}
        parts = zip(self.optimizers, self._split_dictionary(gradients), self._freezes, strict=True)
        for i, (one, part, freezes) in enumerate(parts):
            one.state["learning_rate"] = self._state["lr"][i]
            before = tree_map(lambda array: array, one.state) if freezes else None
            new = one.apply_gradients(part, parameters)
            if before is not None:
                opened = self._state["open"][i]
                _hold(one.state, before, opened)
                new = tree_map(lambda after, held, flag=opened: mx.where(flag, after, held), new, parameters)
            tree = tree_merge(tree, new)
        self._state["step"] = self.step + 1
        return tree

    @property
    def computes(self) -> bool:
        """Whether the rates come from the optimizer's own step, not from a driver."""
        return self._computed is not None

    def write(self, key: str, column: mx.array) -> None:
        """Set "lr" or "open" of all groups for the next update: the driver's sink does."""
        self._state[key] = column

    @property
    def state(self) -> dict:
        """What `mx.compile` is to be told of, and what a checkpoint holds."""
        return {"plan": self._state, "states": [one.state for one in self.optimizers]}

    @state.setter
    def state(self, state: dict) -> None:
        states = state.get("states", ())
        if len(states) != len(self.optimizers) or set(state.get("plan", ())) != set(self._state):
            raise EtudeError(
                f"this state is not that of an optimizer of {len(self.optimizers)} planned groups"
            )
        self._state.update(state["plan"])
        for one, its_state in zip(self.optimizers, states, strict=True):
            one.state = its_state

    @property
    def step(self) -> mx.array:
        """How many updates were made."""
        return self._state["step"]

    @property
    def learning_rate(self) -> mx.array:
        """The rates of all groups in the last update, or those that a driver wrote for the next."""
        return self._state["lr"]

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        raise EtudeError(
            f"learning_rate = {learning_rate!r}: this optimizer's rates are those of its plan; give it a "
            f"bare plan and a driver, and write driver.edit(Scale(t, by))"
        )


def _hold(state: Any, before: Any, opened: mx.array) -> None:
    """Put back what a frozen group's optimizer had noted, in the containers that `mx.compile` knows."""
    for key, held in before.items() if isinstance(before, dict) else enumerate(before):
        if isinstance(held, mx.array):
            state[key] = mx.where(opened, state[key], held)
        else:
            _hold(state[key], held, opened)


def _owner(plan: Plan, model: nn.Module) -> Callable[[str], int]:
    """The number of each parameter's group by its name; plan and model must hold the same names."""
    found = {leaf.name: leaf for leaf in leaves(model)}
    owner = plan.owners(found, (leaf.owner for leaf in found.values() if leaf.trainable))
    place = {group.name: i for i, group in enumerate(plan.groups)}

    def number(name: str) -> int:
        if name not in found or found[name].owner not in owner:
            raise PlanError(f"{name} is in no group of the plan: make the optimizer once it trains")
        return place[owner[found[name].owner]]

    return number
