"""A run's model, asked by `predict`, by `pipeline` and by the run itself, says the same."""

import json
import math

import pytest
from transformers import pipeline

import etude
from etude.errors import DataError
from etude.train import data
from etude.train.evaluation import PARTS
from etude.train.prediction import predict


def test_pipeline_predict_and_the_runs_own_test_say_the_same(finished, tiny):
    dataset = data.load(str(tiny.data), split=(161, 19, 20), seed=17)
    texts = [*dataset.test.texts]
    ours = predict(finished, texts)
    theirs = pipeline("text-classification", str(finished / "model"), device="cpu", top_k=None)(texts)
    for one, other in zip(ours, theirs, strict=True):
        assert one.label == other[0]["label"]
        assert one.value == pytest.approx(other[0]["score"], abs=1e-6)
        expected = {entry["label"]: entry["score"] for entry in other}
        assert one.probabilities == pytest.approx(expected, abs=1e-6)
        assert sum(one.probabilities.values()) == pytest.approx(1)
    truth = [dataset.labels[y] for y in dataset.test.labels]
    right = sum(one.label == label for one, label in zip(ours, truth, strict=True))
    result = json.loads((finished / "best.json").read_text())
    assert right / len(texts) == result["test"]["fine-tuned"]["accuracy"] > 0.5
    likely = [one.probabilities[label] for one, label in zip(ours, truth, strict=True)]
    loss = -sum(map(math.log, likely)) / len(texts)
    assert loss == pytest.approx(result["test"]["fine-tuned"]["loss"], rel=1e-5)


def test_regression_from_end_to_end(tiny, tmp_path):
    run = etude.finetune(
        output=tmp_path / "run", **tiny.keys(data=str(tiny.numbers), task="regression", epochs=6)
    )
    result = run.result
    assert set(result["test"]) == {"fine-tuned", "ridge probe", "mean"}
    assert set(result["test"]["fine-tuned"]) == {"loss", "rmse", "mae", "r2"}
    assert result["test"]["fine-tuned"]["rmse"] < 0.8 * result["test"]["mean"]["rmse"]
    assert (result["metric"], result["greater_is_better"]) == ("rmse", False)
    assert result["paired"]["metric"] == "squared_error"
    difference = result["test"]["fine-tuned"]["loss"] - result["test"]["ridge probe"]["loss"]
    assert result["paired"]["difference"] == pytest.approx(difference)
    dataset = data.load(str(tiny.numbers), split=(161, 19, 20), seed=17)
    found = predict(run.folder, dataset.test.texts)
    error = [one.value - y for one, y in zip(found, dataset.test.labels, strict=True)]
    rmse = (sum(e * e for e in error) / len(error)) ** 0.5
    assert rmse == pytest.approx(result["test"]["fine-tuned"]["rmse"], rel=1e-5)
    theirs = pipeline("text-classification", str(run.model), device="cpu")(list(dataset.test.texts))
    assert [one["score"] for one in theirs] == pytest.approx([one.value for one in found], abs=1e-5)
    assert float(found[0].label) == pytest.approx(found[0].value, rel=1e-5)
    assert found[0].probabilities == {}


def test_texts_longer_than_in_training_are_cut_alike_everywhere(finished):
    long = "great " * 10 + "awful " * 500
    ours = predict(finished, [long])[0]
    theirs = pipeline("text-classification", str(finished / "model"), device="cpu")(long, truncation=True)
    assert (ours.label, ours.value) == (theirs[0]["label"], pytest.approx(theirs[0]["score"], abs=1e-6))
    assert predict(finished, ["great " * 10 + "awful " * 20])[0].value == pytest.approx(ours.value, abs=1e-6)


def test_no_text_is_no_prediction(finished):
    with pytest.raises(DataError, match="no text"):
        predict(finished, [])


@pytest.mark.slow
def test_every_part_is_predicted_in_the_order_of_its_texts(finished, tiny):
    """More texts than a batch of the evaluation, which sorts them by length on the way."""
    dataset = data.load(str(tiny.data), split=(161, 19, 20), seed=17)
    texts = [text for part in PARTS for text in getattr(dataset, part).texts]
    together = predict(finished, texts)
    assert [one.text for one in together] == texts
    for i in (0, 70, 150, 199):
        assert together[i].value == pytest.approx(predict(finished, [texts[i]])[0].value, abs=1e-5)
