"""What a search for the rate found: the curve, what every rule says of it, and what to write next."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.errors import EtudeError
from etude.finder.consensus import DEFAULT, over_seeds
from etude.finder.epochs import for_run
from etude.finder.rules import RULES
from etude.finder.smoothing import smooth
from etude.finder.suggestion import Suggestion
from etude.report.finding_view import View, written

if TYPE_CHECKING:
    from etude.finder.scan import Scan

PICTURES = (".png", ".svg", ".pdf")

Curve = tuple[float, ...]


@dataclass(frozen=True)
class Finding:
    """The result of a range test, made by `Finding.of`; `str` is the report, `plot` the picture.

    `rates` are the peaks of the plan, a point each; `losses` the mean over the seeds, up to where the first
    of them ended; `held_out` the same of the held-out loss, or None; `curves` the losses of every seed, of
    which some may have ended early; `stopped` says why the sweep ended early, "" if it did not. `suggestions`
    is what every rule says, by name, `suggestion` étude's own.
    """

    rates: Curve
    losses: Curve
    held_out: Curve | None
    curves: tuple[Curve, ...]
    stopped: str
    suggestions: Mapping[str, Suggestion]
    suggestion: Suggestion
    scan: "Scan | None" = None

    @classmethod
    def of(
        cls,
        rates: Sequence[float],
        curves: Sequence[Sequence[float]],
        *,
        held_out: Sequence[Sequence[float]] = (),
        stopped: str = "",
        scan: "Scan | None" = None,
        epochs: float | None = 1,
    ) -> "Finding":
        """Judge the losses of one seed or several over the same `rates`; a curve may end early.

        Where there are held-out losses, a curve for each seed, the rules see them in place of the training
        loss. `epochs` is how often the run will go through its examples, None where that is not known.
        """
        longest = max(map(len, curves), default=0)
        if not curves or not rates or longest > len(rates) or len(held_out) not in (0, len(curves)):
            raise EtudeError(
                f"a finding needs a curve for each seed, none longer than its {len(rates)} rates, and as "
                f"many held-out curves or none; got {[*map(len, curves)]} and {[*map(len, held_out)]} points"
            )
        losses, seen = _mean(curves), _mean(held_out) if held_out else None
        judged = losses if seen is None else seen
        grid = tuple(map(float, rates))[: max(1, longest)]
        said = {name: rule(grid[: len(judged)], judged) for name, rule in RULES.items()}
        singles = [DEFAULT(grid[: len(each)], each) for each in held_out or curves]
        own = for_run(over_seeds(DEFAULT(grid[: len(judged)], judged), singles), epochs)
        kept = tuple(tuple(map(float, curve)) for curve in curves)
        return cls(grid, losses, seen, kept, stopped, said, own, scan)

    @property
    def rate(self) -> float | None:
        """The rate suggested, or None."""
        return self.suggestion.rate

    def __str__(self) -> str:
        from etude.report.finding_terminal import report

        return report(self.view(), self._rows(), self._notes())

    def _repr_html_(self) -> str:
        from etude.report.finding_html import block

        return block(self.view(), self._rows(), self._notes())

    def page(self) -> dict[str, Any]:
        """What a page draws it from, for `etude.report.finding_html.logged`; a log makes it strict JSON."""
        return {"view": self.view()._asdict(), "rows": self._rows(), "notes": self._notes()}

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("rule", "rate", "range", "confidence", "")
        own, scan = self.suggestion, None if self.scan is None else self.scan.suggestion
        said = [each for each in (own, *self.suggestions.values(), scan) if each is not None]
        rows = [_row(each, sure=each is own or each is scan) for each in said]
        # What étude's own suggestion rests on stands above.
        return [head, *((*row[:-1], "" if row[-1] == own.reason else row[-1]) for row in rows)]

    def _notes(self) -> list[str]:
        seeds = "" if len(self.curves) == 1 else f", {len(self.curves)} seeds"
        span = f"{written(self.rates[0])} … {written(self.rates[-1])}"
        loss = "the loss in training" if self.held_out is None else "the held-out loss"
        notes = [f"{len(self.rates)} rates, {span}{seeds}; judged by {loss}."]
        if self.stopped:
            notes.append(f"Stopped early: {self.stopped}.")
        edge = None if self.scan is None else self.scan.edge
        if edge is not None:
            above = self.rate is not None and self.rate > edge
            warm = "; the suggested rate is above it, so warm up" if above else ""
            notes.append(f"Without a warm-up the first update is stable below {written(edge)}{warm}.")
        return notes

    def view(self) -> View:
        """The finding as its pictures show it."""
        judged = self.losses if self.held_out is None else self.held_out
        bands = [_smooth(self.rates, curve) for curve in self.curves] if len(self.curves) > 1 else []
        said, scan = self.suggestion, self.scan
        span = None
        if said.rate is not None and said.low is not None and said.high is not None:
            span = (said.low, said.rate, said.high)
        return View(
            rates=self.rates,
            curves=self.curves,
            smooth=_smooth(self.rates, judged),
            band=([*map(min, *bands)], [*map(max, *bands)]) if bands else None,
            held_out=self.held_out or (),
            marks={name: each.rate for name, each in self.suggestions.items() if each.rate is not None},
            suggested=span,
            stopped=self.stopped,
            edge=None if scan is None else scan.edge,
            title=said.title,
            reason=said.reason,
        )

    def plot(self, path: str | Path) -> Path:
        """Write the picture: PNG, SVG or PDF by the ending of `path`. Needs matplotlib."""
        from etude.report.finding import picture

        check_picture(path)
        picture(self.view()).savefig(path)
        return Path(path)

    def to_dict(self) -> dict[str, Any]:
        """All of it as strict JSON: a loss that is not finite is a text ("nan", "inf")."""
        return {
            "rates": list(self.rates),
            "losses": _written(self.losses),
            "held_out": None if self.held_out is None else _written(self.held_out),
            "curves": [_written(curve) for curve in self.curves],
            "stopped": self.stopped,
            "suggestions": {name: each.to_dict() for name, each in self.suggestions.items()},
            "suggestion": self.suggestion.to_dict(),
            "scan": None if self.scan is None else self.scan.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Finding":
        """What `to_dict` gave, to the last bit."""
        from etude.finder.scan import Scan

        held_out, scan = values["held_out"], values["scan"]
        return cls(
            rates=_read(values["rates"]),
            losses=_read(values["losses"]),
            held_out=None if held_out is None else _read(held_out),
            curves=tuple(map(_read, values["curves"])),
            stopped=values["stopped"],
            suggestions={name: Suggestion.from_dict(each) for name, each in values["suggestions"].items()},
            suggestion=Suggestion.from_dict(values["suggestion"]),
            scan=None if scan is None else Scan.from_dict(scan),
        )


def _row(each: Suggestion, sure: bool) -> tuple[str, ...]:
    """`sure`: with its confidence, which of the known rules is that of the curve, and the same for all."""
    if each.rate is None:
        return each.rule, "–", "", "", each.reason
    span = f"{written(each.low)} … {written(each.high)}"
    return each.rule, written(each.rate), span, f"{each.confidence:.1f}" if sure else "", each.reason


def _mean(curves: Sequence[Sequence[float]]) -> Curve:
    """Point by point; only where all have a point, because the mean falls where a diverged one drops out."""
    return tuple(sum(map(float, losses)) / len(losses) for losses in zip(*curves, strict=False))


def _smooth(rates: Curve, losses: Curve) -> list[float]:
    """The curve smoothed, up to the first loss that is not finite."""
    n = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    return smooth(rates[:n], losses[:n]).loss.tolist() if n else []


def _written(losses: Sequence[float]) -> list[float | str]:
    return [loss if math.isfinite(loss) else str(loss) for loss in losses]


def _read(losses: Sequence[float | str]) -> Curve:
    return tuple(map(float, losses))


def check_picture(path: str | Path) -> None:
    """Raise `EtudeError` for a file whose ending is that of no picture."""
    if Path(path).suffix not in PICTURES:
        raise EtudeError(f"a picture ends with {', '.join(PICTURES)}; got {str(path)!r}")
