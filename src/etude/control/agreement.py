"""Several processes of one run: they have the same rates, and decide once, on one reading."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from etude.control.sink import Sink
from etude.core.rates import Rates
from etude.errors import EtudeError

Gather = Callable[[Any], list[Any]]
"""Gives every process what each of them puts in, in the same order; a list of one where there is only one."""


class Shown(NamedTuple):
    """What a process shows of its rates: a hash of all that they are, and a line to tell them apart by."""

    digest: str
    line: str


def shown(rates: Rates, t: float, sink: Sink | None) -> Shown:
    """The rates of a process when the clock stands at `t`: end, edits, every value, and what is used."""
    values = rates.at(t)
    used = {} if sink is None else {hyper: sink.read(hyper) for hyper in values}
    edits = [one.as_json() for one in rates.edits]
    text = json.dumps([float(t), rates.total, edits, values, used])
    last = f", the last by {rates.edits[-1].author} at {rates.edits[-1].at:g}" if edits else ""
    low, high = min(values["lr"]), max(values["lr"])
    lr = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Shown(digest, f"lr {lr} at {t:g} of {rates.total:g}, {len(edits)} edits{last}")


def checked(
    entries: Sequence[tuple[Shown, Mapping[str, float]]], own: dict[str, float] | None
) -> dict[str, float]:
    """The reading of all processes, or this one's `own`; raises `EtudeError` where their rates differ."""
    rates = [Shown(*one) for one, _ in entries]
    if len({one.digest for one in rates}) > 1:
        lines = "\n".join(f"  process {i}: {one.line}; {one.digest[:8]}" for i, one in enumerate(rates))
        raise EtudeError(
            f"the processes do not have the same rates\n{lines}\n"
            f"each must observe at the same times, make the same edits by hand, and load the same checkpoint"
        )
    return mean([reading for _, reading in entries]) if own is None else own


def mean(readings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the processes that have it; of equal values, that value to the last bit.

    >>> mean([{"eval_loss": 0.9}, {"eval_loss": 1.1, "accuracy": 0.5}])
    {'eval_loss': 1.0, 'accuracy': 0.5}
    """
    metrics = dict.fromkeys(metric for reading in readings for metric in reading)
    return {metric: _mean([one[metric] for one in readings if metric in one]) for metric in metrics}


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    if len(set(values)) == 1:
        return values[0]
    try:
        return math.fsum(values) / len(values)
    except (ValueError, OverflowError):  # infinities of both signs; a sum above 1.8e308
        return math.nan
