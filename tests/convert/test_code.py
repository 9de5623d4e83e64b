"""Python source is read and never run: what is literal, what stands for it, what is refused by its line."""

import re
from pathlib import Path

import pytest

import etude
from etude.convert import formats, read
from etude.convert.python.names import ARGUMENTS, MAKERS
from etude.convert.source import Source, Unknown
from etude.errors import RecipeError

SCRIPT = """
import math
import torch
from transformers import get_cosine_schedule_with_warmup

EPOCHS, STEPS_PER_EPOCH = 3, 100
learning_rate: float = 2e-5
num_training_steps = len(loader) * EPOCHS

def main():
    optimizer = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}], lr=learning_rate
    )
    scheduler = get_cosine_schedule_with_warmup(
        optimizer, num_warmup_steps=int(0.06 * num_training_steps), num_training_steps=num_training_steps
    )
"""


def test_the_parts_of_a_script_are_found():
    converted = read(SCRIPT, total=300)
    assert converted.text == {
        "lr": "2e-05 * (warmup(18) >> cosine())", "weight_decay": "0.01", "tick": 0
    }  # fmt: skip
    assert converted.total == 300
    assert any("AdamW has 2 groups (line 11)" in trap for trap in converted.warnings)


def test_a_warm_up_that_is_a_share_of_the_run_needs_no_total():
    assert read(SCRIPT).hypers["lr"] == "2e-05 * (warmup(0.06) >> cosine())"
    assert read(SCRIPT).total is None


def test_what_computes_the_run_by_other_names_is_named_with_its_line():
    script = SCRIPT.replace("int(0.06 * num_training_steps)", "warmup_of(args)")
    with pytest.raises(RecipeError) as caught:
        read(script)
    assert "num_warmup_steps = warmup_of(…) (line 15)" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("x = 500", 500),
        ("x = 1e-5", 1e-5),
        ("x = 10 * 100 // 3", 333),
        ("x = -(2 ** 3)", -8),
        ("y = 3\nx = math.ceil(y / 2)", 2),
        ("y = 3\nz = y\nx = max(z, 2)", 3),
        ("x = [1, 2 * 2]", [1, 4]),
        ("x = {'a': 1}", {"a": 1}),
        ("x = dict(a=1)", {"a": 1}),
        ("x = 1\nx = 1", 1),
        ("x = 1\nx = 2", None),
        ("x = 1\nx += 1", None),
        ("x = 1\nfor x in y: pass", None),
        ("x = 1\ndef f(x): pass", None),
        ("x = y\ny = x", None),
        ("x = args.lr", None),
        ("x = 1 / 0", None),
        ("x = 'a' * 9", None),
        ("x = 9.0 ** 9999", None),
        ("x, y = 1, 2", None),
        ("x = __import__('os').getcwd()", None),
    ],
)
def test_literals_arithmetic_and_names_that_are_assigned_once(source, value):
    call = Source(f"{source}\nuse(x)").calls(["use"])[0]
    found = call.args[0]
    if value is None:
        assert not isinstance(found, int | float | str | list | dict)
    else:
        assert found == value


def test_an_assignment_chain_that_doubles_is_read_once():
    lines = ["x0 = 1", *(f"x{i + 1} = x{i} + x{i}" for i in range(60)), "use(x60)"]
    assert Source("\n".join(lines)).calls(["use"])[0].args == (2**60,)


def test_nothing_is_run(tmp_path):
    read(f"open({str(tmp_path / 'made')!r}, 'w')\nStepLR(SGD(p, lr=0.1), int(30))")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "source", ["x = (", "x = " + "(" * 300, "\0", "x = " + "1+" * 5000 + "1\nStepLR(o, x)"]
)
def test_what_python_cannot_read_is_refused(source):
    with pytest.raises(RecipeError):
        read(source, format="python")


CALLS = [
    ("get_constant_schedule(opt)", "hold()"),
    ("get_constant_schedule_with_warmup(opt, 5)", "(warmup(5) >> hold())"),
    ("get_linear_schedule_with_warmup(opt, 5, 50)", "(warmup(5) >> linear())"),
    ("get_cosine_schedule_with_warmup(opt, 5, 50, 1)", "(warmup(5) >> cosine() >> cosine(to=1))"),
    ("get_cosine_with_hard_restarts_schedule_with_warmup(opt, 5, 50, 3)",
     "(warmup(5) >> repeat(cosine(start=1), 3))"),
    ("get_polynomial_decay_schedule_with_warmup(opt, 5, 50, lr_end=1e-6, power=3)",
     "(warmup(5) >> poly(to=1e-06/0.001, power=3.0))"),
    ("get_inverse_sqrt_schedule(opt, 5, timescale=9)", "(warmup(5) >> inv_sqrt(timescale=9))"),
    ("get_cosine_with_min_lr_schedule_with_warmup(opt, 5, 50, min_lr_rate=0.1)",
     "(warmup(5) >> cosine(to=0.1))"),
    ("get_cosine_with_min_lr_schedule_with_warmup_lr_rate(opt, 5, 50, min_lr_rate=0.1)",
     "(warmup(5) >> cosine(to=0.1))"),
    ("get_wsd_schedule(opt, 5, 10, num_training_steps=50)", "(warmup(5) >> hold() >> cosine(10))"),
    ("get_reduce_on_plateau_schedule(opt, patience=3)", "hold()"),
    ("get_greedy_schedule(opt)", "hold()"),
    ('get_scheduler("linear", opt, 5, 50)', "(warmup(5) >> linear())"),
    ("get_scheduler(SchedulerType.COSINE, optimizer=opt, num_warmup_steps=5, num_training_steps=50, "
     "num_cycles=1, power=1.0)", "(warmup(5) >> cosine() >> cosine(to=1))"),
    ('get_scheduler("warmup_stable_decay", opt, 5, 50, scheduler_specific_kwargs={"num_decay_steps": 10})',
     "(warmup(5) >> hold() >> cosine(10))"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "path"), CALLS)
def test_the_functions_of_transformers(call, path):
    converted = read(f"opt = Adam(model.parameters())\nscheduler = {call}")
    assert converted.hypers == {"lr": f"0.001 * {path}", "weight_decay": "0.0"}
    assert converted.total in (None, 50)
    etude.Plan(converted.hypers, tick=converted.tick).over(50)


def test_every_function_of_transformers_is_known():
    import inspect

    from transformers import optimization

    theirs = {name for name in vars(optimization) if name.startswith("get_") and "schedule" in name}
    assert theirs - {"get_adafactor_schedule"} == set(MAKERS)
    assert {call.partition("(")[0] for call, _ in CALLS} == set(MAKERS)
    for name, (_, names) in MAKERS.items():
        signature = [*inspect.signature(getattr(optimization, name)).parameters]
        own = [one for one in signature if one not in ("name", "optimizer", "kwargs")]
        assert list(names) == own[: len(names)], name


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_arguments_as_a_call(name):
    converted = read(
        f"args = {name}(output_dir='x', learning_rate=3e-5, warmup_steps=0.1, max_steps=50, **more)"
    )
    assert converted.hypers["lr"] == "3e-05 * (warmup(5) >> linear())"


def test_arguments_that_are_not_literal_but_say_something_else_do_not_matter():
    script = "TrainingArguments(output_dir=args.out, seed=args.seed, learning_rate=args.lr, max_steps=args.n)"
    with pytest.raises(
        RecipeError, match=r"learning_rate = args.lr \(line 1\), max_steps = args.n \(line 1\)"
    ):
        read(script)
    assert read(script, lr=1e-4, total=50).hypers["lr"] == "0.0001 * linear()"


def test_a_peak_that_is_not_literal_is_left_to_the_reader():
    converted = read("StepLR(AdamW(p, lr=args.lr), 30)")
    assert converted.hypers["lr"] == "step(by=0.1, every=30)"
    assert any(
        "The peak is args.lr (line 1), which is not literal: say lr" in trap for trap in converted.warnings
    )
    assert read("StepLR(AdamW(p, lr=args.lr), 30)", lr=0.1).hypers["lr"] == "0.1 * step(by=0.1, every=30)"


@pytest.mark.parametrize(
    ("script", "total", "lr"),
    [
        ("CosineAnnealingLR(SGD(p, lr=0.1), T_max=len(loader) * epochs)", None, "0.1 * cosine()"),
        ("CosineAnnealingLR(SGD(p, lr=0.1), T_max=len(loader) * epochs)", 90, "0.1 * cosine()"),
        ("CosineAnnealingLR(SGD(p, lr=0.1), T_max=args.max_train_steps)", 90, "0.1 * cosine()"),
        (
            "o = SGD(p, lr=0.1)\nw = 10\nwarm = LinearLR(o, 0.01, total_iters=w)\n"
            "main = CosineAnnealingLR(o, T_max=total_steps - w)\ns = SequentialLR(o, [warm, main], [w])",
            90,
            "0.1 * (linear(10, to=1, start=0.01) >> cosine())",
        ),
        (
            "OneCycleLR(SGD(p, lr=9), 0.1, epochs=3, steps_per_epoch=len(loader), pct_start=0.5)", 9,
            '0.1 * (cosine("3.5up", to=1, start=0.04) >> cosine("4.5up", to=4e-06) >> hold())',
        ),
    ],
)  # fmt: skip
def test_the_total_stands_for_what_the_source_computes_from_its_data(script, total, lr):
    assert read(script, total=total).hypers["lr"] == lr


def test_a_scheduler_is_given_its_own_optimizer():
    script = "a = SGD(p, lr=0.1)\nb = SGD(q, lr=0.2)\nscheduler = StepLR(b, 5)"
    assert read(script).hypers["lr"] == "0.2 * step(by=0.1, every=5)"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("StepLR(o, 5)\nlinear = LinearLR(o)", "makes 2 schedules: StepLR (line 1), LinearLR (line 2)"),
        ("LambdaLR(AdamW(p), lambda k: 0.9 ** k)", "LambdaLR holds a Python function"),
        ("StepLR(AdamW(p), step_size=args.n)", "step_size = args.n (line 1)"),
        ("StepLR(AdamW(p))", "StepLR needs step_size"),
        ("StepLR(AdamW(p), 1, 2, 3, 4)", "is not called as it is known"),
        ("StepLR(AdamW(p), **options)", "is not called as it is known"),
        ("SequentialLR(o, [StepLR(o, 5)], [3])", "1 schedulers need 0 milestones"),
        ("SequentialLR(o, many, [3])", "as a list of their calls"),
        ("ExponentialLR(SGD(p), 0)", "gamma: got 0; must be above 0"),
        ("CosineAnnealingLR(o, 10, eta_min=0.1)", "say the peak, lr"),
        ("OneCycleLR(o, 1, pct_start=0.1, total_steps=10)", "leaves the first phase without an update"),
    ],
)
def test_what_cannot_be_said_is_refused_with_what_to_write(script, says):
    with pytest.raises(RecipeError) as caught:
        read(script, format="python")
    assert says in str(caught.value)


def test_calls_of_other_libraries_are_left_to_their_formats():
    python = formats()["python"]
    assert python.knows(SCRIPT)
    assert not python.knows("learn.fit_one_cycle(3, 1e-3)")
    assert not python.knows("lr_scheduler_type: linear")
    assert not python.knows({"learning_rate": 1})


def test_a_script_that_parses_the_flags_of_transformers_is_python():
    script = 'parser.add_argument("--lr_scheduler_type")\nStepLR(SGD(p, lr=0.1), 5)'
    assert read(script).hypers["lr"] == "0.1 * step(by=0.1, every=5)"


def test_the_tables_of_the_page_are_true():
    page = (Path(__file__).parents[2] / "docs" / "convert.md").read_text(encoding="utf-8")
    torchs = re.findall(r"^\| `(\w+\(.*\))` \| `([^`]+)`", page, re.MULTILINE)
    assert len(torchs) > 10
    for call, text in torchs:
        assert read(f"o = SGD(p, lr=0.1)\nscheduler = {call}", total=100).hypers["lr"] == text
    kinds = re.findall(r"^\| `([a-z_]+)`((?:, `[\w:. ]+`)*) \| `(2e-05[^`]*)`", page, re.MULTILINE)
    assert len(kinds) > 8
    for kind, options, text in kinds:
        said = dict(re.findall(r"`(\w+): ([\w.]+)`", options))
        arguments = {"learning_rate": 2e-5, "warmup_steps": 60, "lr_scheduler_kwargs": said}
        assert read({"lr_scheduler_type": kind} | arguments).hypers["lr"] == text, kind


def test_unknown_says_what_and_where():
    assert Source("use(a.b)").calls(["use"])[0].args == (Unknown("a.b", 1),)
