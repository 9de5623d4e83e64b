"""torch's `OneCycleLR` and `CyclicLR`, which set their own peak and move the momentum against the rate."""

from typing import NamedTuple

from etude.convert.pieces import PEAK, Level, Piece, fit, length
from etude.convert.pytorch.asked import REQUIRED, Asked
from etude.convert.values import read, whole
from etude.errors import RecipeError


class Cycle(NamedTuple):
    """The peak, the pieces of the rate and of the momentum (levels are momenta), where an update is read."""

    peak: float
    rate: list[Piece]
    momentum: list[Piece]
    total: float | None
    tick: float = 0


ONE_CYCLE = {
    "max_lr": REQUIRED, "total_steps": None, "epochs": None, "steps_per_epoch": None, "pct_start": 0.3,
    "anneal_strategy": "cos", "cycle_momentum": True, "base_momentum": 0.85, "max_momentum": 0.95,
    "div_factor": 25.0, "final_div_factor": 1e4, "three_phase": False,
}  # fmt: skip
CYCLIC = {
    "base_lr": REQUIRED, "max_lr": REQUIRED, "step_size_up": 2000, "step_size_down": None,
    "mode": "triangular", "gamma": 1.0, "scale_fn": None, "scale_mode": "cycle",
    "cycle_momentum": True, "base_momentum": 0.8, "max_momentum": 0.9,
}  # fmt: skip


def one_cycle(asked: Asked) -> Cycle:
    """`OneCycleLR`: its phases end one update early (two, the second of three), and so do these."""
    steps = _total_steps(asked)
    updates = steps if asked.updates is None else asked.updates
    if updates > steps:
        raise RecipeError(
            f"total_steps: torch refuses to step past {steps:g}, and the run has {updates:g} updates: "
            f"make them equal"
        )
    peak, share = asked.positive("max_lr"), asked.number("pct_start")
    start = Level(1 / asked.positive("div_factor"))
    end = Level(start.rate / asked.positive("final_div_factor"))
    low, high = (Level(asked.number(f"{which}_momentum")) for which in ("base", "max"))
    rates, momenta, ends = [start, PEAK, end], [high, low, high], [share * steps - 1]
    if asked.options["three_phase"]:
        rates, momenta, ends = [start, PEAK, start, end], [high, low, high, high], [*ends, 2 * ends[0]]
    ends, tick = [0.0, *ends, steps - 1.0], 0
    # Of a phase that ends before the first update torch begins with the next, as far as that has come.
    while len(ends) > 2 and ends[1] < 0:
        tick -= ends[1]
        rates, momenta, ends = rates[1:], momenta[1:], [0.0, *(end - ends[1] for end in ends[2:])]
    if tick > 1 or ends[1] == 0:
        raise RecipeError(
            f"pct_start: {share!r} of {steps:g} steps leaves the first phase without an update; "
            f"write a larger one"
        )
    asked.traps.append(
        f"final_div_factor divides the first rate, so OneCycleLR ends at {end.ratio:.3g} of the peak; "
        f"fastai's div_final divides the peak."
    )
    asked.traps.append(
        "The phases of OneCycleLR end an update early, which these lengths repeat; one_cycle() says it in "
        "shares of the run."
    )
    asked.traps.append(
        f"max_lr={peak:g} is the peak of every group in torch, whatever its own rate; in étude the ratios "
        "stay."
    )
    word = "cosine" if _one_of(asked, "anneal_strategy", ("cos", "linear")) == "cos" else "linear"

    def drawn(levels: list[Level]) -> list[Piece]:
        phases = zip(ends, ends[1:], levels, levels[1:], strict=False)
        pieces = [Piece(word, b - a, at, to) for a, b, at, to in phases if b > a]
        last = pieces[-1].end or PEAK
        return fit([*pieces, Piece("hold", None, last, last)], updates)

    return Cycle(peak, drawn(rates), _moved(asked, drawn(momenta)), updates, tick)


def cyclic(asked: Asked) -> Cycle:
    """`CyclicLR`."""
    base, peak, up = asked.number("base_lr"), asked.positive("max_lr"), asked.positive("step_size_up")
    mode, options = _one_of(asked, "mode", ("triangular", "triangular2", "exp_range")), [f"up={length(up)}"]
    if asked.options["scale_fn"] is not None:
        raise RecipeError("scale_fn: a function of its own cannot be read; write cyclic(up=…, by=…, gamma=…)")
    if asked.options["step_size_down"] is not None:
        options.append(f"down={length(asked.positive('step_size_down'))}")
    if mode == "triangular2":
        options.append("by=0.5")
    gamma = asked.positive("gamma")
    if mode == "exp_range" and gamma != 1:
        options.append(f"gamma={gamma!r}")
        if asked.updates:
            asked.traps.append(
                f"gamma={gamma:g} is a factor per update: {gamma**asked.updates:.2g} after "
                f"{asked.updates:g} of them."
            )
    asked.traps.append(f"CyclicLR starts at base_lr={base:g} and never trains at the optimizer's own rate.")
    low, high = (Level(asked.number(f"{which}_momentum")) for which in ("base", "max"))
    rate = Piece("cyclic", None, Level(base, peak), None, tuple(options))
    momentum = Piece("cyclic", None, high, None, (*options, f"top={low}"))
    return Cycle(peak, [rate], _moved(asked, [momentum]), asked.updates)


def _total_steps(asked: Asked) -> int:
    told = asked.options
    if told["total_steps"] is not None:
        return asked.whole("total_steps")
    if told["epochs"] is None or told["steps_per_epoch"] is None:
        if asked.updates is None:
            raise RecipeError("OneCycleLR needs total_steps, or epochs and steps_per_epoch: say the total")
        return read("total", asked.updates, whole)
    return asked.whole("epochs") * asked.whole("steps_per_epoch")


def _moved(asked: Asked, pieces: list[Piece]) -> list[Piece]:
    if not asked.options["cycle_momentum"]:
        return []
    asked.traps.append(
        f"The momentum (with Adam the first beta) moves too, between {asked.number('base_momentum'):g} and "
        f"{asked.number('max_momentum'):g}, whatever the optimizer says; cycle_momentum=False leaves it "
        "alone."
    )
    return pieces


def _one_of(asked: Asked, key: str, known: tuple[str, ...]) -> str:
    value = asked.options[key]
    if value not in known:
        raise RecipeError(f"{key}: got {value!r}; write {' or '.join(known)}")
    return value
