"""What a rung's rate is, as a ratio of the peak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.errors import PlanError, near
from etude.model.ladder import Ladder
from etude.model.rates.convention import read
from etude.model.rates.ratio import finite, ratio

LayerDecay = float | Sequence[float] | Mapping[str, float | Sequence[float]] | None


def multiplier(
    ladder: Ladder, tower: str, depth: int, layer_decay: LayerDecay = None, head: float = 1.0, **options: Any
) -> float:
    """The rate of one rung as a ratio of the peak; the options are those of `Multipliers`.

    >>> bert = Ladder({"": 12}, ())
    >>> [round(multiplier(bert, "", depth, 0.95, head=10), 3) for depth in (0, 1, 11, 12, 13, 14)]
    [0.54, 0.569, 0.95, 1.0, 1.0, 10.0]
    >>> for name in ("bert", "beit", "electra"):
    ...     print(name, [multiplier(bert, "", depth, 0.5, convention=name) for depth in (10, 11, 12, 13, 14)])
    bert [0.25, 0.5, 1.0, 1.0, 1.0]
    beit [0.125, 0.25, 0.5, 1.0, 1.0]
    electra [0.0625, 0.125, 0.25, 0.5, 1.0]
    """
    return Multipliers(layer_decay, head, **options).of(ladder, tower, depth)


@dataclass(frozen=True)
class Multipliers:
    """How rates depend on depth; `of` says what a rung gets.

    `layer_decay` is the rate of a layer over that of the one above it, in (0, 1]; a mapping gives each tower
    of a model its own; a list is the ratios of a tower's rungs themselves, from the embeddings to the top,
    those that the model has. None is what the convention has: 1, or 1/2.6 in `ulmfit`. `convention` is one of
    `etude.model.rates.convention`, `head` and `embeddings` are ratios of the peak for those rungs, and no
    rung lies below `min_scale`.

    Raises `PlanError` for what is no ratio, for settings that contradict each other, and in `of` for towers
    and lengths that are not the model's.
    """

    layer_decay: LayerDecay = None
    head: float = 1.0
    convention: str = "bert"
    embeddings: float | None = None
    min_scale: float = 0.0

    def __post_init__(self) -> None:
        given, known = self.layer_decay, read(self.convention)
        if isinstance(given, Mapping):
            decay: Any = {tower: _decay(f"layer_decay of {tower}", one) for tower, one in given.items()}
        else:
            decay = None if given is None else _decay("layer_decay", given)
        object.__setattr__(self, "layer_decay", decay)
        object.__setattr__(self, "head", ratio("head", self.head))
        if self.embeddings is not None:
            object.__setattr__(
                self, "embeddings", ratio("embeddings", self.embeddings, 'write 0.1, or freeze="embeddings"')
            )
        low = finite("min_scale", self.min_scale)
        if not 0 <= low <= 1:
            raise PlanError(f"min_scale={low:g} lies outside 0 to 1, from no bound to equal rates")
        object.__setattr__(self, "min_scale", low)
        self._check(known.name, known.layer_decay)

    def _check(self, name: str, factor: float | None) -> None:
        listed = any(isinstance(one, tuple) for one in _values(self.layer_decay))
        if factor is None and self.layer_decay is not None:
            raise PlanError(
                f"convention={self.convention!r} says every rung's rate: leave out layer_decay "
                f"(in a recipe: layer_decay: null)"
            )
        if listed and name != "bert":
            raise PlanError(
                f"a list of ratios says every rung's rate: leave out convention={self.convention!r}, or give "
                f"one number as layer_decay"
            )
        if factor == 1 and name != "bert" and self.layer_decay is None:
            raise PlanError(
                f"convention={name!r} says a power of layer_decay: write layer_decay=0.9 beside it"
            )
        for word, value in (("head", self.head), ("embeddings", self.embeddings)):
            if value is not None and value < self.min_scale:
                raise PlanError(
                    f"{word}={value:g} lies below min_scale={self.min_scale:g}; change one of them"
                )

    @property
    def needs_depth(self) -> bool:
        """Whether any two rungs may differ."""
        factors = _values(self.layer_decay) or [read(self.convention).layer_decay]
        return self.head != 1 or self.embeddings is not None or any(factor != 1 for factor in factors)

    def check_rungs(self, ladder: Ladder) -> None:
        """Raise `PlanError` if `head` or `embeddings` is a ratio for a rung that the model has not.

        A head that is tied to the embeddings stands with them, so it is none.
        """
        heights = {ladder.height(place.tower, place.depth) for place in ladder.placements}
        depths = {place.depth for place in ladder.placements}
        if self.head != 1 and 0 not in heights:
            raise PlanError(
                f"head={self.head:g} has no effect: this model has no head{_tied(ladder)}; leave it out, or "
                'say which parameters are the head: new=["score.weight"], or '
                'groups=[("^score", {"depth": "head"})]'
            )
        if self.embeddings is not None and 0 not in depths:
            raise PlanError(
                f"embeddings={self.embeddings:g} has no effect: nothing of this model stands below its "
                'blocks; leave it out, or say what does: groups=[("^wte", {"depth": "embeddings"})]'
            )

    def of(self, ladder: Ladder, tower: str, depth: int) -> float:
        """The ratio of the peak for a rung of a ladder; 1 where no depth is known."""
        if not ladder.towers:
            return 1.0
        height = ladder.height(tower, depth)
        if height == 0:
            return self.head
        if depth == 0 and self.embeddings is not None:
            return self.embeddings
        return max(self.min_scale, self._decayed(ladder, tower, depth))

    def _decayed(self, ladder: Ladder, tower: str, depth: int) -> float:
        known = read(self.convention)
        decay: Any = known.layer_decay if self.layer_decay is None else self.layer_decay
        if isinstance(decay, Mapping):
            _check_towers(ladder, decay)
            decay = decay.get(tower, 1.0)  # what lies outside the towers
        if not isinstance(decay, tuple):
            return known.rule(ladder, tower, depth, 1.0 if decay is None else decay)
        if len(ladder.towers) > 1 and not isinstance(self.layer_decay, Mapping):
            raise PlanError(f"a list of ratios is for one tower, and this model has several: {_each(ladder)}")
        below = (one.depth for one in ladder.placements if one.tower == tower)
        depths = sorted({one for one in below if ladder.height(tower, one) > 0})
        if len(decay) != len(depths):
            names = ", ".join(ladder.name(tower, one) for one in depths)
            raise PlanError(
                f"layer_decay has {len(decay)} ratios for {len(depths)} rungs below the head: {names}"
            )
        return decay[depths.index(depth)]


def _values(decay: LayerDecay) -> list[Any]:
    if isinstance(decay, Mapping):
        return list(decay.values())
    return [] if decay is None else [decay]


def _tied(ladder: Ladder) -> str:
    """What the lowest rung shares with a head, if it does."""
    shared = [place.names for place in ladder.placements if place.depth == 0 and len(place.names) > 1]
    return "".join(f" ({names[-1]} is {names[0]}, an embedding)" for names in shared[:1])


def _decay(what: str, given: Any) -> float | tuple[float, ...]:
    if isinstance(given, Sequence) and not isinstance(given, str):
        if not given:
            raise PlanError(f"{what} is an empty list: write a number, or a ratio for each rung")
        instead = "write a ratio above 0, and freeze= for what shall not train"
        return tuple(ratio(f"{what}[{i}]", one, instead) for i, one in enumerate(given))
    found = finite(what, given)
    if not 0 < found <= 1:
        raise PlanError(f"{what}={found:g} is no ratio between two layers: write 0.9, or 1 for equal rates")
    return found


def _check_towers(ladder: Ladder, decay: Mapping[str, Any]) -> None:
    if "" in ladder.towers:
        raise PlanError(
            f"layer_decay={dict(decay)} names towers, and this model has only one: write a number"
        )
    for tower in decay:
        if tower not in ladder.towers:
            raise PlanError(f"layer_decay: this model has no tower {tower!r}{near(tower, ladder.towers)}")
    if missing := [tower for tower in ladder.towers if tower not in decay]:
        raise PlanError(f"layer_decay says nothing of {', '.join(missing)}: {_each(ladder)}")


def _each(ladder: Ladder) -> str:
    towers = ", ".join(f'"{tower}": 0.9' for tower in ladder.towers)
    return f"write layer_decay={{{towers}}}"
