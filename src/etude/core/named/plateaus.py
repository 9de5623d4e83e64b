"""Recipes with a plateau: up, along, and down at the end."""

from typing import Any

from etude.core import shapes
from etude.core.named.recipe import chosen, recipe
from etude.core.named.warmups import warmed
from etude.core.path import Path
from etude.errors import ScheduleError

FALLS = {
    "sqrt": shapes.sqrt,
    "linear": shapes.linear,
    "cosine": shapes.cosine,
    "square": shapes.square,
    "exp": shapes.exp,
}


@recipe
def wsd(
    warmup: Any = 0.1,
    decay: Any = 0.2,
    to: float = 0.0,
    *,
    decay_shape: str = "sqrt",
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Warm-up, stable, decay: up to the peak, along it, down at the end.

    `decay_shape` is "sqrt" (the 1-sqrt of the paper), "linear", "cosine", "square" (1-square) or "exp", which
    needs a `to` above 0.

    Source: Hu et al., MiniCPM, arXiv 2404.06395; 1-sqrt: Hägele et al., arXiv 2405.18392;
    `get_wsd_schedule` in transformers, where warm-up starts at the floor.
    Use: where the end is not known yet or may move, and for several ends from one trunk: the decay can start
    at any time. A decay of a fifth with 1-sqrt, of two fifths or more with linear.
    Avoid: a decay of only a tenth: two fifths to three fifths gave a lower loss; and for a run whose length
    is known, linear_to_zero() is as good and has one number less.

    >>> wsd()
    warmup(0.1) >> hold() >> sqrt(0.2)
    >>> wsd(decay=0.4, decay_shape="linear")
    warmup(0.1) >> hold() >> linear(0.4)
    >>> wsd(50, 200, to=0.1, decay_shape="exp")
    warmup(50) >> hold() >> exp(200, to=0.1)
    """
    fall = chosen(decay_shape, FALLS, "wsd(decay_shape=…)")
    if decay_shape == "exp" and to == 0:
        raise ScheduleError('wsd(decay_shape="exp") goes by ratios and never reaches 0: write to=0.01')
    return warmed(shapes.hold() >> fall(decay, to=to), warmup, warmup_shape, warmup_start)


@recipe
def trapezoid(
    warmup: Any = 0.1,
    cooldown: Any = 0.2,
    to: float = 0.0,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Up, along and down in straight lines.

    Source: WSD with a linear decay, Hägele et al., arXiv 2405.18392.
    Use: as wsd(); with a cooldown of two fifths or more the straight line is the better one.
    Avoid: a short cooldown: below a fifth 1-sqrt takes more out of it, write wsd().

    >>> trapezoid(cooldown=0.4)
    warmup(0.1) >> hold() >> linear(0.4)
    """
    return warmed(shapes.hold() >> shapes.linear(cooldown, to=to), warmup, warmup_shape, warmup_start)


@recipe
def flat_cosine(
    decay: Any = 0.25,
    to: float = 0.0,
    warmup: Any = 0,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Along the peak, then down a cosine in the last part of the run.

    Source: `fit_flat_cos` in fastai (pct_start=0.75, so the decay takes a quarter), the companion of the
    optimizer Ranger.
    Use: with optimizers that bring a warm-up of their own, such as RAdam.
    Avoid: with plain Adam at a high peak: without a warm-up it starts at full rate.

    >>> flat_cosine()
    hold() >> cosine(0.25)
    """
    return warmed(shapes.hold() >> shapes.cosine(decay, to=to), warmup, warmup_shape, warmup_start)


@recipe
def tri_stage(
    warmup: Any = 0.1,
    decay: Any = 0.5,
    to: float = 0.01,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0.01,
) -> Path:
    """Up from a hundredth, along the peak, down by equal ratios to a hundredth.

    Source: Park et al., SpecAugment, arXiv 1904.08779; fairseq's `tri_stage` (phase_ratio 0.1, 0.4, 0.5;
    init_lr_scale and final_lr_scale 0.01).
    Use: to fine-tune speech models such as wav2vec 2.0 as their recipes do.
    Avoid: elsewhere without a reason: half of its run lies below the peak by ever larger ratios.

    >>> tri_stage()
    warmup(0.1, start=0.01) >> hold() >> exp(0.5, to=0.01)
    """
    return warmed(shapes.hold() >> shapes.exp(decay, to=to), warmup, warmup_shape, warmup_start)
