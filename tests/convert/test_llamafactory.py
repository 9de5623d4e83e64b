"""LLaMA-Factory's YAML against transformers' schedules, with the stages that LLaMA-Factory 0.9.5 makes."""

import pytest

from etude import Plan
from etude.convert.converted import recognised
from etude.convert.llamafactory import llamafactory
from etude.errors import RecipeError

pytestmark = pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps")
BASE = {"stage": "sft", "finetuning_type": "lora", "learning_rate": 1e-4, "max_steps": 97}


def rates(converted, updates=97, hyper="lr"):
    plan = Plan(converted.hypers, tick=converted.tick).over(updates)
    return [plan.at(k)[hyper][0] for k in range(updates)]


def used(kind, warm, updates=97, **options):
    """What transformers' scheduler gives an optimizer."""
    torch = pytest.importorskip("torch", reason="torch")
    optimization = pytest.importorskip("transformers.optimization", reason="transformers")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    scheduler = optimization.get_scheduler(kind, optimizer, warm, updates, scheduler_specific_kwargs=options)
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant_with_warmup"])
def test_the_words_of_hugging_face(kind):
    converted = llamafactory(BASE | {"lr_scheduler_type": kind, "warmup_ratio": 0.1})
    assert rates(converted) == pytest.approx(used(kind, 10), rel=1e-12, abs=1e-18)  # 9.7 updates, rounded up


@pytest.mark.parametrize("warm", [{}, {"warmup_steps": 10}, {"warmup_ratio": 0.1}])
@pytest.mark.parametrize(
    "options", [{}, {"min_lr_ratio": 0.1, "decay_type": "linear"}, {"num_stable_steps": 20}]
)
def test_a_third_is_stable(warm, options):
    said = BASE | {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": options, **warm}
    converted = llamafactory(said)
    left = 97 - (10 if warm else 0)
    stages = {"num_stable_steps": left // 3, "num_decay_steps": left - left // 3, **options}
    expected = used("warmup_stable_decay", 10 if warm else 0, **stages)
    assert rates(converted) == pytest.approx(expected, rel=1e-12, abs=1e-18)
    assert any("stable for a third" in warning for warning in converted.warnings)


@pytest.mark.parametrize("warm", [{"warmup_steps": 10}, {"warmup_ratio": 0.1}])
def test_a_third_of_a_run_of_unknown_length(warm):
    said = {
        **BASE,
        "lr_scheduler_type": "warmup_stable_decay",
        "max_steps": None,
        "weight_decay": 0.1,
        **warm,
    }
    converted = llamafactory(said | {"lr_scheduler_kwargs": {"min_lr_ratio": 0.1}})
    expected = used("warmup_stable_decay", 10, 100, num_stable_steps=30, num_decay_steps=60, min_lr_ratio=0.1)
    assert rates(converted, 100) == pytest.approx(expected, rel=1e-9)
    assert rates(converted, hyper="weight_decay") == [0.1] * 97
    assert converted.total is None


def test_stages_that_are_all_said_are_hugging_faces():
    kwargs = {"num_stable_steps": 50, "num_decay_steps": 37}
    said = BASE | {
        "lr_scheduler_type": "warmup_stable_decay",
        "warmup_steps": 10,
        "lr_scheduler_kwargs": kwargs,
    }
    converted = llamafactory(said)
    assert rates(converted) == pytest.approx(used("warmup_stable_decay", 10, **kwargs), rel=1e-12, abs=1e-18)
    assert not any("a third" in warning for warning in converted.warnings)


def test_loraplus_and_deepspeed():
    converted = llamafactory(BASE | {"loraplus_lr_ratio": 16.0, "deepspeed": "ds_z2.json"})
    assert converted.settings == {"groups": [("lora_B", {"lr_scale": 16.0})]}
    assert any("lora_embedding_B" in warning and "1e-06" in warning for warning in converted.warnings)
    assert any("block in the deepspeed file" in warning for warning in converted.warnings)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lr_scheduler_type": "cosin"}, "did you mean 'cosine'"),
        ({"lr_scheduler_kwargs": {"num_stable_steps": 9}, "max_steps": None}, "say the total"),
        ({"lr_scheduler_kwargs": {"decay_type": "cubic"}, "max_steps": None}, "decay_type: got 'cubic'"),
    ],
)
def test_what_cannot_be_said(more, message):
    with pytest.raises(RecipeError, match=message):
        llamafactory({**BASE, "lr_scheduler_type": "warmup_stable_decay", **more})


def test_the_format_is_known_by_its_keys_and_read_before_hugging_faces():
    assert recognised(BASE) == ["llamafactory"]
    assert recognised(BASE | {"lr_scheduler_type": "cosine", "num_train_epochs": 3}) == ["llamafactory"]


def test_a_length_that_the_data_decides():
    for said in ({"max_steps": -1}, {"max_steps": None}, {"max_steps": 0}):
        assert llamafactory({**BASE, "lr_scheduler_type": "cosine", **said}).total is None
    third = llamafactory({**BASE, "lr_scheduler_type": "warmup_stable_decay", "max_steps": -1})
    assert third.hypers["lr"] == "0.0001 * repeat(hold(1/3) >> cosine(), 1)"
