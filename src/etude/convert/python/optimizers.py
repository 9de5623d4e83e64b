"""The optimizer that a scheduler in Python source drives: its rate and its weight decay."""

from collections.abc import Mapping
from typing import NamedTuple

from etude.convert.python.unknown import unknown
from etude.convert.source import Call, Source

# Optimizers whose defaults are known -> lr, weight_decay; of others lr must be written.
OPTIMIZERS: dict[str, tuple[float | None, float]] = {
    "AdamW": (1e-3, 1e-2), "Adam": (1e-3, 0.0), "SGD": (1e-3, 0.0), "NAdam": (2e-3, 0.0),
    "RAdam": (1e-3, 0.0), "RMSprop": (1e-2, 0.0), "Adagrad": (1e-2, 0.0), "Adafactor": (None, 0.0),
    "Lion": (None, 0.0),
    "AdamW8bit": (None, 1e-2), "PagedAdamW8bit": (None, 1e-2), "LAMB": (None, 0.0), "Muon": (None, 0.1),
}  # fmt: skip


class Optimizer(NamedTuple):
    """The optimizer of a scheduler, as far as the source says it: its rate, its other hyper-parameters."""

    rate: float | None
    hypers: Mapping[str, str]


def optimizer_of(source: Source, call: Call, lr: float | None, traps: list[str]) -> Optimizer:
    """The optimizer that the call is given, or the only one that the source makes; `lr` replaces its rate."""
    first = call.args[0] if call.args else call.keywords.get("optimizer")
    if call.name == "get_scheduler":
        first = call.args[1] if len(call.args) > 1 else call.keywords.get("optimizer")
    made = first if isinstance(first, Call) else None
    if made is None:
        others = source.calls(OPTIMIZERS)
        made = others[0] if len(others) == 1 else None
    if made is None:
        return Optimizer(lr, {})
    usual, decay = OPTIMIZERS.get(made.name, (None, None))
    said = made.keywords.get("lr", made.args[1] if len(made.args) > 1 else usual)
    rate = lr if lr is not None else said if isinstance(said, int | float) else None
    if lr is None and (found := unknown(said)):
        traps.append(f"The peak is {found}, which is not literal: say lr.")
    if made.args and isinstance(made.args[0], list) and len(made.args[0]) > 1:
        traps.append(
            f"{made.name} has {len(made.args[0])} groups (line {made.line}): the text is for its own rate, "
            f"and etude.plan says groups by layer_decay, head and groups."
        )
    decays = made.keywords.get("weight_decay", decay)
    return Optimizer(rate, {"weight_decay": repr(decays)} if isinstance(decays, int | float) else {})
