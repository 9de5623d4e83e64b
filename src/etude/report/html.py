"""report.html: one self-contained page about a run, which opens offline and asks no server for anything."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.core.path import as_schedule
from etude.errors import EtudeError, MissingExtra
from etude.report import words
from etude.report.digest import digest
from etude.report.finding_html import logged
from etude.report.numbers import Piece, clock, count, pieces

if TYPE_CHECKING:
    from etude.report.log import Records

HERE = Path(__file__).parent
EVENTS = ("edit", "action", "resume")
SCRIPTS = ("uplot/uPlot.iife.min.js", "report.js", "heat.js", "curves.js")


def build(run_folder: str | Path) -> Path:
    """Write RUN/report.html from RUN/log.jsonl (and recipe.yaml, where it is there); returns its path.

    An unfinished or interrupted run gives a report that says so.
    """
    from etude.report.log import read

    run = Path(run_folder)
    recipe = run / "recipe.yaml"
    page = render(read(run / "log.jsonl"), recipe.read_text("utf-8") if recipe.is_file() else None)
    target = run / "report.html"
    draft = run / ".report.html.tmp"
    draft.write_text(page, "utf-8")
    draft.replace(target)
    return target


def render(log: "Records", recipe: str | None = None) -> str:
    """The page for a log; `recipe` is shown as it is written, that of the log if None."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise MissingExtra("jinja2", "report") from None

    start = log.start
    marks = words.marks(log)
    hypers = {name: text for name, text in start["plan"].items() if name != "tick"}
    title, notice = words.state(log)
    env = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )

    def inlined(name: str) -> Markup:
        return Markup((HERE / name).read_text("utf-8"))

    return env.get_template("template.html").render(
        styles=inlined("uplot/uPlot.min.css") + inlined("report.css"),
        license=inlined("uplot/LICENSE"),
        scripts=[inlined(name) for name in SCRIPTS],
        payload=Markup(embedded({**digest(log), "marks": marks})),
        run=start["run"],
        version=start["etude"],
        facts=words.facts(log),
        title=title,
        notice=notice,
        result=_result(words.result(log)),
        found=Markup(logged(found["page"])) if (found := log.starts[0].get("found")) else None,
        drawn=bool(log.updates),
        agreement=words.agreement(log),
        events=[(clock(mark["t"]), mark["text"]) for mark in marks if mark["kind"] in EVENTS],
        acted=any(mark["kind"] == "action" for mark in marks),
        schedules=[(name, text, _pieces(text, start["span"])) for name, text in hypers.items()],
        sampling=words.sampling(start["plan"]["tick"], start["span"]),
        hypers=list(hypers),
        gated=any(group["gate"] for group in start["groups"]),
        groups=[_group(group, hypers) for group in start["groups"]],
        tensors=count(sum(len(group["params"]) for group in start["groups"])),
        parameters=count(sum(group["count"] for group in start["groups"])),
        data=_pairs({**start["data"], "labels": ", ".join(map(str, start["data"]["labels"] or []))}),
        machine=_pairs(start["machine"]) + _pairs(start["versions"]),
        recipe=recipe or json.dumps(start["recipe"], indent=2, ensure_ascii=False),
    )


def embedded(value: Any) -> str:
    """Strict JSON that no text inside can end the script element of.

    >>> embedded({"run": "</script><!--"})
    '{"run":"\\\\u003c/script>\\\\u003c!--"}'
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _result(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found:
        return None
    kind, sentence = words.verdict(found)
    metric, test = found["metric"], found["test"]
    ours = test["fine-tuned"]
    values = [row[metric] for row in test.values() if row.get(metric) is not None]
    longest = max(map(abs, values), default=0.0) or 1.0
    others = [name for name in ours if name != metric]
    rows = [
        {
            "name": name,
            "ours": name == "fine-tuned",
            "value": _score(row.get(metric)),
            "width": round(100 * max(0.0, row.get(metric) or 0.0) / longest, 2),
            "others": [_score(row.get(other)) for other in others],
            "note": ", ".join(f"{key} = {value:g}" for key, value in row.items() if key not in ours),
        }
        for name, row in test.items()
    ]
    return {
        "kind": kind,
        "claim": sentence.rpartition(": ")[0] + "." if found.get("paired") else sentence,
        "metric": metric,
        "falling": not found["greater_is_better"],
        "value": _score(ours.get(metric)),
        "chosen": _chosen(found.get("best") or {}),
        "others": others,
        "rows": rows,
        **_gain(found.get("paired") or {}),
    }


def _chosen(best: Mapping[str, Any]) -> str:
    """Which checkpoint the result is of; without a value it stands in for the best, which is broken."""
    if best.get("k") is None:
        return ""
    if best.get("value", 0.0) is None:
        return f"checkpoint of update {count(best['k'])}, the newest good one: the best is broken"
    return f"best checkpoint, of update {count(best['k'])}"


def _gain(paired: Mapping[str, Any]) -> dict[str, Any]:
    """The paired difference as text, and where it lies on a line of 240 units that holds 0 and ± 2 errors."""
    difference, error = paired.get("difference"), paired.get("standard_error") or 0.0
    if difference is None:
        return {"gain": ""}
    points = paired["metric"] in words.SHARES
    low, high = min(0.0, difference - 2 * error), max(0.0, difference + 2 * error)
    reach = (high - low) or 1.0

    def at(value: float) -> float:
        return round(12 + 216 * (value - low + 0.06 * reach) / (1.12 * reach), 2)

    return {
        "gain": (f"{100 * difference:+.1f}" if points else f"{difference:+.3g}").replace("-", "−"),
        "unit": "points" if points else paired["metric"].replace("_", " "),
        "error": f"{100 * error:.1f}" if points else f"{error:.2g}",
        "versus": paired["versus"],
        "n": count(paired["n"]),
        "svg": {
            "zero": at(0.0),
            "anchor": "start" if at(0.0) < 80 else "end" if at(0.0) > 160 else "middle",
            "low": at(difference - 2 * error),
            "high": at(difference + 2 * error),
            "dot": at(difference),
        },
    }


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def _pieces(text: str, span: Mapping[str, Any]) -> list[Piece]:
    try:
        return pieces(as_schedule(text).over(**{**span, "total": span["total"] or math.inf}))
    except EtudeError:  # written by another version of the language
        return []


def _group(group: Mapping[str, Any], hypers: Iterable[str]) -> dict[str, Any]:
    return {
        "name": group["name"],
        "depth": group["depth"],
        "tensors": count(len(group["params"])),
        "count": count(group["count"]),
        "scale": [f"{group['scale'].get(hyper, 1.0):.4g}" for hyper in hypers],
        "gate": group["gate"] or "",
    }


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, count(value) if isinstance(value, int) else str(value))
        for name, value in values.items()
        if value not in (None, "")
    ]
