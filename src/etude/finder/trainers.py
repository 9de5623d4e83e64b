"""The parts of a transformers Trainer that a range test needs, as its own training would use them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from etude.errors import EtudeError
from etude.finder.epochs import updates_of
from etude.finder.holding import Holding
from etude.finder.losses import count_function
from etude.finder.randomness import global_generators
from etude.finder.store import Memory

LISTS = ("_models", "_optimizers", "_dataloaders")


@contextmanager
def parts_of(trainer: Any) -> Iterator[dict[str, Any]]:
    """The arguments of `find` that a trainer decides: model, batches, loss, optimizer, epochs, and so on.

    The trainer makes its loader and its optimizer itself; a plan of `etude.attach` is kept. Afterwards it has
    neither, and its accelerator has forgotten them. Raises `EtudeError` for what is no Trainer, and under
    DeepSpeed and FSDP.
    """
    from transformers import Trainer

    from etude.trainer.attachment import Attachment

    if not isinstance(trainer, Trainer):
        raise EtudeError(
            f"find takes a model and its batches, as in find(model, loader), or a transformers Trainer; got "
            f"{type(trainer).__name__} alone"
        )
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise EtudeError(
            "under DeepSpeed and FSDP the trainer takes its model apart when it begins to train: find the "
            "rate on one process, or under DDP"
        )
    accelerator, args, former = trainer.accelerator, trainer.args, trainer.optimizer
    known = {name: list(getattr(accelerator, name)) for name in LISTS}
    put_back = global_generators()
    model: Any = trainer.model
    bare, holding = model, Holding(Memory())
    holding.references(bare)  # `prepare_model` puts a forward of its own into it
    attached = getattr(trainer.create_optimizer, "__self__", None)
    try:
        optimizer = trainer.create_optimizer() if former is None else former
        if accelerator.num_processes > 1:
            model = accelerator.prepare_model(trainer._wrap_model(model))
        loader = trainer.get_train_dataloader()
        epoch = updates_of(loader, args.gradient_accumulation_steps)
        yield {
            "model": model,
            "batches": loader,
            "loss": lambda model, batch: trainer.compute_loss(model, trainer._prepare_inputs(batch)),
            "count": count_function(None, None, bare),
            "optimizer": optimizer,
            "plan": attached.plan if isinstance(attached, Attachment) else None,
            "accumulate": args.gradient_accumulation_steps,
            "clip": args.max_grad_norm or None,
            "accelerator": accelerator,
            "epochs": epoch and (args.max_steps / epoch if args.max_steps > 0 else args.num_train_epochs),
            "keep": [metrics] if (metrics := getattr(trainer, "_metrics", None)) is not None else [],
        }
    finally:
        trainer.optimizer = former
        for name, before in known.items():
            setattr(accelerator, name, before)
        holding.put_back()
        put_back()
