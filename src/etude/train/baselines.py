"""What a fine-tuned model must beat: the trivial guess, and a fair linear probe of the frozen model."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from etude.errors import MissingExtra

if TYPE_CHECKING:
    from etude.train.tasks import Task

C = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
ALPHA = (1e5, 3e4, 1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 1.0)


class Baseline(NamedTuple):
    """A baseline on the test part; `metrics` also hold the setting that was chosen on validation."""

    name: str
    metrics: dict[str, float]
    predictions: np.ndarray


class Paired(NamedTuple):
    """The mean difference of two models over the same `n` examples, and its standard error."""

    difference: float
    standard_error: float
    n: int


def paired(ours: Any, theirs: Any) -> Paired:
    """Compare two models example by example: `ours` minus `theirs`, as `Task.quality` gives them.

    The examples' difficulty cancels, so this standard error, of the mean of the differences, is far smaller
    than that of either score (Dietterich 1998, doi:10.1162/089976698300017197).

    >>> difference, standard_error, n = paired([1, 1, 0, 1, 1], [1, 0, 0, 1, 0])
    >>> difference, round(standard_error, 3), n
    (0.4, 0.245, 5)
    """
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    n = len(difference)
    error = float(difference.std(ddof=1)) / n**0.5 if n > 1 else float("nan")
    return Paired(float(difference.mean()), error, n)


def linear_probe(
    task: "Task",
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: int,
    metric: str,
) -> Baseline:
    """Logistic regression on standardised features; C is the one of 9 with the best validation metric."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", "train") from error

    def fits(x: np.ndarray) -> Iterable[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]:
        probe = LogisticRegression(max_iter=300, warm_start=True)
        for c in C:
            probe.set_params(C=c).fit(x, labels["train"])

            def logits(rows: np.ndarray) -> np.ndarray:
                known = np.maximum(probe.predict_proba(rows), 1e-12)
                out = np.full((len(rows), classes), 1e-12)  # for a class without a training example
                out[:, probe.classes_] = known
                return np.log(out)

            yield {"C": c}, logits

    with warnings.catch_warnings():
        # at large C the optimum lies far out and is not worth the wait: validation refuses those fits
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _best("linear probe", task, features, labels, metric, fits)


def ridge_probe(
    task: "Task", features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], metric: str
) -> Baseline:
    """Ridge regression on standardised features; alpha is the one of 10 with the best validation metric."""
    y = labels["train"]

    def fits(x: np.ndarray) -> Iterable[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]:
        # one decomposition serves every alpha (Hastie et al., The Elements of Statistical Learning, 3.4.1)
        u, s, vt = np.linalg.svd(x, full_matrices=False)
        uy, mean = u.T @ (y - y.mean()), y.mean()
        for alpha in ALPHA:
            weights = vt.T @ (s / (s**2 + alpha) * uy)
            yield {"alpha": alpha}, lambda rows, w=weights: (rows @ w + mean)[:, None]

    return _best("ridge probe", task, features, labels, metric, fits)


def majority_class(task: "Task", labels: Mapping[str, np.ndarray], classes: int) -> Baseline:
    """Every class with its share in train: predicts the most frequent one."""
    share = np.bincount(labels["train"], minlength=classes) / len(labels["train"])
    return _constant("majority class", task, labels, np.log(np.maximum(share, 1e-12)))


def mean_value(task: "Task", labels: Mapping[str, np.ndarray]) -> Baseline:
    """The mean of train for every text."""
    return _constant("mean", task, labels, np.array([labels["train"].mean()]))


def _constant(name: str, task: "Task", labels: Mapping[str, np.ndarray], logits: np.ndarray) -> Baseline:
    every = np.tile(logits, (len(labels["test"]), 1))
    return Baseline(name, task.score(every, labels["test"]), task.predictions(every))


_Fits = Callable[[np.ndarray], Iterable[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]]


def _best(
    name: str,
    task: "Task",
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    metric: str,
    fits: _Fits,
) -> Baseline:
    """Fit on train, choose on validation (the most regularised of equals, which is first), score on test."""
    x = {part: np.asarray(values, dtype=np.float64) for part, values in features.items()}
    mean, deviation = x["train"].mean(axis=0), x["train"].std(axis=0)
    deviation[deviation == 0] = 1.0
    x = {part: (values - mean) / deviation for part, values in x.items()}
    sign = 1 if task.metrics[metric] else -1
    best, logits, setting = -np.inf, np.empty(0), {}
    for chosen, predict in fits(x["train"]):
        value = sign * task.score(predict(x["validation"]), labels["validation"])[metric]
        if value > best or not setting:
            best, setting, logits = value, chosen, predict(x["test"])
    return Baseline(name, task.score(logits, labels["test"]) | setting, task.predictions(logits))
