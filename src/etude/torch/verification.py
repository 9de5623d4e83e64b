"""What `etude.verify` found: a row for every group, and the parameters that are not as planned."""

from dataclasses import dataclass
from typing import NamedTuple

from etude.errors import PlanError

# Field of a `Verification` -> how it is said.
FAULTS = {
    "wrong": "moved in another ratio than planned",
    "still": "planned, and not moved",
    "missing": "planned, and not in the optimizer",
    "unknown": "planned, and not in the model",
    "twice": "more than once in the optimizer",
    "drifting": "frozen, and moved all the same",
    "unplanned": "trainable, and in no group of the plan",
    "strangers": "in the optimizer, and not in the model",
}
SHOWN = 4


class Row(NamedTuple):
    """One group; `planned`, `measured` and `ratio` are rates, as ratios to `Verification.unit`.

    `measured` is the median of the tensors that train, `worst` the one that is furthest from the plan, and
    `ratio` its own; where none trains they are None and "". `planned` is None for a group whose gate decides,
    if no rates were given.
    """

    group: str
    tensors: int
    planned: float | None
    measured: float | None
    worst: str
    ratio: float | None


@dataclass(frozen=True)
class Verification:
    """What `etude.verify` found; `ok` says that nothing is wrong, `check()` insists on it, `str` is a table.

    `unit` is the rate whose ratio is 1, `how` says how the rates were found. The rest are parameters, by the
    names that the plan or else the model has for them: `wrong` move in another ratio than planned, `still`
    do not move, `missing` are not in the optimizer, `unknown` not in the model, `twice` are listed more than
    once, `drifting` are frozen and move, `unplanned` are trainable and in no group, `strangers` are in the
    optimizer and not in the model.
    """

    rows: tuple[Row, ...]
    unit: float
    how: str
    wrong: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    drifting: tuple[str, ...] = ()
    unplanned: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        """The fields above that are not empty."""
        return {fault: getattr(self, fault) for fault in FAULTS if getattr(self, fault)}

    @property
    def ok(self) -> bool:
        """Whether every tensor moves as planned, and no other does."""
        return not self.faults

    def check(self) -> "Verification":
        """Itself if all is well; raises `PlanError` with the table if not."""
        if not self.ok:
            raise PlanError(str(self))
        return self

    def __str__(self) -> str:
        amiss = {name for names in self.faults.values() for name in names}
        verdict = (
            f"{len(amiss)} parameters are not as planned" if amiss else "every parameter moves as planned"
        )
        lines = [f"{verdict}, {self.how}; ratio 1 is a rate of {self.unit:.4g}"]
        width = max(len(row.group) for row in self.rows)
        lines.append(f"{'group':{width}}  tensors   planned  measured")
        for row in self.rows:
            cells = f"{row.tensors:7}  {_short(row.planned):>8}  {_short(row.measured):>8}"
            worst = f"  {row.worst}: {_short(row.ratio)}" if row.worst in self.wrong else ""
            lines.append(f"{row.group:{width}}  {cells}{worst}")
        for fault, names in self.faults.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"{FAULTS[fault]} ({len(names)}): {', '.join(names[:SHOWN])}{more}")
        if self._flat:
            lines.append(
                "all move at one rate: build the optimizer from plan.torch_groups(model), and see what "
                "merges its groups"
            )
        return "\n".join(lines)

    @property
    def _flat(self) -> bool:
        measured = {f"{row.measured:.3g}" for row in self.rows if row.measured is not None}
        return bool(self.wrong) and len(self.rows) > 1 and len(measured) == 1


def _short(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.4g}"
