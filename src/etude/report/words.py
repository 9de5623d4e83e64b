"""What is said of a run in words: how it did, where it stands, what changed on the way."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from etude.core.rates import rates_from_state
from etude.errors import EtudeError
from etude.report.digest import spread
from etude.report.numbers import clock, count, duration

if TYPE_CHECKING:
    from etude.report.log import Records

# Metrics that are shares, whose differences people read in points.
SHARES = frozenset({"accuracy", "macro_f1", "f1", "precision", "recall"})

# What a controller did with an update; that it went back to a checkpoint is an edit, too.
DONE = {"discard": "dropped", "clip": "clipped"}


def verdict(result: Mapping[str, Any]) -> tuple[str, str]:
    """How the fine-tune stands to its probe: "better", "unclear" or "worse", and a sentence that says so.

    `result["paired"]` holds the difference fine-tuned minus probe in the metric's own unit and its standard
    error; a gain of less than two standard errors is unclear, no gain at all is worse.

    >>> paired = {"versus": "linear probe", "metric": "accuracy", "greater_is_better": True, "n": 900}
    >>> verdict({"paired": paired | {"difference": 0.068, "standard_error": 0.011}})[1]
    'The fine-tuned model beats its linear probe: accuracy +6.8 ± 1.1 points, paired over 900 examples.'
    """
    paired = result.get("paired") or {}
    if not paired:
        return "unclear", "No baseline was measured, so this result stands alone."
    if paired["difference"] is None:
        return "worse", "FAILURE: the fine-tuned model has diverged: what it predicts is not a number."
    difference, error = paired["difference"], paired.get("standard_error") or 0.0
    gain = difference if paired["greater_is_better"] else -difference
    kind = "worse" if gain <= 0 else "better" if gain > 2 * error else "unclear"
    claim = {
        "better": "The fine-tuned model beats its {}",
        "unclear": "The fine-tuned model is not clearly better than its {}",
        "worse": "FAILURE: the fine-tuned model does not beat its {}",
    }[kind].format(paired["versus"])
    if paired["metric"] in SHARES:
        size = f"{100 * difference:+.1f} ± {100 * error:.1f} points"
    else:
        size = f"{difference:+.3g} ± {error:.2g}"
    metric = paired["metric"].replace("_", " ")
    return kind, f"{claim}: {metric} {size}, paired over {count(paired['n'])} examples."


def facts(log: "Records") -> list[str]:
    """Model, data, date, device and duration of a run, each in a few words."""
    start, machine = log.start, log.start["machine"]
    began = datetime.fromisoformat(start["time"])
    where = machine["device"] + (f" × {machine['processes']}" if machine["processes"] > 1 else "")
    took = [f"trained in {duration(seconds(log))}"] if log.updates else []
    return [
        start["recipe"]["model"],
        start["data"]["source"],
        f"{began.day} {began:%B %Y, %H:%M}",
        where,
        *took,
    ]


def state(log: "Records") -> tuple[str, str]:
    """A title and a sentence about a run that did not go its whole way; two empty texts for one that did."""
    total = log.start["span"]["total"]
    last = log.updates[-1] if log.updates else {"k": -1, "skipped": False}
    done = last["k"] + (not last["skipped"])  # the number of one that was dropped is that of the next, too
    where = f"after {count(done)} update{'s' * (done != 1)}"
    where += f" of {clock(total)} planned" if total else ""
    resume = "“etude finetune --resume” goes on from its newest checkpoint."
    if log.end is None:
        return (
            "Unfinished.",
            f"The log breaks off {where}: the run is still under way, or was killed. {resume}",
        )
    if log.end["reason"] == "interrupted":
        return "Interrupted", f"{where}. {resume}"
    if log.end["reason"] == "stopped":
        stops = [edit for edit in log.edits if edit["edit"] == "stop"]
        return "Stopped", f"{where}{edit_text(stops[-1]).removeprefix('stopped') if stops else ''}."
    return "", ""


def sampling(tick: float, span: Mapping[str, Any]) -> str:
    """Where in an update the schedules are read, and how long the run, an epoch and an update are.

    >>> sampling(0.5, {"total": 375.0, "epoch": 125.0, "batch": None})
    'Each update uses the rate in its middle (tick 0.5). The run has 375 planned updates, an epoch 125.'
    """
    where = {0: "at its beginning", 0.5: "in its middle", 1: "at its end"}.get(tick, f"at {tick:g} of it")
    text = f"Each update uses the rate {where} (tick {tick:g})."
    text += f" The run has {clock(span['total'] or math.inf)} planned updates"
    text += f", an epoch {clock(span['epoch'])}" if span["epoch"] else ""
    return text + (f"; an update has {count(span['batch'])} examples." if span["batch"] else ".")


def marks(log: "Records") -> list[dict[str, Any]]:
    """What happened at a moment, as {t, kind, text}; kinds are edit, action, resume, checkpoint and best.

    In the order in which it happened: a rollback stands before what it changed at an earlier time.
    """
    rows = {id(some[0]): some for some in _in_a_row(log.actions)}
    best = ((result(log) or {}).get("best") or {}).get("checkpoint")
    found = []
    for one in log.story:
        kind, t = one["type"], one.get("t")
        if kind == "edit":
            t, text = one["at"], edit_text(one)
        elif kind == "action" and id(one) in rows:
            text = action_text(rows[id(one)])
        elif kind == "start" and (resumed := one["resumed"]):
            kind, t, text = "resume", resumed["t"], f"resumed from checkpoint {resumed['checkpoint']}"
        elif kind == "checkpoint":
            kind = "best" if one["name"] == best else kind
            text = f"{kind.replace('best', 'best checkpoint')} {one['name']}"
        else:
            continue
        found.append({"t": t, "kind": kind, "text": text})
    return found


def edit_text(edit: Mapping[str, Any]) -> str:
    """An edit in a sentence: what it did, who asked for it, and why.

    >>> edit_text({"edit": "scale", "at": 124.0, "by": 0.5, "hyper": "lr", "author": "plateau"})
    'lr × 0.5, by plateau'
    """
    what = {
        "scale": "{hyper} × {by:g}{of}",
        "stretch": "stretched to end at {total}",
        "advance": "went on to the next piece",
        "redraw": "redrawn as {path} until {total}",
        "stop": "stopped",
        "rollback": "rolled back to {to:g}",
    }.get(edit["edit"], edit["edit"])
    of = "" if edit.get("groups", "*") == "*" else f" for {edit['groups']}"
    total = clock(math.inf if edit.get("total") is None else edit["total"])
    text = f"{what.format(**{**edit, 'total': total, 'of': of})}, by {edit['author']}"
    return f"{text}: {edit['reason']}" if edit.get("reason") else text


def action_text(actions: Sequence[Mapping[str, Any]]) -> str:
    """What was done with updates in a row: how many, who asked for it, and why with the first.

    >>> one = {"k": 28, "action": "discard", "author": "spike", "reason": "train_loss is nan"}
    >>> action_text([one, one])
    '2 updates dropped, by spike: train_loss is nan'
    """
    first = actions[0]
    what = "update" if len(actions) == 1 else f"{count(len(actions))} updates"
    return f"{what} {DONE[first['action']]}, by {first['author']}: {first['reason']}"


def _in_a_row(actions: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    rows: list[list[Mapping[str, Any]]] = []
    for one in actions:
        last = rows[-1][-1] if rows else None
        if one["action"] not in DONE:
            continue
        if last and last["action"] == one["action"] and one["k"] - last["k"] <= 1:
            rows[-1].append(one)
        else:
            rows.append([one])
    return rows


def agreement(log: "Records") -> str:
    """Whether the rates that the optimizer used were those of the plan, replayed with the edits of the log.

    Empty if the log does not say enough to replay it.
    """
    worst = _worst(log)
    if worst is None:
        return ""
    if worst == 0:
        return "Every rate is the plan’s to the last bit."
    if worst > 1e-6:
        most = f"{worst:.2g} times its value"
        return f"Some rates differ from the plan’s, by up to {most}: something else set them."
    return f"No rate differs from the plan’s by more than {worst:.1g} of its value."


def _worst(log: "Records") -> float | None:
    start, worst = log.start, 0.0
    if any(one[key] != start[key] for one in log.starts for key in ("plan", "span", "groups")):
        return None
    try:
        edits = [{key: value for key, value in edit.items() if key != "type"} for edit in log.listed]
        rates = rates_from_state({**start, "edits": edits})
        made = [update for update in log.updates if not update["skipped"]]
        for i in spread(len(made), 2000):
            planned = rates.values("lr", *made[i]["t"])
            for used, value in zip(made[i]["rates"]["lr"], planned, strict=True):
                worst = max(worst, abs(used - value) / (value or 1.0))
    except (EtudeError, KeyError, TypeError, ValueError):
        return None
    return worst if made else None


def result(log: "Records") -> dict[str, Any] | None:
    """The result that the run ended with, if it did."""
    return log.end.get("result") if log.end else None


def seconds(log: "Records") -> float:
    """The time of training and validation in the run in force, over all processes that worked on it."""
    if not log.updates:
        return 0.0
    clocks = [update["seconds"] for update in log.updates]
    # A process counts from its own beginning, so the clock falls back where another one took over.
    before = sum(a for a, b in pairwise(clocks) if b < a)
    after = [one for one in log.evals if one["k"] > log.updates[-1]["k"] and one["split"] != "test"]
    return before + max([clocks[-1], *(one["seconds"] for one in after)])
