"""What a test needs before its first update, from what the user has: plan, optimizer, precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from etude.core.plan import Group, Plan
from etude.core.rates import Rates
from etude.errors import EtudeError, PlanError
from etude.finder.processes import Processes
from etude.finder.snapshot import bare
from etude.planning import plan as make_plan
from etude.torch.fused import has_fused_adamw
from etude.torch.wrappers import core


def is_optimizer(optimizer: Any) -> bool:
    """Whether it is an optimizer of torch, or Accelerate's around one."""
    return isinstance(optimizer, torch.optim.Optimizer)


def check_owner(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    """Raise `EtudeError` for an optimizer that holds none of a model's parameters."""
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise EtudeError(
            f"the {type(optimizer).__name__} holds no parameter of this {type(model).__name__}: it was made "
            f"for another model, or before this one was copied"
        )


def plan_of(plan: Plan | Rates | None, optimizer: Any, model: torch.nn.Module) -> Plan | Rates:
    """The user's plan; without one, the groups of the optimizer; without that, all parameters alike."""
    if plan is not None:
        if not isinstance(plan, Plan | Rates):
            raise PlanError(f"plan is a {type(plan).__name__}: write plan=etude.plan(model, lr, …)")
        return plan
    if not is_optimizer(optimizer):
        return make_plan(model, 1.0)
    groups = core(optimizer).param_groups
    # A torch scheduler that warms up has set the rates to 0 by now, and remembers their peaks.
    peaks = [float(group.get("initial_lr", group["lr"])) for group in groups]
    fastest = max(peaks)
    if fastest == 0:
        raise PlanError("every rate of the optimizer is 0, which says nothing of their ratios: pass plan=")
    named = all(group.get("name") for group in groups)
    return Plan(
        {"lr": 1.0},
        [
            Group(group["name"] if named else f"group {i}", scale={"lr": peak / fastest})
            for i, (group, peak) in enumerate(zip(groups, peaks, strict=True))
        ],
    )


def new_optimizer(
    optimizer: Any, plan: Plan | Rates, model: torch.nn.Module, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW, or what the user's function makes, for the groups of a plan."""
    groups = (plan.plan if isinstance(plan, Rates) else plan).torch_groups(model)
    if optimizer is None:
        plain = all(p.is_floating_point() for group in groups for p in group["params"])
        return torch.optim.AdamW(groups, fused=plain and has_fused_adamw(device))
    made = optimizer(groups) if callable(optimizer) else None
    if not isinstance(made, torch.optim.Optimizer):
        raise EtudeError(
            f"optimizer={optimizer!r} is neither a torch optimizer nor a function that makes one from "
            f"groups: write optimizer=lambda groups: torch.optim.SGD(groups, momentum=0.9)"
        )
    return made


def precision(
    model: torch.nn.Module, accelerator: Any, processes: Processes, scaler: Any, autocast: Any
) -> tuple[Any, Callable[[], AbstractContextManager[Any]]]:
    """The scaler of the training, and what gives the context of its forward passes."""
    context: Callable[[], AbstractContextManager[Any]] = nullcontext if autocast is None else lambda: autocast
    if accelerator is None:
        return scaler, context
    if accelerator.num_processes != processes.count:
        raise EtudeError(
            f"the accelerator has {accelerator.num_processes} processes and the model is not wrapped for "
            f"them: pass what accelerator.prepare(model) gave"
        )
    if str(accelerator.distributed_type).endswith(("DEEPSPEED", "MEGATRON_LM")):
        raise EtudeError("DeepSpeed and Megatron make the updates themselves: test under DDP or FSDP")
    # `prepare` has put the context into the model's own forward.
    if autocast is None and not hasattr(bare(model), "_original_forward"):
        context = accelerator.autocast
    return accelerator.scaler if scaler is None else scaler, context
