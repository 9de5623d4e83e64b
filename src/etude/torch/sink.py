"""The torch sink: writes rates into an optimizer's parameter groups and opens or freezes their parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from etude.errors import ForeignChange, PlanError


def sink(optimizer: torch.optim.Optimizer) -> "TorchSink":
    """A sink for any `torch.optim.Optimizer` whose groups are those of the plan, in order.

    Build the optimizer from `plan.torch_groups(model)`. "lr" and "weight_decay" are written where the
    optimizer keeps them; "momentum" is `momentum`, or the first of `betas` where there is none. A rate that
    is a tensor stays that tensor; of one that several groups share, each gets its own.
    """
    return TorchSink(optimizer)


class TorchSink:
    """What `sink` makes; see `etude.control.driver.Sink`."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer
        self.groups = [_name(group) for group in optimizer.param_groups]
        # A group is known by its first parameter: `load_state_dict` replaces the list, the dicts and even
        # the names in them, but leaves each parameter where it is.
        self._keys = _keys(optimizer.param_groups)
        self._list = optimizer.param_groups
        self._written: dict[str, list[float]] = {}

    def bind(self, hyper: str, scales: Sequence[float]) -> Callable[[float], None]:
        """A function that writes level × scale into each group.

        It first compares with what was written last, and raises `ForeignChange` once if another hand wrote.
        A list of groups that was replaced by `optimizer.load_state_dict` is not foreign: it is written anew.
        """
        put = _writer(hyper, self._current())

        def write(level: float) -> None:
            groups = self._current()
            self._check(hyper)
            self._written[hyper] = [
                put(group, level * scale) for group, scale in zip(groups, scales, strict=True)
            ]

        return write

    def open(self, flags: Sequence[bool]) -> None:
        """Set `requires_grad` of every parameter; what is frozen also loses its gradient.

        Optimizers pass over a parameter without a gradient, so neither momentum nor weight decay moves it.
        """
        for group, flag in zip(self._current(), flags, strict=True):
            for parameter in group["params"]:
                parameter.requires_grad_(flag)
                if not flag:
                    parameter.grad = None

    def read(self, hyper: str) -> list[float]:
        """What the optimizer will use, as plain numbers in group order."""
        return [_value(group, hyper) for group in self._current()]

    def _current(self) -> list[dict[str, Any]]:
        groups = self.optimizer.param_groups
        if groups is not self._list or len(groups) != len(self._keys):
            self._find_again(groups)
        return groups

    def _find_again(self, groups: list[dict[str, Any]]) -> None:
        keys = _keys(groups)
        if keys != self._keys:
            gone = [name for name, key in zip(self.groups, self._keys, strict=True) if key not in keys]
            known = {*self._keys}
            new = [_name(group) or f"number {i}" for i, group in enumerate(groups) if keys[i] not in known]
            raise PlanError(
                f"the optimizer was planned with the groups {', '.join(self.groups)}; another hand has "
                f"changed them: gone are {', '.join(gone) or 'none'}, new are {', '.join(new) or 'none'}. "
                f"Plan the model with all its parameters instead; a gate thaws a group when its time comes"
            )
        for group, name in zip(groups, self.groups, strict=True):
            if name:
                group["name"] = name
        self._list = groups
        self._written.clear()

    def _check(self, hyper: str) -> None:
        written = self._written.get(hyper)
        if written is None:
            return
        found = self.read(hyper)
        if found == written:
            return
        del self._written[hyper]  # said once: who catches the error goes on with the plan's rates
        changes = tuple(
            (name or str(i), old, new)
            for i, (name, old, new) in enumerate(zip(self.groups, written, found, strict=True))
            if old != new
        )
        listed = "; ".join(f"{name} had {old:.6g}, now {new:.6g}" for name, old, new in changes[:4])
        raise ForeignChange(
            f"{hyper} was changed by another hand: {listed}. One driver owns an optimizer's rates: change "
            f'them with driver.edit(Scale(t, by)), or write Driver(…, foreign="adopt" or "restore")',
            hyper,
            changes,
        )


def _name(group: dict[str, Any]) -> str:
    return str(group.get("name") or "")


def _keys(groups: list[dict[str, Any]]) -> list[int | None]:
    return [id(group["params"][0]) if group["params"] else None for group in groups]


def _key(group: dict[str, Any], hyper: str) -> str:
    return "betas" if hyper == "momentum" and "momentum" not in group else hyper


def _value(group: dict[str, Any], hyper: str) -> float:
    value = group[_key(group, hyper)]
    return float(value[0] if isinstance(value, tuple) else value)


def _writer(hyper: str, groups: list[dict[str, Any]]) -> Callable[[dict[str, Any], float], float]:
    """How to write one value into one group; it returns the value as the group holds it."""
    for group in groups:
        if _key(group, hyper) not in group:
            raise PlanError(
                f"this optimizer has no {hyper!r}; its groups hold "
                f"{', '.join(key for key in group if key != 'params')}"
            )
    key = _key(groups[0], hyper)
    if key == "betas":
        return _write_beta
    tensors = [group for group in groups if isinstance(group[key], torch.Tensor)]
    for i, group in enumerate(tensors):
        if any(group[key] is other[key] for other in tensors[:i]):  # as AdamW(groups, lr=tensor) leaves them
            group[key] = group[key].clone()
    write = _fill if tensors else _set
    return lambda group, value: write(group, key, value)


def _write_beta(group: dict[str, Any], value: float) -> float:
    group["betas"] = (value, *group["betas"][1:])
    return value


def _set(group: dict[str, Any], key: str, value: float) -> float:
    group[key] = value
    return value


def _fill(group: dict[str, Any], key: str, value: float) -> float:
    held = group[key]
    if not isinstance(held, torch.Tensor):
        return _set(group, key, value)
    held.fill_(value)
    return float(held)
