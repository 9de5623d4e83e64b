"""Stages one after the other, from what the user writes to the gate of every rung."""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from etude.core.path import HOLD, Path, Schedule
from etude.core.text import parse
from etude.errors import PlanError, near
from etude.model.ladder import Ladder, Rung
from etude.model.rungs import Key, chosen, key
from etude.model.stages.lengths import counted
from etude.model.stages.levels import through
from etude.model.stages.stage import Stage, checked

FOLLOWS = (
    'only a stage follows a stage, as in stage("head", 0.1) >> stage("layer.4..head", 0.3) >> stage(); '
    "unfreeze(…) and freezeout(…) fill a run alone"
)


class Staged(Protocol):
    """What `etude.plan(…, stages=)` takes: it makes gates once it knows the rungs; `str` is its source."""

    def gates(self, ladder: Ladder) -> Mapping[Key, Path]:
        """The gate of every rung that does not simply train throughout, by its tower and depth."""
        ...


@dataclass(frozen=True, slots=True)
class Stages:
    """Stages one after the other, joined by `>>`."""

    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        return " >> ".join(map(str, self.stages))

    __repr__ = __str__

    def __rshift__(self, other: Any) -> "Stages":
        if not isinstance(other, Stages):
            raise PlanError(f"{self} >> {other}: {FOLLOWS}")
        return Stages(self.stages + other.stages)

    def gates(self, ladder: Ladder) -> dict[Key, Path]:
        """The gate of every rung that does not simply train throughout, by its tower and depth.

        Raises `PlanError` for rungs that the model has not, for a head that would never train, and for
        stages that are longer or shorter than the run.
        """
        _check_lengths(self)
        rungs = known(self, ladder)
        picked = [chosen(one.rungs, rungs) for one in self.stages]
        trainable = {key(rung) for rung in rungs if trains(rung)}
        for one, train in zip(self.stages, picked, strict=True):
            if trainable.isdisjoint(train):
                raise PlanError(
                    f"{one} trains nothing: all parameters of these rungs are frozen before planning"
                )
        heads = {key(rung) for rung in rungs if rung.height == 0} & trainable
        if heads and heads.isdisjoint(frozenset().union(*picked)):
            first = self.stages[0]
            raise PlanError(
                f"{self}: the head is in no stage and would stay as it was initialised: write "
                f"{replace(first, rungs=first.rungs + '+head')}, or, if it is to stay, "
                f"requires_grad_(False) before planning"
            )
        gates = {key(rung): through(self.stages, [key(rung) in one for one in picked]) for rung in rungs}
        return {where: gate for where, gate in gates.items() if gate is not None}


def known(staged: Any, ladder: Ladder) -> list[Rung]:
    """The rungs of a ladder; raises `PlanError` where depth is not known."""
    if not ladder.towers:
        raise PlanError(
            f"{staged} goes by the depth of the layers, and this model's is not known: say it with "
            f'groups=[("^body.0", {{"depth": 0}}), …], or write the gates, groups=[("^body", {{"gate": …}})]'
        )
    return ladder.rungs()


def trains(rung: Rung) -> bool:
    """Whether anything on a rung would train without stages."""
    return any(placement.leaf.trainable for placement in rung.placements)


def _check_lengths(stages: Stages) -> None:
    said = [counted(one.over) for one in stages.stages if one.over is not None]
    left = len(stages.stages) - len(said)
    shares = sum((count for count, unit in said if not unit), Decimal())
    if shares > 1 or (shares == 1 and left):
        raise PlanError(
            f"{stages}: the stages take {float(shares):g} of the run"
            f"{' and leave nothing for the one without a length' if shares == 1 else ''}; shorten them"
        )
    if shares < 1 and not left and not any(unit for _, unit in said):
        *others, last = stages.stages
        raise PlanError(
            f"{stages}: the stages take only {float(shares):g} of the run; the last takes what is left where "
            f"no length is said: {' >> '.join(map(str, (*others, replace(last, over=None))))}"
        )
    if left > 1 and any(unit for _, unit in said):
        raise PlanError(f"{stages}: say the length of all stages but one")


def stage(
    rungs: str | Sequence[str] = "*", over: Any = None, *, peak: Any = 1, path: Any = None, warmup: Any = None
) -> Stages:
    """One stage of a run: which rungs train, for how long, at what levels; what it does not name is frozen.

    `rungs` names them as `etude groups` does: `head`, `layer.4..head`, `encoder.*`, several with `+` or in a
    list, `*` for all. `over` is a length of the language; a stage without one takes what is left of the run.
    `peak` is the ratio of a group's own peak at which it trains. `path` has the levels of the whole stage; a
    fraction in it is a fraction of the stage. `warmup` is how long what thaws takes to come to its peak. All
    multiply the plan's own schedule, which goes on through the stages: where each stage has a path of its
    own, the plan's rate is a number.

    >>> stage("head", 0.1) >> stage("layer.4..head", 0.3, warmup=0.05) >> stage(peak=0.5)
    stage("head", 0.1) >> stage("layer.4..head", 0.3, warmup=0.05) >> stage(peak=0.5)
    """
    return Stages((checked(rungs, over, peak, path, warmup),))


def stages(value: Any) -> Staged:
    """Stages from whatever stands for them: a text, a list of stages or of their settings, or stages.

    A text knows `stage`, `unfreeze`, `lp_ft` and `freezeout`, `>>` between stages, and paths as values.
    Raises `PlanError` for everything else, with what to write.

    >>> stages('stage("head", 0.1) >> stage(peak=1/2, path=cosine())')
    stage("head", 0.1) >> stage(peak=0.5, path=cosine())
    >>> stages([{"rungs": "head", "over": "1ep"}, {"warmup": 100}])
    stage("head", "1ep") >> stage(warmup=100)
    """
    if isinstance(value, str):
        return _read(value)
    if hasattr(value, "gates"):
        return value
    if isinstance(value, Sequence) and value:
        parts = [_call("stage", (), one) if isinstance(one, Mapping) else stages(one) for one in value]
        if not all(isinstance(one, Stages) for one in parts):
            raise PlanError(
                f"{value!r}: unfreeze and freezeout fill a run alone; write the other as stages too"
            )
        return Stages(tuple(one for part in parts if isinstance(part, Stages) for one in part.stages))
    raise PlanError(
        f"stages takes a text, a list of stages, or what unfreeze, lp_ft, freezeout and stage give; got "
        f"{value!r}: write stages=\"unfreeze('1ep')\""
    )


def _read(text: str) -> Staged:
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body, text.strip())
    except SyntaxError as error:
        quoted = re.sub(r"""(?<!["'\w.])([\d.]+(?:%|ep|up|ex|tok)\b)""", r'"\1"', text)
        instead = quoted if quoted != text else 'unfreeze("1ep"), or stage("head", 0.1) >> stage()'
        raise PlanError(f"{text!r} says no stages: {error.msg}; write {instead}") from None
    except (RecursionError, MemoryError):
        raise PlanError(f"{text[:60]!r}… is nested too deeply to say stages") from None
    if not hasattr(value, "gates"):
        raise PlanError(
            f'{text!r} says no stages{near(text.partition("(")[0], _builders())}: write unfreeze("1ep"), '
            f'lp_ft(0.1), freezeout(0.5), or stage("head", 0.1) >> stage()'
        )
    return value


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value=str() | bool() | int() | float() | None as value):
            return value
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(_value(element, text) for element in elements)
        case ast.BinOp(left=left, op=ast.RShift(), right=right):
            return _after(_value(left, text), _value(right, text))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in _builders():
            values = {str(keyword.arg): _value(keyword.value, text) for keyword in keywords}
            return _call(name, [_value(arg, text) for arg in args], values)
        case ast.Call(func=ast.Name(id=name)) if "did you mean" in (like := near(name, _builders())):
            raise PlanError(f"{name}(…) in {text!r} makes no stages{like}")
    found = parse(ast.get_source_segment(text, node) or "")  # a word of the language, or a ratio such as 1/2
    return found.peak if isinstance(found, Schedule) and found.paths == (HOLD,) else found


def _after(left: Any, right: Any) -> Any:
    if isinstance(left, (Path, Stages)):
        return left >> right
    raise PlanError(f"{left} >> {right}: {FOLLOWS}")


def _call(name: str, args: Sequence[Any], values: Mapping[str, Any]) -> Staged:
    try:
        return _builders()[name](*args, **values)
    except TypeError as error:
        raise PlanError(f"{name}(…): {str(error).replace(name + '() ', '')}") from None


def _builders() -> Mapping[str, Callable[..., Staged]]:
    from etude.model.stages.freezeout import freezeout  # they are made of stages
    from etude.model.stages.unfreezing import lp_ft, unfreeze

    return {"stage": stage, "unfreeze": unfreeze, "lp_ft": lp_ft, "freezeout": freezeout}
