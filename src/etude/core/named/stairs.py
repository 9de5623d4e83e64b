"""Recipes in stairs: by their number, or at milestones of the run."""

from typing import Any

from etude.core import shapes
from etude.core.length import is_zero
from etude.core.named.recipe import recipe
from etude.core.named.warmups import warmed
from etude.core.path import Path
from etude.errors import ScheduleError


@recipe
def steps(
    times: int = 3,
    by: float = 0.1,
    warmup: Any = 0,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Down in stairs of equal length, each by the same factor, given by the number of drops.

    Source: `StepLR` in torch, whose gamma is `by`; its step_size follows from the number of drops.
    For: clear phases that a loss curve shows at a glance.
    Use: where training has natural phases, as in classification and detection with SGD.
    Avoid: for fine-tuning with Adam: every stair is a jump, and where to put it is one more thing to tune. A
    step_size of total // 3 in torch may drop a third time on the very last update.

    >>> steps()
    step(times=3)
    >>> steps(6, by=0.5)
    step(by=0.5, times=6)
    """
    return warmed(shapes.step(by=by, times=times), warmup, warmup_shape, warmup_start)


@recipe
def multi_step(
    at: Any = (0.3, 0.6, 0.9),
    by: float = 0.1,
    warmup: Any = 0,
    *,
    warmup_shape: str = "linear",
    warmup_start: float = 0,
) -> Path:
    """Down in stairs at milestones of the run, each by the same factor.

    Milestones count from the beginning of the run, also after a warm-up.

    Source: `MultiStepLR` in torch (milestones, gamma); He et al., ResNet, arXiv 1512.03385. At a milestone
    torch and optax change, keras one update later, timm one earlier; this changes as torch does.
    Use: to reproduce recipes that name their milestones; shares of the run survive a change of its length.
    Avoid: where no recipe names them: linear_with_warmup() needs no such choice.

    >>> multi_step()
    multistep(at=(0.3, 0.6, 0.9))
    >>> multi_step(at=(500, 750), by=0.5, warmup=50)
    warmup(50) >> multistep(at=(450, 700), by=0.5)
    """
    milestones = at if isinstance(at, (tuple, list)) else (at,)
    after = tuple(_after(warmup, milestone) for milestone in milestones)
    return warmed(shapes.multistep(at=after, by=by), warmup, warmup_shape, warmup_start)


def _after(warmup: Any, milestone: Any) -> Any:
    """A milestone of the run, counted from the end of the warm-up."""
    if is_zero(warmup):
        return milestone
    if type(milestone) is not type(warmup) or isinstance(warmup, str):
        raise ScheduleError(
            f"multi_step(at={milestone!r}, warmup={warmup!r}): write both in updates (30, 5) or both as "
            f"fractions of the run (0.3, 0.05)"
        )
    if milestone <= warmup:
        raise ScheduleError(
            f"multi_step(at={milestone!r}, …) lies inside the warm-up, which takes {warmup!r}"
        )
    return round(milestone - warmup, 15)
