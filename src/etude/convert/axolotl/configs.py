"""axolotl's YAML in the language of schedules.

Read from axolotl 0.19.0: `core/builders/base.py` (`_configure_warmup_and_logging`, `_configure_scheduler`),
`core/trainers/mixins/scheduler.py`, `core/trainers/mixins/optimizer.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from etude.convert.axolotl.curves import Asked, drawn
from etude.convert.converted import Converted, foreign
from etude.convert.huggingface.arguments import training_arguments
from etude.convert.parts import listed, mapping
from etude.convert.product import product
from etude.convert.pytorch.composed import Scheduler
from etude.convert.pytorch.composed import converted as of_torch
from etude.convert.values import number, read, whole
from etude.errors import RecipeError

OWN = {"micro_batch_size", "datasets", "sequence_len", "num_epochs", "adapter", "lr_scheduler"}
# What axolotl warms up if nothing is said: a share of the run, and at most so many updates.
SHARE, MOST = 0.03, 100
EMBEDDINGS = r"embed_tokens|lm_head|modules_to_save\.default\.weight$"


def _knows(said: Any) -> bool:
    return (
        isinstance(said, Mapping)
        and ("base_model" in said or "lr_scheduler" in said)
        and not OWN.isdisjoint(said)
    )


@foreign("axolotl", _knows, over=("huggingface",))
def axolotl(said: Mapping[str, Any], total: float | None = None, lr: float | None = None) -> Converted:
    """axolotl's YAML: lr_scheduler, also one_cycle and rex, its cosine floors, warm-up and groups.

    Raises `RecipeError` for what it leaves open and for what the language cannot say.

    >>> said = {"base_model": "m", "learning_rate": 2e-4, "lr_scheduler": "cosine", "warmup_ratio": 0.1}
    >>> axolotl({**said, "cosine_min_lr_ratio": 0.1, "max_steps": 1000}).hypers["lr"]
    '0.0002 * (warmup(100) >> cosine(to=0.1))'
    """
    given = {key: value for key, value in said.items() if value is not None}
    if "jagged_restart_steps" in given:
        raise RecipeError(
            "jagged_restart_steps: the restarts of ReLoRA reset the optimizer too; étude has none"
        )
    steps = read("max_steps", given.get("max_steps", -1), number, low=-1)
    total = total if total is not None else steps if steps > 0 else None
    traps: list[str] = []
    warm = _warmup(given, total, traps)
    lr = read("learning_rate", given.get("learning_rate")) if lr is None else lr
    kind = given.get("lr_scheduler", "cosine")
    arguments = {key: given[key] for key in ("weight_decay", "adam_beta1", "adam_beta2") if key in given}
    asked = Asked(given, warm, total, traps)
    if kind == "one_cycle":
        converted = _one_cycle(given, warm, lr, total, training_arguments(arguments, total, lr))
    elif path := drawn(kind, asked):
        plain = training_arguments(arguments | {"lr_scheduler_type": "constant"}, total, lr)
        converted = replace(plain, hypers={**plain.hypers, "lr": product(lr, path)})
    else:
        curve = {"lr_scheduler_type": kind, "lr_scheduler_kwargs": given.get("lr_scheduler_kwargs")}
        converted = training_arguments({**arguments, **curve, "warmup_steps": warm}, total, lr)
    if "deepspeed" in given:
        traps.append("A scheduler block in the deepspeed file takes the place of lr_scheduler.")
    settings, hypers = _groups(given, traps), dict(converted.hypers)
    if "loraplus_lr_ratio" in given:
        hypers["weight_decay"] = "0.0"
    return replace(converted, hypers=hypers, settings=settings, warnings=(*converted.warnings, *traps))


def _warmup(given: Mapping[str, Any], total: float | None, traps: list[str]) -> float:
    """The warm-up in updates, or as a share where the total is not known."""
    if "warmup_steps" in given:
        warm: float = read("warmup_steps", given["warmup_steps"], whole)
    elif "warmup_ratio" in given:
        share = read("warmup_ratio", given["warmup_ratio"])
        if share >= 1:
            raise RecipeError(f"warmup_ratio: got {share!r}; a share of the run is below 1")
        warm = share if total is None else int(share * total)
    else:
        traps.append(
            f"Nothing is said of a warm-up: axolotl takes {SHARE:.0%} of the run, at most {MOST} updates."
        )
        warm = SHARE if total is None else min(int(SHARE * total), MOST)
    if warm == 1:
        traps.append("A warm-up of 1 update is made one of 2 by axolotl.")
        return 2
    if 0 < warm < 1:
        traps.append(f"axolotl cuts the warm-up of {warm:g} of the run down to whole updates; say the total.")
    return warm


def _one_cycle(
    given: Mapping[str, Any], warm: float, lr: float, total: float | None, plain: Converted
) -> Converted:
    if total is None:
        raise RecipeError(
            "lr_scheduler: one_cycle turns at an update that only the run's length tells; say the total"
        )
    options = {
        "pct_start": warm / total,
        "anneal_strategy": "cos",
        **mapping("lr_scheduler_kwargs", given.get("lr_scheduler_kwargs")),
    }
    arguments = {"max_lr": lr, "total_steps": total, **options}
    others = {key: text for key, text in plain.hypers.items() if key != "lr"}
    return of_torch(Scheduler("OneCycleLR", arguments), lr, total, [], **others)


def _groups(given: Mapping[str, Any], traps: list[str]) -> dict[str, Any]:
    """Parameters with a rate of their own, in axolotl's order: embeddings first, then the groups by name."""
    own = [key for key in ("embedding_lr_scale", "embedding_lr", "lr_groups") if given.get(key)]
    if "loraplus_lr_ratio" in given:
        ratio = read("loraplus_lr_ratio", given["loraplus_lr_ratio"])
        rate = read("loraplus_lr_embedding", given.get("loraplus_lr_embedding", 1e-6))
        traps.append(
            f"LoRA+ also trains vectors at {ratio:g} times the rate, nothing with weight decay, and adapters "
            f'on embeddings at {rate:g}: for these add ("lora_embedding_", {{"lr": {rate!r}}}) in front.'
        )
        if own:
            traps.append(f"{' and '.join(own)}: nothing of it is used beside loraplus_lr_ratio.")
        return {"groups": [("lora_B", {"lr_scale": ratio})]}
    groups: list[tuple[str, dict[str, float]]] = []
    undecayed = {"weight_decay": 0.0} if given.get("weight_decay") else {}
    if given.get("embedding_lr_scale"):
        groups.append(
            (EMBEDDINGS, {"lr_scale": read("embedding_lr_scale", given["embedding_lr_scale"]), **undecayed})
        )
    elif given.get("embedding_lr"):
        groups.append((EMBEDDINGS, {"lr": read("embedding_lr", given["embedding_lr"]), **undecayed}))
    for group in listed("lr_groups", given.get("lr_groups")):
        if not {"modules", "lr"} <= mapping("lr_groups", group).keys():
            raise RecipeError(f"lr_groups: got {group!r}; write name, modules and lr")
        modules = listed("modules", group["modules"])
        groups += [(re.escape(str(module)), {"lr": read("lr", group["lr"])}) for module in modules]
    if given.get("lr_groups"):
        traps.append(
            "lr_groups leaves biases and norms of its modules at the rate of the rest; étude does not."
        )
    return {"groups": groups} if groups else {}
