"""Pictures with matplotlib: schedules, rates per layer, the heat map of a run, and a run as a whole.

Every function returns a `Figure` that no global state knows; the caller saves it (`figure.savefig(file)`,
PNG or SVG by its ending).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etude.errors import MissingExtra
from etude.report.digest import digest
from etude.report.numbers import rate
from etude.report.words import result, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from etude.report.log import Records

# Sand to navy by way of teal, evenly spaced in OKLab lightness; report.js has the same stops.
RAMP = ("#f6f0da", "#d9e2b7", "#a9d3a3", "#6abda0", "#2d9e9e", "#037c96", "#175988", "#223b6b", "#1d2248")
INK, MUTED, HAIR, PAPER = "#23231f", "#77766e", "#dddbd2", "#ffffff"
ACCENT, FAILURE = "#037c96", "#b3372b"
SERIES = (ACCENT, "#d2694a", "#5a4b8c", "#b8922c", "#4b9263", "#8a8a84")


def schedules(curves: Mapping[str, Any], title: str = "") -> "Figure":
    """Curves over their runs in one picture, by name, with a dot where one piece ends and the next begins."""
    figure = _figure(8, 3.6 + 0.24 * len(curves))
    axes = _axes(figure.add_subplot(), title, "planned updates", "learning rate", y=rate)
    total = max((curve.total for curve in curves.values() if math.isfinite(curve.total)), default=1000.0)
    for i, (name, curve) in enumerate(curves.items()):
        colour = SERIES[i % len(SERIES)]
        end = min(total, curve.total)
        bounds = sorted({row[1] for path in curve.table() for row in path if row[1] < end})
        # Where the path jumps the line is upright, from the last moment before the boundary.
        before = [math.nextafter(t, 0.0) for t in bounds]
        times = sorted({*(end * k / 1200 for k in range(1201)), *bounds, *before})
        levels = [curve(t) for t in times]
        axes.plot(times, levels, color=colour, lw=2, label=name, solid_capstyle="round")
        axes.plot(bounds, [curve(t) for t in bounds], "o", color=colour, ms=4.5, mec=PAPER, mew=1)
        if len(curves) == 1:
            axes.fill_between(times, levels, color=colour, alpha=0.08, lw=0)
    axes.set_xlim(0, total)
    axes.set_ylim(bottom=0)
    if any(curves):
        font = {"family": "monospace", "size": 9}
        figure.legend(loc="outside lower left", frameon=False, prop=font, labelcolor=INK, handlelength=1.4)
    return figure


def layer_rates(tables: Mapping[str, Sequence[Mapping[str, Any]]], title: str = "") -> "Figure":
    """The peak rate of every layer, bottom to top, with one panel for each named table side by side.

    A table is a list of rows with `layer`, `depth` and `lr`; what has the same layer and rate shares a line.
    """
    from matplotlib.ticker import LogLocator

    panels = {name: _layers(rows) for name, rows in tables.items()}
    most = max(map(len, panels.values()))
    rates = [row["lr"] for rows in panels.values() for row in rows if row["lr"] > 0]
    low, high = min(rates, default=1.0), max(rates, default=1.0)
    left = low / 2.2
    figure = _figure(2.2 + 3.1 * len(panels), 1.4 + 0.27 * most)
    for i, (name, rows) in enumerate(panels.items()):
        axes = _axes(figure.add_subplot(1, len(panels), i + 1), name, "peak learning rate", "", grid="x")
        axes.set_xscale("log")
        axes.set_xlim(left, high * 3.6)
        # Within two decades the powers of ten alone are too few numbers.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.xaxis.set_major_formatter(_short_rate)
        axes.xaxis.set_minor_formatter("")
        for y, row in enumerate(rows):
            value, shade = row["lr"] or left, _shade(row["lr"], low, high)
            axes.plot([left, value], [y, y], color=shade, lw=2, alpha=0.45, solid_capstyle="butt")
            axes.plot(value, y, "o", color=shade, ms=7, mec=PAPER, mew=0.8)
            text = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            axes.annotate(rate(row["lr"]), (value, y), color=MUTED, **text)
        axes.set_yticks(range(len(rows)), [row["layer"] for row in rows] if i == 0 else [""] * len(rows))
        axes.set_ylim(-0.7, most - 0.3)
        axes.tick_params(axis="y", length=0)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK, fontweight="bold")
    return figure


def heat_map(
    matrix: Sequence[Sequence[float]], names: Sequence[str], title: str = "", axes: Any = None
) -> "Figure":
    """The rate of each group at each update in colours: a row for each group, the first at the bottom.

    `matrix` is [update][group], as `Rates.matrix` gives it; a rate of 0 stays white. Drawn into `axes` if
    they are given.
    """
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    updates, groups = len(matrix), len(names)
    figure = axes.figure if axes is not None else _figure(8.5, 1.6 + 0.24 * groups)
    axes = _axes(axes or figure.add_subplot(), title, "updates", "", grid="")
    values = np.ma.masked_less_equal(np.asarray(matrix, dtype=float).T, 0)
    high = float(values.max()) if values.count() else 1.0
    low = max(float(values.min()), high / 1e5) if values.count() else high / 10
    colours = LinearSegmentedColormap.from_list("etude", RAMP).with_extremes(bad=PAPER)
    norm = LogNorm(low, high if high > low else low * 10)
    extent = (0, updates, -0.5, groups - 0.5)
    picture = axes.imshow(
        values, origin="lower", aspect="auto", interpolation="nearest", cmap=colours, norm=norm, extent=extent
    )
    axes.set_yticks(range(groups), names, fontsize=8 if groups <= 16 else max(4, 130 / groups))
    axes.tick_params(axis="y", length=0)
    for y in range(groups - 1):
        axes.axhline(y + 0.5, color=PAPER, lw=0.8)
    bar = figure.colorbar(picture, ax=axes, pad=0.012, aspect=22, fraction=0.04)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=2, which="both")
    bar.ax.yaxis.set_major_formatter(_short_rate)
    return figure


def run(log: "Records") -> "Figure":
    """A whole run in one picture: heat map, result against the baselines, rates, losses and evaluations."""
    story, found = digest(log), result(log)
    figure = _figure(12, 6.9)
    above, below = figure.subfigures(2, 1, height_ratios=(1.05, 1))  # type: ignore[not-iterable]
    top, bottom = above.add_gridspec(1, 3), below.add_gridspec(1, 3)
    rows = story["rows"]
    _run_title(figure, log, found)
    matrix = list(zip(*([x or 0.0 for x in line] for line in story["heat"]["rates"]), strict=True))
    heat = above.add_subplot(top[:2])
    heat_map(matrix, [row["label"] for row in rows], "Learning rate of every layer at every update", heat)
    heat.images[0].set_extent((0, story["heat"]["end"], -0.5, len(rows) - 0.5))
    heat.set_xlim(0, story["total"])
    _result(above.add_subplot(top[2]), found)

    rates = _axes(below.add_subplot(bottom[0]), "Rates, bottom to top", "updates", "")
    for i, line in enumerate(story["rates"]["values"]):
        shade = RAMP[2 + round(6 * i / max(1, len(rows) - 1))]
        rates.plot(story["rates"]["t"], [x or math.nan for x in line], color=shade, lw=1.4)
    rates.set_yscale("log")
    rates.yaxis.set_major_formatter(_short_rate)
    losses = _axes(below.add_subplot(bottom[1]), "Loss", "updates", "")
    losses.plot(story["loss"]["t"], _gaps(story["loss"]["raw"]), color=ACCENT, alpha=0.28, lw=0.8)
    losses.plot(story["loss"]["t"], _gaps(story["loss"]["smooth"]), color=ACCENT, lw=1.8, label="training")
    metrics = _axes(below.add_subplot(bottom[2]), "Validation", "updates", "")
    for one in story["evals"]:
        for i, (name, values) in enumerate(one["metrics"].items()):
            axes, colour = (losses, INK) if name == "loss" else (metrics, (INK, ACCENT, MUTED)[i % 3])
            label = one["split"] if name == "loss" else name
            axes.plot(one["t"], _gaps(values), "o-", color=colour, ms=3.5, lw=1.5, label=label, clip_on=False)
    for axes in (rates, losses, metrics):
        axes.set_xlim(0, story["total"])
        for edit in log.edits:
            axes.axvline(edit["at"], color=INK, lw=0.9, ls=(0, (4, 3)))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    return figure


def _run_title(figure: "Figure", log: "Records", found: Mapping[str, Any] | None) -> None:
    kind, sentence = verdict(found) if found else ("unclear", f"{log.start['run']}, not finished")
    colour = FAILURE if kind == "worse" else INK
    figure.suptitle(sentence, x=0.012, ha="left", fontsize=13, fontweight="bold", color=colour)


def _result(axes: "Axes", found: Mapping[str, Any] | None) -> None:
    """Horizontal bars: the fine-tuned model above its baselines, by the metric of the run."""
    if not found:
        axes.set_axis_off()
        return
    kind, _ = verdict(found)
    _axes(axes, f"Test {found['metric']}", "", "", grid="")
    names = list(found["test"])[::-1]
    values = [found["test"][name].get(found["metric"]) or 0.0 for name in names]
    ours = FAILURE if kind == "worse" else ACCENT
    axes.barh(names, values, height=0.56, color=[ours if name == "fine-tuned" else HAIR for name in names])
    for y, value in enumerate(values):
        weight = "bold" if names[y] == "fine-tuned" else "normal"
        axes.text(value, y, f" {value:.3f}", va="center", fontsize=11, color=INK, fontweight=weight)
    axes.set_xlim(min(0.0, *values) * 1.2, max(0.0, *values) * 1.22 or 1.0)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10)


def _short_rate(value: float, _: Any = None) -> str:
    """A round rate in the fewest digits: 2e-05, 1.5e-05."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{exponent}" if value else "0"


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _layers(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    seen = {(row["layer"], row["lr"]): row for row in sorted(rows, key=lambda row: row["depth"])}
    return list(seen.values())


def _shade(value: float, low: float, high: float) -> str:
    u = 1.0 if high <= low or value <= 0 else math.log(value / low) / math.log(high / low)
    return RAMP[3 + round(u * (len(RAMP) - 4))]


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "report") from None
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained", facecolor=PAPER)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def _axes(
    axes: "Axes",
    title: str,
    below: str,
    beside: str,
    grid: str = "y",
    y: Callable[[float], str] | None = None,
) -> "Axes":
    """Axes in the style of all our pictures; `y` writes the numbers beside them."""
    axes.set_facecolor(PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(HAIR)
    axes.tick_params(colors=MUTED, labelsize=9, length=3, which="both", width=0.8)
    axes.tick_params(axis="y", labelcolor=INK if not beside else MUTED)
    if grid:
        axes.grid(True, axis=grid, color=HAIR, lw=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold", pad=8)
    axes.set_xlabel(below, fontsize=9, color=MUTED)
    axes.set_ylabel(beside, fontsize=9, color=MUTED)
    if y is not None:
        axes.yaxis.set_major_formatter(lambda value, _: y(value))
    return axes
