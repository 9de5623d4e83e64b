"""A run's log boiled down to what a page or a picture can show, whatever its length."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from etude.report.log import Records

POINTS = 2000  # per curve
COLUMNS = 400  # of the heat map


def digest(log: "Records") -> dict[str, Any]:
    """Rates per row, heat map, losses, gradient norms and evaluations of a run, as strict JSON.

    Groups at one depth whose rates never differ share a row; rows go from the bottom of the model to the top.
    Curves keep the smallest and the largest value of every stretch that one point stands for.
    """
    import numpy as np

    updates = log.updates
    begins = np.array([update["t"][0] for update in updates])
    numbers = np.array([update["k"] for update in updates], dtype=int)
    end = updates[-1]["t"][1] if updates else 0.0
    rates = np.array([update["rates"]["lr"] for update in updates], dtype=float).T
    rows = _rows(log.start["groups"], rates)
    lines = np.array([rates[row["groups"][0]] for row in rows]) if updates else np.zeros((len(rows), 0))
    kept, columns = extremes(lines, POINTS), spread(len(updates), COLUMNS)

    def curve(values: np.ndarray) -> dict[str, Any]:
        kept = extremes(values[None], POINTS)
        return {
            "t": begins[kept].tolist(),
            "raw": _short(values[kept]),
            "smooth": _short(smooth(values)[kept]),
        }

    return {
        "total": _total(log, end),
        "rows": rows,
        "rates": {"t": begins[kept].tolist(), "values": [_short(line) for line in lines[:, kept]]},
        "heat": {
            "k": numbers[columns].tolist(),
            "end": end,
            "rates": [_short(line) for line in lines[:, columns]],
        },
        "loss": curve(_numbers(update["loss"] for update in updates)),
        "norm": curve(_numbers(update["grad_norm"] for update in updates)),
        "evals": _evals(log.evals),
    }


def extremes(lines: "np.ndarray", most: int) -> "np.ndarray":
    """Which columns of `lines` [line][update] to keep, about `most`: in each stretch every line's extremes.

    >>> import numpy as np
    >>> wave = np.zeros((1, 1000)); wave[0, 517] = 9
    >>> 517 in extremes(wave, 20)
    True
    """
    import numpy as np

    n = lines.shape[1]
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, most // 2 + 1).astype(int)
    low, high = np.where(np.isnan(lines), np.inf, lines), np.where(np.isnan(lines), -np.inf, lines)
    keep = [np.array([0, n - 1])]
    for a, b in pairwise(edges):
        keep += [a + low[:, a:b].argmin(axis=1), a + high[:, a:b].argmax(axis=1)]
    return np.unique(np.concatenate(keep))


def smooth(values: "np.ndarray") -> "np.ndarray":
    """The mean of a curve's recent past: an exponential average over about a fiftieth of it.

    Unbiased at its start, as Adam's moments are; a gap changes nothing.

    >>> import numpy as np
    >>> smooth(np.array([1.0, 1.0, np.nan, 4.0])).round(2).tolist()
    [1.0, 1.0, 1.0, 2.42]
    """
    import numpy as np

    weight = 2 / (max(5, len(values) / 50) + 1)
    mean, trust, out = 0.0, 0.0, np.full(len(values), np.nan)
    for i, value in enumerate(values.tolist()):
        if not math.isnan(value):
            mean, trust = mean + weight * (value - mean), trust + weight * (1 - trust)
        if trust:
            out[i] = mean / trust
    return out


def _total(log: "Records", end: float) -> float:
    """Where the time axis ends: where the run did if it went its whole way, else where it would have."""
    if log.end and log.end["reason"] == "finished" and end:
        return end
    planned = [edit["total"] for edit in log.edits if edit.get("total")][-1:] or [log.start["span"]["total"]]
    return max(end, planned[0] or 1.0)


def _rows(groups: Sequence[Mapping[str, Any]], rates: "np.ndarray") -> list[dict[str, Any]]:
    rows: dict[Any, list[int]] = {}
    for i in sorted(range(len(groups)), key=lambda i: groups[i]["depth"]):
        # With no update yet the multipliers tell groups apart.
        same = rates[i].tobytes() if rates.size else groups[i]["scale"].get("lr", 1.0)
        rows.setdefault((groups[i]["depth"], same, groups[i]["gate"]), []).append(i)
    return [
        {
            "label": min((groups[i]["name"] for i in members), key=len),
            "names": [groups[i]["name"] for i in members],
            "depth": depth,
            "groups": members,
        }
        for (depth, _, _), members in rows.items()
    ]


def _evals(evals: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    out = []
    # The test part is measured once, at the end: that is the result and no curve.
    for split in dict.fromkeys(one["split"] for one in evals if one["split"] != "test"):
        mine = [one for one in evals if one["split"] == split]
        names = dict.fromkeys(name for one in mine for name in one["metrics"])
        metrics = {name: [one["metrics"].get(name) for one in mine] for name in names}
        out.append({"split": split, "t": [one["t"] for one in mine], "metrics": metrics})
    return out


def spread(n: int, most: int) -> list[int]:
    """The update in the middle of each of at most `most` equal stretches of `n` updates."""
    if n <= most:
        return list(range(n))
    return [int((i + 0.5) * n / most) for i in range(most)]


def _numbers(values: Iterable[float | None]) -> "np.ndarray":
    import numpy as np

    return np.array([math.nan if value is None else value for value in values], dtype=float)


def _short(values: "np.ndarray") -> list[float | None]:
    """Six digits, which is more than is ever shown; None for what is not a finite number."""
    return [float(f"{x:.6g}") if math.isfinite(x) else None for x in values.tolist()]
