"""What the tests of the Trainer share: a tiny BERT, random data, and a record of what the optimizer used."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def tiny_bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(
        vocab_size=50, max_position_embeddings=16, initializer_range=0.1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def examples(n: int) -> list[dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(1)
    return [
        {"input_ids": torch.randint(0, 50, (6,), generator=random), "labels": torch.tensor(i % 2)}
        for i in range(n)
    ]


class Used(TrainerCallback):
    """The rate of every group in every update, read by the optimizer itself as it begins to update.

    With `unit` every gradient is 1, so that plain SGD moves each weight by exactly the rate.
    """

    def __init__(self, unit: bool = False):
        self.unit = unit
        self.rates: list[dict[str, float]] = []
        self.hypers: list[list[dict[str, Any]]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        core = more["optimizer"].optimizer
        for hook in list(core._optimizer_step_pre_hooks):
            del core._optimizer_step_pre_hooks[hook]
        core.register_step_pre_hook(self.note)

    def note(self, core: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        groups = core.param_groups
        self.rates.append({group["name"]: float(group["lr"]) for group in groups})
        self.hypers.append([{key: value for key, value in g.items() if key != "params"} for g in groups])
        if self.unit:
            for group in groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.fill_(1)


@pytest.fixture
def make(tmp_path) -> Callable[..., Trainer]:
    """A Trainer of the tiny BERT: 24 examples, 4 a batch, one epoch; keys are those of TrainingArguments."""

    def made(
        *,
        kind: type[Trainer] = Trainer,
        train: Any = 24,
        evaluate: int = 0,
        arguments: type[TrainingArguments] = TrainingArguments,
        folder: str = "run",
        given: dict[str, Any] | None = None,
        **keys: Any,
    ) -> Trainer:
        usual = {
            "output_dir": str(tmp_path / folder), "per_device_train_batch_size": 4, "num_train_epochs": 1,
            "report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no",
            "logging_strategy": "no", "optim": "sgd", "dataloader_pin_memory": False,
        }  # fmt: skip
        data = examples(train) if isinstance(train, int) else train
        own = {"model": tiny_bert()} if "model_init" not in (given or {}) else {}
        return kind(
            args=arguments(**usual | keys),
            train_dataset=data,
            eval_dataset=examples(evaluate) if evaluate else None,
            **own | (given or {}),
        )

    return made


@pytest.fixture
def used() -> Callable[..., list[dict[str, float]]]:
    """Train, and give what each update used."""

    def trained(trainer: Trainer, **keys: Any) -> list[dict[str, float]]:
        record = Used()
        trainer.add_callback(record)
        try:
            trainer.train(**keys)
        finally:
            trainer.remove_callback(record)
        return record.rates

    return trained


@pytest.fixture
def record() -> type[Used]:
    return Used
