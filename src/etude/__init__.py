"""étude: the learning-rate system for fine-tuning pretrained models.

Says what every learning rate in a run will be, makes it so in whatever framework trains the model, proves
that it was so, and helps choose it in the first place.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etude.control.cooldown import cooldown as cooldown
    from etude.control.driver import Driver as Driver
    from etude.control.early_stop import early_stop as early_stop
    from etude.control.extend import extend as extend
    from etude.control.greedy import greedy as greedy
    from etude.control.plateau import plateau as plateau
    from etude.control.rewarm import rewarm as rewarm
    from etude.control.spike import spike as spike
    from etude.control.target import target as target
    from etude.control.variance import variance as variance
    from etude.core.edit import Advance as Advance
    from etude.core.edit import Redraw as Redraw
    from etude.core.edit import Rollback as Rollback
    from etude.core.edit import Scale as Scale
    from etude.core.edit import Stop as Stop
    from etude.core.edit import Stretch as Stretch
    from etude.core.named import constant as constant
    from etude.core.named import constant_with_warmup as constant_with_warmup
    from etude.core.named import cosine_with_restarts as cosine_with_restarts
    from etude.core.named import cosine_with_warmup as cosine_with_warmup
    from etude.core.named import exp_range as exp_range
    from etude.core.named import exponential as exponential
    from etude.core.named import flat_cosine as flat_cosine
    from etude.core.named import inverse_sqrt as inverse_sqrt
    from etude.core.named import linear_to_zero as linear_to_zero
    from etude.core.named import linear_with_warmup as linear_with_warmup
    from etude.core.named import multi_step as multi_step
    from etude.core.named import noam as noam
    from etude.core.named import one_cycle as one_cycle
    from etude.core.named import one_cycle_momentum as one_cycle_momentum
    from etude.core.named import oscillating_cosine as oscillating_cosine
    from etude.core.named import polynomial as polynomial
    from etude.core.named import rex_with_warmup as rex_with_warmup
    from etude.core.named import sgdr as sgdr
    from etude.core.named import slanted_triangular as slanted_triangular
    from etude.core.named import steps as steps
    from etude.core.named import temperature as temperature
    from etude.core.named import trapezoid as trapezoid
    from etude.core.named import tri_stage as tri_stage
    from etude.core.named import triangular as triangular
    from etude.core.named import triangular2 as triangular2
    from etude.core.named import untuned_warmup as untuned_warmup
    from etude.core.named import wsd as wsd
    from etude.core.path import repeat as repeat
    from etude.core.plan import Group as Group
    from etude.core.plan import Plan as Plan
    from etude.core.shapes import cosine as cosine
    from etude.core.shapes import cyclic as cyclic
    from etude.core.shapes import exp as exp
    from etude.core.shapes import exp_warmup as exp_warmup
    from etude.core.shapes import frozen as frozen
    from etude.core.shapes import hold as hold
    from etude.core.shapes import inv_sqrt as inv_sqrt
    from etude.core.shapes import inv_time as inv_time
    from etude.core.shapes import linear as linear
    from etude.core.shapes import multistep as multistep
    from etude.core.shapes import poly as poly
    from etude.core.shapes import quarter_cosine as quarter_cosine
    from etude.core.shapes import rex as rex
    from etude.core.shapes import sqrt as sqrt
    from etude.core.shapes import square as square
    from etude.core.shapes import step as step
    from etude.core.shapes import tanh as tanh
    from etude.core.shapes import warmup as warmup
    from etude.core.shapes import wave as wave
    from etude.core.text import parse as parse
    from etude.errors import EtudeError as EtudeError
    from etude.finder.find import find as find
    from etude.model.stages.freezeout import freezeout as freezeout
    from etude.model.stages.gates import stage as stage
    from etude.model.stages.gates import stages as stages
    from etude.model.stages.unfreezing import lp_ft as lp_ft
    from etude.model.stages.unfreezing import unfreeze as unfreeze
    from etude.planning import plan as plan
    from etude.torch.verify import verify as verify
    from etude.train.finetuning import finetune as finetune
    from etude.trainer.attach import attach as attach

__version__ = "0.1.0"

# Where each public name lives. It is imported when it is first asked for, so that `import etude` costs a
# few milliseconds and loads no framework.
_HOME = {
    "etude.core.shapes": (
        "hold",
        "linear",
        "warmup",
        "exp_warmup",
        "cosine",
        "quarter_cosine",
        "wave",
        "poly",
        "exp",
        "inv_time",
        "step",
        "multistep",
        "sqrt",
        "square",
        "inv_sqrt",
        "rex",
        "tanh",
        "cyclic",
        "frozen",
    ),
    "etude.core.named": (
        "constant",
        "constant_with_warmup",
        "linear_with_warmup",
        "linear_to_zero",
        "cosine_with_warmup",
        "polynomial",
        "exponential",
        "rex_with_warmup",
        "inverse_sqrt",
        "steps",
        "multi_step",
        "wsd",
        "trapezoid",
        "flat_cosine",
        "tri_stage",
        "one_cycle",
        "one_cycle_momentum",
        "slanted_triangular",
        "triangular",
        "triangular2",
        "exp_range",
        "cosine_with_restarts",
        "sgdr",
        "oscillating_cosine",
        "untuned_warmup",
        "noam",
        "temperature",
    ),
    "etude.core.path": ("repeat",),
    "etude.core.text": ("parse",),
    "etude.core.plan": ("Group", "Plan"),
    "etude.core.edit": ("Scale", "Stretch", "Advance", "Redraw", "Stop", "Rollback"),
    "etude.control.driver": ("Driver",),
    "etude.control.cooldown": ("cooldown",),
    "etude.control.early_stop": ("early_stop",),
    "etude.control.extend": ("extend",),
    "etude.control.greedy": ("greedy",),
    "etude.control.plateau": ("plateau",),
    "etude.control.rewarm": ("rewarm",),
    "etude.control.spike": ("spike",),
    "etude.control.target": ("target",),
    "etude.control.variance": ("variance",),
    "etude.model.stages.gates": ("stage", "stages"),
    "etude.model.stages.unfreezing": ("unfreeze", "lp_ft"),
    "etude.model.stages.freezeout": ("freezeout",),
    "etude.finder.find": ("find",),
    "etude.planning": ("plan",),
    "etude.train.finetuning": ("finetune",),
    "etude.trainer.attach": ("attach",),
    "etude.errors": ("EtudeError",),
    "etude.torch.verify": ("verify",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
# Rooms that are reached as attributes, as in `etude.torch.sink(optimizer)`.
_ROOMS = ("torch", "trainer", "lightning", "keras", "optax", "mlx", "convert", "export")

__all__ = list(_MODULE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"etude.{name}")
    if name not in _MODULE:
        raise AttributeError(f"module 'etude' has no attribute {name!r}")
    globals()[name] = getattr(import_module(_MODULE[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE, *_ROOMS})
