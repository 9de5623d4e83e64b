"""One label of n for a text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from etude.train.baselines import Baseline, linear_probe, majority_class
from etude.train.tasks import Task, as_array, task

if TYPE_CHECKING:
    import torch


@task
class Classification(Task):
    """One label of n: cross-entropy, accuracy, and macro-F1 (the mean of the classes' F1).

    >>> score = Classification().score([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [0, 1, 1, 0])
    >>> {metric: round(value, 3) for metric, value in score.items()}
    {'loss': 0.451, 'accuracy': 0.75, 'macro_f1': 0.733}
    """

    name: ClassVar[str] = "classification"
    metrics: ClassVar[Mapping[str, bool]] = {"loss": False, "accuracy": True, "macro_f1": True}
    metric: ClassVar[str] = "accuracy"
    paired: ClassVar[str] = "accuracy"

    def head(self, labels: Sequence[str] | None) -> dict[str, Any]:
        names = dict(enumerate(labels or ()))
        return {
            "num_labels": len(names),
            "id2label": names,
            "label2id": {name: i for i, name in names.items()},
            "problem_type": "single_label_classification",
        }

    def targets(self, labels: Sequence[float]) -> "torch.Tensor":
        import torch

        return torch.tensor(labels, dtype=torch.long)

    def losses(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), labels, reduction="none")

    def predictions(self, logits: Any) -> np.ndarray:
        return as_array(logits).argmax(axis=1)

    def score(self, logits: Any, labels: Any) -> dict[str, float]:
        logits, truth = as_array(logits), np.asarray(labels, dtype=np.int64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_likelihood = shifted[np.arange(len(truth)), truth] - np.log(np.exp(shifted).sum(axis=1))
        confusion = np.zeros((logits.shape[1],) * 2)
        np.add.at(confusion, (truth, logits.argmax(axis=1)), 1)
        seen = confusion.sum(axis=0) + confusion.sum(axis=1)  # a class neither true nor predicted has no F1
        f1 = 2 * confusion.diagonal()[seen > 0] / seen[seen > 0]
        return {
            "loss": float(-log_likelihood.mean()),
            "accuracy": float(confusion.trace() / len(truth)),
            "macro_f1": float(f1.mean()),
        }

    def quality(self, predictions: Any, labels: Any) -> np.ndarray:
        return (np.asarray(predictions) == np.asarray(labels)).astype(np.float64)

    def baselines(
        self, features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], outputs: int, metric: str
    ) -> tuple[Baseline, ...]:
        return (
            linear_probe(self, features, labels, outputs, metric),
            majority_class(self, labels, outputs),
        )
