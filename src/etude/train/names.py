"""The names that Hugging Face users know, and the native words that say the same.

A name says only what it says: what a recipe leaves open has étude's default, not that of `TrainingArguments`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from etude.convert.huggingface.arguments import warmup
from etude.convert.huggingface.types import CONTROLLERS, curve
from etude.convert.values import number, whole
from etude.errors import RecipeError

# These say the schedule together, and with the peak.
SCHEDULE = ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_ratio", "warmup_steps")


class Renamed(NamedTuple):
    """One use of an old name: what was written, and the native word and value that it became."""

    old: str
    value: Any
    native: str
    native_value: Any

    def __str__(self) -> str:
        return f"{self.old}: {self.value} is {self.native}: {self.native_value}"


def _kept(value: Any) -> Any:
    """`save_total_limit` counts the best checkpoint, `keep` does not; one to resume from always stays."""
    return max(1, whole(value) - 1)


def _evaluations(value: Any) -> Any:
    # YAML reads a bare `no` as false.
    known = {"epoch": "1ep", "no": "100%", False: "100%"}
    if value not in known:
        raise ValueError("must be epoch or no; for steps write eval_steps")
    return known[value]


def _metric(value: Any) -> Any:
    return str(value).removeprefix("eval_")


def _clip(value: Any) -> Any:
    return None if value is None or number(value) == 0 else value


def _updates(value: Any) -> Any:
    return None if value is None or whole(value) == -1 else value


def _precision(name: str) -> Callable[[Any], str]:
    def convert(on: Any) -> str:
        if not isinstance(on, bool):
            raise ValueError("must be true or false")
        return name if on else "no"

    return convert


def _same(value: Any) -> Any:
    return value


WORDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "model_name_or_path": ("model", _same),
    "train_file": ("data", _same),
    "dataset_name": ("data", _same),
    "text_column": ("text", _same),
    "text_column_name": ("text", _same),
    "text_column_names": ("text", _same),
    "label_column": ("label", _same),
    "label_column_name": ("label", _same),
    "max_seq_length": ("max_length", _same),
    "learning_rate": ("lr", _same),
    "max_lr": ("lr", _same),
    "base_lr": ("lr", _same),
    "layerwise_lr_decay": ("layer_decay", _same),
    "llrd": ("layer_decay", _same),
    "layer_decay_min_scale": ("min_scale", _same),
    "embedding_lr_scale": ("embeddings", _same),
    "num_train_epochs": ("epochs", _same),
    "max_steps": ("updates", _updates),
    "per_device_train_batch_size": ("batch", _same),
    "gradient_accumulation_steps": ("accumulate", _same),
    "max_grad_norm": ("clip", _clip),
    "eval_steps": ("eval_every", _same),
    "eval_strategy": ("eval_every", _evaluations),
    "evaluation_strategy": ("eval_every", _evaluations),
    "metric_for_best_model": ("metric", _metric),
    "early_stopping_patience": ("patience", _same),
    "logging_steps": ("log_every", _same),
    "save_total_limit": ("keep", _kept),
    "run_name": ("name", _same),
    "output_dir": ("output", _same),
    "bf16": ("precision", _precision("bf16")),
    "fp16": ("precision", _precision("fp16")),
}

# Known, and with nothing to say here: what to do instead.
WITHOUT = {
    "optim": "the optimizer is AdamW",
    "adam_beta1": "AdamW's betas are 0.9 and 0.999",
    "adam_beta2": "AdamW's betas are 0.9 and 0.999",
    "do_train": "a run always trains, evaluates and tests",
    "do_eval": "a run always trains, evaluates and tests",
    "greater_is_better": "each metric knows its better direction",
    "load_best_model_at_end": "RUN/model is always the best checkpoint",
    "per_device_eval_batch_size": "evaluation chooses its own batches",
    "save_steps": "every evaluation saves a checkpoint: write eval_every",
    "save_strategy": "every evaluation saves a checkpoint: write eval_every",
    "overwrite_output_dir": "nothing is ever written over: choose another output",
    "resume_from_checkpoint": "write: etude finetune --resume RUN",
    "validation_file": "one data set is split: write split",
    "test_file": "one data set is split: write split",
    "report_to": "the run's log is RUN/log.jsonl, its report RUN/report.html",
}


def translate(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Renamed]]:
    """What one source (a recipe file, a command line) gives, in native words, without the schedule's names.

    Raises `RecipeError` for an old name beside its native word or another old name of it, and for a value
    that has no native one.

    >>> translate({"learning_rate": 2e-5, "max_grad_norm": 0})[0]
    {'lr': 2e-05, 'clip': None}
    """
    native = {key: value for key, value in given.items() if key not in WORDS and key not in SCHEDULE}
    records: dict[str, Renamed] = {}
    for old, value in given.items():
        if old in WITHOUT:
            raise RecipeError(f"{old}: étude has no such key, {WITHOUT[old]}; leave the line out")
        if old not in WORDS or (old.endswith("_strategy") and value == "steps" and "eval_steps" in given):
            continue
        word, convert = WORDS[old]
        record = Renamed(old, value, word, _converted(old, value, convert))
        before = records.get(word)
        if word in given or (before and word != "precision"):
            raise RecipeError(
                f"{old} and {before.old if before else word} both say {word}: "
                f"{given[old]!r} and {before.value if before else given[word]!r}; write one of them"
            )
        if before and "no" not in (before.native_value, record.native_value):
            raise RecipeError("bf16 and fp16 are both on; write precision: bf16 or precision: fp16")
        if before and record.native_value == "no":
            continue
        records[word] = record
    return native | {word: record.native_value for word, record in records.items()}, list(records.values())


def _converted(old: str, value: Any, convert: Callable[[Any], Any]) -> Any:
    try:
        return convert(value)
    except ValueError as error:
        raise RecipeError(f"{old}: got {value!r}; {error}") from None


def schedule(said: Mapping[str, Any], lr: Any, default: str) -> list[Renamed]:
    """The schedule that the names in `SCHEDULE` say together, one record each, all with the same native text.

    `lr` is the peak, by which an absolute floor is divided. `lr_scheduler_type` names a whole curve and is
    taken as that, without the warm-up of `default`; without it the warm-up goes before what follows the
    warm-up in `default`. Raises `RecipeError` for what transformers takes and a reader would misread.

    >>> schedule({"lr_scheduler_type": "linear", "warmup_ratio": 0.06}, 2e-5, "")[0].native_value
    'warmup(0.06) >> linear()'
    """
    kind, steps = said.get("lr_scheduler_type"), said.get("warmup_steps", 0)
    if {"warmup_ratio", "warmup_steps"} <= said.keys():
        raise RecipeError(
            f"warmup_ratio and warmup_steps both say the warm-up: {said['warmup_ratio']!r} and {steps!r}; "
            f"write one of them"
        )
    warm = warmup(said, [])
    if steps != "1" and not hasattr(steps, "__index__") and float(steps) == 1:
        raise RecipeError(
            f"warmup_steps: {steps!r} is ambiguous: write 1 for one update; a warm-up over the whole run is "
            f'schedule: warmup("100%")'
        )
    if kind in CONTROLLERS:
        raise RecipeError(
            f"lr_scheduler_type: {kind}: a controller is no schedule; write schedule: hold() and "
            f"control: [{'greedy' if kind == 'greedy' else 'plateau'}]"
        )
    if kind == "constant" and warm:
        raise RecipeError(
            f"lr_scheduler_type: constant has no warm-up, and one of {warm} is given; "
            f"write lr_scheduler_type: constant_with_warmup"
        )
    if "lr_scheduler_type" in said:
        written, _ = curve(kind, said.get("lr_scheduler_kwargs"), warm, lr)
    elif "lr_scheduler_kwargs" in said:
        raise RecipeError(
            "lr_scheduler_kwargs says nothing without lr_scheduler_type; write both, or schedule"
        )
    else:
        rest = default.partition(" >> ")[2]
        written = f"warmup({warm!r}) >> {rest}" if warm else rest
    return [Renamed(old, value, "schedule", written) for old, value in said.items()]
