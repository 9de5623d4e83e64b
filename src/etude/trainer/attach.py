"""`etude.attach(trainer, …)`: hand the rates of a Hugging Face Trainer to étude."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from transformers import Trainer

from etude.control.controller import Controller, checked
from etude.control.extend import Extend
from etude.core.plan import Plan
from etude.errors import EtudeError, PlanError
from etude.torch.scheduler import OnMismatch
from etude.trainer.arguments import planner
from etude.trainer.attachment import Attachment

if TYPE_CHECKING:
    from etude.planning import PlanOptions


def attach(
    trainer: Trainer,
    lr: Any = None,
    *,
    plan: Plan | Callable[[Any], Plan] | None = None,
    controllers: Sequence[Controller] = (),
    foreign: str = "raise",
    on_mismatch: OnMismatch = None,
    **options: "Unpack[PlanOptions]",
) -> Attachment:
    """Let étude set every learning rate of a `transformers.Trainer`; one line, before `trainer.train()`.

    `lr` and `options` (`layer_decay`, `head`, `weight_decay`, `freeze`, `stages`, `groups`, …) are those of
    `etude.plan`, with two values from the TrainingArguments: a bare path, such as
    `"warmup(0.1) >> cosine()"`, is multiplied by their `learning_rate`, and their `weight_decay` holds where
    none is given here. `plan` in place of all these is a ready `Plan`, or a function of the model that gives
    one. The model is planned when the trainer makes its optimizer, so after TRL has put LoRA into it; the
    optimizer is the one that `optim=` names, with its options.

    `controllers` read the trainer's evaluations by their names there ("eval_loss"); what the processes of a
    run read is averaged first. `foreign` is that of `Driver`. `on_mismatch` says what happens when a run is
    resumed from a checkpoint of another plan, length or batch size: None raises `PlanMismatch`, "checkpoint"
    goes on with the checkpoint's plan and end, "recipe" with what is written here; a function of (t, total)
    gives an edit with which the checkpoint's plan goes on at `t` for a run of `total` updates, as in
    `lambda t, total: Stretch(t, total)`.

    Attached again, the trainer gets the new plan and a new optimizer. Raises `EtudeError` for a trainer that
    has an optimizer of its own and for one under DeepSpeed, `PlanError` for a controller that would roll back
    or make the run longer, `ScheduleError` and `PlanError` as `etude.plan` does; settings of
    TrainingArguments that no longer have an effect are named in one `EtudeWarning`.
    """
    if not isinstance(trainer, Trainer):
        raise EtudeError(
            f"attach takes a transformers Trainer (or TRL's), got {type(trainer).__name__}; in a loop of "
            f"your own write Driver(plan.over(total), etude.torch.sink(optimizer))"
        )
    if trainer.is_deepspeed_enabled:
        raise EtudeError(
            "under DeepSpeed the engine steps the scheduler and regroups the optimizer, and étude could not "
            "vouch for the rates; write DDP or FSDP in place of deepspeed="
        )
    controllers = checked(controllers)
    for one in controllers:
        if isinstance(one, Extend):
            raise PlanError(
                f"{one.name} makes the run longer, which a trainer's loop cannot do: it ends with its own "
                f"num_train_epochs or max_steps. Give it the longest run and a controller that ends it, such "
                f"as cooldown, or train with etude finetune"
            )
    make = planner(trainer.args, lr, plan, options)
    return Attachment(trainer, make, controllers, foreign, on_mismatch)
