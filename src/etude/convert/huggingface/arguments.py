"""`TrainingArguments` and the configurations made of it: as a mapping, as flags, as the object."""

from collections.abc import Mapping
from typing import Any

from etude.convert.commandline import flags
from etude.convert.converted import Converted, foreign
from etude.convert.huggingface.types import curve
from etude.convert.product import product
from etude.convert.source import called
from etude.convert.values import number, read
from etude.errors import RecipeError

# What `learning_rate` is where nobody says it: transformers 5.23, trl 1.16.
RATES = {
    "TrainingArguments": 5e-5, "Seq2SeqTrainingArguments": 5e-5, "SFTConfig": 2e-5, "RewardConfig": 1e-4,
    "DPOConfig": 1e-6, "KTOConfig": 1e-6, "GRPOConfig": 1e-6, "RLOOConfig": 1e-6,
}  # fmt: skip
KEYS = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_ratio", "warmup_steps",
    "weight_decay", "adam_beta1", "adam_beta2", "max_steps",
)  # fmt: skip
OWN = {"lr_scheduler_type", "lr_scheduler_kwargs", "per_device_train_batch_size", "num_train_epochs"}


def _knows(said: Any) -> bool:
    if isinstance(said, str):
        # A Python script names such flags where it parses them.
        return any(f"--{key}" in said for key in OWN) and not called(said)
    return isinstance(said, Mapping) and not OWN.isdisjoint(said)


@foreign("huggingface", _knows)
def training_arguments(
    said: Any, total: float | None = None, lr: float | None = None, made: str = "TrainingArguments"
) -> Converted:
    """Hugging Face TrainingArguments, also trl's: YAML, JSON, the flags of a script, the object itself.

    `total` is the number of updates (else `max_steps`), `lr` the peak (else `learning_rate`), `made` the
    name of the class, which decides the rate if nobody says it. Raises `RecipeError` for what transformers
    would refuse too, and for what the language cannot say.

    >>> said = {"learning_rate": 2e-5, "lr_scheduler_type": "cosine", "warmup_steps": 0.06, "max_steps": 500}
    >>> training_arguments(said).text
    {'lr': '2e-05 * (warmup(30) >> cosine())', 'weight_decay': '0.0', 'tick': 0}
    """
    given = _given(said)
    traps: list[str] = []
    steps = read("max_steps", given.get("max_steps", -1), number, low=-1)
    total = total if total is not None else steps if steps > 0 else None
    lr = lr if lr is not None else _rate(given, made, traps)
    path, drawn = curve(
        given.get("lr_scheduler_type", "linear"),
        given.get("lr_scheduler_kwargs"),
        warmup(given, traps),
        lr,
        total,
    )
    decay = read("weight_decay", given.get("weight_decay", 0.0))
    hypers = {"lr": product(lr, path), "weight_decay": repr(decay)}
    beta1, beta2 = (
        read(f"adam_beta{i}", given.get(f"adam_beta{i}", usual)) for i, usual in ((1, 0.9), (2, 0.999))
    )
    if beta1 != 0.9:
        hypers["momentum"] = repr(beta1)
    if beta2 != 0.999:
        traps.append(
            f"adam_beta2={beta2:g} is no part of a plan: give it to the optimizer, betas=(…, {beta2:g})."
        )
    return Converted(hypers, (*traps, *drawn.traps), tick=drawn.tick, total=total)


def warmup(given: Mapping[str, Any], traps: list[str]) -> float:
    """The warm-up in updates, or below 1 as a share of the run, from `warmup_steps` or `warmup_ratio`.

    >>> warmup({"warmup_steps": 1.0}, []), warmup({"warmup_ratio": "0.1", "warmup_steps": 0}, [])
    (1, 0.1)
    """
    ratio = read("warmup_ratio", given.get("warmup_ratio", 0.0))
    steps = read("warmup_steps", given.get("warmup_steps", 0))
    if ratio >= 1:
        raise RecipeError(
            f"warmup_ratio: got {ratio!r}; a share of the run is below 1; for updates write warmup_steps"
        )
    if steps > 1 and steps != int(steps):
        raise RecipeError(
            f"warmup_steps: got {steps!r}; write whole updates (500) or a share of the run (0.06)"
        )
    if ratio and steps:
        traps.append(
            f"warmup_steps={steps:g} and warmup_ratio={ratio:g} are both said; transformers takes the steps."
        )
    elif ratio:
        traps.append(f"warmup_ratio is gone from transformers 5, where the same is warmup_steps={ratio:g}.")
    if steps == 1 and isinstance(given.get("warmup_steps"), float):
        traps.append("warmup_steps=1.0 is one update, not the whole run.")
    return int(steps) if steps >= 1 else steps or ratio


def _given(said: Any) -> dict[str, Any]:
    if isinstance(said, str):
        said = flags(said)
    given = said if isinstance(said, Mapping) else {key: getattr(said, key, None) for key in KEYS}
    # An enumeration of transformers is its value; what is null has the default.
    return {key: getattr(given[key], "value", given[key]) for key in KEYS if given.get(key) is not None}


def _rate(given: Mapping[str, Any], made: str, traps: list[str]) -> float:
    if "learning_rate" in given:
        return read("learning_rate", given["learning_rate"])
    if made not in RATES:
        raise RecipeError(f"learning_rate is not said, and the default of {made} is not known here: say lr")
    traps.append(f"learning_rate is not said: {RATES[made]:g} is the default of {made}.")
    return RATES[made]
