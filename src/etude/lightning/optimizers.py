"""The optimizer of a Lightning module, with the rates of a plan over the whole fit."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy

from etude.core.plan import Plan
from etude.errors import PlanError
from etude.lightning.control import LearningRateControl
from etude.torch.fused import has_fused_adamw
from etude.torch.processes import gather
from etude.torch.scheduler import LRScheduler, OnMismatch

if TYPE_CHECKING:
    from etude.planning import PlanOptions


def configure_optimizers(
    module: LightningModule,
    lr: Any,
    *,
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer] | None = None,
    on_mismatch: OnMismatch = None,
    **options: "Unpack[PlanOptions]",
) -> dict[str, Any]:
    """What a module returns from its own `configure_optimizers`.

    `lr` is a number, a schedule or its text, with the options of `etude.plan` (`layer_decay`, `head`,
    `weight_decay`, `freeze`, `stages`, `groups`, …); or a whole `Plan`. `optimizer` makes one from parameter
    groups: a class, or `functools.partial(torch.optim.AdamW, betas=(0.9, 0.98))`; by default AdamW, fused
    where torch has that and Lightning can use it. The plan is bound to
    `trainer.estimated_stepping_batches`, the updates that the fit will make. Controllers are those of the
    trainer's `LearningRateControl`. `on_mismatch` is that of `LRScheduler`, for a checkpoint of another plan
    or length.

    Raises `PlanError` for a fit without a known length whose schedule needs one, and for gates under DDP
    without `find_unused_parameters`.
    """
    plan = _plan(module, lr, options)
    trainer: Any = module.trainer
    _check_ddp(plan, trainer)
    total = trainer.estimated_stepping_batches
    if total < 0:
        raise PlanError(
            "the training data has no length, so this fit has no known end: "
            "write Trainer(max_steps=…), or Trainer(max_epochs=-1) for an open run"
        )
    controls = [one for one in trainer.callbacks if isinstance(one, LearningRateControl)]
    made = (optimizer or _adamw(module))(plan.torch_groups(module))
    scheduler = LRScheduler(
        made,
        plan.over(total),
        [one for control in controls for one in control.controllers],
        gather=gather,
        on_mismatch=on_mismatch,
    )
    return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _adamw(module: LightningModule) -> Callable[[list[dict[str, Any]]], torch.optim.Optimizer]:
    """AdamW, fused unless a GradScaler scales its gradients: Lightning cannot clip those of a fused one."""
    precision: Any = module.trainer.strategy.precision_plugin
    scaled = getattr(precision, "scaler", None) is not None
    return partial(torch.optim.AdamW, fused=not scaled and has_fused_adamw(module.device))


def _plan(module: LightningModule, lr: Any, options: "PlanOptions") -> Plan:
    if not isinstance(lr, Plan):
        from etude.planning import plan

        return plan(module, lr, **options)
    if options:
        raise PlanError(f"a plan is complete: {', '.join(options)} must be said when it is made")
    return lr


def _check_ddp(plan: Plan, trainer: Trainer) -> None:
    gated = [group.name for group in plan.groups if group.gate is not None]
    strategy = trainer.strategy
    if not (gated and isinstance(strategy, DDPStrategy)):
        return
    if not strategy._ddp_kwargs.get("find_unused_parameters"):
        raise PlanError(
            f"DDP waits for the gradients of frozen groups ({', '.join(gated)} have gates): "
            f'write Trainer(strategy="ddp_find_unused_parameters_true")'
        )
