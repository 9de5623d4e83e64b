"""The cosines of transformers: of any number of waves, with a floor, with restarts, read one update ahead."""

import math

from etude.convert.huggingface.curve import Curve
from etude.convert.pieces import NOTHING, PEAK, Level, Piece, fit, length, path
from etude.errors import RecipeError

MOST_HALVES = 12  # more of them are written as one wave


def cosine(asked: Curve) -> str:
    """`cosine`: to 0."""
    return asked.warmed(_waves(asked, NOTHING))


def floored(asked: Curve) -> str:
    """`cosine_with_min_lr`: to a floor that is a rate or a share of the peak."""
    return asked.warmed(_waves(asked, _floor(asked)))


def early(asked: Curve) -> str:
    """`cosine_warmup_with_min_lr`: as `cosine_with_min_lr`, and each update has the next one's rate."""
    floor, asked.tick = _floor(asked), 1
    asked.traps.append(
        "cosine_warmup_with_min_lr reads an update at its end, so tick is 1, for all that the plan says."
    )
    if "warmup_lr_rate" not in asked.options or not asked.warm:
        return asked.warmed(_waves(asked, floor))
    if asked.warm < 1:
        raise RecipeError(
            "warmup_lr_rate is the rate of the first update, and where that ends is known only if the total "
            "is: say the total, or the warm-up in updates"
        )
    low = Level(asked.number("warmup_lr_rate", 0))
    risen = [Piece("hold", 1, low, low), Piece("warmup", asked.warm - 1, low, PEAK)][: int(asked.warm)]
    if asked.left is not None and asked.left <= 0:
        return path(fit(risen, asked.warm + asked.left))
    if asked.warm > 1:
        return path([*risen, *_waves(asked, floor)])
    # The first update ends where the cosine begins, and must not have its level.
    first = path([Piece("hold", 1.5, low, low), Piece("hold")])
    return f"({path([Piece('hold', 1, PEAK, PEAK), *_waves(asked, floor)])}) * ({first})"


def _floor(asked: Curve) -> Level:
    said = {"min_lr", "min_lr_rate"} & asked.options.keys()
    if len(said) == 2:
        raise RecipeError("min_lr and min_lr_rate both say the floor; write one of them")
    if not said:
        raise RecipeError("lr_scheduler_kwargs: give min_lr (a rate) or min_lr_rate (a share of the peak)")
    [key] = said
    rate = asked.number(key, None)
    return asked.level("min_lr", rate) if key == "min_lr" else Level(rate)


def _waves(asked: Curve, low: Level) -> list[Piece]:
    """Half waves down and up again; `num_cycles` counts whole ones."""
    cycles = asked.number("num_cycles", 0.5)
    if not cycles:
        return [Piece("hold")]
    above = (1 - low.ratio) * (1 + math.cos(2 * math.pi * cycles)) / 2
    if above > 0.005:
        asked.traps.append(
            f"num_cycles={cycles:g} counts whole waves and ends at {low.ratio + above:.0%} of the peak; 0.5 "
            f"is one way down."
        )
    halves = int(2 * cycles)
    if halves == 2 * cycles and halves <= MOST_HALVES:
        return [Piece("cosine", None, *((low, PEAK) if i % 2 else (PEAK, low))) for i in range(halves)]
    if asked.left is None:
        raise RecipeError(
            f"num_cycles: got {cycles!r}; the cosine ends at neither a top nor a bottom (0.5, 1, 1.5 …), "
            f"and how long its waves are is known only if the total is: say the total"
        )
    floor = (f"low={low}",) if low.rate else ()
    return [Piece("wave", options=(f"half={length(max(asked.left, 1) / (2 * cycles))}", *floor))]


def restarts(asked: Curve) -> str:
    """`cosine_with_restarts`: `num_cycles` half waves down, each from the peak."""
    cycles = asked.number("num_cycles", 1)
    copies = int(cycles)
    if not cycles:
        return asked.warmed([Piece("hold")])
    if cycles == 1:
        return asked.warmed([Piece("cosine", end=NOTHING)])
    if cycles == copies:
        return asked.warmed([Piece(f"repeat(cosine(start=1), {copies})")])
    if asked.left is None:
        raise RecipeError(
            f"num_cycles: got {cycles!r}; how long a part of a cycle is, is known only if the total is: "
            f"say the total"
        )
    high = (1 + math.cos(math.pi * (cycles - copies))) / 2
    asked.traps.append(
        f"num_cycles={cycles:g} ends within a cycle, at {high:.0%} of the peak; {copies + 1} ends at a "
        "minimum."
    )
    cycle = length(max(asked.left, 1) / cycles)
    whole = [Piece(f"repeat(cosine({cycle}, start=1), {copies})")] if copies else []
    return asked.warmed([*whole, Piece("wave", options=(f"half={cycle}",))])
