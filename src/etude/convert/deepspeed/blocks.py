"""DeepSpeed's "scheduler" and "optimizer" blocks in the language of schedules."""

from collections.abc import Callable, Mapping
from typing import Any

from etude.convert.converted import Converted, foreign
from etude.convert.deepspeed.cycles import one_cycle, range_test
from etude.convert.deepspeed.params import Drawn, Params
from etude.convert.deepspeed.warmups import warmup_cosine, warmup_decay, warmup_lr
from etude.convert.parts import mapping, one_of
from etude.convert.pieces import Piece, fit, path
from etude.convert.product import product
from etude.errors import RecipeError

SCHEDULERS: dict[str, Callable[[Params], Drawn]] = {
    "WarmupLR": warmup_lr,
    "WarmupDecayLR": warmup_decay,
    "WarmupCosineLR": warmup_cosine,
    "OneCycle": one_cycle,
    "LRRangeTest": range_test,
}


def _knows(said: Any) -> bool:
    if not isinstance(said, Mapping):
        return False
    blocks = [block for block in (said.get("scheduler"), said.get("optimizer")) if isinstance(block, Mapping)]
    return any({"type", "params"} <= set(block) for block in blocks)


@foreign("deepspeed", _knows)
def deepspeed(said: Mapping[str, Any], total: float | None = None, lr: float | None = None) -> Converted:
    """DeepSpeed's configuration: its "scheduler" and "optimizer" blocks.

    Without a scheduler the optimizer's rate is held. `lr` and `total` stand where the configuration says
    "auto" or nothing. Raises `RecipeError` for what it leaves open and for schedulers that are not
    DeepSpeed's own.

    >>> params = {"warmup_num_steps": 100, "warmup_type": "linear", "warmup_max_lr": 1e-4}
    >>> deepspeed({"scheduler": {"type": "WarmupLR", "params": params}}).hypers["lr"]
    '0.0001 * (hold(1, start=0) >> warmup(100) >> hold())'
    """
    optimizer = Params(said.get("optimizer"), lr, total)
    if lr is None and "lr" in optimizer.said:
        lr = optimizer.number("lr")
    kind, drawn = _drawn(said.get("scheduler"), lr, total)
    end = total or drawn.total
    hypers = {"lr": product(drawn.peak, path(_fitted(drawn.pieces, end)))}
    if drawn.momentum:
        hypers["momentum"] = path(_fitted(drawn.momentum, end))
    if "weight_decay" in optimizer.said:
        hypers["weight_decay"] = repr(optimizer.number("weight_decay"))
    traps = drawn.traps
    if kind and lr is not None and lr != drawn.peak:
        traps = [*traps, f"The scheduler's peak, {drawn.peak:g}, is used, the optimizer's lr, {lr:g}, never."]
    return Converted(hypers, tuple(traps), total=end)


def _drawn(block: Any, lr: float | None, total: float | None) -> tuple[str, Drawn]:
    kind = mapping("scheduler", block).get("type")
    if kind is not None:
        # DeepSpeed also takes the names of torch's schedulers: those are read from code.
        return kind, SCHEDULERS[one_of("scheduler type", kind, SCHEDULERS)](Params(block, lr, total))
    if lr is None:
        raise RecipeError('neither the scheduler nor the optimizer says a rate that is no "auto"; say lr')
    return "", Drawn(lr, [Piece("hold")], [])


def _fitted(pieces: list[Piece], total: float | None) -> list[Piece]:
    return pieces if total is None else fit(pieces, total)
