"""What a finished run's model says about new texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from etude.errors import CheckpointError, DataError
from etude.train import folder as folders


class Prediction(NamedTuple):
    """One text: the label with all probabilities, or for regression the value (and no probabilities)."""

    text: str
    label: str
    value: float
    probabilities: dict[str, float]


def predict(run: str | Path, texts: Sequence[str]) -> list[Prediction]:
    """Predictions of the model in `run`, a run folder or a model folder, in the order of `texts`.

    Raises `CheckpointError` when there is no finished model, `DataError` when there is no text.
    """
    from accelerate import Accelerator

    from etude.train import pretrained, tasks
    from etude.train.evaluation import logits

    if not texts:
        raise DataError("there is no text to predict a label for")
    folder = _model_folder(Path(run))
    model, tokenizer = pretrained.trained(folder)
    regression = model.config.problem_type == "regression"
    task = tasks.get("regression" if regression else "classification")
    accelerator = Accelerator()
    encoded = task.encode(tokenizer, texts, tokenizer.model_max_length)
    found = logits(accelerator, model.to(accelerator.device), task, tokenizer, encoded)
    if regression:
        return [
            Prediction(text, f"{row[0]:.6g}", float(row[0]), {})
            for text, row in zip(texts, found, strict=True)
        ]
    names = [model.config.id2label[i] for i in range(found.shape[1])]
    shifted = np.exp(found - found.max(axis=1, keepdims=True))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    return [
        Prediction(
            text, names[int(row.argmax())], float(row.max()), dict(zip(names, map(float, row), strict=True))
        )
        for text, row in zip(texts, shares, strict=True)
    ]


def _model_folder(run: Path) -> Path:
    for folder in (run / "model", run):
        if (folder / "config.json").is_file():
            return folder
    run = folders.find(run).path
    raise CheckpointError(f"{run} has no model yet; go on with it: etude finetune --resume {run}")
