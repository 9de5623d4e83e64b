"""Keras' `CosineDecayRestarts`, drawn in the language.

Formula from keras 3.15.1, `src/optimizers/schedules/learning_rate_schedule.py`.
"""

import math

from etude.convert.keras.asked import Asked
from etude.convert.pieces import Level, Piece, length
from etude.convert.ratios import left_after
from etude.errors import RecipeError

MOST_CYCLES = 1000


def cosine_decay_restarts(asked: Asked) -> tuple[float, list[Piece]]:
    """`CosineDecayRestarts`, which has no end: as many cycles as the run has room for, the last one cut."""
    peak, total = asked.peak(asked.initial()), asked.run()
    first, grow = asked.updates("first_decay_steps"), asked.number("t_mul", 2.0)
    fade, alpha = asked.number("m_mul", 1.0), asked.number("alpha", 0.0)
    if grow < 1 or not fade:
        raise RecipeError(
            f"CosineDecayRestarts: t_mul={grow!r}, m_mul={fade!r}; cycles that shrink to nothing have no end"
        )
    lengths: list[float] = []
    over = first
    while sum(lengths) + over <= total * (1 + 1e-12):
        lengths.append(over)
        over *= grow
        if len(lengths) > MOST_CYCLES:
            raise RecipeError(
                f"CosineDecayRestarts: more than {MOST_CYCLES} cycles fit into the run; make the first one "
                "longer"
            )
    left = total - sum(lengths)
    alike = fade == 1 or not alpha
    if alike and len(lengths) > 1:
        pieces = [_repeated(lengths, grow, fade, alpha)]
    else:
        pieces = [_cycle(over, i, fade, alpha) for i, over in enumerate(lengths)]
    if left > 1e-9 * total:
        pieces.append(_cycle(over, len(lengths), fade, alpha))
        top = pieces[-1].start.ratio
        high = alpha + (top - alpha) * (1 + math.cos(math.pi * left / over)) / 2
        asked.traps.append(
            f"The run ends within a cycle, at {high:.1%} of the peak; one of {total - left + over:g} updates "
            f"ends low."
        )
    if alpha and fade != 1:
        asked.traps.append(
            f"The floor, {alpha:g} of the first peak, stays where it is while the peaks shrink."
        )
    return peak, pieces


def _cycle(over: float, i: int, fade: float, alpha: float) -> Piece:
    top = 1.0 if not i or fade == 1 else (1 - alpha) * left_after("m_mul", fade, i) + alpha
    return Piece("cosine", over, Level(top), Level(alpha))


def _repeated(lengths: list[float], grow: float, fade: float, alpha: float) -> Piece:
    floor = f", to={alpha!r}" if alpha else ""
    more = (f", stretch={grow!r}" if grow != 1 else "") + (f", fade={fade!r}" if fade != 1 else "")
    text = f"repeat(cosine({length(lengths[0])}, start=1{floor}), {len(lengths)}{more})"
    return Piece(text, sum(lengths), end=Level(alpha))
