"""Controllers by recipe: how they are written, checked before anything is loaded, shown, and what they do."""

import pytest

import etude.train.control as control
from etude.control.controller import CONTROLLERS
from etude.control.plateau import plateau
from etude.control.reading import READINGS
from etude.errors import RecipeError, ScheduleError
from etude.report.log import read as read_log
from etude.train.finetuning import finetune
from etude.train.recipe import Recipe, read

METRICS = {"loss": False, "accuracy": True, "macro_f1": True}
# What a controller cannot do without.
NEEDED = {"target": {"value": 0.9}}


def made(*entries, patience=None, metric="accuracy"):
    return control.make(control.read(list(entries)), patience, METRICS, metric)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_controller_can_stand_in_a_recipe(name):
    (one,) = made({name: NEEDED.get(name, {})})
    assert one.name == name
    assert set(one.reads) <= {*METRICS, *READINGS}
    if set(one.reads) <= {*METRICS}:
        assert one.reads == ("accuracy",), "it reads the metric of the run"
        assert getattr(one, "greater_is_better", True) is True


@pytest.mark.parametrize(
    "written",
    [
        "control: [early_stop: {patience: 2}, spike]",
        "control:\n  - early_stop: {patience: 2}\n  - spike",
        "control:\n  early_stop: {patience: 2}\n  spike:",
        'control: [{"early_stop": {"patience": 2}}, {"spike": {}}]',
    ],
)
def test_the_ways_of_writing_it_say_one_thing(tmp_path, written):
    (tmp_path / "recipe.yaml").write_text(written)
    recipe, _ = read(tmp_path / "recipe.yaml")
    assert recipe.control == [{"early_stop": {"patience": 2}}, {"spike": {}}]
    (tmp_path / "again.yaml").write_text(recipe.dump())
    assert read(tmp_path / "again.yaml")[0] == recipe


def test_it_can_be_written_on_the_command_line():
    expected = [{"spike": {"policy": "clip"}}]
    for words in (["control.spike.policy=clip"], ["control=[{spike: {policy: clip}}]"]):
        assert read(overrides=words)[0].control == expected
    assert read(overrides=["control=spike"])[0].control == [{"spike": {}}]
    assert Recipe().control == []


def test_a_dotted_key_changes_one_option_of_one_controller(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("control: [spike, plateau: {patience: 5, factor: 0.3}, plateau: {name: late}]")
    late = {"plateau": {"name": "late"}}
    expected = [{"spike": {}}, {"plateau": {"patience": 2, "factor": 0.3}}, late]
    assert read(file, ["control.plateau.patience=2"])[0].control == expected
    assert read(file, {"control": {"plateau": {"patience": 2}}})[0].control == expected
    assert read(file, ["control.late.patience=9"])[0].control[2] == {
        "plateau": {"name": "late", "patience": 9}
    }
    assert read(file, ["control.early_stop.patience=9"])[0].control[3:] == [{"early_stop": {"patience": 9}}]
    assert read(file, ["control=[spike]"])[0].control == [{"spike": {}}]
    assert read(file, ["control=null"])[0].control == []
    with pytest.raises(RecipeError, match="knows no controller 'plato'; did you mean 'plateau'"):
        read(file, ["control.plato.patience=2"])


@pytest.mark.parametrize("dry_run", [True, False])
def test_groups_that_the_plan_does_not_have_are_refused_before_there_is_a_folder(tiny, tmp_path, dry_run):
    keys = tiny.keys(control=[{"plateau": {"groups": "hed"}}])
    with pytest.raises(ScheduleError, match=r"no group matches 'hed'.*head"):
        finetune(output=tmp_path / "run", dry_run=dry_run, **keys)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_says_which_controllers_are_not_those_of_its_checkpoint(
    tiny, tmp_path, interrupt_at, capsys
):
    interrupt_at(25)
    patient = {"early_stop": {"metric": "loss", "patience": 9}}
    run = finetune(output=tmp_path / "run", **tiny.keys(control=["variance", "spike", patient]))
    interrupt_at(26)
    capsys.readouterr()
    finetune(run.folder, resume=True)
    assert "control: " not in capsys.readouterr().out
    patient["early_stop"]["metric"] = "accuracy"
    finetune(run.folder, resume=True, control=["spike", patient, "extend"])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("control: ")]
    assert said[0] == "control: variance: is gone"
    assert [line.partition(": ")[2].partition(": ")[0] for line in said[1:]] == ["early_stop", "extend"]
    assert said[1].endswith("reads accuracy; begins anew")
    assert said[2].endswith("; is new")


def test_a_metric_is_that_of_the_run_or_the_one_that_is_named_with_its_better_direction():
    for options, metric, greater in (
        ({}, "accuracy", True),
        ({"metric": "loss"}, "loss", False),
        ({"metric": "eval_loss"}, "loss", False),
        ({"metric": "macro_f1"}, "macro_f1", True),
        ({"metric": "accuracy", "greater_is_better": False}, "accuracy", False),
        ({"metric": "train_loss"}, "train_loss", False),
    ):
        (one,) = made({"early_stop": options})
        assert (one.reads, one.greater_is_better) == ((metric,), greater)


def test_patience_is_early_stopping_as_before():
    (one,) = made(patience=4)
    assert (one.name, one.reads, one.patience) == ("early_stop", ("accuracy",), 4)
    with pytest.raises(RecipeError, match="patience: 4 and control both say early_stop"):
        made("early_stop", patience=4)
    with pytest.raises(RecipeError, match="patience: 4 and control both say early_stop"):
        made({"plateau": {"name": "early_stop"}}, patience=4)


def test_two_of_a_kind_have_names_of_their_own():
    found = made("early_stop", {"early_stop": {"name": "patient", "patience": 9}})
    assert [one.name for one in found] == ["early_stop", "patient"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("spik", "knows no controller 'spik'; did you mean 'spike'"),
        ([{"spike": {"polcy": "skip"}}], "spike has no option 'polcy'; did you mean 'policy'"),
        ([{"spike": {"policy": "skipp"}}], "did you mean 'skip'"),
        ([{"spike": {"z": "many"}}], r"entry 1: spike\(z"),
        (["spike", {"early_stop": {"patience": 0}}], "entry 2: .*patience"),
        ([{"target": {}}], "entry 1: target needs value, as in {target: {value: 0.9}}"),
        (["spike", "spike"], "has spike twice; write it once$"),
        (["plateau", "plateau"], r"has plateau twice; .* \{plateau: \{name: second\}\}$"),
        ([plateau(patience=2)], r"by name, with their options, as in control=\["),
        ([{"spike": 3}], "must give spike its options as a mapping"),
        ([{"spike": {}, "early_stop": {}}], "must have entries such as"),
        (3, "must be a list"),
    ],
)
def test_what_cannot_be_is_refused_with_the_near_names(value, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read(overrides={"control": value})
    assert str(caught.value).startswith("control")
    assert "\n" not in str(caught.value)
    assert "controllers with their options, asked" not in str(caught.value), "the key is not to blame"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"early_stop": {"metric": "acuracy"}}, "reads 'acuracy', which nothing gives; did you mean 'acc"),
        ({"early_stop": {"metric": "validation_loss"}}, "which nothing gives; did you mean 'loss'"),
        ({"spike": {"loss": "train_los"}}, "reads 'train_los', which nothing gives; did you mean 'train"),
        ({"spike": {"loss": "loss"}}, "no reading has both"),
        ({"spike": {"loss": "loss", "norm": None}}, "loss is read when they are made"),
    ],
)  # fmt: skip
def test_pain_33_a_metric_that_nothing_gives_is_refused_before_the_model_is_loaded(
    tiny, tmp_path, monkeypatch, entry, message
):
    from etude.train import tasks

    def never(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(tasks.Task, "build", never)
    with pytest.raises(RecipeError, match=message):
        finetune(output=tmp_path / "run", **tiny.keys(control=[entry]))
    assert not (tmp_path / "run").exists()


def test_the_plan_and_the_log_say_who_watches_the_run(tiny, tmp_path, capsys):
    keys = tiny.keys(control=[{"early_stop": {"patience": 3}}, "spike"], epochs=1)
    finetune(dry_run=True, **keys)
    said = capsys.readouterr().out
    for line in ("control: early_stop: ", "patience 3", "reads accuracy", "reads train_loss, grad_norm"):
        assert line in said
    run = finetune(output=tmp_path / "run", **keys)
    assert "control: spike: policy skip, z 6.0" in (run.folder / "plan.txt").read_text()
    assert read_log(run.folder / "log.jsonl").start["recipe"]["control"][1] == {"spike": {}}


def test_a_controller_of_updates_acts_on_the_very_update_that_it_read(tiny, tmp_path):
    """`target` on the training loss: the run ends before the first update whose loss has reached it."""
    keys = tiny.keys(control=[{"target": {"value": 0.6, "metric": "train_loss"}}])
    run = finetune(output=tmp_path / "run", **keys)
    log = read_log(run.folder / "log.jsonl")
    (edit,) = log.edits
    *made, last = log.updates
    assert log.end["reason"] == "stopped"
    assert last["loss"] <= 0.6 < min(one["loss"] for one in made)
    assert last["skipped"]
    assert edit["at"] == last["t"][0] == log.end["t"] == made[-1]["t"][1]
    assert [one["t"] for one in log.evals if one["split"] == "validation"][-1] == edit["at"]


def test_a_plateau_lowers_the_rate_of_the_run(tiny, tmp_path):
    """At a rate of 1e-8 nothing improves."""
    keys = tiny.keys(
        lr="1e-8 * hold()", epochs=3, control=[{"plateau": {"patience": 1, "factor": 0.5}}], weight_decay=0
    )
    run = finetune(output=tmp_path / "run", **keys)
    log = read_log(run.folder / "log.jsonl")
    assert [one["author"] for one in log.edits] == ["plateau"] * 2
    peaks = [max(one["rates"]["lr"]) for one in log.updates]
    assert peaks == [1e-8] * 42 + [5e-9] * 21
