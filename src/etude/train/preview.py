"""What a run will do, before it does it: its groups, its length, and the rates that its updates will use."""

import io
from typing import TYPE_CHECKING, Any

from etude.core.path import HOLD
from etude.report.terminal import group_table, pieces_table, rates_table
from etude.train import control
from etude.train.records import group_records

if TYPE_CHECKING:
    from rich.console import Console

    from etude.train.setup import Setup


def show(console: "Console", prepared: "Setup") -> None:
    """Print the plan of a run: groups, pieces, length, rates of the first, highest and last update."""
    console.print(group_table(group_rows(prepared)))
    for hyper, schedule in prepared.plan.hypers.items():
        if schedule.paths != (HOLD,):  # a constant has no pieces to speak of
            console.print(pieces_table(f"{hyper}: {schedule}", schedule.over(*prepared.span)))
    console.print(rates_table(used_rates(prepared)))
    console.print(length(prepared))
    for line in control.lines(prepared.controllers):
        console.print(f"control: {line}", soft_wrap=True)


def text(prepared: "Setup") -> str:
    """The same as plain text, for `plan.txt`."""
    from rich.console import Console

    out = io.StringIO()
    show(Console(file=out, width=110, markup=False, highlight=False, force_jupyter=False), prepared)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def length(prepared: "Setup") -> str:
    """How long the run is, in every unit.

    The planned clock counts full batches; an epoch that does not divide ends with a smaller update.
    """
    total, epoch = prepared.rates.total, prepared.span.epoch or 1.0
    updates = len(prepared.intervals)
    epochs = total / epoch
    words = f"{updates} updates of {prepared.global_batch} examples, {epochs:.4g} epoch{'s' * (epochs != 1)}"
    if updates != total:
        words += f"; {total:.6g} full ones: the smaller last update of an epoch counts as its share"
    return words


def group_rows(prepared: "Setup") -> list[dict[str, Any]]:
    """One row per group from the bottom up: depth, name, tensors, parameters, multiplier, peaks."""
    peaks = {row["group"]: row for row in prepared.plan.table()}
    return [
        {
            **peaks[record["name"]],
            "depth": record["depth"],
            "count": record["count"],
            "scale": record["scale"]["lr"],
        }
        for record in group_records(prepared)
    ]


def used_rates(prepared: "Setup") -> dict[str, dict[str, tuple[int, float]]]:
    """Per group the (update, rate) of the first, the highest and the last update of the run."""
    rows = [prepared.rates.values("lr", begin, end) for begin, end in prepared.intervals]
    last = len(rows) - 1
    return {
        group.name: {
            "first": (0, rows[0][i]),
            "highest": max(((k, row[i]) for k, row in enumerate(rows)), key=lambda pair: pair[1]),
            "last": (last, rows[last][i]),
        }
        for i, group in enumerate(prepared.plan.groups)
    }
