"""Calls of optax in Python source, in the language of schedules; the source is read and never run."""

from collections.abc import Callable
from typing import Any, NamedTuple

from etude.convert.converted import Converted, foreign
from etude.convert.optax import composed, schedules
from etude.convert.optax.asked import Asked, held, levels
from etude.convert.pieces import Piece, fit, path, span
from etude.convert.product import product
from etude.convert.python.names import LENGTHS
from etude.convert.python.unknown import literal, unknown
from etude.convert.source import Call, Source, called
from etude.convert.values import read
from etude.errors import RecipeError


class Schedule(NamedTuple):
    """How an optax schedule is drawn, and its arguments in their order."""

    draw: Callable[[Asked], list[Piece]]
    names: tuple[str, ...]


_CYCLE = ("transition_steps", "peak_value", "pct_start")
SCHEDULES = {
    "constant_schedule": Schedule(schedules.constant, ("value",)),
    "linear_schedule": Schedule(
        schedules.linear, ("init_value", "end_value", "transition_steps", "transition_begin")
    ),
    "polynomial_schedule": Schedule(
        schedules.polynomial, ("init_value", "end_value", "power", "transition_steps", "transition_begin")
    ),
    "cosine_decay_schedule": Schedule(schedules.cosine, ("init_value", "decay_steps", "alpha", "exponent")),
    "exponential_decay": Schedule(
        schedules.exponential,
        ("init_value", "transition_steps", "decay_rate", "transition_begin", "staircase", "end_value"),
    ),
    "warmup_constant_schedule": Schedule(
        schedules.warmup_constant, ("init_value", "peak_value", "warmup_steps")
    ),
    "warmup_cosine_decay_schedule": Schedule(
        schedules.warmup_cosine,
        ("init_value", "peak_value", "warmup_steps", "decay_steps", "end_value", "exponent"),
    ),
    "warmup_exponential_decay_schedule": Schedule(
        schedules.warmup_exponential,
        ("init_value", "peak_value", "warmup_steps", "transition_steps", "decay_rate", "transition_begin",
         "staircase", "end_value"),
    ),
    "piecewise_constant_schedule": Schedule(
        composed.piecewise_constant, ("init_value", "boundaries_and_scales")
    ),
    "piecewise_interpolate_schedule": Schedule(
        composed.piecewise_interpolate, ("interpolate_type", "init_value", "boundaries_and_scales")
    ),
    "cosine_onecycle_schedule": Schedule(
        composed.cosine_onecycle, (*_CYCLE, "div_factor", "final_div_factor")
    ),
    "linear_onecycle_schedule": Schedule(
        composed.linear_onecycle, (*_CYCLE, "pct_final", "div_factor", "final_div_factor")
    ),
    "sgdr_schedule": Schedule(composed.restarts, ("cosine_kwargs",)),
}  # fmt: skip
JOIN = "join_schedules"
# Optimizers with their own default of weight_decay; None: they have none.
OPTIMIZERS: dict[str, float | None] = {
    "adamw": 1e-4, "adamaxw": 1e-4, "nadamw": 1e-4, "lion": 1e-3, "lamb": 0.0, "lars": 0.0, "adan": 0.0,
    "novograd": 0.0, "adadelta": 0.0, "adabelief": None, "adafactor": None, "adagrad": None, "adam": None,
    "adamax": None, "amsgrad": None, "nadam": None, "noisy_sgd": None, "radam": None, "rmsprop": None,
    "sgd": None, "sign_sgd": None, "signum": None, "sm3": None, "yogi": None,
}  # fmt: skip


def _knows(said: Any) -> bool:
    return isinstance(said, str) and "optax" in said and bool({*SCHEDULES, JOIN, *OPTIMIZERS} & called(said))


@foreign("optax", _knows)
def optax(said: str, total: float | None = None, lr: float | None = None) -> Converted:
    """Python source that calls optax: an optimizer with its schedule, or a schedule alone.

    `total` stands for the run's length where the source computes it, and decays without an end need it; `lr`
    for the peak. Raises `RecipeError` with the line of what is not literal.

    >>> optax("rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000, 1e-4)").hypers["lr"]
    '0.001 * (warmup(100) >> cosine(900, to=0.0001/0.001) >> hold())'
    """
    source = Source(said, {} if total is None else dict.fromkeys(LENGTHS, total))
    found, optimizer = _only(source)
    traps: list[str] = []
    text, end = _text(found, total, lr, traps)
    hypers = {"lr": text}
    if decay := _decay(optimizer, traps):
        text, _ = _text(decay, total, None, traps)
        hypers["weight_decay"] = text.removesuffix(" * hold()")
    return Converted(hypers, tuple(traps), total=end)


def _text(value: Any, total: float | None, lr: float | None, traps: list[str]) -> tuple[str, float | None]:
    """What a rate says as text, and the total that it has. It is drawn twice: levels need the peak."""
    rates = [
        rate.ratio for piece in _drawn(value, total, 1.0, []) for rate in (piece.start, piece.end) if rate
    ]
    if not (peak := max(rates)):
        raise RecipeError("this schedule is 0 throughout; a peak is above 0")
    drawn = _drawn(value, total, peak, traps)
    text = product(peak if lr is None else lr, path(drawn if total is None else fit(drawn, total)))
    return text, total or span(drawn[:-1]) or None


def _only(source: Source) -> tuple[Any, Call | None]:
    """The rate that the source's one optimizer has, with the optimizer, or its one schedule."""
    optimizers = source.calls(OPTIMIZERS)
    if len(optimizers) == 1:
        return optimizers[0].bound(("learning_rate",)).get("learning_rate"), optimizers[0]
    calls = {call.place: call for call in source.calls([*SCHEDULES, JOIN])}
    for call in [*calls.values()]:
        for inner in _parts(call):
            calls.pop(inner.place, None)
    if optimizers or len(calls) != 1:
        listed = [f"{call.name} (line {call.line})" for call in optimizers or calls.values()]
        raise RecipeError(
            f"this source makes {', '.join(listed) or 'no schedule'}; leave the one that is meant"
        )
    return next(iter(calls.values())), None


def _parts(call: Call) -> list[Call]:
    parts = call.bound(("schedules", "boundaries")).get("schedules") if call.name == JOIN else []
    inner = [part for part in parts if isinstance(part, Call)] if isinstance(parts, list) else []
    return [deeper for part in inner for deeper in (part, *_parts(part))]


def _drawn(value: Any, left: float | None, peak: float, traps: list[str]) -> list[Piece]:
    """What a rate says in levels of the peak: a number, a schedule, or several that are joined."""
    if isinstance(value, Call) and value.name == JOIN:
        return _joined(value, left, peak, traps)
    if isinstance(value, Call) and value.name in SCHEDULES:
        schedule = SCHEDULES[value.name]
        said = literal(value, value.bound(schedule.names))
        return levels(schedule.draw(Asked(value.name, value.line, said, left, traps)), peak)
    if value is None or unknown(value):
        raise RecipeError(
            f"learning_rate is {unknown(value) or 'not said'}, which is read and not run; write a number or "
            f"a call of one of optax' schedules"
        )
    return levels([held(read("learning_rate", value))], peak)


def _joined(call: Call, left: float | None, peak: float, traps: list[str]) -> list[Piece]:
    said = call.bound(("schedules", "boundaries"))
    parts, bounds = said.get("schedules"), literal(call, {"boundaries": said.get("boundaries")})["boundaries"]
    if not isinstance(parts, list) or not isinstance(bounds, list) or len(parts) != len(bounds) + 1:
        raise RecipeError(
            f"{JOIN} (line {call.line}) takes a list of schedules and one boundary less, each written out"
        )
    times = [0, *(read("boundary", bound) for bound in bounds)]
    if sorted(times) != times:
        raise RecipeError(f"{JOIN} (line {call.line}): the boundaries {bounds} are not in order")
    drawn: list[Piece] = []
    for part, begin, end in zip(parts, times, [*times[1:], None], strict=True):
        over = end - begin if end is not None else None if left is None else left - begin
        if over is None or over > 0:
            pieces = _drawn(part, over, peak, traps)
            drawn += pieces if over is None else fit(pieces, over, closed=end is not None)
    return drawn


def _decay(optimizer: Call | None, traps: list[str]) -> Any:
    if optimizer is None:
        return None
    usual = OPTIMIZERS[optimizer.name]
    decay = optimizer.keywords.get("weight_decay", usual)
    if decay and {"mask", "weight_decay_mask"}.isdisjoint(optimizer.keywords):
        own = "" if "weight_decay" in optimizer.keywords else f", {usual:g} if nothing is said"
        traps.append(
            f"optax.{optimizer.name} decays every parameter without a mask{own}; étude leaves biases, norms "
            f"and vectors without weight decay."
        )
    return decay
