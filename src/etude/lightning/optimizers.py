"""The optimizer of a Lightning module, with the rates of a plan over the whole fit."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy

from etude.core.plan import Plan
from etude.errors import PlanError
from etude.lightning.control import LearningRateControl
from etude.torch.scheduler import LRScheduler, OnMismatch


def configure_optimizers(
    module: LightningModule,
    lr: Any,
    *,
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer] = torch.optim.AdamW,
    on_mismatch: OnMismatch = None,
    **given: Any,
) -> dict[str, Any]:
    """What a module returns from its own `configure_optimizers`.

    `lr` is a number, a schedule or its text, with the further arguments of `etude.plan` (`layer_decay`,
    `head`, `weight_decay`, `groups`, `tick`); or a whole `Plan`. `optimizer` makes one from parameter groups:
    a class, or `functools.partial(torch.optim.AdamW, betas=(0.9, 0.98))`. The plan is bound to
    `trainer.estimated_stepping_batches`, the updates that the fit will make. Controllers are those of the
    trainer's `LearningRateControl`. `on_mismatch` is that of `LRScheduler`, for a checkpoint of another plan
    or length.

    Raises `PlanError` for a fit without a known length whose schedule needs one, and for gates under DDP
    without `find_unused_parameters`.
    """
    plan = _plan(module, lr, given)
    trainer: Any = module.trainer
    _check_ddp(plan, trainer)
    total = trainer.estimated_stepping_batches
    if total < 0:
        raise PlanError(
            "the training data has no length, so this fit has no known end: "
            "write Trainer(max_steps=…), or Trainer(max_epochs=-1) for an open run"
        )
    controls = [one for one in trainer.callbacks if isinstance(one, LearningRateControl)]
    made = optimizer(plan.torch_groups(module))
    scheduler = LRScheduler(
        made,
        plan.over(total),
        [one for control in controls for one in control.controllers],
        reduce=_mean(trainer),
        on_mismatch=on_mismatch,
    )
    return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _plan(module: LightningModule, lr: Any, given: dict[str, Any]) -> Plan:
    if not isinstance(lr, Plan):
        from etude.planning import plan

        return plan(module, lr, **given)
    if given:
        raise PlanError(f"a plan is complete: {', '.join(given)} must be said when it is made")
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


def _mean(trainer: Trainer) -> Callable[[dict[str, float]], dict[str, float]] | None:
    """Readings may be those of one process's share of the data; all must decide alike."""
    if trainer.world_size == 1:
        return None

    def mean(reading: dict[str, float]) -> dict[str, float]:
        values = torch.tensor(
            list(reading.values()), dtype=torch.float64, device=trainer.strategy.root_device
        )
        reduced = trainer.strategy.reduce(values, reduce_op="mean")
        return dict(zip(reading, reduced.tolist(), strict=True))

    return mean
