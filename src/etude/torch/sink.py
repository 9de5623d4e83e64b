"""The torch sink: writes rates into an optimizer's parameter groups and opens or freezes their parameters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from etude.core.plan import Group
from etude.errors import ForeignChange, PlanError
from etude.torch.freezing import Freezing


def sink(optimizer: torch.optim.Optimizer, *, check: bool = True, statistics: bool = True) -> "TorchSink":
    """A sink for any `torch.optim.Optimizer` whose groups are those of the plan, in order.

    Build the optimizer from `plan.torch_groups(model)`. "lr" and "weight_decay" are written where the
    optimizer keeps them; "momentum" is `momentum`, or the first of `betas` where there is none. A rate that
    is a tensor stays that tensor; of one that several groups share, each gets its own.

    Before it writes it looks whether another hand has written since; `check=False` leaves that out, which
    saves half the time of a write and the protection from a second scheduler. While a group is frozen the
    running statistics of its BatchNorm layers stand still too, unless `statistics=False`.
    """
    return TorchSink(optimizer, check, statistics)


Parts = list[list[tuple[dict[str, Any], float]]]
"""For each kind its groups, each with its scale."""


@dataclass(slots=True)
class _Written:
    """What was written last: group i got levels[place + kinds[i]] × scales[i]."""

    levels: Sequence[float]
    place: int
    kinds: Sequence[int]
    scales: Sequence[float]

    def values(self) -> list[float]:
        levels, place = self.levels, self.place
        return [levels[place + kind] * scale for kind, scale in zip(self.kinds, self.scales, strict=True)]


class TorchSink:
    """What `sink` makes; see `etude.control.driver.Sink`."""

    def __init__(self, optimizer: torch.optim.Optimizer, check: bool = True, statistics: bool = True):
        if any(group.get("relative_step") for group in optimizer.param_groups):
            raise PlanError(
                "this Adafactor sets its own rates and ignores those of a plan: "
                "write Adafactor(…, relative_step=False, scale_parameter=False)"
            )
        self.optimizer = optimizer
        self._freezing = Freezing(statistics)
        self._checks = check
        self.groups = [_name(group) for group in optimizer.param_groups]
        # A group is known by its first parameter: `load_state_dict` replaces the list, the dicts and even
        # the names in them, but leaves each parameter where it is.
        self._keys = _keys(optimizer.param_groups)
        self._list = optimizer.param_groups
        self._written: dict[str, _Written] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_keys": None, "_list": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy has parameters of its own, in the same places.
        self.__dict__.update(state)
        self._list = self.optimizer.param_groups
        self._keys = _keys(self._list)
        self._written.clear()

    def bind(
        self, hyper: str, scales: Sequence[float], kinds: Sequence[int]
    ) -> Callable[[Sequence[float], int], None]:
        """A function that writes levels[place + kinds[i]] × scales[i] into group i.

        It first compares with what was written last, and raises `ForeignChange` once if another hand wrote.
        A list of groups that was replaced by `optimizer.load_state_dict` is not foreign: it is written anew.
        """
        key, put = _writer(hyper, self._current(), self.optimizer.defaults)
        optimizer, memory, checks, count = self.optimizer, self._written, self._checks, len(scales)
        known: list[dict[str, Any]] = []
        parts: Parts = []

        def write(levels: Sequence[float], place: int) -> None:
            nonlocal known, parts
            if optimizer.param_groups is not known or len(known) != count:
                known = self._current()
                parts = _parts(known, scales, kinds)
            if put is None and not checks:
                for pairs in parts:
                    level = levels[place]
                    place += 1
                    for group, scale in pairs:
                        group[key] = level * scale
                return
            written = memory.get(hyper)
            if written is not None:
                alike = put is None and written.scales is scales and written.kinds is kinds
                if alike and _exchanged(key, parts, written, levels, place):
                    written.levels, written.place = levels, place
                    return
                if checks:
                    self._check(hyper, written)
            now = _Written(levels, place, kinds, scales)
            if put is None:
                for group, value in zip(known, now.values(), strict=True):
                    group[key] = value
            else:
                held = [put(group, key, value) for group, value in zip(known, now.values(), strict=True)]
                now = _Written(held, 0, range(count), (1.0,) * count)
            memory[hyper] = now

        return write

    def open(self, flags: Sequence[bool]) -> None:
        """Let each group train or stay as it is, statistics included; see `etude.torch.freezing`."""
        parameters = [group["params"] for group in self._current()]
        self._freezing.set(list(zip(self.groups, parameters, strict=True)), flags)

    def add(self, group: Group, params: Iterable[torch.Tensor], values: Mapping[str, float]) -> None:
        """Take a further group into the optimizer, with every other setting at the optimizer's default."""
        held = self._current()
        added: dict[str, Any] = {"params": list(params), "name": group.name}
        if "param_names" in held[0]:
            added["param_names"] = list(group.params)
        self.optimizer.add_param_group(added)
        added = held[-1]
        for hyper, value in values.items():
            key, put = _writer(hyper, [added], self.optimizer.defaults)
            added[key] = value if put is None else put(added, key, value)
        self.groups.append(group.name)
        self._keys = _keys(held)
        self._written.clear()

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

    def _check(self, hyper: str, last: _Written) -> None:
        """Raise `ForeignChange` if a value, as a plain number, is another than was written."""
        written, found = last.values(), self.read(hyper)
        if found == written:
            return
        del self._written[hyper]  # said once: who catches the error goes on with the plan's rates
        changes = tuple(
            (name or str(i), old, new)
            for i, (name, old, new) in enumerate(zip(self.groups, written, found, strict=True))
            if old != new
        )
        listed = "; ".join(f"{name} had {_apart(old, new)}" for name, old, new in changes[:4])
        raise ForeignChange(
            f"{hyper} was changed by another hand: {listed}. One driver owns an optimizer's rates: change "
            f'them with driver.edit(Scale(t, by)), or write Driver(…, foreign="adopt" or "restore")',
            hyper,
            changes,
        )


def _apart(old: float, new: float) -> str:
    short = f"{old:.6g}", f"{new:.6g}"
    return ", now ".join(short if short[0] != short[1] else (repr(old), repr(new)))


def _parts(groups: list[dict[str, Any]], scales: Sequence[float], kinds: Sequence[int]) -> Parts:
    parts: Parts = [[] for _ in range(max(kinds) + 1)]
    for group, scale, kind in zip(groups, scales, kinds, strict=True):
        parts[kind].append((group, scale))
    return parts


def _exchanged(key: str, parts: Parts, written: _Written, levels: Sequence[float], place: int) -> bool:
    """Write over what was written last; False, with nothing changed, if another value stands anywhere."""
    before, last = written.levels, written.place
    for kind, pairs in enumerate(parts):
        old, level = before[last + kind], levels[place + kind]
        for group, scale in pairs:
            if group[key] != old * scale:
                _undo(key, parts, written, group)
                return False
            group[key] = level * scale
    return True


def _undo(key: str, parts: Parts, written: _Written, changed: dict[str, Any]) -> None:
    """Put back what was written last into the groups before `changed`."""
    for level, pairs in zip(written.levels[written.place :], parts):  # noqa: B905  # levels may go on
        for group, scale in pairs:
            if group is changed:
                return
            group[key] = level * scale


def _name(group: dict[str, Any]) -> str:
    return str(group.get("name") or "")


def _keys(groups: list[dict[str, Any]]) -> list[int | None]:
    return [id(group["params"][0]) if group["params"] else None for group in groups]


def _key(group: dict[str, Any], hyper: str) -> str:
    return "betas" if hyper == "momentum" and "momentum" not in group else hyper


def _value(group: dict[str, Any], hyper: str) -> float:
    return _plain(group[_key(group, hyper)])


def _plain(held: Any) -> float:
    return float(held[0] if isinstance(held, tuple) else held)


def _writer(
    hyper: str, groups: list[dict[str, Any]], defaults: dict[str, Any]
) -> tuple[str, Callable[..., float] | None]:
    """The key in a group, and how to write there what is no plain number; it returns what the group holds."""
    for group in groups:
        if _key(group, hyper) not in group:
            raise PlanError(
                f"this optimizer has no {hyper!r}; its groups hold "
                f"{', '.join(key for key in group if key != 'params')}"
            )
    key = _key(groups[0], hyper)
    if key == "betas":
        return key, _write_beta
    tensors = [group for group in groups if isinstance(group[key], torch.Tensor)]
    shared = [defaults.get(key)]  # by all groups, as AdamW(groups, lr=tensor) leaves them
    for group in tensors:
        if any(group[key] is other for other in shared):
            group[key] = group[key].clone()
        shared.append(group[key])
    return key, _fill if tensors else None


def _write_beta(group: dict[str, Any], key: str, value: float) -> float:
    group[key] = (value, *group[key][1:])
    return value


def _fill(group: dict[str, Any], key: str, value: float) -> float:
    """Write into a tensor in place; what it then holds, in its precision."""
    held = group[key]
    if not isinstance(held, torch.Tensor):
        group[key] = value
        return value
    held.fill_(value)
    return float(held)
