"""Hugging Face's `lr_scheduler_type` and what belongs to it, said in the language of schedules.

Formulas and defaults as in transformers 5.23 `optimization.py`; sampled at `tick=0` the curves are equal to
1e-12, but for `cosine_warmup_with_min_lr`, which samples one update ahead.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from etude.errors import RecipeError, near
from etude.train.kinds import number, whole
from etude.train.names import Renamed

Warmup = int | float | None


def schedule(said: Mapping[str, Any], lr: Any, default: str) -> list[Renamed]:
    """The schedule that the names in `names.SCHEDULE` say, one record each, all with the same native text.

    `lr` is the peak, by which an absolute floor is divided. `lr_scheduler_type` names a whole curve and is
    taken as that, without the warm-up of `default`; without it the warm-up goes before what follows the
    warm-up in `default`. Raises `RecipeError` for what the language cannot say.

    >>> schedule({"lr_scheduler_type": "linear", "warmup_ratio": 0.06}, 2e-5, "")[0].native_value
    'warmup(0.06) >> linear()'
    """
    if {"warmup_ratio", "warmup_steps"} <= said.keys():
        raise RecipeError(
            f"warmup_ratio and warmup_steps both say the warm-up: {said['warmup_ratio']!r} and "
            f"{said['warmup_steps']!r}; write one of them"
        )
    warm = _ratio(said["warmup_ratio"]) if "warmup_ratio" in said else _steps(said.get("warmup_steps", 0))
    if "lr_scheduler_type" in said:
        written = _curve(said["lr_scheduler_type"], _options(said.get("lr_scheduler_kwargs")), warm, lr)
    elif "lr_scheduler_kwargs" in said:
        raise RecipeError(
            "lr_scheduler_kwargs says nothing without lr_scheduler_type; write both, or schedule"
        )
    else:
        written = _after(warm, default.partition(" >> ")[2])
    return [Renamed(old, value, "schedule", written) for old, value in said.items()]


def _read(key: str, value: Any, kind: Callable[[Any], Any], low: float = 0) -> Any:
    try:
        plain = kind(value)
    except ValueError as error:
        raise RecipeError(f"{key}: got {value!r}; {error}") from None
    if plain < low:
        raise RecipeError(f"{key}: got {value!r}; must be at least {low}")
    return plain


def _ratio(value: Any) -> Warmup:
    ratio = _read("warmup_ratio", value, number)
    if ratio >= 1:
        raise RecipeError(
            f"warmup_ratio: got {value!r}; a share of the run is below 1; for updates write warmup_steps"
        )
    return ratio or None


def _steps(value: Any) -> Warmup:
    steps = _read("warmup_steps", value, number)
    if steps == 1 and not hasattr(value, "__index__") and value != "1":
        raise RecipeError(
            f"warmup_steps: {value!r} is ambiguous: write 1 for one update; a warm-up over the whole run is "
            f'schedule: warmup("100%")'
        )
    if steps > 1 and steps != int(steps):
        raise RecipeError(
            f"warmup_steps: got {value!r}; write whole updates (500) or a share of the run (0.06)"
        )
    return (int(steps) if steps >= 1 else steps) or None


def _options(value: Any) -> dict[str, Any]:
    """`lr_scheduler_kwargs` as a mapping; transformers also takes JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise RecipeError(f"lr_scheduler_kwargs: got {value!r}, which is not JSON: {error}") from None
    if value is not None and not isinstance(value, Mapping):
        raise RecipeError(f"lr_scheduler_kwargs: got {value!r}; write key: value lines under it")
    return {key: option for key, option in (value or {}).items() if option is not None}


def _word(name: str, *brackets: str) -> str:
    return f"{name}({', '.join(filter(None, brackets))})"


def _level(key: str, level: str) -> str:
    return f"{key}={level}" if level else ""


def _after(warm: Warmup, pieces: str, start: str = "") -> str:
    return f"{_word('warmup', repr(warm), _level('start', start))} >> {pieces}" if warm else pieces


def _curve(kind: Any, options: dict[str, Any], warm: Warmup, lr: Any) -> str:
    if kind not in CURVES:
        hint = (
            "; a controller is no schedule, and recipes have none yet"
            if kind in CONTROLLERS
            else near(kind, CURVES)
        )
        raise RecipeError(f"lr_scheduler_type: {kind!r} is no curve that étude's recipes know{hint}")
    make, known = CURVES[kind]
    for key in options:
        if key not in known:
            raise RecipeError(f"lr_scheduler_kwargs: {kind} takes no {key!r}{near(key, known)}")
    return make(options, warm, lr)


def _constant(options: dict[str, Any], warm: Warmup, lr: Any) -> str:
    if warm:
        raise RecipeError(
            f"lr_scheduler_type: constant has no warm-up, and one of {warm} is given; "
            f"write lr_scheduler_type: constant_with_warmup"
        )
    return "hold()"


def _restarts(options: dict[str, Any], warm: Warmup, lr: Any) -> str:
    times = _read("num_cycles", options.get("num_cycles", 1), whole, low=1)
    return _after(warm, f"repeat(cosine(start=1), {times})" if times > 1 else "cosine()")


def _polynomial(options: dict[str, Any], warm: Warmup, lr: Any) -> str:
    end = _read("lr_end", options.get("lr_end", 1e-7), number)
    power = _read("power", options.get("power", 1.0), number)
    return _after(warm, _word("poly", _level("to", _absolute("lr_end", end, lr)), f"power={power!r}"))


def _inverse_sqrt(options: dict[str, Any], warm: Warmup, lr: Any) -> str:
    # Without a time scale transformers takes the warm-up's length, as inv_sqrt() does, or 10,000.
    scale = options.get("timescale", None if warm else 10_000)
    written = "" if scale is None else repr(_read("timescale", scale, whole, low=1))
    return _after(warm, _word("inv_sqrt", _level("timescale", written)))


def _cosine(options: dict[str, Any], warm: Warmup, lr: Any) -> str:
    start = _read("warmup_lr_rate", options.get("warmup_lr_rate", 0), number)
    return _after(warm, _waves(options, _floor(options, lr)), repr(start) if start else "")


def _floored(options: dict[str, Any], warm: Warmup, lr: Any) -> str:
    if not {"min_lr", "min_lr_rate"} & options.keys():
        raise RecipeError("lr_scheduler_kwargs: give min_lr (a rate) or min_lr_rate (a share of the peak)")
    return _cosine(options, warm, lr)


def _stable(options: dict[str, Any], warm: Warmup, lr: Any) -> str:
    if "num_decay_steps" not in options:
        raise RecipeError(
            "lr_scheduler_kwargs: warmup_stable_decay needs num_decay_steps: write a number of updates"
        )
    decay = _read("num_decay_steps", options["num_decay_steps"], whole, low=1)
    floor = _read("min_lr_ratio", options.get("min_lr_ratio", 0), number)
    low = repr(floor) if floor else ""
    up, down = (
        _one_of(options, "warmup_type", RISING, "linear"),
        _one_of(options, "decay_type", FALLING, "cosine"),
    )
    if options.get("num_cycles", 0.5) != 0.5:
        raise RecipeError("num_cycles: warmup_stable_decay falls once here; write schedule for another decay")
    stable = options.get("num_stable_steps")
    pieces = [_word(up[0], repr(warm), _level("start", low or up[1]), *up[2:])] if warm else []
    pieces.append("hold()" if stable is None else f"hold({_read('num_stable_steps', stable, whole)})")
    pieces.append(_word(down, repr(decay), _level("to", low)))
    return " >> ".join(pieces if stable is None else [*pieces, "hold()"])


# warmup_type -> the word, where it starts if there is no floor, and what else stands in its brackets.
RISING = {
    "linear": ("warmup", ""),
    "cosine": ("cosine", "0", "to=1"),
    "1-sqrt": ("poly", "0", "to=1", "power=0.5"),
}
FALLING = {"linear": "linear", "cosine": "cosine", "1-sqrt": "sqrt"}


def _one_of(options: dict[str, Any], key: str, known: Mapping[str, Any], usual: str) -> Any:
    if options.get(key, usual) not in known:
        raise RecipeError(f"{key}: got {options[key]!r}{near(options[key], known)}")
    return known[options.get(key, usual)]


def _floor(options: dict[str, Any], lr: Any) -> str:
    """The floor as a level, as text; empty for 0."""
    if {"min_lr", "min_lr_rate"} <= options.keys():
        raise RecipeError("min_lr and min_lr_rate both say the floor; write one of them")
    if "min_lr" in options:
        return _absolute("min_lr", _read("min_lr", options["min_lr"], number), lr)
    rate = _read("min_lr_rate", options.get("min_lr_rate", 0), number)
    return repr(rate) if rate else ""


def _absolute(key: str, floor: float, lr: Any) -> str:
    peak = _read("lr", lr, number)
    if floor >= peak:
        raise RecipeError(f"{key}: got {floor!r}, which is not below the peak, {peak!r}")
    return f"{floor!r}/{peak!r}" if floor else ""


def _waves(options: dict[str, Any], floor: str) -> str:
    """Half waves down and up again; `num_cycles` counts whole ones."""
    cycles = _read("num_cycles", options.get("num_cycles", 0.5), number)
    halves = round(2 * cycles)
    if halves < 1 or halves != 2 * cycles:
        raise RecipeError(f"num_cycles: got {cycles!r}; a cosine ends at a top or a bottom: 0.5, 1, 1.5 …")
    return " >> ".join(_word("cosine", "to=1" if i % 2 else _level("to", floor)) for i in range(halves))


# lr_scheduler_type -> how it is said, and the lr_scheduler_kwargs that it takes.
CURVES: dict[str, tuple[Callable[[dict[str, Any], Warmup, Any], str], tuple[str, ...]]] = {
    "linear": (lambda options, warm, lr: _after(warm, "linear()"), ()),
    "cosine": (_cosine, ("num_cycles",)),
    "cosine_with_restarts": (_restarts, ("num_cycles",)),
    "polynomial": (_polynomial, ("lr_end", "power")),
    "constant": (_constant, ()),
    "constant_with_warmup": (lambda options, warm, lr: _after(warm, "hold()"), ()),
    "inverse_sqrt": (_inverse_sqrt, ("timescale",)),
    "cosine_with_min_lr": (_floored, ("num_cycles", "min_lr", "min_lr_rate")),
    "cosine_warmup_with_min_lr": (_floored, ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate")),
    "warmup_stable_decay": (
        _stable,
        ("num_decay_steps", "num_stable_steps", "min_lr_ratio", "num_cycles", "warmup_type", "decay_type"),
    ),
}
CONTROLLERS = ("reduce_lr_on_plateau", "greedy")
