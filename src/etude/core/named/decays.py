"""Recipes without corners: a warm-up where one is wanted, then one way down, or none."""

from typing import Any

from etude.core import shapes
from etude.core.named.recipe import recipe
from etude.core.named.warmups import warmed
from etude.core.path import Path


@recipe
def constant() -> Path:
    """The same rate throughout.

    Source: `get_constant_schedule` in transformers; T5 was fine-tuned so (Raffel et al., arXiv 1910.10683).
    Use: with Adafactor as T5 does, under a controller that lowers the rate, or where the weights are averaged
    in place of a decay.
    Avoid: as the whole of a run that ends for good: it leaves the loss that a decay would still take away.

    >>> constant()
    hold()
    """
    return shapes.hold()


@recipe
def constant_with_warmup(warmup: Any = 0.1, *, warmup_shape: str = "linear", warmup_start: float = 0) -> Path:
    """Up to the peak, and there to the end.

    Source: `get_constant_schedule_with_warmup` in transformers.
    Use: for preference tuning at low rates, for a trunk from which decays are branched, and for data whose
    end is not known.
    Avoid: as the last word: a decay at the end nearly always lowers the loss; wsd() adds one.

    >>> constant_with_warmup()
    warmup(0.1) >> hold()
    """
    return warmed(shapes.hold(), warmup, warmup_shape, warmup_start)


@recipe
def linear_with_warmup(
    warmup: Any = 0.1, to: float = 0.0, *, warmup_shape: str = "linear", warmup_start: float = 0
) -> Path:
    """Up to the peak, then down in a straight line.

    Source: Devlin et al., BERT, arXiv 1810.04805; `get_linear_schedule_with_warmup` in transformers.
    For: simple, predictable, and in careful comparisons as good as cosine or better.
    Use: the default for fine-tuning with a known number of updates, short or long.
    Avoid: where the end may move: the whole decay depends on it; wsd() does not.

    >>> linear_with_warmup()
    warmup(0.1) >> linear()
    """
    return warmed(shapes.linear(to=to), warmup, warmup_shape, warmup_start)


@recipe
def linear_to_zero(warmup: Any = 0.1, *, warmup_shape: str = "linear", warmup_start: float = 0) -> Path:
    """Up to the peak, then in a straight line to exactly 0, without a floor.

    Source: Defazio et al., arXiv 2310.07831, best or equal on ten tasks; Bergsma et al., arXiv 2502.15938,
    who find it ahead of a decay to a tenth, the more so the longer the run.
    Use: in place of a floor of a tenth or a hundredth of the peak, also for pretraining.
    Avoid: where training will go on from the last checkpoint: it must then be warmed up again.

    >>> linear_to_zero(0.02)
    warmup(0.02) >> linear()
    """
    return warmed(shapes.linear(), warmup, warmup_shape, warmup_start)


@recipe
def cosine_with_warmup(
    warmup: Any = 0.1, to: float = 0.0, *, warmup_shape: str = "linear", warmup_start: float = 0
) -> Path:
    """Up to the peak, then down along half a cosine wave.

    Source: Loshchilov & Hutter, SGDR, arXiv 1608.03983; `get_cosine_schedule_with_warmup` in transformers,
    which climbs again after its end where this holds.
    For: smooth, with no corner after the warm-up; the most common choice, so results compare.
    Use: a sound default for fine-tuning and pretraining; where both were logged, its final loss is within
    about a tenth of a percent of linear's.
    Avoid: where the end may move: the whole decay depends on it, and its last tenth is next to nothing.

    >>> cosine_with_warmup()
    warmup(0.1) >> cosine()
    >>> cosine_with_warmup(0.2, to=0.1, warmup_shape="square")
    square(0.2, to=1, start=0) >> cosine(to=0.1)
    """
    return warmed(shapes.cosine(to=to), warmup, warmup_shape, warmup_start)


@recipe
def polynomial(
    power: float = 2.0,
    to: float = 0.0,
    warmup: Any = 0,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Down along a power of what remains: 1 is linear, above 1 falls early, below 1 late.

    Source: `PolynomialLR` in torch, `get_polynomial_decay_schedule_with_warmup` in transformers (both with
    power 1 if nothing is said).
    Use: to reproduce such runs, and to try a decay between linear and a steeper one by a single number.
    Avoid: an absolute floor as transformers' lr_end and keras' end_learning_rate have it: above the peak of a
    group the rate would rise; `to` is a ratio.

    >>> polynomial()
    poly()
    >>> polynomial(0.5, to=0.1)
    poly(to=0.1, power=0.5)
    """
    return warmed(shapes.poly(to=to, power=power), warmup, warmup_shape, warmup_start)


@recipe
def exponential(
    to: float = 0.01, warmup: Any = 0, *, warmup_shape: str = "linear", warmup_start: float = 0
) -> Path:
    """Down by equal ratios in equal times, given by the ratio at the end.

    Source: `ExponentialLR` in torch, whose gamma is to ** (1 / updates).
    For: falls fast at first and has one number to choose.
    Use: where a recipe asks for it: say the final ratio, and the length of the run no longer matters.
    Avoid: a gamma per update: 0.95 is meant for epochs and leaves 7e-12 of the rate after 500 updates; and a
    target near 0, which trains most of the run at next to nothing.

    >>> exponential()
    exp(to=0.01)
    >>> exponential(to=0.1)
    exp(to=0.1)
    """
    return warmed(shapes.exp(to=to), warmup, warmup_shape, warmup_start)


@recipe
def rex_with_warmup(
    warmup: Any = 0.1,
    d: float = 0.5,
    to: float = 0.0,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Up to the peak, then down slowly at first and fast at the end.

    Source: Chen et al., REX, arXiv 2107.04197: best average rank over 82 settings, fine-tuning on GLUE among
    them. Its d is 0.5; axolotl's `rex` is d = 0.9.
    Use: for runs on a small budget; it lies above linear throughout.
    Avoid: mixing up the two curves: at 55% of the way d = 0.5 is at 0.62 of the peak, d = 0.9 at 0.89.

    >>> rex_with_warmup()
    warmup(0.1) >> rex()
    >>> rex_with_warmup(d=0.9)
    warmup(0.1) >> rex(d=0.9)
    """
    return warmed(shapes.rex(to=to, d=d), warmup, warmup_shape, warmup_start)


@recipe
def inverse_sqrt(
    warmup: Any = 0.1,
    timescale: Any = None,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Up to the peak, then as one over the square root of time, without an end.

    Source: Raffel et al., T5, arXiv 1910.10683; `get_inverse_sqrt_schedule` in transformers, equal from the
    end of the warm-up on.
    Use: for data without an end, with a decay started from it when the end is known.
    Avoid: as the whole of a run that ends for good: it stops high, at a third of the peak if the warm-up is a
    tenth of the run.

    >>> inverse_sqrt()
    warmup(0.1) >> inv_sqrt()
    >>> inverse_sqrt(warmup=0, timescale=100)
    inv_sqrt(timescale=100)
    """
    return warmed(shapes.inv_sqrt(timescale=timescale), warmup, warmup_shape, warmup_start)
