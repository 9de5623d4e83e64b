"""fastai's fit calls in the language of schedules; the source is read and never run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from etude.convert.converted import Converted, foreign
from etude.convert.fastai.phases import (
    Arguments,
    Fit,
    Phase,
    constant,
    fine_tune,
    flat_cosine,
    one_cycle,
    pieces,
    spread_from,
    warm_restarts,
)
from etude.convert.pieces import path
from etude.convert.product import product
from etude.convert.python.unknown import literal, unknown
from etude.convert.source import Call, Source, called
from etude.convert.values import read
from etude.errors import RecipeError


class Known(NamedTuple):
    """How a call is drawn, the name of its rate, its own default for it, and its arguments in their order."""

    draw: Fit
    rate: str
    usual: float
    names: tuple[str, ...]


# fastai's defaults.lr, which a Learner has if nothing is said.
OWN = 1e-3
LATER = ("cbs", "reset_opt", "start_epoch")
EPOCHS = ("n_epoch", "epochs", "cycle_len")
FITS = {
    "fit_one_cycle": Known(
        one_cycle, "lr_max", OWN,
        ("n_epoch", "lr_max", "div", "div_final", "pct_start", "wd", "moms", *LATER),
    ),
    "fit_flat_cos": Known(
        flat_cosine, "lr", OWN, ("n_epoch", "lr", "div_final", "pct_start", "wd", *LATER)
    ),
    "fit_sgdr": Known(
        warm_restarts, "lr_max", OWN,
        ("n_cycles", "cycle_len", "lr_max", "cycle_mult", "cbs", "reset_opt", "wd", "start_epoch"),
    ),
    "fine_tune": Known(
        fine_tune, "base_lr", 2e-3, ("epochs", "base_lr", "freeze_epochs", "lr_mult", "pct_start", "div")
    ),
    "fit": Known(constant, "lr", OWN, ("n_epoch", "lr", "wd", *LATER)),
}  # fmt: skip
LEARNERS = (
    "Learner", "vision_learner", "cnn_learner", "unet_learner", "text_classifier_learner",
    "language_model_learner", "tabular_learner", "collab_learner",
)  # fmt: skip
GATES = {"freeze", "freeze_to", "unfreeze"}


@foreign("fastai", lambda said: bool(FITS.keys() - {"fit"} & called(said)))
def fastai(said: str, total: float | None = None, lr: float | None = None) -> Converted:
    """fastai source: fit_one_cycle, fit_flat_cos, fit_sgdr, fine_tune, fit; several follow one another.

    `lr` is the peak where the source takes it from `lr_find`. Raises `RecipeError` with the line of what is
    not literal.

    >>> fastai("learn.fit_one_cycle(4, 1e-3)").hypers["lr"]
    '0.001 * (cosine(0.25, to=1, start=0.04) >> cosine(to=1e-05))'
    """
    source, traps = Source(said), []
    calls = source.calls(FITS)
    if not calls:
        raise RecipeError(f"this source fits nothing in a way that is known: {', '.join(FITS)}")
    learner = next((call.keywords for call in source.calls(LEARNERS)), {})
    drawn = [_phases(call, learner, lr, traps) for call in calls]
    phases = [phase for several in drawn for phase in several]
    peak = max(phase.peak for phase in phases)
    settings = _groups(phases, traps)
    base = peak if lr is None else lr
    shape = pieces(phases, [phase.shape for phase in phases], peak)
    hypers = {"lr": product(base, path(shape))}
    if all(phase.momentum for phase in phases):
        hypers["momentum"] = path(pieces(phases, [phase.momentum for phase in phases]))
    decays = {decay for call in calls if (decay := _weight_decay(call, learner)) is not None}
    if len(decays) == 1:
        hypers["weight_decay"] = repr(decays.pop())
    if not GATES.isdisjoint(called(said)):
        traps.append(
            'freeze and unfreeze are not read: a gate says them, as in frozen("1ep") >> hold(start=1).'
        )
    return Converted(hypers, tuple(dict.fromkeys(traps)), settings, total=total)


def _said(call: Call, learner: Mapping[str, Any]) -> dict[str, Any]:
    """What the call says by name, after what the learner says."""
    own = {key: value for key, value in call.bound(FITS[call.name].names).items() if value is not None}
    return {**{key: learner[key] for key in ("moms", "wd") if learner.get(key) is not None}, **own}


def _weight_decay(call: Call, learner: Mapping[str, Any]) -> float | None:
    decay = _said(call, learner).get("wd")
    return None if decay is None else read("wd", literal(call, {"wd": decay})["wd"])


def _phases(call: Call, learner: Mapping[str, Any], lr: float | None, traps: list[str]) -> list[Phase]:
    known, said = FITS[call.name], _said(call, learner)
    rate = said.pop(known.rate, learner.get("lr") if known.usual == OWN else None)
    if rate is None:
        rate = known.usual if lr is None else lr
        if lr is None:
            traps.append(f"{call.name}() says no rate, and takes fastai's own, {known.usual:g}.")
    low, high = _bounds(rate)
    if lr is not None and unknown(high):
        high = lr
    bounds = literal(call, {known.rate: high, "the lowest rate": low})
    if not (peak := read(known.rate, bounds[known.rate])):
        raise RecipeError(f"line {call.line}: a rate of 0 trains nothing; write one above 0")
    # How many epochs there are matters only where several fits follow one another.
    kept = {
        key: value
        for key, value in said.items()
        if key not in (*LATER, "wd") and not (key in EPOCHS and unknown(value))
    }
    phases = known.draw(Arguments(literal(call, kept), traps), peak)
    lowest = bounds["the lowest rate"]
    if lowest is None or known.draw is fine_tune:
        return phases
    convention = "fastai" if lowest == "tenth" else spread_from(read("lr", lowest) / peak)
    return [replace(phase, convention=convention) for phase in phases]


def _bounds(rate: Any) -> tuple[Any, Any]:
    """The lowest and the highest rate that a number or a slice says; of slice(high) the lowest is a tenth."""
    if not (isinstance(rate, Call) and rate.name == "slice" and rate.args):
        return None, rate
    low, high = rate.args[:2] if len(rate.args) > 1 else (None, *rate.args)
    return ("tenth" if low is None else low), high


def _groups(phases: list[Phase], traps: list[str]) -> dict[str, str]:
    """The convention by which the rates of groups differ, if they do."""
    convention = phases[-1].convention
    if convention is None:
        return {}
    traps.append(
        "fastai spreads a slice over the groups of its splitter, often two or three; étude does so over "
        "every rung from the embeddings to the head."
    )
    return {"convention": convention}
