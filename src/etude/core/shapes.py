"""The words of the language: one formula each, with where its pen starts and ends if nothing else is written.

A formula is `f(a, b, u, e, xp, …)`: from level `a` to level `b` as progress `u` goes from 0 to 1; `e` is the
time since the piece began in planned updates (finite also in an open run), `xp` the functions of
`namespace`. Contract, tested for every word: f(u=0) is `a` and f(u=1) is `b` to the last bit, no `if` on `u`,
monotone to four ulps unless the word says that it turns. To add a word, write one function under `@word`.
"""

import math
from collections.abc import Mapping
from math import pi
from typing import Any

from etude.core.word import SHAPES as SHAPES
from etude.core.word import word
from etude.errors import ScheduleError


def mix(a: Any, b: Any, w: Any) -> Any:
    """From `a` (w=0) to `b` (w=1), both to the last bit; `a + (b - a) * w` would miss `b`."""
    return a * (1 - w) + b * w


def _from_its_beginning(options: dict[str, Any], begin: float, length: float) -> dict[str, Any]:
    """A time scale that was not said is the time at which the piece begins."""
    if options["timescale"] is None:
        options["timescale"] = begin
    if not options["timescale"] > 0:
        raise ScheduleError(
            "at the very start of the run there is no timescale to go by: write timescale=1000, or put a "
            "warm-up before it"
        )
    return options


@word(to=None, takes_to=False, endless=True)
def hold(a, b, u, e, xp):
    """Stay at the level where the pen is: f = a.

    Source: `get_constant_schedule` in transformers, `ConstantLR` in torch.
    Use: between warm-up and decay; alone, where a short run or a controller decides the rest.
    Avoid: as the whole of a run that ends for good: without a decay the last updates keep their noise.

    >>> (2e-5 * hold()).over(1000)(500)
    2e-05
    """
    return a + 0.0 * u


@word()
def linear(a, b, u, e, xp):
    """In a straight line to a level, 0 if nothing else is said: f = a + (b - a)·u.

    Source: Devlin et al., BERT, arXiv 1810.04805; to zero, Defazio et al., arXiv 2310.07831, in which it
    matches or beats cosine on ten tasks.
    Use: the default decay of a run whose length is known.
    Avoid: where the end is not known: it must be said beforehand.

    >>> s = 2e-5 * linear()
    >>> [s.over(1000)(t) for t in (0, 500, 1000)]
    [2e-05, 1e-05, 0.0]
    """
    return mix(a, b, u)


@word(start=0.0, to=1.0, needs_over=True)
def warmup(a, b, u, e, xp):
    """In a straight line from 0 up to the peak: f = u. Its length must be said.

    Source: Goyal et al., arXiv 1706.02677; Vaswani et al., arXiv 1706.03762.
    Use: at the beginning of nearly every run with Adam: 5 to 10% of a fine-tuning run.
    Avoid: as more than a third of a run, and once more after a decay (write linear(w, to=1) there).

    >>> s = 2e-5 * (warmup(0.1) >> hold())
    >>> [s.over(1000)(t) for t in (0, 50, 100)]
    [0.0, 1e-05, 2e-05]
    """
    return mix(a, b, u)


def _risen_at_its_end(options: dict[str, Any], begin: float, length: float) -> dict[str, Any]:
    if options["timescale"] is None:
        options["timescale"] = length / 5
    if math.isinf(options["timescale"]):
        raise ScheduleError("an open run has no length to take a fifth of: write timescale=2000")
    return {**options, "_reached": -math.expm1(-length / options["timescale"])}


@word(
    start=0.0,
    to=1.0,
    endless=True,
    lengths=("timescale",),
    settle=_risen_at_its_end,
    example="exp_warmup(0.1)",
)
def exp_warmup(a, b, u, e, xp, *, timescale=None, _reached=1.0):
    """Up fast, then ever slower: f = a + (b - a)·(1 - exp(-e/timescale)), stretched to reach b at the end.

    `timescale` is a length, a fifth of the piece if it is not said; in an open run it must be said.

    Source: Ma & Yarats, arXiv 1910.04209, whose untuned exponential warm-up has timescale 1/(1 - β2).
    Use: instead of a linear warm-up where the first updates are the harmless ones; as a factor of a decay.
    Avoid: where the very first updates are dangerous: its slope is steepest there.

    >>> s = 1e-3 * (exp_warmup(0.1) >> hold())
    >>> [f"{s.over(1000)(t):.2e}" for t in (0, 20, 50, 100)]
    ['0.00e+00', '6.36e-04', '9.24e-04', '1.00e-03']
    """
    risen = -xp.expm1(-(e / timescale)) / _reached
    return mix(a, b, xp.where(u < 1, risen, 1.0 + 0.0 * u))


@word()
def cosine(a, b, u, e, xp, *, exponent=1.0, k=1.0):
    """Along half a cosine wave, flat at both ends: f = b + (a - b)·((1 + cos πu^k)/2)^exponent.

    `exponent` above 1 falls earlier (optax's `exponent`), `k` above 1 later (k-decay).

    Source: Loshchilov & Hutter, SGDR, arXiv 1608.03983; k: Zhang & Li, arXiv 2004.05909.
    Use: the usual decay of runs whose length is known; in comparisons about as good as linear.
    Avoid: where the end is not known or may be moved: it must be said beforehand.

    >>> s = 2e-5 * (warmup(0.1) >> cosine(to=0.01))
    >>> [f"{s.over(1000)(t):.3g}" for t in (100, 550, 1000)]
    ['2e-05', '1.01e-05', '2e-07']
    """
    progress = u if k == 1 else u**k
    wave = 0.5 + 0.5 * xp.cos(progress * pi)
    return mix(b, a, wave if exponent == 1 else wave**exponent)


@word()
def quarter_cosine(a, b, u, e, xp):
    """Along a quarter of a cosine wave: flat at first, steepest at the end: f = b + (a - b)·cos(πu/2).

    Source: none recommends it; tutorials write it by mistake for `cosine`. At 95% of the run its rate is 12.7
    times that of the half wave, its sum of rates 1.27 times as large.
    Use: to reproduce a run that was made with it.
    Avoid: for everything else; write cosine().

    >>> s = quarter_cosine().over(1000)
    >>> [round(s(t), 3) for t in (0, 500, 950, 1000)]
    [1.0, 0.707, 0.078, 0.0]
    """
    return mix(b, a, xp.sin((1 - u) * (pi / 2)))


@word(
    takes_to=False,
    to=None,
    endless=True,
    turns=True,
    lengths=("half",),
    levels=("low",),
    example="wave(half=100)",
)
def wave(a, b, u, e, xp, *, half, low=0.0):
    """Down and up again along whole cosine waves: f = low + (a - low)·(1 + cos(πe/half))/2.

    `half` is the length from a top to the next bottom; the wave has no end of its own and may be cut.

    Source: what torch's `CosineAnnealingLR` and transformers' cosine do past their end.
    Use: to reproduce such a run, and for a cosine that is cut before its end.
    Avoid: unless meant: after the bottom the rate climbs back to the peak.

    >>> s = (1e-3 * wave(half=100)).over(400)
    >>> [round(s(t), 6) for t in (0, 100, 150, 200, 300)]
    [0.001, 0.0, 0.0005, 0.001, 0.0]
    """
    # The cosine of a large number has few digits left in single precision.
    inside = e - 2 * half * xp.floor(e / (2 * half))
    return mix(low, a, 0.5 + 0.5 * xp.cos(inside / half * pi))


@word()
def poly(a, b, u, e, xp, *, power=2.0, k=1.0):
    """Along a power of what remains: f = b + (a - b)·(1 - u^k)^power; power 1 is linear, above 1 falls early.

    Source: `PolynomialLR` in torch, `get_polynomial_decay_schedule_with_warmup` in transformers; k: Zhang &
    Li, arXiv 2004.05909.
    Use: for a decay between linear (power 1) and a steep one; power 0.9 in segmentation (DeepLab).
    Avoid: a power below 1 with a target of 0: it falls steepest in the last updates.

    >>> (1e-3 * poly(power=2)).over(100)(50)
    0.00025
    """
    return mix(b, a, (1 - (u if k == 1 else u**k)) ** power)


@word(needs_to=True, to=None, positive=True)
def exp(a, b, u, e, xp):
    """By equal ratios in equal times: f = a·(b/a)^u. Both levels lie above 0, so the target must be said.

    A decay by its final ratio cannot die as one by a factor per update does.

    Source: `ExponentialLR` in torch; rising, the learning rate range test of Smith, arXiv 1506.01186.
    Use: for the range test, and as the last stage of tri-stage and WSD.
    Avoid: as a whole run with a very low target: most of the run would train at next to nothing.

    >>> sweep = exp(start=1e-7, to=10).over(99)
    >>> [f"{sweep(k):.2g}" for k in (0, 33, 66, 99)]
    ['1e-07', '4.6e-05', '0.022', '10']
    """
    # Drawn from both ends: a ** (1 - u) * b ** u wavers by 18 units in the last place.
    return mix(a * (b / a) ** u, b * (a / b) ** (1 - u), u)


@word(to=None, takes_to=False, endless=True, lengths=("timescale",), settle=_from_its_beginning)
def inv_time(a, b, u, e, xp, *, timescale=None):
    """As one over time, without an end: f = a·timescale/(timescale + e).

    `timescale` is the length after which the rate is halved; if it is not said it is the time at which the
    piece begins.

    Source: Robbins & Monro (1951); `InverseTimeDecay` in keras (timescale = decay_steps / decay_rate).
    Use: for data without an end where the rate must go on falling.
    Avoid: in a run of known length: it falls too early and never arrives.

    >>> s = 1e-3 * (warmup(100) >> inv_time())
    >>> [f"{s.over(10_000)(t):.1e}" for t in (100, 200, 10_000)]
    ['1.0e-03', '5.0e-04', '1.0e-05']
    """
    return a * (timescale / (timescale + e))


def _either(options: Mapping[str, Any]) -> str | None:
    said = [key for key in ("every", "times") if options[key] is not None]
    return (
        None if len(said) == 1 else f"takes one of every= and times=, got {' and '.join(said) or 'neither'}"
    )


def _counted(options: dict[str, Any], begin: float, length: float) -> dict[str, Any]:
    if options["times"] is not None:
        if math.isinf(length):
            raise ScheduleError("an open run has no end to count towards: write every=1000")
        options["every"] = length / (options["times"] + 1) or 1.0
    return options


@word(
    to=None, takes_to=False, endless=True, lengths=("every",), check=_either, settle=_counted,
    example="step(times=3)",
)  # fmt: skip
def step(a, b, u, e, xp, *, by=0.1, every=None, times=None):
    """In stairs: f = a·by^⌊e/every⌋; `times` falls in equal stretches instead, so that none is at the end.

    Source: `StepLR` in torch, whose step_size is `every` and whose gamma is `by`.
    Use: where training has natural phases, as in detection and classification recipes with SGD.
    Avoid: for a fine-tuning with Adam: each stair is a jump, and where to put it must be tuned.

    >>> s = (1e-3 * step(times=2)).over(90)
    >>> [f"{s(t):.0e}" for t in (0, 29, 30, 59, 60, 90)]
    ['1e-03', '1e-03', '1e-04', '1e-04', '1e-05', '1e-05']
    """
    falls = xp.floor(e / every) + 0.0 * u
    if times is not None:
        falls = xp.where(falls < times, falls, times + 0.0 * u)
    return a * by**falls


@word(
    to=None, takes_to=False, endless=True, milestones=("at",), example="multistep(at=(0.5, 0.75))",
)  # fmt: skip
def multistep(a, b, u, e, xp, *, at, by=0.1):
    """In stairs at milestones: f = a·by^(number of milestones ≤ e); `at` holds lengths from its beginning.

    Source: `MultiStepLR` in torch (milestones, gamma); He et al., ResNet, arXiv 1512.03385.
    Use: to reproduce recipes that name their milestones.
    Avoid: where no recipe names them: linear() and cosine() need no such choice.

    >>> s = (0.1 * multistep(at=(30, 60))).over(90)
    >>> [f"{s(t):.0e}" for t in (0, 29, 30, 60, 90)]
    ['1e-01', '1e-01', '1e-02', '1e-03', '1e-03']
    """
    falls = 0.0 * u
    for milestone in at:
        falls = falls + xp.where(e < milestone, 0.0 * u, 1.0 + 0.0 * u)
    return a * by**falls


@word()
def sqrt(a, b, u, e, xp):
    """Along 1 - √u: steep at first, the cooldown of WSD: f = a + (b - a)·√u.

    Source: Hägele et al., arXiv 2405.18392, who found it the best short cooldown after a constant phase.
    Use: the last tenth or fifth of a run after hold().
    Avoid: as the whole decay of a run: linear() is better from two fifths on.

    >>> s = 3e-4 * (warmup(500) >> hold() >> sqrt(0.2))
    >>> [f"{s.over(10_000)(t):.2e}" for t in (500, 8_000, 8_500, 10_000)]
    ['3.00e-04', '3.00e-04', '1.50e-04', '0.00e+00']
    """
    return mix(a, b, xp.sqrt(u))


@word()
def square(a, b, u, e, xp):
    """Along 1 - u²: slow at first, steepest at the end: f = a + (b - a)·u²; upwards, a quadratic warm-up.

    Source: the "1-square" decay of WSD (Hägele et al., arXiv 2405.18392); `lr_quadratic_warmup` in axolotl.
    Use: as a gentle warm-up, square(0.1, start=0, to=1).
    Avoid: as a cooldown without a comparison: the study that lists it prefers 1-sqrt.

    >>> s = 1e-3 * (square(100, start=0, to=1) >> hold())
    >>> [round(s.over(1000)(t), 6) for t in (0, 10, 50, 100)]
    [0.0, 1e-05, 0.00025, 0.001]
    """
    return mix(a, b, u * u)


@word(to=None, takes_to=False, endless=True, lengths=("timescale",), settle=_from_its_beginning)
def inv_sqrt(a, b, u, e, xp, *, timescale=None):
    """As one over the square root of time, without an end: f = a·√(timescale / (timescale + e)).

    `timescale` is a length; if it is not said it is the time at which the piece begins, so that the rate goes
    as 1/√t from there on.

    Source: Vaswani et al., arXiv 1706.03762; Raffel et al., T5, arXiv 1910.10683.
    Use: for data without an end; a decay may be started from it at any time.
    Avoid: as the whole of a run that ends for good: it never arrives; end it with linear().

    >>> s = 1e-3 * (warmup(100) >> inv_sqrt())
    >>> [f"{s.over(10_000)(t):.1e}" for t in (100, 400, 10_000)]
    ['1.0e-03', '5.0e-04', '1.0e-04']
    """
    return a * xp.sqrt(timescale / (timescale + e))


@word(
    check=lambda options: None if options["d"] < 1 else f"takes d below 1, got {options['d']!r}",
    example="rex()",
)
def rex(a, b, u, e, xp, *, d=0.5):
    """Slow at first, fast at the end: f = b + (a - b)·(1 - u)/(1 - d·u).

    d = 0.5 is the published curve; 0.9 is the one that axolotl draws under the same name.

    Source: Chen et al., REX, arXiv 2107.04197: best average rank over 82 settings with small budgets.
    Use: for short runs on a fixed budget.
    Avoid: d near 1 without a reason: the rate stays high until the very end.

    >>> s = rex().over(100)
    >>> [round(s(t), 3) for t in (0, 50, 90, 100)]
    [1.0, 0.667, 0.182, 0.0]
    """
    # Where the level is near 0 `mix` would lose digits in 1 - w, which is known here without a difference.
    left, gone = 1 - u, u * (1 - d)
    return a * (left / (left + gone)) + b * (gone / (left + gone))


@word(
    signed=("lb", "ub"),
    check=lambda options: None if options["lb"] < options["ub"] else "takes lb below ub",
    example="tanh()",
)  # fmt: skip
def tanh(a, b, u, e, xp, *, lb=-7.0, ub=3.0):
    """Along a hyperbolic tangent: f goes as tanh x while x goes from lb to ub, scaled to meet both levels.

    f = b + (a - b)·(tanh ub - tanh x)/(tanh ub - tanh lb), x = lb + (ub - lb)·u.

    Source: Hsueh et al., arXiv 1806.01593; timm's `TanhLRScheduler`, which stops 0.25% above its end.
    Use: to keep the peak for long and fall late, in a smooth curve.
    Avoid: where a plain hold() and a cooldown say the same in words that others know.

    >>> s = tanh().over(1000)
    >>> [round(s(t), 3) for t in (0, 500, 700, 900, 1000)]
    [1.0, 0.982, 0.499, 0.016, 0.0]
    """
    high, low = math.tanh(ub), math.tanh(lb)
    return mix(b, a, (high - xp.tanh(lb * (1 - u) + ub * u)) / (high - low))


def _down_as_up(options: dict[str, Any], begin: float, length: float) -> dict[str, Any]:
    return {**options, "down": options["up"] if options["down"] is None else options["down"]}


@word(
    to=None, takes_to=False, endless=True, turns=True, lengths=("up", "down"), levels=("top",),
    settle=_down_as_up, example="cyclic(up=100, start=0.1)",
)  # fmt: skip
def cyclic(a, b, u, e, xp, *, up, down=None, top=1.0, by=1.0, gamma=1.0):
    """In straight lines up to `top` and back, over and over: f = a + (top - a)·tri(e)·by^cycle·gamma^e.

    `up` and `down` are the lengths of the two halves (equal if one is said), `by` shrinks each cycle
    (triangular2: 0.5), `gamma` each update (exp_range). The lower level `a` stays.

    Source: Smith, CLR, arXiv 1506.01186; `CyclicLR` in torch.
    Use: to reproduce a cyclical run; its momentum runs the other way, from the top down.
    Avoid: as a default: cosine() and linear() reach at least as far with one number less.

    >>> s = (1e-3 * cyclic(up=100, start=0.1)).over(1000)
    >>> [round(s(t), 6) for t in (0, 50, 100, 200, 300)]
    [0.0001, 0.00055, 0.001, 0.0001, 0.001]
    """
    cycle = xp.floor(e / (up + down)) + 0.0 * u
    inside = e - cycle * (up + down)
    height = xp.where(inside < up, inside / up, (up + down - inside) / down)
    if by != 1:
        height = height * by**cycle
    if gamma != 1:
        height = height * gamma**e
    return mix(a, top, height)


@word(start=0.0, takes_to=False, endless=True, gate_only=True)
def frozen(a, b, u, e, xp):
    """Not training at all: f = 0 and `requires_grad` false; only in a group's gate, never in a schedule.

    `frozen(0.3) >> warmup(0.05) >> hold()` thaws a group at 30% of the run; `cosine(0.5) >> frozen()` freezes
    it at the half.

    Source: Howard & Ruder, ULMFiT, arXiv 1801.06146; Brock et al., FreezeOut, arXiv 1706.04983.
    Use: gradual unfreezing, and a head that is fitted before its backbone moves (LP-FT, arXiv 2202.10054).
    Avoid: a rate of 0 in its place: momentum and weight decay would still act.

    >>> frozen(0.1) >> hold(start=1)
    frozen(0.1) >> hold(start=1)
    """
    return 0.0 * u
