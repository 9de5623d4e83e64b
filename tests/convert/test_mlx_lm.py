"""mlx-lm's configuration against mlx's own schedules in a real optimizer, joined as mlx-lm joins them."""

import pytest

from etude import Plan
from etude.convert.converted import recognised
from etude.convert.mlx_lm import mlx_lm
from etude.errors import RecipeError

mx = pytest.importorskip("mlx.core", reason="mlx")
from mlx import optimizers  # noqa: E402

UPDATES = 97


def used(schedule, updates=UPDATES):
    """The rates that an optimizer of mlx uses with the schedule that mlx-lm builds (`tuner/utils.py`)."""
    rate = getattr(optimizers, schedule["name"])(*schedule["arguments"])
    if warm := schedule.get("warmup", 0):
        rise = optimizers.linear_schedule(schedule.get("warmup_init", 0.0), schedule["arguments"][0], warm)
        rate = optimizers.join_schedules([rise, rate], [warm + 1])
    optimizer = optimizers.SGD(learning_rate=rate)
    weights, found = {"w": mx.zeros(1)}, []
    for _ in range(updates):
        weights = optimizer.apply_gradients({"w": mx.ones(1)}, weights)
        found.append(optimizer.learning_rate.item())
    return found


def rates(converted, updates=UPDATES):
    plan = Plan(converted.hypers, tick=converted.tick).over(updates)
    return [plan.at(k)["lr"][0] for k in range(updates)]


@pytest.mark.parametrize(
    "warm", [{}, {"warmup": 1}, {"warmup": 10}, {"warmup": 10, "warmup_init": 1e-7}, {"warmup": 120}]
)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cosine_decay", [1e-5, 60]),
        ("cosine_decay", [1e-5, 60, 1e-7]),
        ("cosine_decay", [1e-5, 500, 1e-7]),
        ("linear_schedule", [1e-5, 1e-6, 60]),
        ("linear_schedule", [1e-6, 1e-5, 60]),
        ("exponential_decay", [1e-5, 0.97]),
        ("step_decay", [1e-5, 0.5, 20]),
    ],
)
def test_schedules(name, arguments, warm):
    schedule = {"name": name, "arguments": arguments, **warm}
    converted = mlx_lm({"lr_schedule": schedule, "iters": UPDATES})
    assert rates(converted) == pytest.approx(used(schedule), rel=1e-6, abs=1e-11)


def test_the_rate_is_held_without_a_schedule():
    assert rates(mlx_lm({"iters": 97, "learning_rate": "2e-5"})) == [2e-5] * 97
    assert mlx_lm({"iters": 97, "num_layers": 8}).hypers == {"lr": "1e-05 * hold()"}


def test_batches_are_no_updates():
    schedule = {"name": "cosine_decay", "arguments": [1e-5, 97]}
    converted = mlx_lm({"lr_schedule": schedule, "iters": 400, "grad_accumulation_steps": 4})
    assert converted.total == 100
    assert rates(converted, 100) == pytest.approx(used(schedule, 100), rel=1e-6, abs=1e-11)
    assert any("4 to an update" in warning for warning in converted.warnings)


def test_the_traps():
    schedule = {"name": "cosine_decay", "arguments": [1e-5, 97], "warmup": 10}
    warnings = mlx_lm({"lr_schedule": schedule, "learning_rate": 2e-5}).warnings
    assert any("update 10 and the next" in warning for warning in warnings)
    assert any("learning_rate is never used" in warning for warning in warnings)


def test_weight_decay():
    said = {"iters": 97, "learning_rate": 1e-5, "optimizer": "adamw"}
    assert mlx_lm(said).hypers["weight_decay"] == "0.01"
    assert optimizers.AdamW(1e-5).weight_decay == 0.01
    config = {"adamw": {"weight_decay": 0.1}}
    assert mlx_lm({**said, "optimizer_config": config}).hypers["weight_decay"] == "0.1"
    assert "weight_decay" not in mlx_lm({**said, "optimizer": "adam"}).hypers


def test_another_peak():
    said = {"lr_schedule": {"name": "cosine_decay", "arguments": [1e-5, 97]}}
    assert rates(mlx_lm(said, total=97, lr=1e-4))[0] == 1e-4


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"name": "cosine", "arguments": [1e-5, 97]}, "did you mean 'cosine_decay'"),
        ({"name": "cosine_decay", "arguments": [1e-5]}, "takes arguments: "),
        ({"name": "cosine_decay", "arguments": {"init": 1e-5}}, "takes arguments: "),
        ({"name": "cosine_decay", "arguments": ["high", 97]}, "init: got 'high'"),
        ({"name": "linear_schedule", "arguments": [0, 0, 97]}, "no rate above 0"),
        ({"name": "exponential_decay", "arguments": [1e-5, 0.1]}, "leaves nothing"),
    ],
)
def test_what_cannot_be_said(schedule, message):
    with pytest.raises(RecipeError, match=message):
        mlx_lm({"lr_schedule": schedule})


def test_the_format_is_known_by_its_schedule_or_its_iters():
    assert recognised({"lr_schedule": {"name": "cosine_decay", "arguments": []}}) == ["mlx-lm"]
    assert recognised({"iters": 100, "learning_rate": 1e-5, "model": "x"}) == ["mlx-lm"]
