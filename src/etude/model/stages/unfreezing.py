"""Gradual unfreezing and linear probing before fine-tuning: the stages that the field knows by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etude.core.length import Length, is_zero, length
from etude.core.namespace import plain
from etude.core.path import Path
from etude.errors import PlanError
from etude.model.ladder import Ladder, Rung
from etude.model.rungs import Key, chosen, key, text
from etude.model.stages.gates import Stages, known, stage, trains
from etude.model.stages.lengths import counted
from etude.model.stages.stage import BOTH, Stage, duration, levels, literal, ratio, together

Row = list[Rung]
"""Rungs that thaw or freeze together."""


def rows(staged: Any, ladder: Ladder) -> list[Row]:
    """The rungs by their height, from the head down: what thaws together; only where something trains.

    What stands between head and blocks (a final norm, a pooler, the projector of two towers) is of the last
    block's row: it was pretrained with it, and alone it would have a stage for next to nothing.
    """
    at: dict[int, Row] = {}
    for rung in known(staged, ladder):
        if trains(rung):
            at.setdefault(rung.height, []).append(rung)
    if 1 in at and 2 in at:
        at[2] += at.pop(1)
    return [at[height] for height in sorted(at)]


@dataclass(frozen=True, slots=True)
class Unfreeze:
    """What `unfreeze` makes; its stages depend on the model."""

    every: Length
    from_top: bool
    stages: int | tuple[str, ...] | None
    warmup: Length
    fade: int | float
    path: Path | None

    def __str__(self) -> str:
        listed = isinstance(self.stages, tuple) and f"[{', '.join(map(literal, self.stages))}]"
        given = {
            "stages": None if self.stages is None else listed or repr(self.stages),
            "from_top": None if self.from_top else "False",
            "warmup": None if self.warmup is None else literal(self.warmup),
            "fade": None if self.fade == 1 else repr(self.fade),
            "path": None if self.path is None else str(self.path),
        }
        said = [f"{name}={value}" for name, value in given.items() if value is not None]
        return f"unfreeze({', '.join([literal(self.every), *said])})"

    __repr__ = __str__

    def on(self, ladder: Ladder) -> Stages:
        """The stages on one model, written out."""
        rungs = known(self, ladder)
        thaws = self._thaws(ladder, rungs)
        count, unit = counted(self.every)
        if not unit and count * (len(thaws) - 1) >= 1:
            names = ", ".join(text(one, rungs) for one in thaws)
            raise PlanError(
                f"{self} comes to its end after the run: this model has {len(thaws)} stages ({names}). Write "
                f"at most unfreeze({1000 // len(thaws) / 1000:g}), or fewer stages: "
                f"unfreeze({literal(self.every)}, stages={int(1 / count)})"
            )
        found = []
        for i in range(len(thaws)):
            training = text(frozenset().union(*thaws[: i + 1]), rungs)
            over = self.every if i < len(thaws) - 1 else None
            found.append(Stage(training, over, self.fade**i, self.path, self.warmup if i else None))
        return Stages(tuple(found))

    def gates(self, ladder: Ladder) -> dict[Key, Path]:
        """The gate of every rung that does not train throughout, by its tower and depth."""
        return self.on(ladder).gates(ladder)

    def _thaws(self, ladder: Ladder, rungs: Sequence[Rung]) -> list[frozenset[Key]]:
        """What each stage adds."""
        if isinstance(self.stages, tuple):
            return self._listed(rungs)
        head, *others = rows(self, ladder)
        if head[0].height and not self.from_top:
            head, *others = [*reversed(others), head]
        elif not self.from_top:
            others.reverse()
        if self.stages is not None:
            count = self.stages - 1
            if not 0 < count <= len(others):
                raise PlanError(
                    f"{self}: this model can thaw in 2 to {len(others) + 1} stages: write "
                    f"stages={min(4, len(others) + 1)}"
                )
            size, longer = divmod(len(others), count)
            parts, at = [], 0
            for i in range(count):
                until = at + size + (i < longer)
                parts.append([rung for row in others[at:until] for rung in row])
                at = until
            others = parts
        return [frozenset(map(key, row)) for row in (head, *others)]

    def _listed(self, rungs: Sequence[Rung]) -> list[frozenset[Key]]:
        names = {key(rung): rung.name for rung in rungs}
        found: list[frozenset[Key]] = []
        for one in self.stages if isinstance(self.stages, tuple) else ():
            new = chosen(one, rungs)
            for i, before in enumerate(found):
                if twice := [names[where] for where in names if where in new & before]:
                    raise PlanError(
                        f"{self}: {', '.join(twice)} would thaw in stage {i + 1} and again in stage "
                        f"{len(found) + 1}: name in each stage only what it adds"
                    )
            found.append(new)
        return found


def unfreeze(
    every: Any = "1ep",
    *,
    from_top: bool = True,
    stages: int | Sequence[str | Sequence[str]] | None = None,
    warmup: Any = None,
    fade: Any = 1,
    path: Any = None,
) -> Unfreeze:
    """Gradual unfreezing: the head first, then one rung more every `every`, from the top down.

    `every` is any length of the language, an epoch in the paper; the last stage takes the rest of the run. A
    final norm, pooler or projector thaws with the last block; `from_top=False` goes from the embeddings up,
    after the head. `stages` is their number (the head, and the others in equal parts), or a list of what each
    adds, by name; what is in no stage then stays frozen. `warmup` is how long what thaws takes to come to its
    peak, `fade` the ratio of each stage's rates to those of the stage before, `path` the levels of every
    stage.

    Source: Howard & Ruder, ULMFiT, arXiv 1801.06146. The whole of it is `etude.plan(model,
    "0.01 * slanted_triangular()", convention="ulmfit", stages=unfreeze("1ep"))`.
    Use: a small data set under a new head; the backward pass ends at the lowest layer that trains.
    Avoid: short runs of Transformers, where layer-wise rates and a warm-up do much the same from the start.

    >>> unfreeze("1ep", stages=4, fade=0.5)
    unfreeze("1ep", stages=4, fade=0.5)
    """
    reach = length(every, "unfreeze every")
    if reach is None or is_zero(reach):
        raise PlanError(f'unfreeze({every!r}) needs the length of a stage: write unfreeze("1ep")')
    drawn, slow = levels(path, "unfreeze"), duration(warmup, "unfreeze")
    if drawn is not None and slow is not None:
        raise PlanError(f"unfreeze(path={drawn}, warmup={literal(slow)}): {BOTH}")
    return Unfreeze(reach, bool(from_top), _stages(stages), slow, ratio(fade, "unfreeze(fade=…)"), drawn)


def _stages(given: Any) -> int | tuple[str, ...] | None:
    if given is None:
        return None
    number = plain(given)
    if isinstance(number, int) and number > 1:
        return number
    if number is None and isinstance(given, Sequence) and not isinstance(given, str) and given:
        return tuple(map(together, given))
    raise PlanError(
        f"unfreeze(stages={given!r}) takes their number, 2 or more, or a list of what each adds, as in "
        f'stages=["head", "layer.4..top", "embeddings..layer.3"]'
    )


def lp_ft(head_for: Any = 0.1, *, warmup: Any = None, head: str | Sequence[str] = "head") -> Stages:
    """Linear probing, then fine-tuning: the head alone for `head_for` of the run, then everything.

    `warmup` is how long the rest takes to come to its rate after the thaw; `head` names what is fitted first.

    Source: Kumar et al., arXiv 2202.10054: a random head distorts good features; over ten shifts of the data
    1% better in distribution and 10% out of it than fine-tuning alone.
    Use: pretrained features that are good already, a new head, data that will shift.
    Avoid: where features must change much anyway; the probe then only takes time.

    >>> lp_ft(0.1, warmup=0.05)
    stage("head", 0.1) >> stage(warmup=0.05)
    """
    return stage(head, head_for) >> stage(warmup=warmup)
