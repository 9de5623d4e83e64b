"""One number for a text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from etude.train.baselines import Baseline, mean_value, ridge_probe
from etude.train.tasks import Task, as_array, task

if TYPE_CHECKING:
    import torch


@task
class Regression(Task):
    """One number: squared error, its root, the mean absolute error, and the share of variance explained (r2).

    >>> score = Regression().score([[1.0], [2.0], [4.0]], [1.0, 2.0, 3.0])
    >>> {metric: round(value, 3) for metric, value in score.items()}
    {'loss': 0.333, 'rmse': 0.577, 'mae': 0.333, 'r2': 0.5}
    """

    name: ClassVar[str] = "regression"
    metrics: ClassVar[Mapping[str, bool]] = {"loss": False, "rmse": False, "mae": False, "r2": True}
    metric: ClassVar[str] = "rmse"
    paired: ClassVar[str] = "squared_error"

    def head(self, labels: Sequence[str] | None) -> dict[str, Any]:
        names = {0: "value"}
        return {
            "num_labels": 1,
            "id2label": names,
            "label2id": {name: i for i, name in names.items()},
            "problem_type": "regression",
        }

    def targets(self, labels: Sequence[float]) -> "torch.Tensor":
        import torch

        return torch.tensor(labels, dtype=torch.float32)

    def losses(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        return (logits.float().squeeze(-1) - labels).square()

    def predictions(self, logits: Any) -> np.ndarray:
        return as_array(logits).squeeze(-1)

    def score(self, logits: Any, labels: Any) -> dict[str, float]:
        truth = as_array(labels)
        error = self.predictions(logits) - truth
        squared, variance = float(np.mean(error**2)), float(np.var(truth))
        return {
            "loss": squared,
            "rmse": squared**0.5,
            "mae": float(np.abs(error).mean()),
            "r2": 1 - squared / variance if variance > 0 else float("nan"),
        }

    def quality(self, predictions: Any, labels: Any) -> np.ndarray:
        return (as_array(predictions) - as_array(labels)) ** 2

    def baselines(
        self, features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], outputs: int, metric: str
    ) -> tuple[Baseline, ...]:
        return ridge_probe(self, features, labels, metric), mean_value(self, labels)
