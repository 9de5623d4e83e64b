"""`etude.plan(model, …)`: from a model and what the user wants to a plan."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from etude.core.namespace import plain
from etude.core.path import Schedule, as_schedule
from etude.core.plan import Plan
from etude.errors import PlanError
from etude.model.groups import Layout
from etude.model.groups import layout as settle
from etude.model.ladder import Ladder, ladder, level
from etude.model.leaf import Leaf
from etude.model.override import matches, overrides


def plan(
    model: Any,
    lr: Any,
    *,
    layer_decay: float = 1.0,
    head: float = 1.0,
    weight_decay: Any = 0.0,
    momentum: Any = None,
    groups: Iterable[Any] = (),
    tick: float = 0.5,
) -> Plan:
    """Plan the rates of every trainable parameter of a model.

    `model` is a torch module or a list of `Leaf`; `lr`, `weight_decay` and `momentum` (the first beta of
    Adam; None leaves it to the optimizer) are numbers, paths, schedules or their text. The last block trains
    at `lr`, each block below it at `layer_decay` (0 to 1) times the block above, the embeddings one power
    below the first block, and what lies outside the pretrained backbone at `head` times `lr`; see
    `Ladder.multiplier` for the conventions of others. Biases, norms and vectors have no weight decay.

    `groups` settles single parameters by hand: pairs of a regular expression and settings, first match wins.
    Settings are one of `depth` (a number or "embeddings", "layer.3", "top", "head"), `lr_scale` (a ratio of
    the peak) and `lr` (absolute), `weight_decay` (absolute, for those that decay), and `gate`, a path of
    levels that multiplies the rate: a warm-up or a schedule of the group's own, or `frozen(0.3) >> hold()`.
    `tick` is that of `Plan`.

    The plan has one group per distinct setting, named for the rungs that share it, from the bottom up. Raises
    `PlanError` when a depth is needed, by `layer_decay`, `head` or a `depth`, and a parameter has none that
    is certain.

    >>> blocks = [f"gpt.h.{i}.{part}.weight" for i in range(2) for part in ("attn", "mlp")]
    >>> leaves = [Leaf(name, (4, 4)) for name in ("gpt.wte.weight", *blocks, "score.weight")]
    >>> leaves[0] = leaves[0]._replace(module="Embedding")
    >>> for group in plan(leaves, "2e-5 * cosine()", layer_decay=0.5, head=10).groups:
    ...     print(group.name, group.scale["lr"], len(group.params))
    embeddings 0.25 1
    layer.0 0.5 2
    layer.1 1.0 2
    head 10.0 1
    """
    hypers = {"lr": as_schedule(lr), "weight_decay": as_schedule(weight_decay)}
    settled = _layout(model, hypers, layer_decay, head, groups)
    if momentum is not None:
        hypers["momentum"] = as_schedule(momentum)
    return Plan(hypers, settled.groups(), tick)


def layout(
    model: Any,
    lr: Any = 1.0,
    *,
    layer_decay: float = 1.0,
    head: float = 1.0,
    weight_decay: Any = 0.0,
    groups: Iterable[Any] = (),
) -> Layout:
    """Where every parameter stands and what it gets, with the reasons; the arguments are those of `plan`.

    `layout(…).rows()` is the table behind `etude groups`, `layout(…).ladder` the depths.
    """
    hypers = {"lr": as_schedule(lr), "weight_decay": as_schedule(weight_decay)}
    return _layout(model, hypers, layer_decay, head, groups)


def _layout(
    model: Any, hypers: dict[str, Schedule], layer_decay: Any, head: Any, groups: Iterable[Any]
) -> Layout:
    layer_decay = _number("layer_decay", layer_decay)
    if not 0 < layer_decay <= 1:
        raise PlanError(
            f"layer_decay={layer_decay:g} is no ratio between two layers: write 0.9, or 1 for equal rates"
        )
    head = _number("head", head)
    if head <= 0:
        raise PlanError(f"head={head:g} is no ratio of the peak: write 10, or 1 for the same rate")
    leaves = _leaves(model)
    peak, decay = hypers["lr"].peak, hypers["weight_decay"].peak
    by_hand = matches(leaves, overrides(groups, peak, decay))
    depths = {name: entry.depth for name, entry in by_hand.items() if entry.depth is not None}
    needed = layer_decay != 1 or head != 1 or bool(depths)
    return settle(_ladder(leaves, depths, needed), by_hand, layer_decay, head, decay != 0)


def _ladder(leaves: Sequence[Leaf], depths: dict[str, int | str], needed: bool) -> Ladder:
    try:
        return ladder(leaves, depths)
    except PlanError:
        if needed:
            raise
        return level(leaves)


def _number(name: str, value: Any) -> float:
    found = plain(value)
    if found is None:
        raise PlanError(f"{name} takes a number, got {value!r}")
    if not math.isfinite(found):
        raise PlanError(f"{name} takes a finite number, got {value}")
    return float(found)


def _leaves(model: Any) -> list[Leaf]:
    if hasattr(model, "named_parameters"):
        from etude.torch.leaves import leaves

        found = leaves(model)
    elif isinstance(model, Sequence) and all(isinstance(leaf, Leaf) for leaf in model):
        found = list(model)
    else:
        raise PlanError(f"plan takes a torch module or a list of Leaf, got {type(model).__name__}")
    if not found:
        raise PlanError("this model has no parameters")
    return found
