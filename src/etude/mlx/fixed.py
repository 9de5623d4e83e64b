"""The hyper-parameters that an MLX optimizer holds as plain numbers: everything but its rate."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from etude.core.edit import Edit, Scale
from etude.core.path import Path
from etude.core.plan import Plan
from etude.errors import PlanError, near


def fixed(plan: Plan, edits: Sequence[Edit] = ()) -> dict[str, list[float]]:
    """The number that each group has of each hyper-parameter but `lr`, throughout the run.

    Raises `PlanError` for one that changes: a compiled update would go on with the number it has seen first.
    """
    changed = {edit.hyper for edit in edits if isinstance(edit, Scale)}
    found = {}
    for hyper, schedule in plan.hypers.items():
        if hyper == "lr":
            continue
        if hyper in changed or not all(map(_holds, schedule.paths)):
            raise PlanError(
                f"{hyper} changes during the run, and MLX's optimizers hold it as one number: "
                f"write {hyper}={schedule.peak:g}, or schedule it in an optimizer of your own"
            )
        found[hyper] = [schedule.peak * scale for scale in plan.scale(hyper)]
    return found


def _holds(path: Path) -> bool:
    return str(path) == "hold()"


def keywords(make_optimizer: Callable[..., Any], numbers: dict[str, list[float]]) -> dict[str, list[Any]]:
    """What `make_optimizer` is called with beside a rate: a value for each group.

    "momentum" is `momentum`, or the first of `betas` where there is none; one that is 0 in all groups may be
    left out. Raises `PlanError` for a hyper-parameter that it does not take.
    """
    taken = inspect.signature(make_optimizer).parameters
    anything = any(one.kind is one.VAR_KEYWORD for one in taken.values())
    given: dict[str, list[Any]] = {}
    for hyper, column in numbers.items():
        if hyper in taken or anything:
            given[hyper] = column
        elif hyper == "momentum" and "betas" in taken:
            given["betas"] = [[value, *taken["betas"].default[1:]] for value in column]
        elif any(column):
            name = getattr(make_optimizer, "__name__", "this optimizer")
            raise PlanError(f"{name} takes no {hyper!r}{near(hyper, taken)}")
    return given
