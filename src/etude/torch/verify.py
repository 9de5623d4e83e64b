"""`etude.verify(model, optimizer, plan)`: does each tensor move as planned, under all that wraps it?"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import nn

from etude.core.plan import Group, Plan
from etude.errors import PlanError
from etude.torch.probe import Movement, movement
from etude.torch.verification import Row, Verification

# What DDP, torch.compile, FSDP, checkpointing and PEFT put into names.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer"}

Faults = dict[str, list[str]]


def verify(
    model: nn.Module, optimizer: Any, plan: Plan, rates: Mapping[str, Sequence[float]] | None = None
) -> Verification:
    """Measure whether one update would move each tensor in proportion to its group's multiplier.

    For a stack that is complete (DDP, Accelerate, Trainer, Lightning, PEFT, torch.compile): `model` and
    `optimizer` as they are then, the latter any torch optimizer, wrapped or not, or a list of them. A copy of
    the optimizer updates the model's own tensors, from zero weights and with unit gradients; then everything
    is put back, to the bit. Call it between two updates, and on every process. Meanwhile it takes as much
    memory again as the weights, gradients and moments of what the optimizer holds.

    Without `rates` it compares the ratios of the rates, wherever in its schedule the run is; of a group with
    a gate it then asks only that it moves as one. `rates` are what `driver.at(k)` says of the update to come:
    with them the rates themselves are compared, those of groups with gates too.

    Raises `PlanError` for a plan without parameters, and while every rate of an optimizer is 0. Whatever else
    is wrong stands in the result: `verify(…).check()` raises it.

    >>> body, head = ("0.weight", "0.bias"), ("1.weight", "1.bias")
    >>> plan = Plan({"lr": 1e-3}, [Group("body", body, {"lr": 0.1}), Group("head", head)])
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    >>> verify(model, torch.optim.AdamW(plan.torch_groups(model)), plan).ok
    True
    >>> print(verify(model, torch.optim.AdamW(model.parameters(), lr=1e-3), plan))
    2 parameters are not as planned, by an update of AdamW with unit gradients; ratio 1 is a rate of 0.001
    group  tensors   planned  measured
    body        2       0.1         1  0.weight: 1
    head        2         1         1
    moved in another ratio than planned (2): 0.weight, 0.bias
    all move at one rate: build the optimizer from plan.torch_groups(model), and see what merges its groups
    """
    _check(model, plan, rates)
    found = _tensors(model, plan)
    optimizers = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    moves = _together([movement(one) for one in optimizers])
    peak = plan.hypers["lr"].peak
    if rates is None:
        unit = _unit(plan, found, moves, peak)
        planned = [
            None if group.gate else ratio for group, ratio in zip(plan.groups, plan.scale("lr"), strict=True)
        ]
    else:
        unit, planned = peak, [rate / peak for rate in rates["lr"]]
    faults: Faults = defaultdict(list)
    rows = tuple(
        _row(group, ratio, found, moves, unit, faults)
        for group, ratio in zip(plan.groups, planned, strict=True)
    )
    _others(model, found, moves, faults)
    return Verification(rows, unit, moves.how, **{fault: tuple(names) for fault, names in faults.items()})


def _check(model: Any, plan: Any, rates: Any) -> None:
    if not hasattr(model, "named_parameters"):
        raise PlanError(f"verify takes a torch model first, got {type(model).__name__}")
    if not isinstance(plan, Plan):
        raise PlanError(f"verify takes a plan, got {type(plan).__name__}; a driver's is driver.rates.plan")
    if not any(group.params for group in plan.groups):
        raise PlanError("this plan names no parameters: make it with etude.plan(model, …)")
    if rates is not None and len(rates.get("lr", ())) != len(plan.groups):
        raise PlanError(
            f"rates is what driver.at(k) gives, a rate for each of {len(plan.groups)} groups; got {rates}"
        )


def _together(moves: Sequence[Movement]) -> Movement:
    """What several optimizers do to a model."""
    rates: dict[int, float] = defaultdict(float)
    for one in moves:
        for key, rate in one.rates.items():
            rates[key] += rate
    return Movement(
        {key: tensor for one in moves for key, tensor in one.tensors.items()},
        {key: name for one in moves for key, name in one.names.items()},
        sum((one.listed for one in moves), Counter()),
        rates,
        frozenset().union(*(one.drifting for one in moves)),
        " and ".join(one.how for one in moves),
    )


def _tensors(model: nn.Module, plan: Plan) -> dict[str, torch.Tensor]:
    """The model's tensor for each name of the plan; names that the model has not are left out."""
    exact = dict(model.named_parameters(remove_duplicate=False))
    bare = {_bare(name): tensor for name, tensor in exact.items()}
    asked = {name: _bare(name) for group in plan.groups for name in group.params}
    # A model that is part of another module has all its names behind one prefix.
    first = next(iter(asked.values()))
    prefixes = {"", *(name.removesuffix(first) for name in bare if name.endswith(f".{first}"))}
    prefix = max(sorted(prefixes), key=lambda prefix: sum(prefix + name in bare for name in asked.values()))
    found = {name: exact.get(name, bare.get(prefix + short)) for name, short in asked.items()}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _bare(name: str) -> str:
    """A parameter's name without what wrappers put into it.

    >>> _bare("module._orig_mod.base_model.model.bert.score.modules_to_save.default.weight")
    'bert.score.weight'
    """
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    if "modules_to_save" in parts:
        place = parts.index("modules_to_save")
        del parts[place : place + 2]  # and the adapter's name
    return ".".join(parts).replace("base_model.model.", "", 1)


def _unit(plan: Plan, found: Mapping[str, torch.Tensor], moves: Movement, peak: float) -> float:
    """The rate that has ratio 1 for most tensors; where several rates could, the peak is taken."""
    levels = sorted(
        (moves.rates[key] / scale, scale, _tolerance(found[name], moves.rates[key]))
        for group, scale in zip(plan.groups, plan.scale("lr"), strict=True)
        for name in group.params
        if group.gate is None and name in found and moves.rates.get(key := id(found[name])) and scale
    )
    alike: list[list[tuple[float, float, float]]] = []
    for level in levels:
        if alike and math.isclose(level[0], alike[-1][-1][0], rel_tol=level[2]):
            alike[-1].append(level)
        else:
            alike.append([level])
    if not levels or any(math.isclose(level, peak, rel_tol=tolerance) for level, _, tolerance in levels):
        return peak
    most = max(alike, key=lambda part: (len(part), -min(abs(math.log(scale)) for _, scale, _ in part)))
    return median(level for level, _, _ in most)


def _tolerance(tensor: torch.Tensor, rate: float) -> float:
    """By how much a movement may be off, as a ratio: what the tensor's type rounds, and at least 1e-4."""
    info = torch.finfo(tensor.dtype)
    finest = info.smallest_normal * info.eps
    return max(1e-4, 4 * info.eps + 2 * finest / rate) if rate else 1e-4


def _row(
    group: Group,
    planned: float | None,
    found: Mapping[str, torch.Tensor],
    moves: Movement,
    unit: float,
    faults: Faults,
) -> Row:
    """Judge a group tensor by tensor."""
    ratios: dict[str, float] = {}
    frozen = []
    for name in group.params:
        key = id(found.get(name))
        if name not in found:
            faults["unknown"].append(name)
        elif key not in moves.listed:
            faults["missing"].append(name)
        elif not found[name].numel():
            continue  # sharded, and the whole of it is on another process
        elif key in moves.rates:
            ratios[name] = moves.rates[key] / unit
        elif key not in moves.drifting:
            frozen.append(name)
        if name in found and moves.listed[key] > 1:
            faults["twice"].append(name)
    # A gate freezes a whole group, and where no rates were given it may do so now.
    if planned or (planned is None and (ratios or not group.freezes)):
        faults["still"] += frozen
    measured = median(ratios.values()) if ratios else None
    aim = measured if planned is None else planned
    apart = {name: _apart(ratio, aim) for name, ratio in ratios.items()}
    for name, ratio in ratios.items():
        if aim and not ratio:
            faults["still"].append(name)
        elif apart[name] > _tolerance(found[name], moves.rates[id(found[name])]):
            faults["wrong"].append(name)
    worst = max(ratios, key=apart.__getitem__, default="")
    return Row(group.name, len(group.params), planned, measured, worst, ratios.get(worst))


def _apart(ratio: float, aim: float | None) -> float:
    return abs(ratio / aim - 1) if aim else math.inf if ratio else 0.0


def _others(model: nn.Module, found: Mapping[str, torch.Tensor], moves: Movement, faults: Faults) -> None:
    """What moves without a plan, and what the optimizer has from elsewhere."""
    planned = {id(tensor): name for name, tensor in found.items()}
    own = {id(tensor): (name, tensor) for name, tensor in model.named_parameters()}
    for key, (name, tensor) in own.items():
        if key in moves.drifting:
            faults["drifting"].append(planned.get(key, name))
        elif tensor.requires_grad and key not in planned:
            faults["unplanned"].append(name)
    faults["strangers"] += [moves.names[key] for key in moves.listed if key not in own]
