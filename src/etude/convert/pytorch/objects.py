"""A live torch scheduler, read from its attributes: `torch_objects(scheduler)`; torch is not imported."""

from collections.abc import Mapping
from typing import Any

from etude.convert.converted import Converted
from etude.convert.huggingface.types import curve
from etude.convert.product import product
from etude.convert.pytorch.composed import COMPOSED, FUNCTIONS, Scheduler, converted, parameters
from etude.errors import RecipeError

# The functions that transformers gives to LambdaLR -> the type that it makes with them.
LAMBDAS = {
    "_get_constant_lambda": "constant",
    "_get_constant_schedule_with_warmup_lr_lambda": "constant_with_warmup",
    "_get_linear_schedule_with_warmup_lr_lambda": "linear",
    "_get_cosine_schedule_with_warmup_lr_lambda": "cosine_with_min_lr",
    "_get_cosine_with_hard_restarts_schedule_with_warmup_lr_lambda": "cosine_with_restarts",
    "_get_polynomial_decay_schedule_with_warmup_lr_lambda": "polynomial",
    "_get_inverse_sqrt_schedule_lr_lambda": "inverse_sqrt",
    "_get_cosine_with_min_lr_schedule_with_warmup_lr_rate_lambda": "cosine_warmup_with_min_lr",
    "_get_wsd_scheduler_lambda": "warmup_stable_decay",
}


def torch_objects(scheduler: Any, total: float | None = None) -> Converted:
    """A torch scheduler as it stands, also one made by transformers' `get_scheduler`, in étude's words.

    `total` is the run's length in updates where the scheduler has none of its own. Where in its run the
    scheduler is does not matter. Of several groups the text is that of the first, and a warning says how the
    others differ. Raises `RecipeError` for schedulers that hold Python code, and for what needs a total.
    """
    traps: list[str] = []
    if type(scheduler).__name__ == "AcceleratedScheduler":
        traps.append(
            "Accelerate steps a prepared scheduler once per process and update; the text counts updates."
        )
        scheduler = scheduler.scheduler
    groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", None)
    if not groups:
        raise RecipeError(
            f"{type(scheduler).__name__} is no torch scheduler: it has no optimizer with groups"
        )
    rates = [float(group.get("initial_lr", group["lr"])) for group in groups]
    decays = [float(group.get("weight_decay", 0)) for group in groups]
    hypers = {} if "weight_decay" not in groups[0] else {"weight_decay": repr(max(decays))}
    name = type(scheduler).__name__
    if name in ("OneCycleLR", "CyclicLR"):
        rates = [float(top) for top in _tops(scheduler)]
    _compare(rates, decays, traps)
    if name == "LambdaLR" and (found := _of_transformers(scheduler)):
        return _lambda(*found, rates[0], total, traps, hypers)
    return converted(_scheduler(scheduler), rates[0], total, traps, **hypers)


def _compare(rates: list[float], decays: list[float], traps: list[str]) -> None:
    if others := sorted({rate / rates[0] for rate in rates} - {1.0}) if rates[0] else []:
        ratios = ", ".join(f"{ratio:g}" for ratio in others[:6])
        traps.append(
            f"The text is that of the first group, {rates[0]:g}; others have {ratios} times its rate: say "
            f"them to etude.plan as layer_decay, head or groups."
        )
    if len(set(decays)) > 1:
        traps.append(
            f"Groups decay by {', '.join(f'{x:g}' for x in sorted(set(decays)))}; etude.plan spares biases, "
            f"norms and vectors by itself, others are said in groups."
        )


def _scheduler(scheduler: Any) -> Scheduler:
    """Its class, and the arguments that its attributes tell."""
    name = type(scheduler).__name__
    if name in COMPOSED:
        parts = tuple(map(_scheduler, scheduler._schedulers))
        return Scheduler(name, {"milestones": list(getattr(scheduler, "_milestones", ()))}, parts)
    if name in FUNCTIONS:
        return Scheduler(name)
    if name == "OneCycleLR":
        return Scheduler(name, _one_cycle(scheduler))
    if name == "CyclicLR":
        return Scheduler(name, _cyclic(scheduler))
    options = {key: getattr(scheduler, key) for key in parameters(name) if hasattr(scheduler, key)}
    if "milestones" in options:
        options["milestones"] = list(options["milestones"].elements())
    return Scheduler(name, options)


def _tops(scheduler: Any) -> list[float]:
    groups = scheduler.optimizer.param_groups
    return scheduler.max_lrs if hasattr(scheduler, "max_lrs") else [group["max_lr"] for group in groups]


def _one_cycle(scheduler: Any) -> dict[str, Any]:
    group, phases = scheduler.optimizer.param_groups[0], scheduler._schedule_phases
    options = {
        "max_lr": float(group["max_lr"]),
        "total_steps": scheduler.total_steps,
        "pct_start": (phases[0]["end_step"] + 1) / scheduler.total_steps,
        "anneal_strategy": scheduler._anneal_func_type,
        "three_phase": len(phases) == 3,
        "div_factor": float(group["max_lr"]) / float(group["initial_lr"]),
        "final_div_factor": float(group["initial_lr"]) / float(group["min_lr"]),
    }
    return options | _momentum(scheduler, group)


def _cyclic(scheduler: Any) -> dict[str, Any]:
    group, up = scheduler.optimizer.param_groups[0], scheduler.step_ratio * scheduler.total_size
    options = {
        "base_lr": float(scheduler.base_lrs[0]),
        "max_lr": float(scheduler.max_lrs[0]),
        "step_size_up": up,
        "step_size_down": None if scheduler.step_ratio == 0.5 else scheduler.total_size - up,
        "mode": scheduler.mode,
        "gamma": scheduler.gamma,
        "scale_fn": scheduler._scale_fn_custom,
    }
    return options | _momentum(scheduler, group)


def _momentum(scheduler: Any, group: Mapping[str, Any]) -> dict[str, Any]:
    if not scheduler.cycle_momentum:
        return {"cycle_momentum": False}
    return {key: float(group[key]) for key in ("base_momentum", "max_momentum")}


def _of_transformers(scheduler: Any) -> tuple[str, dict[str, Any]] | None:
    """The type and the arguments of a curve that transformers made, None for a function of another origin."""
    found = [(getattr(one, "func", one), getattr(one, "keywords", {})) for one in scheduler.lr_lambdas]
    function, arguments = found[0]
    if getattr(function, "__module__", "") != "transformers.optimization" or any(
        x != found[0] for x in found
    ):
        return None
    kind = LAMBDAS.get(function.__name__)
    if kind == "cosine_with_min_lr" and "min_lr_rate" not in arguments:
        kind = "cosine"
    return (kind, dict(arguments)) if kind else None


def _lambda(
    kind: str,
    said: dict[str, Any],
    rate: float,
    total: float | None,
    traps: list[str],
    hypers: dict[str, str],
) -> Converted:
    warm, own = said.pop("num_warmup_steps", 0), said.pop("num_training_steps", None)
    default = said.pop("lr_init", rate)
    if kind == "polynomial":
        # Its end was divided by the optimizer's default rate, whatever the group's own.
        said["lr_end"] *= rate / default
    if said.get("warmup_lr_rate", 0) is None:
        del said["warmup_lr_rate"]
    if None not in (total, own) and total != own:
        raise RecipeError(
            f"total: got {total:g}, and the scheduler was made for {own:g} updates; leave total out"
        )
    total = own if total is None else total
    path, drawn = curve(kind, said, warm, rate, total)
    return Converted(
        {"lr": product(rate, path)} | hypers, (*traps, *drawn.traps), tick=drawn.tick, total=total
    )
