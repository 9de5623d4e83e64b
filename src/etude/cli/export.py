"""`etude export`: code to paste where étude is not installed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etude.cli._units import Batch, Epoch, Tokens
from etude.errors import CheckpointError, EtudeError, ScheduleError

if TYPE_CHECKING:
    from etude.core.plan import Group
    from etude.core.rates import Rates


def export(
    schedule: Annotated[
        str | None,
        typer.Argument(metavar="SCHEDULE", help='The rate, as in "2e-5 * (warmup(0.1) >> cosine())".'),
    ] = None,
    to: Annotated[str, typer.Option(help="hf, torch, lightning, keras, optax or mlx.")] = "",
    steps: Annotated[
        float | None, typer.Option(help="Length of the run in planned updates; inf for one without an end.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A saved plan instead: a checkpoint's state.json, a log.jsonl."),
    ] = None,
    weight_decay: Annotated[str | None, typer.Option(help="A number or a schedule.")] = None,
    momentum: Annotated[str | None, typer.Option(help="A number or a schedule, also for Adam's β1.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SCALE", help="A group and its multiple of the rate.")
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help='A group\'s gate, as in "body=frozen(0.3) >> hold()".'),
    ] = None,
    tick: Annotated[
        float,
        typer.Option(help="Where an update reads its rate: 0 its beginning, 0.5 its middle, 1 its end."),
    ] = 0.5,
    epoch: Epoch = None,
    batch: Batch = None,
    tokens: Tokens = None,
) -> None:
    """Print Python code that gives every rate of a run, to paste where étude is not installed."""
    from etude.core.plan import Plan
    from etude.export import code
    from etude.export.target import targets

    if not to:
        raise EtudeError(f"--to is missing: write one of {', '.join(sorted(targets()))}")
    if (schedule is None) == (plan is None):
        raise EtudeError('write either a schedule, as in etude export "2e-5 * linear()", or --plan FILE')
    if plan is not None:
        print(code(saved(plan), to), end="")
        return
    if steps is None:
        raise ScheduleError("the length of the run is missing: write how many updates, as in --steps 1000")
    written = {"lr": schedule, "weight_decay": weight_decay, "momentum": momentum}
    hypers = {hyper: text for hyper, text in written.items() if text is not None}
    groups = groups_of(group or [], gate or [])
    run = Plan(hypers, groups, tick) if groups else Plan(hypers, tick=tick)
    print(code(run.over(steps, epoch, batch, tokens), to), end="")


def groups_of(scales: list[str], gates: list[str]) -> "list[Group]":
    """Groups from `NAME=SCALE` and `NAME=PATH`, in the order in which their names come.

    >>> [group.scale for group in groups_of(["body=1", "head=10"], ["body=frozen(0.3) >> hold()"])]
    [{'lr': 1.0}, {'lr': 10.0}]
    """
    from etude.core.plan import Group

    scaled, gated = _pairs(scales, "--group head=10"), _pairs(gates, '--gate "body=frozen(0.3) >> hold()"')
    names = dict.fromkeys([*scaled, *gated])
    return [
        Group(name, scale={"lr": _number(name, scaled[name])} if name in scaled else {}, gate=gated.get(name))
        for name in names
    ]


def _pairs(texts: list[str], example: str) -> dict[str, Any]:
    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise EtudeError(f"{text!r} is no name with its value: write {example}")
        pairs[name.strip()] = value.strip()
    return pairs


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise EtudeError(f"--group {name}={text}: a multiplier is a number, as in --group head=10") from None


def saved(path: Path) -> "Rates":
    """The rates of a run that was saved: `Driver.state_dict()` as JSON, a checkpoint's or a run's files.

    Raises `CheckpointError` for a file that holds none.
    """
    from etude.core.rates import rates_from_state

    if path.is_dir():
        path = next((path / name for name in ("state.json", "log.jsonl") if (path / name).exists()), path)
    try:
        state = _logged(path) if path.suffix == ".jsonl" else json.loads(path.read_text(encoding="utf-8"))
        state = state.get("driver", state)
        return rates_from_state({"edits": [], **state})
    except OSError as error:
        raise CheckpointError(f"the plan {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, EtudeError):
            raise
        raise CheckpointError(
            f"{path} holds no plan: write a file of Driver.state_dict(), a checkpoint's state.json, or the "
            f"log.jsonl of a run"
        ) from None


def _logged(path: Path) -> dict[str, Any]:
    """The plan of a log and the edits in force at its end; those that a rollback undid do not count."""
    from etude.report.log import read

    records = read(path)
    edits = [
        {key: value for key, value in record.items() if key not in ("type", "time")}
        for record in records.edits
        if record["edit"] != "rollback"
    ]
    return {**records.start, "edits": edits}
