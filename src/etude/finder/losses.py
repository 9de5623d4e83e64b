"""The loss of a batch: the model's own, a loss of torch, or any function of the model and the batch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from etude.errors import EtudeError
from etude.finder.batches import IGNORED, LABELS, counter, labels_of
from etude.finder.snapshot import bare

Loss = Callable[[Any, Any], torch.Tensor]
"""The mean loss of a batch: `loss(model, batch)`."""


def loss_function(loss: Any) -> Loss:
    """What gives the loss of a batch, from what the user wrote.

    - None: the model's own, as models of transformers give it when the batch has labels.
    - A loss of torch (an `nn.Module`, a function of `torch.nn.functional`): it gets the model's output (its
      `logits`, if it has them) and the labels: the last entry of a tuple, or those of a mapping.
    - Any other function is called as `loss(model, batch)`.

    Raises `EtudeError` for anything else; the function raises it for a loss that is no single number.
    """
    if loss is None:
        given: Loss = own
    elif isinstance(loss, torch.nn.Module) or getattr(loss, "__module__", "") == "torch.nn.functional":
        given = _of_outputs(loss)
    elif callable(loss):
        given = loss
    else:
        raise EtudeError(
            f"loss={loss!r} is no function: write loss=lambda model, batch: …, a loss of torch such as "
            f"torch.nn.CrossEntropyLoss(), or leave it out for the model's own"
        )
    return lambda model, batch: _checked(given(model, batch))


def count_function(count: Any, loss: Any, model: torch.nn.Module) -> Callable[[Any], float]:
    """How many examples or tokens the loss of a batch is a mean of: the user's `count`, or `counter`'s."""
    if count is not None:
        return count
    if loss is None:
        return counter(shifted=_of_next_tokens(bare(model)))
    if isinstance(loss, torch.nn.Module):
        return counter(getattr(loss, "ignore_index", None))
    return counter(IGNORED)


def _of_next_tokens(model: Any) -> bool:
    """Whether transformers takes the loss of the next token: then the first label of a text has no use."""
    name = getattr(getattr(model, "loss_function", None), "__name__", "")
    return name == "ForCausalLMLoss" and not getattr(model.config, "is_encoder_decoder", False)


def own(model: Any, batch: Any) -> torch.Tensor:
    """The loss that a model gives itself: its output, or what that calls `loss`."""
    output = _output(model, batch)
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None and isinstance(output, tuple | list) and output and _single(output[0]):
        loss = output[0]
    if loss is None and isinstance(output, torch.Tensor) and _single(output):
        loss = output
    if loss is None:
        held = f"has {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else f"is a {_kind(batch)}"
        raise EtudeError(
            f"the model gave no loss (its output is a {_kind(output)}), and the batch {held}: give it "
            f'"labels" for a model that has a loss of its own, or write loss=torch.nn.CrossEntropyLoss()'
        )
    return loss


def _of_outputs(criterion: Any) -> Loss:
    def loss(model: Any, batch: Any) -> torch.Tensor:
        labels = labels_of(batch)
        if labels is None:
            raise EtudeError(
                f"the batch has no labels for {_name(criterion)}: give (inputs, labels) or a mapping "
                f"with one of {', '.join(LABELS)}; or write loss=lambda model, batch: …"
            )
        if isinstance(batch, Mapping):
            inputs: Any = {key: value for key, value in batch.items() if key not in LABELS}
        else:
            inputs = batch[:-1]
        output = _output(model, inputs)
        logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        return criterion(output if logits is None else logits, labels)

    return loss


def _output(model: Any, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def _checked(loss: Any) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor):
        raise EtudeError(f"the loss is a {_kind(loss)}, not a tensor: return the mean loss before .item()")
    if not _single(loss):
        raise EtudeError(
            f"the loss has the shape {tuple(loss.shape)}, and one number is needed: take its mean, as in "
            f"loss.mean() or reduction='mean'"
        )
    return loss.reshape(())


def _single(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == 1


def _kind(value: Any) -> str:
    return type(value).__name__


def _name(criterion: Any) -> str:
    return getattr(criterion, "__name__", None) or _kind(criterion)
