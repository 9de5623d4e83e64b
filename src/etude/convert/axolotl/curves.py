"""axolotl's own curves, drawn in the language.

Formulas from axolotl 0.19.0, `utils/schedulers.py`; which of them is taken from
`core/trainers/mixins/scheduler.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etude.convert.pieces import NOTHING, PEAK, Level, Piece, path
from etude.convert.values import read
from etude.errors import RecipeError

D = 0.9  # axolotl's REX is z/(0.1 + 0.9z); the published one has a half in both places


@dataclass
class Asked:
    """The configuration, the warm-up (updates, or below 1 a share), and the total or None."""

    given: Mapping[str, Any]
    warm: float
    total: float | None
    traps: list[str]

    def ratio(self, key: str) -> float:
        """A share between 0 and 1, 0 if nothing is said."""
        value = read(key, self.given.get(key, 0.0))
        if value > 1:
            raise RecipeError(f"{key}: got {value!r}; axolotl takes at most 1")
        return value

    def rise(self) -> list[Piece]:
        """The linear warm-up."""
        over = repr(self.warm) if 0 < self.warm < 1 else self.warm
        return [Piece("warmup", over, NOTHING, PEAK)] if self.warm else []


def drawn(kind: str, asked: Asked) -> str:
    """The path of a curve of axolotl's own, empty for one of transformers."""
    floor, turn = Level(asked.ratio("cosine_min_lr_ratio")), asked.ratio("cosine_constant_lr_ratio")
    if kind == "rex":
        return path(_rex(asked, floor))
    if kind != "cosine":
        if floor.rate or asked.given.get("lr_quadratic_warmup"):
            asked.traps.append(
                f"cosine_min_lr_ratio and lr_quadratic_warmup do nothing with lr_scheduler {kind}."
            )
        return ""
    if asked.given.get("lr_quadratic_warmup") is True:
        if floor.rate:
            asked.traps.append("cosine_min_lr_ratio does nothing beside lr_quadratic_warmup.")
        rise = [piece._replace(word="square") for piece in asked.rise()]
        return path([*rise, Piece("cosine", None, PEAK, NOTHING)])
    if floor.rate and turn:
        return path([*asked.rise(), *_constant(asked, floor, turn)])
    if turn:
        asked.traps.append("cosine_constant_lr_ratio does nothing without a cosine_min_lr_ratio.")
    return path([*asked.rise(), Piece("cosine", None, PEAK, floor)]) if floor.rate else ""


def _constant(asked: Asked, floor: Level, turn: float) -> list[Piece]:
    """Down to the floor by a share of the run that counts the warm-up, and on at the floor."""
    if turn == 1:
        return [Piece("cosine", None, PEAK, floor)]
    fall = Piece("cosine", None, PEAK, floor)
    if asked.total is None:
        asked.traps.append(f"axolotl cuts {turn:g} of the run down to whole updates; say the total.")
        return [fall, Piece("hold", repr(round(1 - turn, 12)), floor, floor)]
    left = asked.total - int(asked.total * turn)
    if left + asked.warm >= asked.total:
        raise RecipeError(f"cosine_constant_lr_ratio: {turn!r} of the run is over before its warm-up is")
    return [fall, Piece("hold", left, floor, floor)]


def _rex(asked: Asked, floor: Level) -> list[Piece]:
    """REX, which axolotl reads one update ahead: its last update is at the floor."""
    asked.traps.append("axolotl's rex has d=0.9; the published curve, étude's rex(), has d=0.5.")
    last = Piece("hold", 1, floor, floor)
    if asked.warm >= 1:
        rise = Piece("linear", asked.warm - 1, Level(1 / asked.warm), PEAK)
        return [rise, _reflected(PEAK, floor, D), last]
    if asked.warm or asked.total is None:
        asked.traps.append(
            "axolotl reads rex one update ahead, which has no words as long as the total is not said: the "
            "rates differ by what one update moves, ten times the mean in the last ones."
        )
        rise = [Piece("warmup", repr(asked.warm), NOTHING, PEAK)] if asked.warm else []
        return [*rise, _reflected(PEAK, floor, D)]
    # The curve without its first update is a curve of the same kind.
    gone = 1 / asked.total
    start = (1 - gone) / (1 - D * gone)
    rest = D * (1 - gone) / (1 - D * gone)
    return [_reflected(Level(floor.rate + (1 - floor.rate) * start), floor, rest), last]


def _reflected(start: Level, floor: Level, d: float) -> Piece:
    to = (f"to={floor}",) if floor.rate else ()
    return Piece("rex", None, start, floor, (*to, f"d={d!r}"))
