"""The trainer's optimizer: its parameters in the plan's groups, and a guard on what is loaded into it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from etude.errors import PlanError, PlanMismatch


def regroup(optimizer: torch.optim.Optimizer, groups: Sequence[dict[str, Any]]) -> None:
    """Sort the parameters of a new optimizer into `groups`; its class and its options stay.

    Raises `PlanError` for an optimizer that sorts parameters by settings of its own (GaLore, APOLLO), and for
    one that holds others than the model's (LOMO, layer-wise ones).
    """
    name = type(optimizer).__name__
    common = {*optimizer.defaults, "params", "param_names", "lr", "weight_decay"}
    own = sorted({key for group in optimizer.param_groups for key in group} - common)
    if own:
        raise PlanError(
            f"{name} keeps {', '.join(own)} for groups of its own making, which the plan's groups would "
            f"undo: étude drives optimizers that treat all parameters alike, such as optim='adamw_torch'"
        )
    planned = {id(parameter) for group in groups for parameter in group["params"]}
    if any(id(parameter) not in planned for group in optimizer.param_groups for parameter in group["params"]):
        raise PlanError(
            f"{name} updates parameters that are not the model's own, so no rate can be set for them: étude "
            f"drives optimizers that hold the model's parameters, such as optim='adamw_torch'"
        )
    optimizer.param_groups.clear()
    for group in groups:
        optimizer.add_param_group(group)


def rates_in_use(optimizer: Any) -> dict[str, float]:
    """The rate of every group, as plain numbers by the group's name."""
    return {_name(group, i): float(group["lr"]) for i, group in enumerate(optimizer.param_groups)}


def refuse_other_groups(optimizer: torch.optim.Optimizer) -> None:
    """Let the optimizer refuse a state whose groups hold other parameters than its own.

    Torch goes by position: two parameters of one shape would silently change places, and for another number
    of groups its message names none.
    """

    def check(core: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        theirs, ours = _held(state["param_groups"]), _held(core.param_groups)
        if theirs == ours:
            return
        if not any(names for _, names in theirs.values()):
            raise PlanMismatch(
                "this checkpoint was written without étude: its optimizer does not say which parameters it "
                "holds; start anew from its weights, with from_pretrained(checkpoint)"
            )
        rows = tuple(
            (group, _short(theirs.get(group)), _short(ours.get(group)))
            for group in {**theirs, **ours}
            if theirs.get(group) != ours.get(group)
        )
        lines = "\n".join(f"  {group}: {old} in the checkpoint, {new} here" for group, old, new in rows)
        raise PlanMismatch(
            f"the checkpoint's optimizer has its parameters in other groups\n{lines}\nattach with the "
            f"layer_decay, head, weight_decay and groups of the checkpoint, or start anew from its weights",
            rows,
        )

    optimizer.register_load_state_dict_pre_hook(check)


def _name(group: Mapping[str, Any], position: int) -> str:
    return group.get("name") or f"group {position}"


def _held(groups: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, tuple[str, ...]]]:
    """How many parameters each group has, and their names."""
    return {
        _name(group, i): (len(group["params"]), tuple(group.get("param_names", ())))
        for i, group in enumerate(groups)
    }


def _short(held: tuple[int, tuple[str, ...]] | None) -> str:
    if held is None:
        return "no such group"
    count, names = held
    return f"{count} parameters" + (f" from {names[0]} on" if names else " without names")
