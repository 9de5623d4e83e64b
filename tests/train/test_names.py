"""Hugging Face's names: each sets what it sets there, and the curves are transformers' own."""

import math

import pytest
import torch

from etude.convert.huggingface.types import CONTROLLERS, CURVES
from etude.core.text import parse
from etude.errors import RecipeError
from etude.train import names
from etude.train.recipe import FIELDS, Recipe, read

TOTAL, PEAK = 200, 2e-5
FLOORED = {"lr_scheduler_type": "cosine_with_min_lr"}


def recipe(**given) -> Recipe:
    return read(overrides=given)[0]


@pytest.mark.parametrize(
    ("old", "value", "native", "becomes"),
    [
        ("learning_rate", "3e-5", "lr", 3e-5),
        ("model_name_or_path", "bert-base-uncased", "model", "bert-base-uncased"),
        ("train_file", "x.csv", "data", "x.csv"),
        ("dataset_name", "imdb", "data", "imdb"),
        ("text_column_name", "review", "text", "review"),
        ("label_column", "stars", "label", "stars"),
        ("max_seq_length", 128, "max_length", 128),
        ("num_train_epochs", 2, "epochs", 2.0),
        ("max_steps", 100, "updates", 100),
        ("max_steps", -1, "updates", None),
        ("per_device_train_batch_size", 8, "batch", 8),
        ("gradient_accumulation_steps", 4, "accumulate", 4),
        ("max_grad_norm", 0.5, "clip", 0.5),
        ("max_grad_norm", 0, "clip", None),
        ("eval_steps", 50, "eval_every", 50),
        ("eval_steps", 0.25, "eval_every", 0.25),
        ("eval_strategy", "epoch", "eval_every", "1ep"),
        ("eval_strategy", False, "eval_every", "100%"),
        ("metric_for_best_model", "eval_accuracy", "metric", "accuracy"),
        ("early_stopping_patience", 3, "patience", 3),
        ("logging_steps", 5, "log_every", 5),
        ("save_total_limit", 3, "keep", 2),
        ("save_total_limit", 1, "keep", 1),
        ("run_name", "mine", "name", "mine"),
        ("output_dir", "out", "output", "out"),
        ("bf16", True, "precision", "bf16"),
        ("fp16", True, "precision", "fp16"),
        ("fp16", False, "precision", "no"),
        ("layerwise_lr_decay", 0.8, "layer_decay", 0.8),
    ],
)  # fmt: skip
def test_an_old_name_sets_its_native_word_and_says_so(old, value, native, becomes):
    made, renamed = read(overrides={old: value})
    assert getattr(made, native) == becomes
    assert [(r.old, r.value, r.native) for r in renamed] == [(old, value, native)]


def test_every_old_name_stands_for_a_key_of_the_recipe():
    assert {native for native, _ in names.WORDS.values()} <= set(FIELDS)
    assert not ({*names.WORDS, *names.SCHEDULE, *names.WITHOUT} & set(FIELDS))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"learning_rate": 1e-5, "lr": 2e-5}, "learning_rate and lr both say lr: 1e-05 and 2e-05"),
        ({"train_file": "a", "dataset_name": "b"}, "dataset_name and train_file both say data"),
        ({"bf16": True, "fp16": True}, "bf16 and fp16 are both on"),
        ({"bf16": "auto"}, "bf16: got 'auto'; must be true or false"),
        ({"bf16": True, "precision": "no"}, "bf16 and precision both say precision"),
        ({"warmup_ratio": 0.1, "warmup_steps": 10}, "both say the warm-up: 0.1 and 10"),
        ({"warmup_steps": 1.0}, "1.0 is ambiguous: write 1 for one update"),
        ({"warmup_steps": 2.5}, "write whole updates"),
        ({"warmup_steps": -1}, "at least 0"),
        ({"warmup_ratio": 1.5}, "below 1"),
        ({"warmup_ratio": "x"}, "warmup_ratio: got 'x'; must be a number"),
        ({"warmup_ratio": 0.1, "schedule": "hold()"}, "warmup_ratio and schedule"),
        ({"lr_scheduler_type": "linear", "lr": "1e-5 * hold()"}, "both say the schedule"),
        ({"lr_scheduler_type": "cosin"}, "did you mean 'cosine'"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "a controller is no schedule"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "write lr_scheduler_type: constant_w"),
        ({"lr_scheduler_kwargs": {"power": 2}}, "without lr_scheduler_type"),
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"power": 2}}, "linear takes no 'power'"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": "{power"}, "not JSON"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1}}, "not below the peak"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 0.3}}, "neither a top"),
        (FLOORED, "give min_lr"),
        (FLOORED | {"lr_scheduler_kwargs": {"min_lr": 1e-6, "min_lr_rate": 0.1}}, "both say the floor"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "needs num_decay_steps"),
        ({"num_train_epochs": "many"}, "num_train_epochs (epochs) must be a number"),
        ({"load_best_model_at_end": True}, "RUN/model is always the best checkpoint"),
        ({"eval_strategy": "steps"}, "write eval_steps"),
        ({"eval_strategy": "epoch", "eval_steps": 5}, "both say eval_every"),
    ],
)  # fmt: skip
def test_what_has_no_native_word_or_contradicts_another_is_refused(given, says):
    with pytest.raises(RecipeError) as caught:
        read(overrides=given)
    assert says in str(caught.value)


def test_the_tick_of_a_recipe_is_where_its_plan_is_read():
    assert recipe().tick == 0.5
    assert recipe(tick=0).tick == 0
    with pytest.raises(RecipeError, match="tick"):
        recipe(tick=2)


def test_steps_beside_eval_steps_say_one_thing():
    assert recipe(eval_strategy="steps", eval_steps=50).eval_every == 50


def test_a_warm_up_alone_changes_only_the_warm_up_of_the_default():
    assert recipe(warmup_ratio=0.06).schedule == "warmup(0.06) >> cosine(to=0.01)"
    assert recipe(warmup_steps=500).schedule == "warmup(500) >> cosine(to=0.01)"
    assert recipe(warmup_steps=0).schedule == "cosine(to=0.01)"
    assert recipe(warmup_steps="1e3").schedule == "warmup(1000) >> cosine(to=0.01)"
    assert recipe(warmup_steps=0.5).schedule == "warmup(0.5) >> cosine(to=0.01)"


def test_an_absolute_floor_is_divided_by_the_peak_that_is_in_force(tmp_path):
    path = tmp_path / "hf.yaml"
    path.write_text(
        "learning_rate: 1e-5\nlr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-6}\n"
    )
    assert parse(read(path)[0].lr_schedule).over(10)(10) == 1e-6
    assert parse(read(path, ["lr=4e-5"])[0].lr_schedule).over(10)(10) == 1e-6
    path.write_text("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-6}\n")
    assert parse(read(path)[0].lr_schedule).over(10)(10) == 1e-6


CASES = [
    ("linear", 20, {}),
    ("linear", 0, {}),
    ("linear", 0.1, {}),
    ("cosine", 20, {}),
    ("cosine", 20, {"num_cycles": 1}),
    ("cosine", 0, {"num_cycles": 1.5}),
    ("cosine_with_restarts", 20, {}),
    ("cosine_with_restarts", 20, {"num_cycles": 3}),
    ("polynomial", 20, {}),
    ("polynomial", 20, {"power": 3, "lr_end": 1e-6}),
    ("polynomial", 0, {"power": 0.5, "lr_end": 0}),
    ("constant", 0, {}),
    ("constant_with_warmup", 20, {}),
    ("inverse_sqrt", 20, {}),
    ("inverse_sqrt", 20, {"timescale": 50}),
    ("inverse_sqrt", 0, {}),
    ("cosine_with_min_lr", 20, {"min_lr": 1e-6}),
    ("cosine_with_min_lr", 20, {"min_lr_rate": 0.1, "num_cycles": 1}),
    ("warmup_stable_decay", 20, {"num_decay_steps": 50}),
    ("warmup_stable_decay", 0, {"num_decay_steps": 50, "decay_type": "linear"}),
    ("warmup_stable_decay", 20, {"num_decay_steps": 50, "num_stable_steps": 80, "min_lr_ratio": 0.1}),
    ("warmup_stable_decay", 20, {"num_decay_steps": 50, "num_stable_steps": 130, "decay_type": "1-sqrt"}),
    ("warmup_stable_decay", 20, {"num_decay_steps": 50, "warmup_type": "cosine", "min_lr_ratio": 0.2}),
    ("warmup_stable_decay", 20, {"num_decay_steps": 50, "warmup_type": "1-sqrt"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "warmup", "options"), CASES)
@pytest.mark.filterwarnings("ignore:Both num_training_steps")
def test_the_curve_is_that_of_transformers(kind, warmup, options):
    from transformers.optimization import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    steps = math.ceil(warmup * TOTAL) if isinstance(warmup, float) else warmup
    theirs = get_scheduler(kind, optimizer, steps, TOTAL, scheduler_specific_kwargs=options).lr_lambdas[0]
    made = recipe(lr=PEAK, lr_scheduler_type=kind, warmup_steps=warmup, lr_scheduler_kwargs=options)
    ours = parse(made.lr_schedule).over(TOTAL)
    for k in range(TOTAL):
        assert ours(k) == pytest.approx(PEAK * theirs(k), rel=1e-12, abs=1e-19), k


def test_the_curve_with_its_own_warm_up_is_that_of_transformers_one_update_on():
    from transformers.optimization import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    options = {"min_lr_rate": 0.1}
    theirs = get_scheduler(
        "cosine_warmup_with_min_lr", optimizer, 20, TOTAL, scheduler_specific_kwargs=options
    )
    made = recipe(
        lr=PEAK, lr_scheduler_type="cosine_warmup_with_min_lr", warmup_steps=20, lr_scheduler_kwargs=options
    )
    ours = parse(made.lr_schedule).over(TOTAL)
    for k in range(TOTAL - 1):
        assert ours(k + 1) == pytest.approx(PEAK * theirs.lr_lambdas[0](k), rel=1e-12)


def test_every_curve_of_transformers_is_known_or_refused_by_name():
    from transformers.trainer_utils import SchedulerType

    assert {kind for kind, _, _ in CASES} | {"cosine_warmup_with_min_lr", *CONTROLLERS} == set(CURVES)
    assert {kind.value for kind in SchedulerType} == set(CURVES)
    for kind in CONTROLLERS:
        with pytest.raises(RecipeError, match="a controller is no schedule"):
            recipe(lr_scheduler_type=kind)
