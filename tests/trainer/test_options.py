"""The options of `etude.plan` through `attach`: they reach the weights, and what is no option is refused."""

import pytest
import torch

from etude.errors import PlanError
from etude.trainer import attach


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def test_conventions_freezing_and_what_is_new_reach_the_weights(make, record):
    trainer = make()
    before = weights(trainer)
    attached = attach(
        trainer, 0.25, layer_decay=0.5, convention="beit", head=4, new=["pooler.dense.weight"],
        freeze=["embeddings", r"layer\.1\.output"],
    )  # fmt: skip
    trainer.add_callback(record(unit=True))
    trainer.train()
    expected = {
        "embeddings.frozen": 0, "layer.0": 0.25, "layer.1": 0.5, "top": 1, "head": 4,
    }  # fmt: skip
    moved = {}
    for name, parameter in trainer.model.named_parameters():
        still = "embeddings" in name or "layer.1.output" in name
        delta = before[name] - parameter.detach()
        assert torch.equal(delta, torch.zeros_like(delta)) == still
        moved[name] = 0 if still else delta.mean().item() / (6 * 0.25)
    assert moved["bert.encoder.layer.0.output.dense.weight"] == pytest.approx(expected["layer.0"], rel=1e-5)
    assert moved["bert.encoder.layer.1.intermediate.dense.bias"] == pytest.approx(0.5, rel=1e-5)
    assert moved["bert.pooler.dense.bias"] == pytest.approx(1, rel=1e-5)
    assert moved["bert.pooler.dense.weight"] == moved["classifier.bias"] == pytest.approx(4, rel=1e-5)
    assert "embeddings+layer.1.frozen" in {group.name for group in attached.plan.groups}


def test_stages_are_of_the_trainers_epochs(make, used):
    trainer = make(num_train_epochs=4, train=8)
    attach(trainer, 0.1, stages='unfreeze("1ep")', layer_decay=0.5)
    rates = used(trainer)
    assert [row["head"] for row in rates] == [0.1] * 8
    assert [row["layer.1..top"] for row in rates] == [0] * 2 + [0.1] * 6
    assert [row["layer.0"] for row in rates] == [0] * 4 + [0.05] * 4
    assert [row["embeddings"] for row in rates] == [0] * 6 + [0.025] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"llrd": 0.9}, "attach has no 'llrd'; write layer_decay"),
        ({"layer_deacy": 0.9}, "attach has no 'layer_deacy'; did you mean 'layer_decay'"),
        ({"only": "encoder"}, "a trainer has one optimizer"),
    ],
)
def test_what_is_no_option_is_refused_at_once(make, options, message):
    with pytest.raises(PlanError, match=message):
        attach(make(), 0.1, **options)


def test_a_plan_and_its_options_contradict_each_other(make):
    with pytest.raises(PlanError, match="plan= says it all, and lr, freeze was given too"):
        attach(make(), 0.1, plan=lambda model: None, freeze="embeddings")
