"""What a model says about a part of the data, and how it compares with the baselines on the same texts."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from etude.torch.modes import kept_modes
from etude.train.data import PARTS, Dataset
from etude.train.tasks import Encoded, Task

# Texts per forward pass without gradients; sorted by length first, so that little is padded.
BATCH = 64


def logits(accelerator: Any, model: Any, task: Task, tokenizer: Any, encoded: Encoded) -> np.ndarray:
    """The model's logits [text, output] in the order of the texts, on every process alike."""

    # Processes have different numbers of batches, and DDP's own forward would wait for the others'.
    model = accelerator.unwrap_model(model)

    def forward(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**batch).logits.float()

    with kept_modes(model), torch.inference_mode():
        model.eval()
        return _by_length(accelerator, task, tokenizer, encoded, forward)


def features(accelerator: Any, model: Any, task: Task, tokenizer: Any, encoded: Encoded) -> np.ndarray:
    """What the model's own pooling hands to its head, [text, feature]."""
    return _by_length(accelerator, task, tokenizer, encoded, lambda batch: task.features(model, batch))


def _by_length(
    accelerator: Any,
    task: Task,
    tokenizer: Any,
    encoded: Encoded,
    forward: Callable[[dict[str, torch.Tensor]], torch.Tensor],
) -> np.ndarray:
    order = sorted(range(len(encoded.rows)), key=lambda i: len(encoded.rows[i]["input_ids"]))
    chunks = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    mine: list[tuple[list[int], np.ndarray]] = []
    for chunk in chunks[accelerator.process_index :: accelerator.num_processes]:
        batch = task.collate(tokenizer, encoded, chunk)
        moved = {key: value.to(accelerator.device) for key, value in batch.items()}
        mine.append((chunk, forward(moved).cpu().numpy()))
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        mine = gather_object(mine)
    out = np.empty((len(order), *mine[0][1].shape[1:]), dtype=np.float32)
    for chunk, values in mine:
        out[chunk] = values
    return out


def baselines(
    accelerator: Any,
    model: Any,
    task: Task,
    tokenizer: Any,
    encoded: Mapping[str, Encoded],
    data: Dataset,
    metric: str,
) -> Sequence[Any]:
    """The fair probe and the trivial guess; `model` is the pretrained one, before any update."""
    pooled = {part: features(accelerator, model, task, tokenizer, encoded[part]) for part in PARTS}
    truth = {part: np.asarray(getattr(data, part).labels) for part in PARTS}
    return task.baselines(pooled, truth, model.config.num_labels, metric)


def result(
    task: Task,
    metric: str,
    best: Mapping[str, Any] | None,
    test_logits: np.ndarray,
    data: Dataset,
    rivals: Sequence[Any],
) -> dict[str, Any]:
    """The result as `best.json` and the log hold it: test metrics of the model and of every baseline, and the
    paired difference to the first of them with its standard error; None for what is not a finite number."""
    from etude.train.baselines import paired

    truth = np.asarray(data.test.labels)
    tuned = task.quality(task.predictions(test_logits), truth)
    probe = rivals[0]
    difference = paired(tuned, task.quality(probe.predictions, truth))
    return {
        "metric": metric,
        "greater_is_better": task.metrics[metric],
        "best": best,
        "test": {
            "fine-tuned": _plain(task.score(test_logits, truth)),
            **{rival.name: _plain(rival.metrics) for rival in rivals},
        },
        "paired": {
            "versus": probe.name,
            "metric": task.paired,
            "greater_is_better": task.metrics.get(task.paired, False),
            **_plain(difference._asdict()),
        },
    }


def _plain(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: x if math.isfinite(x) else None for name, x in numbers.items()}
