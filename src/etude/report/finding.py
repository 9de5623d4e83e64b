"""The picture of a range test with matplotlib: the curve, what it suggests, and where it diverged."""

from textwrap import wrap
from typing import TYPE_CHECKING

from etude.report.figures import ACCENT, FAILURE, INK, MUTED, PAPER, SERIES, _axes, _figure
from etude.report.finding_view import View, decades, power, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def picture(view: View) -> "Figure":
    """Loss over log rate: every seed light, the smoothed curve dark, the rules' marks on it.

    The suggested rate is an upright line inside its range; a sweep that ended early ends with a cross.
    """
    figure = _figure(8, 4.9)
    axes = _axes(figure.add_subplot(), "", "learning rate", "loss")
    _title(axes, view.title, wrap(view.reason, 100))
    _scales(axes, view)
    if view.suggested is not None:
        least, rate, most = view.suggested
        axes.axvspan(
            least, most, color=ACCENT, alpha=0.1, lw=0, label=f"range {written(least)} … {written(most)}"
        )
        axes.axvline(rate, color=ACCENT, lw=1.6, label=f"suggested {written(rate)}")
    if view.edge is not None:
        axes.axvline(
            view.edge, color=MUTED, lw=1.2, ls=(0, (1, 2)), label=f"edge, line scan {written(view.edge)}"
        )
    for i, losses in enumerate(view.curves):
        label = None if i else f"{len(view.curves)} seeds" if len(view.curves) > 1 else "loss"
        axes.plot(*view.points(losses), color=MUTED, alpha=0.45, lw=0.8, label=label)
    if view.held_out:
        axes.plot(*view.points(view.held_out), color=MUTED, lw=1.2, ls=(0, (4, 2)), label="held out")
    rates, smooth = view.points(view.smooth)
    if view.band is not None:
        n = len(rates)
        axes.fill_between(rates, view.band[0][:n], view.band[1][:n], color=INK, alpha=0.12, lw=0)
    axes.plot(rates, smooth, color=INK, lw=2, label="smoothed", solid_capstyle="round")
    for colour, (name, rate) in zip(SERIES[1:], view.marks.items(), strict=False):
        level = view.level(rate)
        if level is not None:
            style = {"color": colour, "ms": 7, "mec": PAPER, "mew": 1, "ls": ""}
            axes.plot(rate, level, "o", label=f"{name} {written(rate)}", zorder=5, **style)
    if view.stopped:
        end, _ = view.points(max(view.curves, key=len))
        _, high = view.limits()
        mark = {"color": FAILURE, "ms": 9, "mew": 2, "ls": "", "clip_on": False, "zorder": 6}
        axes.plot(end[-1:] or view.rates[:1], [high], "x", label=f"stopped: {view.stopped}", **mark)
    figure.legend(
        loc="outside lower left", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK, handlelength=1.4
    )
    return figure


def _title(axes: "Axes", title: str, reason: list[str]) -> None:
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    axes.annotate("\n".join(reason), (0, 1), (0, 8), fontsize=9, color=MUTED, **place)
    above = 14 + 12.5 * len(reason)
    axes.set_title(title, loc="left", fontsize=13, color=INK, fontweight="bold", pad=above)


def _scales(axes: "Axes", view: View) -> None:
    first, last = view.rates[0], view.rates[-1]
    axes.set_xscale("log")
    axes.set_xlim(first / 1.15, last * 1.15)
    axes.set_xticks(decades(first, last))
    axes.xaxis.set_major_formatter(lambda rate, _: power(rate))
    axes.xaxis.set_minor_formatter("")
    axes.set_ylim(*view.limits())
