"""What feeds what in a model: passes without weights, in which every parameter's use is noted.

A pass on the meta device has no values: what asks for one (`item`, `bool`) gets a stand-in, because only the
flow of data matters. What does not run so runs on the CPU with every weight one number, spread over its
shape, and a small model also with weights. Where a whole model cannot be called, its parts are, one by one.
"""

import contextlib
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

import torch
from proof.flow import Pass, Trace
from proof.inputs import attempts
from torch import nn
from torch.fx.experimental import _config

LARGEST = 8e8  # parameters of a part that runs on the CPU
BUILT = 1.2e8  # parameters of a model that is built there


def passes(
    model: nn.Module, built: Callable[[], nn.Module] | None = None, on_cpu: bool = True
) -> tuple[list[Pass], list[str]]:
    """Passes that together use as many of the parameters as can be reached, and what kept others from ending.

    `built` makes the same model with weights; without `on_cpu` all passes are on the model's own device.
    """
    found, errors = _walk(model, on_cpu)
    names = [name for name, _ in model.named_parameters()]
    missed = set(names) - {name for one in found for name in one.order}
    if built is not None and len(missed) > len(names) / 10 and _size(model) < BUILT:
        more, others = _walk(built(), False)
        return [*found, *more], [*errors, *others]
    return found, errors


def run(part: nn.Module, names: dict[int, str], *args: Any, **kwargs: Any) -> tuple[Pass, str | None]:
    """One pass, and why it did not end."""
    unchecked = unittest.mock.patch.object(torch, "_check", _unchecked)
    all_of_it = unittest.mock.patch.object(_config, "meta_nonzero_assume_all_nonzero", True)
    watch = Trace(names)
    error = None
    try:
        with torch.enable_grad(), unchecked, all_of_it, watch:
            part.eval()(*map(_flowing, args), **{key: _flowing(value) for key, value in kwargs.items()})
    except Exception as raised:
        error = f"{type(raised).__name__}: {str(raised)[:120]}"
    return watch.done(), error


def _unchecked(*_: Any) -> None:
    """No check: without values there is nothing to check."""


def _flowing(value: Any) -> Any:
    """An input that the graph shows: what it meets is used, not only reshaped."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().requires_grad_() * 1
    return value


def _walk(model: nn.Module, on_cpu: bool) -> tuple[list[Pass], list[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: list[Pass] = []
    errors: list[str] = []
    seen: set[str] = set()
    todo = [("", model)]
    while todo:
        path, part = todo.pop(0)
        left = {names[id(p)] for p in part.parameters()} - seen
        if not left:
            continue
        for one, error in _runs(part, names, on_cpu):
            if set(one.order) - seen:
                found.append(one)
                seen.update(one.order)
            if error is not None:
                errors.append(f"{path or 'model'}: {error}")
            if not left - seen:
                break
        if len(left - seen) > len(left) / 10:
            todo = [*_parts(path, part), *todo]
    return found, errors


def _runs(part: nn.Module, names: dict[int, str], on_cpu: bool) -> Iterator[tuple[Pass, str | None]]:
    for implement in ("set_attn_implementation", "set_experts_implementation"):
        with contextlib.suppress(Exception):
            getattr(part, implement)("eager")
    done = False
    device = next(part.parameters()).device
    with torch.device(device):
        for made in attempts(part):
            found, error = run(part, names, **made)
            done |= error is None
            yield found, error
    if not done and on_cpu and _size(part) < LARGEST:
        with _on_cpu(part, names) as known:
            for made in attempts(part):
                yield run(part, known, **made)


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


@contextlib.contextmanager
def _on_cpu(part: nn.Module, names: dict[int, str]) -> Iterator[dict[int, str]]:
    """The part with one number in each parameter and buffer, on the CPU; its own come back afterwards."""
    kept: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    spread: dict[int, torch.Tensor] = {}
    known: dict[int, str] = {}
    for module in part.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                kept.append((store, name, tensor))
                if id(tensor) not in spread:
                    flat = torch.zeros((), dtype=tensor.dtype, device="cpu").expand(tensor.shape)
                    new = nn.Parameter(flat) if store is module._parameters else flat.clone()
                    spread[id(tensor)] = new
                    if id(tensor) in names:
                        known[id(new)] = names[id(tensor)]
                store[name] = spread[id(tensor)]
    try:
        yield known
    finally:
        for store, name, tensor in kept:
            store[name] = tensor


def _parts(path: str, part: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The nearest submodels of a part."""
    from transformers import PreTrainedModel

    for name, child in part.named_children():
        below = f"{path}.{name}" if path else name
        if isinstance(child, PreTrainedModel):
            yield below, child
        else:
            yield from _parts(below, child)
