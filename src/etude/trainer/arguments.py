"""What the plan takes from the TrainingArguments, and which of them lose their effect."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from transformers import TrainingArguments

from etude.core.path import Path, as_schedule
from etude.core.plan import Plan
from etude.core.text import parse
from etude.errors import EtudeWarning, PlanError, ScheduleError
from etude.model.options import refuse_unknown

if TYPE_CHECKING:
    from etude.planning import PlanOptions

SCHEDULING = ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps")


def planner(
    args: TrainingArguments,
    lr: Any,
    plan: Plan | Callable[[Any], Plan] | None,
    options: "PlanOptions",
) -> Callable[[Any], Plan]:
    """A function that plans a model as `attach` was asked to; it reads `args` each time it is called.

    Warns of settings in `args` that lose their effect. Raises `PlanError` where `plan` and what it stands for
    are both given and for options that `etude.plan` has not, `ScheduleError` where neither is given.
    """
    from etude.planning import PlanOptions

    refuse_unknown("attach", options, PlanOptions.__annotations__)
    if plan is not None:
        if twice := [*([] if lr is None else ["lr"]), *options]:
            raise PlanError(f"plan= says it all, and {', '.join(twice)} was given too: leave out one of them")
        _warn(args, ("learning_rate", "weight_decay"))
        return lambda model: _checked(plan(model) if callable(plan) else plan)
    if options.get("only") is not None:
        raise PlanError(
            "a trainer has one optimizer, and what only= leaves out would not train: write freeze= for what "
            "shall stay as it is, or a loop of your own with an optimizer for each plan"
        )
    if lr is None:
        raise ScheduleError(
            'attach needs the rate: lr="2e-5 * (warmup(0.1) >> cosine(to=0.01))", or '
            'lr="warmup(0.1) >> cosine(to=0.01)" for the learning_rate of TrainingArguments'
        )
    rate, decay = _parsed(lr), _parsed(options.get("weight_decay"))
    wanted = {**options, "groups": tuple(options.get("groups", ()))}
    own = [] if isinstance(rate, Path) or _peak(rate) == args.learning_rate else ["learning_rate"]
    if not (decay is None or isinstance(decay, Path) or _peak(decay) == args.weight_decay):
        own.append("weight_decay")
    _warn(args, own)

    def made(model: Any) -> Plan:
        from etude.planning import plan as plan_of

        chosen: Any = {
            **wanted,
            "lr": args.learning_rate * rate if isinstance(rate, Path) else rate,
            "weight_decay": args.weight_decay * decay if isinstance(decay, Path) else decay,
        }
        if decay is None:
            chosen["weight_decay"] = args.weight_decay
        return plan_of(model, **chosen)

    return made


def _parsed(value: Any) -> Any:
    return parse(value) if isinstance(value, str) else value


def _peak(value: Any) -> float:
    return as_schedule(value).peak


def _checked(plan: Any) -> Plan:
    if not isinstance(plan, Plan):
        raise PlanError(
            f"plan= takes a Plan, or a function of the model that gives one; got {type(plan).__name__}"
        )
    return plan


def _warn(args: TrainingArguments, others: Iterable[str]) -> None:
    """One warning with every setting that was changed from its default and that étude's plan replaces."""
    usual = {
        field.name: field.default_factory() if field.default_factory is not MISSING else field.default
        for field in fields(args)
    }
    lost = []
    for name in (*SCHEDULING, *others):
        value = getattr(args, name, None)
        if value and value != usual.get(name):
            lost.append(f"{name}={getattr(value, 'value', value)!r}")
    if lost:
        warnings.warn(
            f"without effect in TrainingArguments: {', '.join(lost)}; the plan given to attach sets the "
            f"rates. Leave them out",
            EtudeWarning,
            stacklevel=4,
        )
