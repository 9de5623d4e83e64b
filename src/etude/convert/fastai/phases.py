"""fastai's fits as phases: one or two for each call, with a shape by shares of its epochs.

Formulas from fastai 2.8.12, `callback/schedule.py`. Batch k of n is read at k/n, in float32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.convert.pieces import Level, Piece
from etude.convert.values import number, read, whole
from etude.errors import RecipeError

MOST_CYCLES = 100
OWN_MOMENTA = [0.95, 0.85, 0.95]


@dataclass(frozen=True)
class Stretch:
    """A word over a share of its phase (None: the rest), between two levels of the phase's peak."""

    word: str
    share: float | None
    start: float
    end: float


@dataclass(frozen=True)
class Phase:
    """One fit. `restarts` are the number of cycles and their growth, in place of a shape.

    `convention` says how the rates of the groups differ, if they do.
    """

    epochs: float | None
    peak: float
    shape: tuple[Stretch, ...] = ()
    momentum: tuple[Stretch, ...] = ()
    restarts: tuple[int, float] | None = None
    convention: str | None = None


def spread_from(lowest: float) -> str:
    """The convention of a slice: from a ratio of the peak to the peak."""
    return f"fastai({lowest:.12g})"


class Arguments:
    """What a call says by name, and the traps that were met."""

    def __init__(self, said: Mapping[str, Any], traps: list[str]):
        self.said, self.traps = said, traps

    def number(self, key: str, usual: float | None = None) -> float:
        """A number of 0 or more."""
        return read(key, self.said.get(key, usual))

    def above(self, key: str, usual: float) -> float:
        """A number above 0."""
        if not (value := self.number(key, usual)):
            raise RecipeError(f"{key}: got 0, by which fastai divides; write a number above 0")
        return value

    def share(self, usual: float) -> float:
        """`pct_start`: a share of the phase."""
        if not 0 < (share := self.number("pct_start", usual)) < 1:
            raise RecipeError(f"pct_start: got {share!r}; a share lies between 0 and 1")
        return share

    def epochs(self, key: str = "n_epoch") -> float | None:
        """The epochs of the phase, None where the source does not say them."""
        return self.number(key) if self.said.get(key) is not None else None


def one_cycle(asked: Arguments, peak: float) -> list[Phase]:
    """`fit_one_cycle`: up from peak/div, down to peak/div_final; momentum the other way."""
    share, final = asked.share(0.25), asked.above("div_final", 1e5)
    asked.traps.append(
        f"div_final={final:g} divides the peak; torch's final_div_factor divides the first rate."
    )
    momenta = asked.said.get("moms", OWN_MOMENTA)
    if not isinstance(momenta, list) or len(momenta) != 3:
        raise RecipeError(f"moms: got {momenta!r}; write three numbers")
    first, middle, last = (read("moms", value, number) for value in momenta)
    shape = (
        Stretch("cosine", share, 1 / asked.above("div", 25.0), 1.0),
        Stretch("cosine", None, 1.0, 1 / final),
    )
    momentum = Stretch("cosine", share, first, middle), Stretch("cosine", None, middle, last)
    return [Phase(asked.epochs(), peak, shape, momentum)]


def flat_cosine(asked: Arguments, peak: float) -> list[Phase]:
    """`fit_flat_cos`: the peak, and down to peak/div_final."""
    flat, final = Stretch("hold", asked.share(0.75), 1.0, 1.0), asked.above("div_final", 1e5)
    return [Phase(asked.epochs(), peak, (flat, Stretch("cosine", None, 1.0, 1 / final)))]


def warm_restarts(asked: Arguments, peak: float) -> list[Phase]:
    """`fit_sgdr`: cosines to 0, each `cycle_mult` times as long as the last."""
    cycles, grow = read("n_cycles", asked.said.get("n_cycles"), whole, 1), asked.number("cycle_mult", 2)
    if grow in (0, 1) or cycles > MOST_CYCLES:
        raise RecipeError("cycle_mult: fastai divides by cycle_mult - 1; write 2, and at most 100 cycles")
    epochs = asked.epochs("cycle_len")
    return [Phase(epochs and epochs * sum(grow**i for i in range(cycles)), peak, restarts=(cycles, grow))]


def constant(asked: Arguments, peak: float) -> list[Phase]:
    """`fit`: one rate."""
    return [Phase(asked.epochs(), peak, (Stretch("hold", None, 1.0, 1.0),))]


def fine_tune(asked: Arguments, peak: float) -> list[Phase]:
    """`fine_tune`: one cycle for the last group alone, and one at half the rate for all of them."""
    frozen, spread = asked.number("freeze_epochs", 1), asked.above("lr_mult", 100)
    shared = {key: asked.said[key] for key in ("moms", "div_final") if key in asked.said}
    head = {**shared, "n_epoch": frozen, "pct_start": 0.99}
    every = {"pct_start": 0.3, "div": 5.0, **asked.said, "n_epoch": asked.said.get("epochs")}
    [last] = one_cycle(Arguments(every, asked.traps), peak / 2)
    last = Phase(last.epochs, last.peak, last.shape, last.momentum, convention=spread_from(1 / spread))
    if not frozen:
        return [last]
    asked.traps.append(
        f"In its freeze_epochs, {frozen:g}, fine_tune trains the last group alone: give the others the gate "
        f'frozen("{frozen:g}ep") >> hold(start=1).'
    )
    return [*one_cycle(Arguments(head, []), peak), last]


def pieces(phases: list[Phase], shapes: list[tuple[Stretch, ...]], peak: float | None = None) -> list[Piece]:
    """The pieces of all phases, in shares of the run if there is one, else in epochs.

    `peak` is that of the whole; None: the levels stand for themselves. Raises `RecipeError` where several
    phases do not all say their epochs.
    """
    alone = len(phases) == 1
    if not alone and any(phase.epochs is None for phase in phases):
        raise RecipeError("of several fits each must say its epochs; write them as numbers")
    drawn: list[Piece] = []
    for phase, shape in zip(phases, shapes, strict=True):
        height = 1.0 if peak is None else phase.peak / peak
        epochs = phase.epochs or 0.0
        if phase.restarts:
            drawn.append(
                _repeated(phase.restarts, _level(height), "" if alone else f', over="{epochs:.12g}ep"')
            )
        left = 1.0
        for one in shape:
            share = left if one.share is None else one.share
            left -= share
            over = (one.share and repr(one.share)) if alone else f'"{share * epochs:.12g}ep"'
            drawn.append(Piece(one.word, over, _level(one.start * height), _level(one.end * height)))
    return drawn


def _level(level: float) -> Level:
    return Level(float(f"{level:.12g}"))


def _repeated(restarts: tuple[int, float], top: Level, over: str) -> Piece:
    times, grow = restarts
    return Piece(f"repeat(cosine(start={top}), {times}{over}, stretch={grow!r})", end=Level(0.0))


Fit = Callable[[Arguments, float], list[Phase]]
