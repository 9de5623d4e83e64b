"""The three stages of transformers' `warmup_stable_decay`."""

from etude.convert.huggingface.curve import Curve
from etude.convert.pieces import PEAK, Level, Piece, fit, length, path
from etude.errors import RecipeError

# warmup_type and decay_type -> the word, and what stands in its brackets.
WARMUPS = {"linear": ("warmup", ()), "cosine": ("cosine", ()), "1-sqrt": ("poly", ("power=0.5",))}
DECAYS = {"linear": "linear", "cosine": "cosine", "1-sqrt": "sqrt"}


def stages(asked: Curve) -> str:
    """`warmup_stable_decay`: up from its floor, level, down to its floor."""
    low, risen, fallen = Level(asked.number("min_lr_ratio", 0)), _risen(asked), _fallen(asked)
    decay = float(fallen.over or 0)
    if asked.options.get("num_stable_steps") is None and (asked.left is None or asked.left > decay):
        return path([*risen, Piece("hold", None, PEAK, PEAK), fallen])
    # As transformers computes it; negative where the warm-up and the decay together are too long.
    held = asked.number("num_stable_steps", (asked.left or 0) - decay, low=None)
    if held < 0 and (asked.left is None or asked.left > 0):
        raise RecipeError(
            f"num_decay_steps: got {decay:g}, and {decay + held:g} updates are left after the warm-up; "
            f"transformers would enter the decay halfway: write num_decay_steps: {decay + held:g}"
        )
    stable_stage = [Piece("hold", held, PEAK, PEAK)] if held > 0 else []
    pieces = [*risen, *stable_stage, fallen, Piece("hold", None, low, low)]
    if asked.total is None:
        return path(pieces)
    if asked.warm + held + decay < asked.total:
        asked.traps.append(
            f"The three stages take {asked.warm + held + decay:g} of {asked.total:g} updates, and the rest "
            f"trains at {low} of the peak."
        )
    return path(fit(pieces, asked.total))


def _risen(asked: Curve) -> list[Piece]:
    low = Level(asked.number("min_lr_ratio", 0))
    word, options = WARMUPS[asked.one_of("warmup_type", WARMUPS, "linear")]
    if low.rate and asked.warm:
        asked.traps.append(f"The warm-up of warmup_stable_decay starts at min_lr_ratio, {low}, and not at 0.")
    share = repr(asked.warm) if 0 < asked.warm < 1 else asked.warm
    return [Piece(word, share, low, PEAK, options)] if asked.warm else []


def _fallen(asked: Curve) -> Piece:
    if "num_decay_steps" not in asked.options:
        raise RecipeError(
            "lr_scheduler_kwargs: warmup_stable_decay needs num_decay_steps: write a number of updates"
        )
    low, decay = Level(asked.number("min_lr_ratio", 0)), asked.number("num_decay_steps", None, low=1)
    word = DECAYS[asked.one_of("decay_type", DECAYS, "cosine")]
    cycles = asked.number("num_cycles", 0.5) if word == "cosine" else 0.5
    if cycles == 0.5:
        return Piece(word, decay, PEAK, low)
    floor = (f"low={low}",) if low.rate else ()
    half = (f"half={length(decay / (2 * cycles))}", *floor) if cycles else ()
    return Piece("wave", decay, options=half) if cycles else Piece("hold", decay, PEAK, PEAK)
