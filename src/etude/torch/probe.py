"""The probe: the rate that every tensor of an optimizer really gets, by making it update.

From zero weights and with unit gradients a copy of the optimizer makes its first update twice: with its rates
as they are, and with one rate for all. The ratio of the two movements is a tensor's rate, whatever else the
optimizer makes of a gradient (moments, momentum, the tensor's shape); and weight decay moves no zero.
"""

import copy
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import optimizer as base

from etude.errors import PlanError
from etude.torch.wrappers import nested

# Their wrappers hand an update on as it is.
TRANSPARENT = {"accelerate", "lightning", "lightning_fabric", "pytorch_lightning"}
HOOKS_OF_ALL = (base._global_optimizer_pre_hooks, base._global_optimizer_post_hooks)
# timm's factor of a group's rate: for an optimizer that applies it, it is part of the rate.
FACTOR = "lr_scale"


@dataclass(frozen=True)
class Movement:
    """What one optimizer does to its tensors, which are known by their `id`.

    `rates` are those of the tensors that train; `drifting` are frozen ones (`requires_grad` is false) that an
    update moves all the same. `names` is what the optimizer calls its tensors, `listed` how often it has
    each, `how` what was done.
    """

    tensors: dict[int, torch.Tensor]
    names: dict[int, str]
    listed: Counter[int]
    rates: dict[int, float]
    drifting: frozenset[int]
    how: str


def movement(optimizer: Any) -> Movement:
    """Measure an optimizer; it and its tensors are then as they were.

    One that cannot be made to update (LBFGS wants a closure) has its rates read from its groups, and `how`
    says so. Raises `PlanError` for what is no optimizer, and while every rate is 0.
    """
    inner, name = _named(optimizer)
    tensors, names, listed = _held(inner)
    written = [_rate(inner, group) for group in inner.param_groups]
    if not any(written):
        raise PlanError(
            "every rate of this optimizer is 0 now, as at the beginning of a warm-up: verify where they are "
            "not, for example after driver.apply(1)"
        )
    cause: Exception | None = None
    for first in (True, False):  # some make their state when they are built, and need that
        try:
            rates, drifting = _measured(inner, tensors, max(written), first)
        except Exception as error:  # whatever an optimizer of another hand raises
            cause = error
        else:
            how = f"by an update of {name} with unit gradients"
            return Movement(tensors, names, listed, rates, drifting, how)
    read: dict[int, float] = {key: 0.0 for key, tensor in tensors.items() if tensor.requires_grad}
    for group, rate in zip(inner.param_groups, written, strict=True):
        for key in map(id, group["params"]):
            if key in read:
                read[key] += rate
    reason = f"{type(cause).__name__}: {cause}".partition("\n")[0]
    how = f"only as the groups of {name} say, which could not be made to update ({reason})"
    return Movement(tensors, names, listed, read, frozenset(), how)


def _measured(
    optimizer: torch.optim.Optimizer, tensors: dict[int, torch.Tensor], common: float, first: bool
) -> tuple[dict[int, float], frozenset[int]]:
    """The rate of every tensor that trains, and the frozen ones that move."""
    training = {key: tensor for key, tensor in tensors.items() if tensor.requires_grad}
    frozen = tensors.keys() - training.keys()
    with _updated(optimizer, tensors, first) as before:
        moved = {key: _length(tensor) for key, tensor in training.items()}
        drifting = frozenset(key for key in frozen if _differs(tensors[key], before[key]))
    with _updated(optimizer, tensors, first, common):
        alike = {key: _length(tensor) for key, tensor in training.items()}
    return {key: common * moved[key] / alike[key] if alike[key] else 0.0 for key in training}, drifting


def _named(optimizer: Any) -> tuple[torch.optim.Optimizer, str]:
    """The optimizer that makes the updates, inside the wrappers of Accelerate and others, and what it is."""
    *wrappers, inner = nested(optimizer)
    if not isinstance(inner, torch.optim.Optimizer):
        raise PlanError(
            f"verify takes a torch optimizer, got {type(inner).__name__}; trainers make theirs when they "
            f"begin to train: call it in on_train_begin (transformers) or on_train_start (Lightning)"
        )
    around = [type(one).__name__ for one in wrappers if not TRANSPARENT & _packages(one)]
    name = type(inner).__name__
    return inner, f"the {name} inside {' and '.join(around)}" if around else name


def _packages(thing: Any) -> set[str]:
    return {kind.__module__.partition(".")[0] for kind in type(thing).__mro__}


def _held(optimizer: torch.optim.Optimizer) -> tuple[dict[int, torch.Tensor], dict[int, str], Counter[int]]:
    tensors, names, listed = {}, {}, Counter[int]()
    for i, group in enumerate(optimizer.param_groups):
        known = group.get("param_names") or ()
        for j, tensor in enumerate(group["params"]):
            tensors[id(tensor)] = tensor
            place = f"number {j} of group {group.get('name') or i}, of shape {tuple(tensor.shape)}"
            names.setdefault(id(tensor), known[j] if j < len(known) else place)
            listed[id(tensor)] += 1
    return tensors, names, listed


def _rate(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float:
    try:
        return float(group["lr"])
    except (KeyError, TypeError):
        raise PlanError(
            f"{type(optimizer).__name__} has a group without rate, lr={group.get('lr')}: no plan reaches it"
        ) from None


@contextmanager
def _updated(
    optimizer: torch.optim.Optimizer, tensors: dict[int, torch.Tensor], first: bool, rate: float | None = None
) -> Iterator[dict[int, torch.Tensor]]:
    """After an update, the optimizer's first or its next; at the end everything is as it was.

    Frozen tensors have the weights and the gradients that they have, as in a real update. With `rate` every
    tensor is listed once, and has that rate. Gives the weights before the update.
    """
    before = {key: tensor.detach().clone() for key, tensor in tensors.items()}
    gradients = {key: tensor.grad for key, tensor in tensors.items()}
    hooks = [dict(hooks) for hooks in HOOKS_OF_ALL]
    try:
        with _randomness(tensors.values()), torch.no_grad():
            twin = _twin(optimizer, tensors, first)
            if rate is not None:
                _level(twin.param_groups, rate)
            for tensor in tensors.values():
                if tensor.requires_grad:
                    tensor.zero_()
                    tensor.grad = torch.ones_like(tensor)
                elif tensor.grad is not None:
                    tensor.grad = tensor.grad.clone()
            for these in HOOKS_OF_ALL:
                these.clear()
            type(twin).step(twin)
        yield before
    finally:
        for these, were in zip(HOOKS_OF_ALL, hooks, strict=True):
            these.update(were)
        with torch.no_grad():
            for key, tensor in tensors.items():
                tensor.copy_(before[key])
                tensor.grad = gradients[key]


def _twin(
    optimizer: torch.optim.Optimizer, tensors: dict[int, torch.Tensor], first: bool
) -> torch.optim.Optimizer:
    """A copy of an optimizer, with settings of its own and without hooks, that updates the same tensors.

    `first` makes its state anew, but for frozen tensors: what moves them may be their momentum.
    """
    own, new = dict(vars(optimizer)), {}
    own.pop("step", None)  # torch's schedulers put one into the instance, which updates the original
    for name in [name for name in own if name.endswith("_hooks")]:
        new[name] = OrderedDict()
        del own[name]
    if first:
        held = own.pop("state")
        own["state"] = defaultdict(dict, {x: held[x] for x in held if not getattr(x, "requires_grad", True)})
    twin = object.__new__(type(optimizer))
    vars(twin).update(new | copy.deepcopy(own, dict(tensors)))
    return twin


def _level(groups: list[dict[str, Any]], rate: float) -> None:
    seen: set[int] = set()
    for group in groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
        if FACTOR in group:
            group[FACTOR] = 1.0
        first = [tensor for tensor in group["params"] if id(tensor) not in seen]
        group["params"] = list({id(tensor): tensor for tensor in first}.values())
        seen.update(map(id, first))


@contextmanager
def _randomness(tensors: Any) -> Iterator[None]:
    """Leave the generators as they are: some optimizers round at random."""
    devices = {tensor.device for tensor in tensors if tensor.device.type in ("cuda", "xpu")}
    kind = next((device.type for device in devices), "cuda")
    with torch.random.fork_rng([device.index for device in devices], device_type=kind):
        yield


def _length(tensor: torch.Tensor) -> float:
    return float(_whole(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64)))


def _differs(now: torch.Tensor, before: torch.Tensor) -> bool:
    same = (now == before) | ((now != now) & (before != before))
    return not bool(_whole(same.all()))


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor's value on every process."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[operator]
