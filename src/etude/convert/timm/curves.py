"""timm's schedules, drawn in the language with lengths in epochs.

Formulas from timm 1.0.31, `scheduler/{cosine,poly,tanh,step,multistep,wsd}_lr.py`; what the arguments make of
them from `scheduler/scheduler_factory.py`. Each is drawn as it is without the warm-up.
"""

import math

from etude.convert.pieces import NOTHING, PEAK, Level, Piece
from etude.convert.timm.asked import Asked, epochs
from etude.convert.values import number, read
from etude.errors import RecipeError

MOST_CYCLES = 100
# The ends of the tangent's argument, which no argument of the script changes.
LOW, HIGH = -7.0, 3.0


def cosine(asked: Asked) -> list[Piece]:
    """`--sched cosine`, with k-decay and restarts."""
    return _cycles(asked, "cosine", _bent(asked))


def poly(asked: Asked) -> list[Piece]:
    """`--sched poly`, whose power is `--decay-rate`."""
    power = asked.number("decay_rate")
    asked.traps.append(
        f"The power of poly is decay_rate, {power:g}, whose default of 0.1 falls in the last epochs."
    )
    return _cycles(asked, "poly", (*(() if power == 2 else (f"power={power!r}",)), *_bent(asked)))


def tanh(asked: Asked) -> list[Piece]:
    """`--sched tanh`, which begins and ends a little off its levels."""
    asked.traps.append("timm's tanh ends 0.25% of the peak above min_lr; the text says where.")
    return _cycles(asked, "tanh", ())


def _bent(asked: Asked) -> tuple[str, ...]:
    k = asked.number("lr_k_decay")
    return () if k == 1 else (f"k={k!r}",)


def _cycles(asked: Asked, word: str, options: tuple[str, ...]) -> list[Piece]:
    floor, times, fade = (
        asked.level("min_lr"),
        int(asked.number("lr_cycle_limit")),
        asked.number("lr_cycle_decay"),
    )
    grow = asked.number("lr_cycle_mul")
    if floor.rate:
        asked.traps.append(
            f"min_lr={floor.rate:g} is a rate: in étude every group ends at {floor.ratio:g} of its peak."
        )
    if times <= 1:
        return [_fall(word, None, PEAK, floor, options), *asked.cooldown(floor)]
    if times > MOST_CYCLES or not (0.1 <= grow <= 10 and 0 < fade <= 10):
        raise RecipeError(
            f"lr_cycle_limit={times}, lr_cycle_mul={grow:g}: more cycles than a run has; lower them"
        )
    lengths = [asked.number("epochs") * grow**i for i in range(times)]
    if sum(lengths) != int(sum(lengths)):
        raise RecipeError(
            f"lr_cycle_mul={grow:g}: the cycles take {sum(lengths):g} epochs, and timm stops after the whole "
            f"ones; choose a multiple that comes out"
        )
    if floor.rate and fade != 1:
        tops = [Level(fade**i) for i in range(times)]
        if tops[-1].ratio <= floor.ratio:
            raise RecipeError(
                f"lr_cycle_decay={fade:g}: the last cycle begins below min_lr; leave one of them out"
            )
        pieces = [_fall(word, over, top, floor, options) for over, top in zip(lengths, tops, strict=True)]
        return [*pieces, *asked.cooldown(floor)]
    one = _fall(word, None, PEAK, floor, options)
    levels = f"start={one.start}" + (f", to={one.end}" if one.end != NOTHING else "")
    more = (f", stretch={grow!r}" if grow != 1 else "") + (f", fade={fade!r}" if fade != 1 else "")
    brackets = ", ".join([levels, *options])
    return [Piece(f"repeat({word}({brackets}), {times}{more})", end=one.end), *asked.cooldown(floor)]


def _fall(word: str, over: float | None, top: Level, floor: Level, options: tuple[str, ...]) -> Piece:
    length = None if over is None else epochs(over)
    if word != "tanh":
        return Piece(word, length, top, floor, options)
    reach = (top.ratio - floor.ratio) / 2
    start, end = (Level(floor.ratio + reach * (1 - math.tanh(x))) for x in (LOW, HIGH))
    return Piece(word, length, start, end, (f"to={end}",))


def constant(asked: Asked) -> list[Piece]:
    """`--sched constant`, which still warms up."""
    return [Piece("hold")]


def step(asked: Asked) -> list[Piece]:
    """`--sched step`: every `--decay-epochs`, 90 if nothing is said."""
    every, by = read("decay_epochs", asked.said.get("decay_epochs", 90)), asked.number("decay_rate")
    factor = () if by == 0.1 else (f"by={by!r}",)
    return [Piece("step", None, PEAK, None, (*factor, f"every={epochs(every)}"))]


def multistep(asked: Asked) -> list[Piece]:
    """`--sched multistep`, which falls one epoch before each milestone."""
    said = asked.said.get("decay_milestones", [90, 180, 270])
    times = [read("decay_milestones", time, number) for time in (said if isinstance(said, list) else [said])]
    by = asked.number("decay_rate")
    if asked.by_update:
        asked.traps.append("timm's multistep falls one update before each milestone; the text falls at it.")
    else:
        asked.traps.append("timm's multistep falls one epoch before each milestone, and so does the text.")
        times = [time - 1 for time in times]
    if not times:
        return [Piece("hold")]
    if min(times) <= 0:
        raise RecipeError(
            "decay_milestones: the first falls before the run begins; lower lr and leave it out"
        )
    at = ", ".join(map(epochs, times)) + ("," if len(times) == 1 else "")
    factor = () if by == 0.1 else (f"by={by!r}",)
    return [Piece("multistep", None, PEAK, None, (f"at=({at})", *factor))]
