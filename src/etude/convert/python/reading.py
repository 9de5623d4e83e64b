"""Python source that makes a scheduler of torch or transformers, or `TrainingArguments`: read, never run."""

from collections.abc import Mapping
from typing import Any

from etude.convert.converted import Converted, foreign
from etude.convert.huggingface.arguments import KEYS, training_arguments
from etude.convert.huggingface.types import CURVES, curve
from etude.convert.product import product
from etude.convert.python.names import ARGUMENTS, LENGTHS, MAKERS, SCHEDULES
from etude.convert.python.optimizers import Optimizer, optimizer_of
from etude.convert.python.unknown import literal, unknown
from etude.convert.pytorch.composed import (
    COMPOSED,
    CYCLES,
    FUNCTIONS,
    NO_RATE,
    Scheduler,
    converted,
    parameters,
)
from etude.convert.source import Call, Source, called
from etude.errors import RecipeError

PER_STEP = (
    "Lengths are counted in calls of scheduler.step(): if it is called once per epoch, write each of them "
    'with ep, as in "30ep".'
)


@foreign("python", lambda said: not SCHEDULES.isdisjoint(called(said)))
def python(said: str, total: float | None = None, lr: float | None = None) -> Converted:
    """Python source with a torch scheduler, a get_…_schedule or get_scheduler call, or TrainingArguments.

    Nothing is run: values are literals, arithmetic on them, and names assigned once. `total` stands for the
    run's length where the source computes it, `lr` for the peak. Raises `RecipeError` with the line of what
    is not literal.

    >>> python('''
    ... optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    ... scheduler = get_linear_schedule_with_warmup(optimizer, int(0.1 * total_steps), total_steps)
    ... ''', total=1000).text
    {'lr': '2e-05 * (warmup(100) >> linear())', 'weight_decay': '0.01', 'tick': 0}
    """
    if not isinstance(said, str):
        raise RecipeError(f"python: source text is read, got {type(said).__name__}")
    source = Source(said, {} if total is None else dict.fromkeys(LENGTHS, total))
    call = _only(source)
    if call.name in ARGUMENTS:
        return _arguments(call, total, lr)
    traps: list[str] = []
    optimizer = optimizer_of(source, call, lr, traps)
    if call.name in MAKERS:
        arguments = _maker_arguments(call)
        if total is None and unknown(arguments.get("num_warmup_steps")):
            arguments["num_warmup_steps"] = _share(said) or arguments["num_warmup_steps"]
        return _made(call, arguments, optimizer, total, traps)
    if call.name not in CYCLES:
        traps.append(PER_STEP)
    return converted(_scheduler(call, total), optimizer.rate, total, traps, **optimizer.hypers)


def _only(source: Source) -> Call:
    """The one call that makes the schedule; those that are arguments of another belong to it."""
    found = {call.place: call for call in source.calls(SCHEDULES)}
    for call in list(found.values()):
        for inner in _inside(call):
            found.pop(inner.place, None)
    calls = list(found.values())
    if not calls:
        raise RecipeError(f"this source makes no schedule that is known: {', '.join(sorted(SCHEDULES))}")
    if len(calls) > 1:
        listed = ", ".join(f"{call.name} (line {call.line})" for call in calls)
        raise RecipeError(f"this source makes {len(calls)} schedules: {listed}; leave the one that is meant")
    return calls[0]


def _inside(value: Any) -> list[Call]:
    """The calls among the arguments of a call, at any depth."""
    inner: list[Any] = []
    if isinstance(value, Call):
        inner = [*value.args, *value.keywords.values()]
    elif isinstance(value, Mapping):
        inner = [*value.values()]
    elif isinstance(value, list):
        inner = value
    return [call for one in inner for call in [*([one] if isinstance(one, Call) else []), *_inside(one)]]


def _arguments(call: Call, total: float | None, lr: float | None) -> Converted:
    said = {key: value for key, value in call.keywords.items() if key in KEYS}
    if lr is not None:
        said.pop("learning_rate", None)
    if total is not None:
        said.pop("max_steps", None)
    return training_arguments(literal(call, said), total, lr, made=call.name)


def _maker_arguments(call: Call) -> dict[str, Any]:
    """The arguments of a function of transformers by name, with the type of curve as `name`."""
    kind, names = MAKERS[call.name]
    said = call.bound(("optimizer", *names) if kind else ("name", "optimizer", *names))
    kind = kind or literal(call, {"name": said.get("name")})["name"]
    options = said.pop("scheduler_specific_kwargs", None) or {}
    said |= options if isinstance(options, Mapping) else {"scheduler_specific_kwargs": options}
    if not MAKERS[call.name][0]:
        # The function of the same name in diffusers gets these whatever the type is.
        for key in {"num_cycles", "power"} - {*CURVES.get(kind, ((), ()))[1]}:
            said.pop(key, None)
    return {**said, "name": kind}


def _share(text: str) -> float | None:
    """The share of the run that a warm-up such as `int(0.06 * total_steps)` takes, None if it is no share."""
    shares = []
    for total in (10**9, 3 * 10**9):
        call = _only(Source(text, dict.fromkeys(LENGTHS, total)))
        warm = _maker_arguments(call).get("num_warmup_steps")
        shares.append(warm / total if isinstance(warm, int | float) else None)
    return shares[0] if shares[0] == shares[1] else None


def _made(
    call: Call, said: dict[str, Any], optimizer: Optimizer, total: float | None, traps: list[str]
) -> Converted:
    kind, own = said.pop("name"), said.pop("num_training_steps", None)
    for key in ("optimizer", "last_epoch"):
        said.pop(key, None)
    if total is None and isinstance(own, int | float):
        total = own
    options = literal(call, said)
    path, drawn = curve(kind, options, options.pop("num_warmup_steps", 0) or 0, optimizer.rate, total)
    if optimizer.rate is None:
        traps.append(NO_RATE)
    text = path if optimizer.rate is None else product(optimizer.rate, path)
    return Converted({"lr": text, **optimizer.hypers}, (*traps, *drawn.traps), tick=drawn.tick, total=total)


def _scheduler(call: Call, total: float | None) -> Scheduler:
    if call.name in FUNCTIONS:
        return Scheduler(call.name)
    known = parameters(call.name)
    names = ("schedulers", "optimizer") if call.name == "ChainedScheduler" else ("optimizer", *known)
    said = {key: value for key, value in call.bound(names).items() if key in known}
    if call.name in COMPOSED:
        parts = said.pop("schedulers", None)
        if not isinstance(parts, list) or not all(isinstance(part, Call) for part in parts):
            raise RecipeError(
                f"line {call.line}: write the schedulers of {call.name} as a list of their calls"
            )
        return Scheduler(call.name, literal(call, said), tuple(_scheduler(part, total) for part in parts))
    if unknown(said.get("T_max")):
        said["T_max"] = total
    counts = ("total_steps", "epochs", "steps_per_epoch")
    if total is not None and any(unknown(said.get(key)) for key in counts):
        said = {key: value for key, value in said.items() if key not in counts} | {"total_steps": total}
    return Scheduler(call.name, literal(call, said))
