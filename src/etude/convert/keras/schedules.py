"""Keras' schedules without restarts, drawn in the language.

Formulas from keras 3.15.1, `src/optimizers/schedules/learning_rate_schedule.py`.
"""

import math

from etude.convert.keras.asked import Asked
from etude.convert.parts import listed
from etude.convert.pieces import PEAK, Level, Piece, length
from etude.convert.ratios import left_after, over_time
from etude.convert.values import number, read
from etude.errors import RecipeError

Drawn = tuple[float, list[Piece]]
MOST_STAIRS = 100


def cosine_decay(asked: Asked) -> Drawn:
    """`CosineDecay`, with or without a warm-up, which its decay_steps do not count."""
    updates, alpha = asked.updates("decay_steps"), Level(asked.number("alpha", 0.0))
    fall = Piece("cosine", updates, PEAK, alpha)
    warm = asked.number("warmup_steps", 0) / asked.batches
    if asked.config.get("warmup_target") is None:
        if warm:
            asked.traps.append("warmup_steps does nothing without a warmup_target: there is no warm-up.")
        return asked.peak(asked.initial()), asked.closed([fall], alpha)
    peak = asked.peak(asked.number("warmup_target") if asked.lr is None else asked.lr)
    start = asked.floor("initial_learning_rate", Level(asked.number("initial_learning_rate"), peak))
    if not warm:
        return peak, asked.closed([fall], alpha)
    asked.traps.append(
        f"decay_steps does not count the warm-up: the run has {warm + updates:g} updates, not {updates:g}."
    )
    rise = Piece("linear" if start.rate else "warmup", warm, start, PEAK)
    return peak, asked.closed([rise, fall], alpha)


def exponential_decay(asked: Asked) -> Drawn:
    """`ExponentialDecay`, which has no end; in stairs or smooth."""
    peak, rate, every = asked.peak(asked.initial()), asked.number("decay_rate"), asked.updates("decay_steps")
    if not rate:
        raise RecipeError(f"decay_rate: got {rate!r}; it leaves nothing after the first update")
    if rate == 1:
        return peak, [Piece("hold")]
    if asked.config.get("staircase"):
        return peak, [Piece(f"step(by={rate!r}, every={length(every)})")]
    return peak, [Piece("exp", None, PEAK, Level(left_after("decay_rate", rate, asked.run() / every)))]


def inverse_time_decay(asked: Asked) -> Drawn:
    """`InverseTimeDecay`, which has no end; in stairs or smooth."""
    peak, rate, every = asked.peak(asked.initial()), asked.number("decay_rate"), asked.updates("decay_steps")
    smooth = over_time(rate, every)
    if not asked.config.get("staircase") or smooth == "hold()":
        return peak, [Piece(smooth)]
    stairs = math.ceil(asked.run() / every)
    if stairs > MOST_STAIRS:
        raise RecipeError(
            f"InverseTimeDecay: {stairs} stairs are too many to write down; {smooth} is the curve without "
            "them"
        )
    levels = [Level(1 / (1 + rate * i)) for i in range(stairs)]
    return peak, [Piece("hold", every, level, level) for level in levels]


def polynomial_decay(asked: Asked) -> Drawn:
    """`PolynomialDecay`; with `cycle` the decay begins anew, each time from a lower peak."""
    initial, end = asked.initial(), asked.number("end_learning_rate", 1e-4)
    peak, power, updates = (
        asked.peak(max(initial, end)),
        asked.number("power", 1.0),
        asked.updates("decay_steps"),
    )
    if not power:
        raise RecipeError("power: got 0, a constant rate; write hold()")
    start, floor = Level(initial, peak), asked.floor("end_learning_rate", Level(end, peak))
    if end > initial:
        asked.traps.append(
            f"The rate rises from {initial:g} to end_learning_rate={end:g}, whose default is 1e-4."
        )
    if asked.config.get("cycle"):
        return peak, _cycles(asked, start, floor, power, updates)
    return peak, asked.closed([_power(updates, start, floor, power)], floor)


def _power(over: float, start: Level, end: Level, power: float) -> Piece:
    if power == 1:
        return Piece("linear", over, start, end)
    return Piece("poly", over, start, end, () if power == 2 else (f"power={power!r}",))


def _cycles(asked: Asked, start: Level, floor: Level, power: float, updates: float) -> list[Piece]:
    # Cycle j is the curve stretched to j times decay_steps, of which it is the last part: it begins at
    # (1/j)^power. A batch on the boundary is still at the end of the cycle before.
    count, batch = math.ceil(asked.run() / updates), 1 / asked.batches
    if count > MOST_STAIRS or updates <= batch:
        raise RecipeError(f"PolynomialDecay: {count} cycles are too many to write down; leave cycle out")
    pieces = [_power(updates, start, floor, power)]
    for j in range(2, count + 1):
        late = batch if ((j - 1) * updates / batch).is_integer() else 0.0
        top = floor.ratio + (start.ratio - floor.ratio) * ((1 - late / updates) / j) ** power
        pieces += [Piece("hold", late, floor, floor)] if late else []
        pieces.append(_power(updates - late, Level(top), floor, power))
    asked.traps.append(
        "cycle stretches the curve with every restart, so that each begins lower than the last."
    )
    return pieces


def piecewise_constant(asked: Asked) -> Drawn:
    """`PiecewiseConstantDecay`: a value holds up to its boundary and on it."""
    bounds, values = (
        [read(key, value, number) for value in listed(key, asked.config.get(key))]
        for key in ("boundaries", "values")
    )
    if not bounds or len(values) != len(bounds) + 1 or sorted(set(bounds)) != bounds:
        raise RecipeError(
            f"PiecewiseConstantDecay takes boundaries in order and one value more, got {bounds}, {values}"
        )
    if asked.lr is not None:
        values = [value * asked.lr / max(values) for value in values]
    peak = asked.peak(max(values))
    times = [(math.floor(bound) + 1) / asked.batches for bound in bounds]
    asked.traps.append(
        f"PiecewiseConstantDecay changes after its boundary: update {bounds[0]:g} still has the old rate."
    )
    by = float(f"{values[1] / values[0]:.12g}") if values[0] else 0
    if (
        by
        and peak == values[0]
        and all(math.isclose(value, peak * by**i, rel_tol=1e-14) for i, value in enumerate(values))
    ):
        at = ", ".join(map(length, times)) + ("," if len(times) == 1 else "")
        return peak, [Piece(f"multistep(at=({at}), by={by!r})" if by != 0.1 else f"multistep(at=({at}))")]
    levels = [Level(value, peak) for value in values]
    lengths = [end - begin for begin, end in zip([0, *times], times, strict=False)]
    held = [Piece("hold", over, level, level) for over, level in zip(lengths, levels, strict=False)]
    return peak, [*held, Piece("hold", None, levels[-1], levels[-1])]
