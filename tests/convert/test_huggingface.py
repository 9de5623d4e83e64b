"""Hugging Face's curves and arguments: converted text, read at its tick, gives the rates of transformers."""

import json
import math

import pytest
import torch

import etude
from etude.convert import read, torch_objects, training_arguments
from etude.convert.huggingface.arguments import RATES
from etude.convert.huggingface.types import CONTROLLERS, CURVES
from etude.errors import RecipeError

PEAK = 2e-5
TOTALS = (1, 2, 3, 10, 97)
WARMUPS = (0, 1, 2, 10, 13, 120, 0.06, 0.5)
FLOOR = {"min_lr_rate": 0.1}

GRID = [
    ("linear", [{}]),
    ("constant", [{}]),
    ("constant_with_warmup", [{}]),
    ("cosine", [{"num_cycles": c} for c in (0, 0.05, 0.3, 0.5, 1, 1.5, 3.7, 7)]),
    ("cosine_with_restarts", [{}] + [{"num_cycles": c} for c in (0, 0.5, 2, 2.5, 3, 7)]),
    ("polynomial", [{}, {"power": 2}, {"power": 0.5, "lr_end": 0}, {"power": 3}, {"power": 0}]),
    ("inverse_sqrt", [{}, {"timescale": 50}, {"timescale": 3}]),
    ("cosine_with_min_lr", [{"min_lr": 1e-6}, {"min_lr": 0.0}, FLOOR, FLOOR | {"num_cycles": 0.3}]),
    (
        "cosine_warmup_with_min_lr",
        [
            {"min_lr": 1e-6}, FLOOR, FLOOR | {"num_cycles": 1}, FLOOR | {"warmup_lr_rate": 0.0},
            FLOOR | {"warmup_lr_rate": 0.2, "num_cycles": 0.8},
        ],
    ),
    (
        "warmup_stable_decay",
        [
            {"num_decay_steps": 1}, {"num_decay_steps": 20}, {"num_decay_steps": 20, "decay_type": "linear"},
            {"num_decay_steps": 20, "min_lr_ratio": 0.1, "warmup_type": "cosine"},
            {"num_decay_steps": 4, "num_stable_steps": 0}, {"num_decay_steps": 4, "num_stable_steps": 3},
            {"num_decay_steps": 20, "num_stable_steps": 30, "min_lr_ratio": 0.1, "decay_type": "1-sqrt"},
            {"num_decay_steps": 20, "warmup_type": "1-sqrt"}, {"num_decay_steps": 20, "num_cycles": 1.3},
        ],
    ),
]  # fmt: skip
CASES = [(kind, options) for kind, several in GRID for options in several]
# Where transformers enters a curve halfway, or leaves it: the language has no part of these.
NO_PART = ("no part of that curve", "would enter the decay halfway")


def theirs(kind, warm, total, options):
    from transformers.optimization import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    return get_scheduler(kind, optimizer, warm, total, scheduler_specific_kwargs=options)


def rates(converted, updates):
    plan = etude.Plan(converted.hypers, tick=converted.tick).over(updates)
    return [plan.at(k)["lr"][0] for k in range(updates)]


def attempt(convert, *given):
    """What was converted, and the message if it was refused."""
    try:
        return convert(*given), ""
    except RecipeError as refusal:
        return None, str(refusal)


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.filterwarnings("ignore:Both num_training_steps")
def test_the_rates_are_those_of_transformers(kind, options):
    compared = 0
    for total in TOTALS:
        for warm in WARMUPS:
            steps = math.ceil(warm * total) if isinstance(warm, float) else warm
            scheduler = theirs(kind, steps, total, options)
            said = {
                "learning_rate": PEAK, "lr_scheduler_type": kind, "lr_scheduler_kwargs": options,
                "warmup_steps": warm, "max_steps": total,
            }  # fmt: skip
            converted, error = attempt(training_arguments, said)
            if converted is None:
                assert any(part in error for part in NO_PART), (total, warm)
                continue
            wanted = [PEAK * scheduler.lr_lambdas[0](k) for k in range(total)]
            assert rates(converted, total) == pytest.approx(wanted, rel=0, abs=1e-12 * PEAK), (total, warm)
            live = rates(torch_objects(scheduler, total), total)
            assert live == pytest.approx(wanted, rel=0, abs=1e-12 * PEAK), (total, warm)
            compared += 1
    assert compared >= 12


def test_every_type_of_transformers_is_known():
    from transformers.trainer_utils import SchedulerType

    assert {kind.value for kind in SchedulerType} == set(CURVES)
    assert {kind for kind, _ in GRID} == set(CURVES) - set(CONTROLLERS)


def test_the_arguments_are_read_from_a_mapping_from_json_from_flags_and_from_the_object(tmp_path):
    from transformers import TrainingArguments

    said = {
        "learning_rate": 1e-4, "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": 1e-5}, "warmup_steps": 0.03, "max_steps": 1000,
        "weight_decay": 0.1, "adam_beta1": 0.95,
    }  # fmt: skip
    wanted = {
        "lr": "0.0001 * (warmup(30) >> cosine(to=1e-05/0.0001))", "weight_decay": "0.1", "momentum": "0.95",
        "tick": 0,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(tmp_path), **said)
    flags = " ".join(f"--{key} '{json.dumps(value).strip(chr(34))}'" for key, value in said.items())
    assert read(said).text == wanted
    assert read(f"torchrun --nproc_per_node 8 train.py \\\n  {flags}").text == wanted
    assert training_arguments(arguments).text == wanted
    assert read(json.loads(arguments.to_json_string())).text == wanted
    assert read(said).total == 1000


def test_what_nobody_says_is_as_in_transformers(tmp_path):
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path))
    assert arguments.learning_rate == RATES["TrainingArguments"]
    assert training_arguments({}).text == training_arguments(arguments).text
    assert training_arguments({}).text == {"lr": "5e-05 * linear()", "weight_decay": "0.0", "tick": 0}


def test_the_rates_of_trl_are_known():
    trl = pytest.importorskip("trl")
    for name in set(RATES) - {"TrainingArguments", "Seq2SeqTrainingArguments"}:
        assert getattr(trl, name).__dataclass_fields__["learning_rate"].default == RATES[name], name


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"warmup_steps": 1.0}, "warmup(1) >> linear()"),
        ({"warmup_steps": "1"}, "warmup(1) >> linear()"),
        ({"warmup_steps": 500.0}, "warmup(500) >> linear()"),
        ({"warmup_ratio": 0.03}, "warmup(0.03) >> linear()"),
        ({"warmup_ratio": 0.03, "warmup_steps": 0}, "warmup(0.03) >> linear()"),
        ({"warmup_ratio": 0.03, "warmup_steps": 7}, "warmup(7) >> linear()"),
        ({"warmup_ratio": 0.03, "max_steps": 101}, "warmup(4) >> linear()"),
        ({"warmup_steps": 0.03, "max_steps": -1}, "warmup(0.03) >> linear()"),
        ({"warmup_steps": 200, "max_steps": 100}, "warmup(100, to=0.5)"),
    ],
)
def test_a_warm_up_is_in_updates_or_a_share_rounded_up(said, path):
    text = read({"learning_rate": 1e-4, "lr_scheduler_type": "linear"} | said).hypers["lr"]
    assert text.removeprefix("0.0001 * ").strip("()") == path.strip("()")


def test_the_total_and_the_peak_that_are_said_beside_replace_those_in_the_file():
    said = {"learning_rate": 1e-4, "lr_scheduler_type": "polynomial", "warmup_ratio": 0.1, "max_steps": 10}
    found = read(said, total=200, lr=5e-5)
    assert found.hypers["lr"] == "5e-05 * (warmup(20) >> linear(to=1e-07/5e-05))"
    assert found.total == 200


@pytest.mark.parametrize(
    ("said", "trap"),
    [
        ({}, "learning_rate is not said: 5e-05 is the default of TrainingArguments"),
        ({"warmup_steps": 0.1}, "rounded to whole updates there"),
        ({"warmup_steps": 5}, "the first one trains nothing"),
        ({"warmup_steps": 1.0}, "one update, not the whole run"),
        ({"warmup_ratio": 0.1}, "gone from transformers 5"),
        ({"warmup_ratio": 0.1, "warmup_steps": 5}, "transformers takes the steps"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "constant ignores its warm-up"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 1}}, "ends at 100% of the"),
        ({"lr_scheduler_type": "polynomial"}, "lr_end=1e-07 is a rate"),
        ({"lr_scheduler_type": "inverse_sqrt", "warmup_steps": 5}, "has no end"),
        (
            {
                "lr_scheduler_type": "cosine_with_restarts", "max_steps": 9,
                "lr_scheduler_kwargs": {"num_cycles": 2.5},
            },
            "ends within a cycle, at 50% of the peak; 3 ends at a minimum",
        ),
        ({"lr_scheduler_type": "cosine_warmup_with_min_lr", "lr_scheduler_kwargs": FLOOR}, "so tick is 1"),
        (
            {
                "lr_scheduler_type": "warmup_stable_decay", "warmup_steps": 5,
                "lr_scheduler_kwargs": {"num_decay_steps": 5, "min_lr_ratio": 0.1},
            },
            "starts at min_lr_ratio, 0.1, and not at 0",
        ),
        (
            {
                "lr_scheduler_type": "warmup_stable_decay", "max_steps": 100,
                "lr_scheduler_kwargs": {"num_decay_steps": 5, "num_stable_steps": 50},
            },
            "take 55 of 100 updates",
        ),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "a controller and no schedule"),
        ({"lr_scheduler_type": "greedy"}, "Its min_lr, 0.001, is not below the peak"),
        ({"adam_beta2": 0.95}, "adam_beta2=0.95 is no part of a plan"),
    ],
)  # fmt: skip
def test_where_the_words_trap_it_is_said_once(said, trap):
    found = [one for one in training_arguments(said).warnings if trap in one]
    assert len(found) == 1
    assert found[0].endswith(".")


def test_a_usual_configuration_has_no_trap():
    assert training_arguments({"learning_rate": 1e-4, "lr_scheduler_type": "cosine"}).warnings == ()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"lr_scheduler_type": "cosin"}, "did you mean 'cosine'"),
        ({"lr_scheduler_type": ["cosine"]}, "['cosine'] is no curve"),
        ({"lr_scheduler_kwargs": {"power": 2}}, "linear takes no 'power'"),
        ({"lr_scheduler_kwargs": "{power"}, "which is not JSON"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 0.3}}, "say the total"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "give min_lr"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "needs num_decay_steps"),
        ({"lr_scheduler_type": "polynomial", "learning_rate": 1e-7}, "not below the peak"),
        ({"warmup_steps": 2.5}, "write whole updates"),
        ({"warmup_ratio": 1.5}, "below 1"),
        ({"learning_rate": "high"}, "learning_rate: got 'high'; must be a number"),
    ],
)
def test_what_cannot_be_said_is_refused_with_what_to_write(said, says):
    with pytest.raises(RecipeError) as caught:
        training_arguments(said)
    assert says in str(caught.value)


def test_a_class_whose_default_rate_is_not_known_needs_one():
    with pytest.raises(RecipeError, match="the default of MyConfig is not known here: say lr"):
        training_arguments({}, made="MyConfig")
    assert training_arguments({}, lr=1e-4, made="MyConfig").hypers["lr"] == "0.0001 * linear()"


def test_groups_of_lower_rate_end_at_the_same_ratio_there_and_here():
    from transformers.optimization import get_polynomial_decay_schedule_with_warmup

    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": parameters[:1], "lr": 1e-5}, {"params": parameters[1:]}], lr=2e-5)
    scheduler = get_polynomial_decay_schedule_with_warmup(optimizer, 2, 10, lr_end=1e-6)
    converted = torch_objects(scheduler)
    assert "others have 2 times its rate" in converted.warnings[0]
    scale = [etude.Group("low"), etude.Group("own", scale={"lr": 2})]
    plan = etude.Plan(converted.hypers, scale, converted.tick).over(10)
    for k in range(10):
        wanted = [group["initial_lr"] * scheduler.lr_lambdas[0](k) for group in optimizer.param_groups]
        assert plan.at(k)["lr"] == pytest.approx(wanted, rel=1e-12)
