"""`etude export`: from a text, from a saved plan, and what it says when neither is there."""

import json

import pytest

from etude import Driver, Group, Plan, Rollback, Scale, Stretch
from etude.cli import main
from etude.export import code
from etude.report.log import Log

LR = "2e-5 * (warmup(0.1) >> cosine(to=0.01))"


@pytest.fixture
def export(capsys):
    def run(*arguments):
        return main(["export", *map(str, arguments)]), *capsys.readouterr()

    return run


@pytest.fixture
def driver():
    groups = [Group("body", ("a",), gate="frozen(0.3) >> hold(start=1)"), Group("head", ("b",), {"lr": 10})]
    driver = Driver(Plan({"lr": LR, "weight_decay": 0.01}, groups, tick=1).over(97))
    driver.edit(Scale(30, 0.5, author="plateau", reason="eval_loss 0.5"))
    driver.edit(Stretch(50, 120))
    return driver


def test_a_text(export):
    status, said, wrong = export(LR, "--to", "torch", "--steps", 97)
    assert (status, wrong) == (0, "")
    assert said == code(Plan({"lr": LR}).over(97), "torch")


def test_a_text_with_everything(export):
    status, said, _ = export(
        LR, "--to", "optax", "--steps", 97, "--tick", 0, "--weight-decay", 0.01, "--momentum", "0.9 * hold()",
        "--group", "body=0.5", "--group", "head=10", "--gate", 'body=frozen("2ep") >> hold(start=1)',
        "--epoch", 10,
    )  # fmt: skip
    groups = [
        Group("body", scale={"lr": 0.5}, gate='frozen("2ep") >> hold(start=1)'),
        Group("head", scale={"lr": 10}),
    ]
    plan = Plan({"lr": LR, "weight_decay": 0.01, "momentum": 0.9}, groups, tick=0)
    assert status == 0
    assert said == code(plan.over(97, epoch=10), "optax")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_saved_driver_and_a_checkpoint(wrapped, driver, export, tmp_path):
    state = driver.state_dict()
    (tmp_path / "state.json").write_text(json.dumps({"driver": state, "batch": 16} if wrapped else state))
    status, said, _ = export("--plan", tmp_path / "state.json", "--to", "mlx")
    assert status == 0
    assert said == code(driver.rates, "mlx")
    assert export("--plan", tmp_path, "--to", "mlx")[1] == said


def test_the_log_of_a_run_with_a_rollback(driver, export, tmp_path):
    start = {"type": "start", "etude": "0", "resumed": None, **driver.rates.state()}
    start.pop("edits")
    with Log(tmp_path / "log.jsonl") as log:
        log.write(start)
        for edit in driver.edits:
            log.write({"type": "edit", **edit.as_json()})
        for edit in (Rollback(60, 45, 1), Scale(70, 0.25)):
            driver.edit(edit)
            log.write({"type": "edit", **edit.as_json()})
    status, said, _ = export("--plan", tmp_path, "--to", "torch")
    assert status == 0
    table = said.index("LR_PATH = ")
    whole = code(driver.rates, "torch")
    assert said[table:] == whole[whole.index("LR_PATH = ") :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LR, "--to", "torch"), "the length of the run is missing"),
        (("--to", "torch", "--steps", 10), "write either a schedule"),
        ((LR, "--to", "torhc", "--steps", 10), "did you mean 'torch'"),
        ((LR, "--steps", 10), "--to is missing: write one of hf, keras, lightning, mlx, optax, torch"),
        (("cosin()", "--to", "torch", "--steps", 10), "did you mean 'cosine'"),
        ((LR, "--to", "torch", "--steps", 10, "--group", "head"), "'head' is no name with its value"),
        ((LR, "--to", "torch", "--steps", 10, "--group", "head=ten"), "a multiplier is a number"),
        (("--plan", "nowhere.json", "--to", "torch"), "nowhere.json cannot be read"),
        (("--plan", "other.json", "--to", "torch"), "other.json holds no plan"),
        (("--plan", "broken.json", "--to", "torch"), "broken.json holds no plan"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message, export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"driver": {"plan": {}}}')
    (tmp_path / "broken.json").write_text("{")
    status, said, wrong = export(*arguments)
    assert (status, said) == (2, "")
    assert message in wrong
    assert "Traceback" not in wrong
