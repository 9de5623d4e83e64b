"""LLaMA-Factory's training configuration in the language of schedules.

It is that of Hugging Face with a few words more: LLaMA-Factory 0.9.5, `train/trainer_utils.py`
(`create_custom_scheduler`, `_create_loraplus_optimizer`), `hparams/finetuning_args.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from etude.convert.converted import Converted, foreign
from etude.convert.huggingface.arguments import RATES, training_arguments, warmup
from etude.convert.huggingface.stages import DECAYS
from etude.convert.parts import mapping, one_of
from etude.convert.pieces import PEAK, Level, Piece, path
from etude.convert.product import product
from etude.convert.values import number, read
from etude.errors import RecipeError

OWN = {"finetuning_type", "lora_target", "dataset_dir", "template", "stage"}
TRAINING = {
    "learning_rate",
    "lr_scheduler_type",
    "num_train_epochs",
    "per_device_train_batch_size",
    "do_train",
}
RATE = RATES["Seq2SeqTrainingArguments"]
STAGES = ("num_stable_steps", "num_decay_steps")


def _knows(said: Any) -> bool:
    return isinstance(said, Mapping) and not (OWN.isdisjoint(said) or TRAINING.isdisjoint(said))


@foreign("llamafactory", _knows, over=("huggingface",))
def llamafactory(said: Mapping[str, Any], total: float | None = None, lr: float | None = None) -> Converted:
    """LLaMA-Factory's YAML: Hugging Face's arguments, its own stages for warmup_stable_decay, LoRA+.

    Raises `RecipeError` as `training_arguments` does, and for stages that the language cannot say.

    >>> said = {"stage": "sft", "learning_rate": 1e-4, "lr_scheduler_type": "cosine", "warmup_steps": 20}
    >>> llamafactory(said).hypers["lr"]
    '0.0001 * (warmup(20) >> cosine())'
    """
    given = {key: value for key, value in said.items() if value is not None}
    steps = read("max_steps", given.get("max_steps", -1), number, low=-1)
    total = total if total is not None else steps if steps > 0 else None
    traps: list[str] = []
    if given.get("lr_scheduler_type") == "warmup_stable_decay":
        converted = _stages(given, total, lr, traps)
    else:
        converted = training_arguments(given, total, lr)
    if "deepspeed" in given:
        traps.append("A scheduler block in the deepspeed file takes the place of lr_scheduler_type.")
    settings = _loraplus(given, traps)
    return replace(converted, settings=settings, warnings=(*converted.warnings, *traps))


def _stages(given: Mapping[str, Any], total: float | None, lr: float | None, traps: list[str]) -> Converted:
    """`warmup_stable_decay`, stable for a third of what the warm-up leaves if nothing is said."""
    options = mapping("lr_scheduler_kwargs", given.get("lr_scheduler_kwargs"))
    if all(options.get(key) is not None for key in STAGES):
        return training_arguments(given, total, lr)
    traps.append(
        "LLaMA-Factory's warmup_stable_decay is stable for a third of what the warm-up leaves and falls "
        "for the rest, in whole updates; Hugging Face wants num_decay_steps."
    )
    warm = warmup(given, [])
    if total is not None:
        left = total - (math.ceil(total * warm) if 0 < warm < 1 else warm)
        options = {"num_stable_steps": left // 3, "num_decay_steps": left - left // 3, **options}
        return training_arguments({**given, "lr_scheduler_kwargs": options}, total, lr)
    if set(options) - {"min_lr_ratio", "decay_type"}:
        raise RecipeError(
            "lr_scheduler_kwargs: how long a stage is can be told only with max_steps; say the total"
        )
    low = Level(read("min_lr_ratio", options.get("min_lr_ratio", 0.0)))
    kind = one_of("decay_type", options.get("decay_type", "cosine"), DECAYS)
    rise = [Piece("warmup", warm if warm >= 1 else repr(warm), low, PEAK)] if warm else []
    fall = path([Piece(DECAYS[kind], None, PEAK, low)])
    # Hugging Face's other arguments, with a schedule that is put in the place of theirs.
    others = {
        key: value for key, value in given.items() if key not in ("lr_scheduler_kwargs", "warmup_ratio")
    }
    converted = training_arguments({**others, "lr_scheduler_type": "constant", "warmup_steps": 0}, None, lr)
    peak = lr if lr is not None else read("learning_rate", given.get("learning_rate", RATE))
    text = product(peak, path([*rise, Piece(f"repeat(hold(1/3) >> {fall}, 1)")]))
    return replace(converted, hypers={**converted.hypers, "lr": text})


def _loraplus(given: Mapping[str, Any], traps: list[str]) -> dict[str, Any]:
    if "loraplus_lr_ratio" not in given:
        return {}
    ratio, rate = (
        read(key, given.get(key, usual))
        for key, usual in (("loraplus_lr_ratio", None), ("loraplus_lr_embedding", 1e-6))
    )
    traps.append(
        f"LoRA+ also trains vectors at {ratio:g} times the rate, and adapters on embeddings at {rate:g}: for "
        f'these add ("lora_embedding_B", {{"lr": {rate!r}}}) in front.'
    )
    return {"groups": [("lora_B", {"lr_scale": ratio})]}
