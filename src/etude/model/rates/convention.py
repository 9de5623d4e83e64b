"""Conventions: how the rate falls from the head down to the embeddings, as this or that code has it.

A convention is written as text, `bert` or `fastai(0.01)`, in Python, in recipes and on the command line. What
it says of a rung is a ratio of the peak; that of the head is said by itself.
"""

import inspect
import re
from collections.abc import Callable
from typing import NamedTuple

from etude.core.path import as_schedule
from etude.errors import PlanError, ScheduleError, near
from etude.model.ladder import Ladder
from etude.model.rates.ratio import ratio

Rule = Callable[[Ladder, str, int, float], float]
"""From a ladder, a rung's tower and depth, and `layer_decay` to the rung's ratio of the peak."""


class Convention(NamedTuple):
    """A rule, and the `layer_decay` that it has where none is given; None if it has no use for one."""

    name: str
    rule: Rule
    layer_decay: float | None = None


CONVENTIONS: dict[str, Callable[..., Convention]] = {}


def _convention(make: Callable[..., Convention]) -> Callable[..., Convention]:
    CONVENTIONS[make.__name__] = make
    return make


def read(text: str) -> Convention:
    """The convention that a text names, with its numbers.

    Raises `PlanError` for an unknown name and for numbers that it does not take.

    >>> read("fastai(1/100)").name, read("ulmfit").layer_decay
    ('fastai', 0.3846153846153846)
    """
    found = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text) if isinstance(text, str) else None
    if found is None or found[1] not in CONVENTIONS:
        raise PlanError(
            f"convention={text!r} is not known{near(found[1] if found else str(text), CONVENTIONS)}"
        )
    make, written = CONVENTIONS[found[1]], [part for part in (found[2] or "").split(",") if part.strip()]
    names = ", ".join(inspect.signature(make).parameters)
    try:
        return make(*(as_schedule(part).peak for part in written))
    except (TypeError, ScheduleError):
        usage = f"{found[1]} or {found[1]}({names}) with numbers" if names else found[1]
        raise PlanError(f"convention={text!r}: write {usage}") from None


def _powers(low: int) -> Rule:
    """A power of `layer_decay` for each step down; what lies at most `low` steps below the head has none."""
    return lambda ladder, tower, depth, decay: decay ** max(0, ladder.height(tower, depth) - low)


@_convention
def bert() -> Convention:
    """The last block trains at the peak, the embeddings at `layer_decay ** L`.

    The usual decay of BERT fine-tuning, in which the embeddings are layer 0 of 0 … L: Sun et al. 2019 (arXiv
    1905.05583), Zhang et al. 2020 (arXiv 2006.05987). What stands above the blocks has the peak.
    """
    return Convention("bert", _powers(2), 1.0)


@_convention
def electra() -> Convention:
    """Two powers lower: the last block has `layer_decay ** 2`, because the head is counted as L + 2.

    google-research/electra, model/optimization.py, `_get_layer_lrs`: `layer_decay ** (n_layers + 2 - depth)`
    with the embeddings at depth 0. It has nothing between the blocks and the head.
    """
    return Convention("electra", _powers(0), 1.0)


@_convention
def beit() -> Convention:
    """One power lower: the last block has `layer_decay`, what stands above it and the head the peak.

    BEiT (microsoft/unilm, beit/optim_factory.py) and MAE (facebookresearch/mae, util/lr_decay.py), with L + 1
    powers. timm's `param_groups_layer_decay` is the same but for a final norm, which it counts to the last
    block.
    """
    return Convention("beit", _powers(1), 1.0)


@_convention
def ulmfit() -> Convention:
    """The head trains at the peak, every group below it at 1/2.6 of the one above.

    Howard and Ruder 2018 (arXiv 1801.06146, section 3.2). `layer_decay` is 1/2.6 unless it is given.
    """
    return Convention("ulmfit", _powers(1), 1 / 2.6)


@_convention
def fastai(lowest: float | None = None) -> Convention:
    """From `lowest` to the peak at the head, evenly in the logarithm; without it a tenth of the peak below.

    `fastai(0.01)` is fastai's `slice(hi / 100, hi)`, `fastai` its `slice(hi)`: fastai/optimizer.py,
    `Optimizer.set_hyper`, where the groups are those of a splitter; here they are the rungs. Rungs of several
    towers that lie equally far below the head have one rate.
    """
    bottom = None if lowest is None else ratio("lowest", lowest, "write fastai(0.01)")

    def rule(ladder: Ladder, tower: str, depth: int, _: float) -> float:
        heights = sorted({ladder.height(one.tower, one.depth) for one in ladder.placements})
        place = heights.index(ladder.height(tower, depth))
        if bottom is None:
            return 0.1 if place else 1.0
        return bottom ** (place / max(1, len(heights) - 1))

    return Convention("fastai", rule)


@_convention
def thirds(bottom: float = 0.1, middle: float = 0.5, top: float = 1.0) -> Convention:
    """A tenth of the peak for the lower third of the blocks, half for the middle one, all for the upper.

    "Layered learning rates": for a ResNet of four stages the first two have 0.1, the third 0.5 and the fourth
    1.0; a rule of thumb without a paper. The embeddings go with the lowest blocks, what stands above the
    blocks with the highest. Where L does not divide by three, the lower parts are larger by one.
    """
    rates = [ratio("thirds", rate, "write thirds(0.1, 0.5, 1)") for rate in (bottom, middle, top)]

    def rule(ladder: Ladder, tower: str, depth: int, _: float) -> float:
        blocks = ladder.towers.get(tower, ladder.blocks)
        if blocks < 3:
            raise PlanError(
                f"convention='thirds' needs three blocks, and {tower or 'this model'} has {blocks}; write "
                f"layer_decay=[…] with a ratio for each rung"
            )
        if depth > blocks:
            return rates[2]
        # 12 blocks are 4 + 4 + 4, and 4 stages are 2 + 1 + 1.
        lower = -(-blocks // 3)
        return rates[(depth > lower) + (depth > lower + -(-(blocks - lower) // 2))]

    return Convention("thirds", rule)
