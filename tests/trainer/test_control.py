"""What may change the rates under way: edits, controllers, other hands; and what ends a run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback

import etude
from etude import Advance, Plan, Redraw, Scale, Stop, Stretch, early_stop, extend, target
from etude.control.controller import Restore
from etude.errors import EtudeError, EtudeWarning, ForeignChange, PlanError, ScheduleError
from etude.trainer import attach

EVALUATING = {"evaluate": 4, "eval_strategy": "steps", "eval_steps": 2}


class At(TrainerCallback):
    """Does something once, when update k - 1 has been made."""

    def __init__(self, k, do):
        self.k, self.do = k, do

    def on_step_end(self, args, state, control, **more):
        if state.global_step == self.k:
            self.do(more["optimizer"])


@dataclass(frozen=True)
class Halve:
    """Halves the rate at every reading, and keeps what it read."""

    metric: str = "eval_loss"
    name: str = "halve"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.metric,)

    def init(self) -> dict[str, Any]:
        return {"read": []}

    def update(self, state, t, reading):
        read = [*state["read"], [t, reading[self.metric]]]
        return {"read": read}, Scale(t, 0.5, author=self.name)


def test_a_controllers_edit_acts_on_the_very_next_update(make, used):
    """The trainer writes the next update's rates before it evaluates; they are written again."""
    trainer = make(**EVALUATING)
    attached = attach(trainer, 0.1, controllers=[Halve()])
    assert [row["all"] for row in used(trainer)] == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    read = attached.driver.memory["halve"]["read"]
    logged = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert read == [[2, logged[0]], [4, logged[1]], [6, logged[2]]]


def test_evaluations_outside_of_training_are_the_users_own(make):
    trainer = make(**EVALUATING)
    attached = attach(trainer, 0.1, controllers=[Halve()])
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    assert len(attached.driver.memory["halve"]["read"]) == 3


def test_each_metric_is_read_once_where_an_evaluation_has_several_data_sets(make, used):
    trainer = make(**EVALUATING)
    trainer.eval_dataset = {"one": trainer.eval_dataset, "two": trainer.eval_dataset}
    attached = attach(trainer, 0.1, controllers=[Halve("eval_two_loss")])
    assert [row["all"] for row in used(trainer)] == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    assert len(attached.driver.edits) == 3


def test_early_stopping_ends_the_run(make, used):
    trainer = make(**EVALUATING, num_train_epochs=5)
    attached = attach(trainer, 0.1, controllers=[early_stop(patience=2, threshold=9.0)])
    assert len(used(trainer)) == trainer.state.global_step == 6
    assert attached.driver.edits[0].author == "early_stop"
    assert attached.driver.total == 6


def test_an_evaluation_each_epoch_ends_the_run_too(make, used):
    trainer = make(evaluate=4, eval_strategy="epoch", num_train_epochs=5)
    attach(trainer, 0.1, controllers=[early_stop(patience=2, threshold=9.0)])
    assert len(used(trainer)) == 3 * 6


@pytest.mark.parametrize(
    ("edit", "after"),
    [
        (Advance(3), [0.1, 0.075, 0.05, 0.025]),
        (Stretch(3, 8), [0.1, 0.1, 0.1, 0.07, 0.035]),
        (Redraw(3, "linear()", 5), [0.1, 0.05]),
    ],
)
def test_a_run_that_an_edit_shortens_ends_as_any_other(make, used, edit, after):
    """With the evaluation and the checkpoint that the trainer makes at the end; ten updates were planned."""
    trainer = make(train=40, evaluate=4, eval_strategy="steps", eval_steps=100, save_strategy="steps")
    attached = attach(trainer, "0.1 * (hold() >> linear(4))", tick=0)
    trainer.add_callback(At(3, lambda _: attached.edit(edit)))
    rates = [row["all"] for row in used(trainer)]
    assert rates[3:] == pytest.approx(after)
    assert trainer.state.global_step == len(rates) == attached.driver.total < 10
    assert [row["step"] for row in trainer.state.log_history if "eval_loss" in row] == [len(rates)]
    assert Path(trainer.args.output_dir, f"checkpoint-{len(rates)}").is_dir()


def test_a_stop_by_hand_ends_the_run_at_once(make, used):
    trainer = make()
    attached = attach(trainer, 0.1)
    trainer.add_callback(At(3, lambda _: attached.edit(Stop(3))))
    assert len(used(trainer)) == trainer.state.global_step == 3


def test_a_run_cannot_outlast_the_trainers_data(make, used):
    trainer = make()
    attached = attach(trainer, "0.1 * linear()")
    trainer.add_callback(At(3, lambda _: attached.edit(Stretch(3, 12))))
    with pytest.raises(EtudeError, match="until 12, and the trainer ends after 6 updates, with its epochs"):
        trainer.train()
    trainer = make(max_steps=4)
    attached = attach(trainer, "0.1 * linear()")
    trainer.add_callback(At(3, lambda _: attached.edit(Stretch(3, 6))))
    rates = [row["all"] for row in used(trainer)]
    assert rates[3:] == pytest.approx([0.025 * (1 - x / 6) for x in (1, 3, 5)])


def test_an_edit_at_the_very_end_is_not_silently_left_undone(make):
    trainer = make()
    attached = attach(trainer, "0.1 * hold()")
    trainer.add_callback(At(6, lambda _: attached.edit(Redraw(6, "hold()", 9))))
    with pytest.warns(EtudeWarning, match=r"ended the run at 6, and Redraw\(.* lets it go on until 9"):
        trainer.train()


def test_a_controller_that_makes_the_run_longer_is_refused_at_once(make):
    with pytest.raises(PlanError, match="extend makes the run longer, which a trainer's loop cannot do"):
        attach(make(**EVALUATING), 0.1, controllers=[extend()])


@pytest.mark.parametrize(
    ("controllers", "said"),
    [
        (["plateau"], "'plateau' is no controller"),
        ([early_stop], r"write etude.early_stop\(\)"),
        (early_stop(), "is no list"),
    ],
)
def test_what_is_no_controller_is_refused_with_words(make, controllers, said):
    with pytest.raises(ScheduleError, match=said):
        attach(make(**EVALUATING), 0.1, controllers=controllers)


def ending(trainer):
    """Where the trainer evaluated, and what it saved."""
    saved = sorted(
        int(path.name.split("-")[1]) for path in Path(trainer.args.output_dir).glob("checkpoint-*")
    )
    return [row["step"] for row in trainer.state.log_history if "eval_loss" in row], saved


SAVING = EVALUATING | {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 2}


@pytest.mark.parametrize("trained", ["by the trainer", "by a reading"])
def test_a_stopped_run_is_saved_like_one_that_ends_by_itself(make, trained):
    stopped = trained == "by a reading"
    trainer = make(**SAVING, **({} if stopped else {"max_steps": 6}))
    attach(trainer, 0.1, controllers=[early_stop(patience=2, threshold=9.0)] if stopped else [])
    trainer.train()
    assert ending(trainer) == ([2, 4, 6], [5, 6])


def test_the_best_model_may_be_that_of_the_stop(make):
    trainer = make(
        **SAVING | {"save_steps": 8}, load_best_model_at_end=True, greater_is_better=True
    )  # it grows
    attach(trainer, 0.1, controllers=[target(9.0, patience=3)])
    trainer.train()
    assert ending(trainer) == ([2, 4, 6], [6])
    assert trainer.state.best_global_step == 6
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-6")


def test_a_stop_by_an_updates_reading_or_by_hand_is_evaluated_and_saved(make):
    trainer = make(**SAVING | {"eval_steps": 5})
    attached = attach(trainer, 0.1, controllers=[early_stop("train_loss", patience=2, threshold=9.0)])
    trainer.train()
    assert (attached.t, ending(trainer)) == (2, ([3], [3]))  # the third update was begun, and dropped
    trainer = make(**SAVING, folder="hand")
    attached = attach(trainer, 0.1)
    trainer.add_callback(At(3, lambda _: attached.edit(Stop(3))))
    trainer.train()
    assert ending(trainer) == ([2, 3], [3])


def test_what_is_saved_already_is_not_saved_again(make):
    """The sixth update ends an epoch: it is saved first, and evaluated then."""

    class Saves(TrainerCallback):
        def on_save(self, args, state, control, **more):
            saves.append(state.global_step)

    saves = []
    trainer = make(**SAVING | {"save_steps": 6, "eval_strategy": "epoch"})
    trainer.add_callback(Saves())
    attach(trainer, 0.1, controllers=[target(9.0)])
    trainer.train()
    assert saves == [6]


def test_a_run_that_saves_nothing_saves_no_stop_either(make):
    trainer = make(**SAVING | {"save_strategy": "no"})
    attach(trainer, 0.1, controllers=[early_stop(patience=2, threshold=9.0)])
    trainer.train()
    assert ending(trainer) == ([2, 4, 6], [])


def test_pain_36_a_rate_changed_by_another_hand_is_refused_with_its_name(make):
    trainer = make()
    attach(trainer, 0.1, head=10)

    def halve(optimizer):
        optimizer.param_groups[1]["lr"] /= 2

    trainer.add_callback(At(3, halve))
    with pytest.raises(ForeignChange, match=r"head had 1, now 0\.5"):
        trainer.train()
    assert trainer.state.global_step == 3


@pytest.mark.parametrize(("foreign", "after"), [("adopt", 0.5), ("restore", 1.0)])
def test_pain_36_or_it_lasts_or_it_is_undone(make, used, foreign, after):
    trainer = make()
    attached = attach(trainer, 0.1, head=10, foreign=foreign)

    def halve(optimizer):
        optimizer.param_groups[1]["lr"] /= 2

    trainer.add_callback(At(3, halve))
    rates = used(trainer)
    assert [row["head"] for row in rates] == [1.0] * 3 + [after] * 3
    assert {row["embeddings..top"] for row in rates} == {0.1}
    assert [(one.at, one.author) for one in attached.driver.edits] == [(3, "foreign")] * (foreign == "adopt")


def test_pain_36_a_change_between_the_gradients_and_the_update_is_seen(make):
    class Late(Trainer):
        def training_step(self, *args, **keys):
            loss = super().training_step(*args, **keys)
            if self.state.global_step == 3:
                self.optimizer.param_groups[0]["lr"] = 9.0
            return loss

    trainer = make(kind=Late)
    attach(trainer, 0.1)
    with pytest.raises(ForeignChange, match=r"all had 0\.1, now 9"):
        trainer.train()
    assert all(parameter.abs().max() < 5 for parameter in trainer.model.parameters())


def test_another_scheduler_or_optimizer_in_the_trainer_is_refused(make):
    trainer = make()
    attach(trainer, 0.1)

    def schedule(optimizer):
        trainer.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)

    trainer.add_callback(At(2, schedule))
    with pytest.raises(
        EtudeError, match="another hand put ConstantLR in the place of the trainer's scheduler"
    ):
        trainer.train()
    trainer = make()
    attach(trainer, 0.1)

    def replaced(_):
        trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=3.0)

    trainer.add_callback(At(2, replaced))
    with pytest.raises(EtudeError, match=r"update 2: all has the rate None in the trainer"):
        trainer.train()


def test_pain_17_a_layer_that_thaws_gets_its_share_of_the_rate_now(make, record):
    """A gate: frozen for 2 of 8 updates, then at multiplier × schedule(now), and never above it."""
    trainer = make(train=32)
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}

    def staged(model):
        plan = etude.plan(model, "0.1 * linear()", layer_decay=0.5, tick=0)
        gates = ("frozen(2) >> hold(start=1)", None, None)
        return Plan(plan.hypers, [replace(g, gate=w) for g, w in zip(plan.groups, gates, strict=True)], 0)

    attached = attach(trainer, plan=staged)
    word = "bert.embeddings.word_embeddings.weight"
    still = []
    trainer.add_callback(At(2, lambda _: still.append(torch.equal(parameter(trainer, word), start[word]))))
    trainer.add_callback(seen := record(unit=True))
    trainer.train()
    low = [row["embeddings"] for row in seen.rates]
    assert still == [True]
    assert low == pytest.approx([0, 0, *(0.1 * 0.25 * (1 - k / 8) for k in range(2, 8))])
    moved = start[word] - parameter(trainer, word)
    torch.testing.assert_close(moved, torch.full_like(moved, sum(low)))
    assert attached.plan.groups[0].gate is not None


def parameter(trainer, name):
    return dict(trainer.model.named_parameters())[name].detach()


@pytest.mark.parametrize(
    ("measured", "given", "updates"),
    [(False, {}, 0), (True, {}, 2), (True, {"eval_on_start": True}, 0)],
    ids=["known", "after the first evaluation", "which may come first"],
)
def test_pain_33_a_metric_that_no_evaluation_gives_is_named(make, measured, given, updates):
    """Before the first update, but for what `compute_metrics` adds."""
    trainer = make(**EVALUATING, **given)
    if measured:
        trainer.compute_metrics = lambda predicted: {"accuracy": 0.5}
    attach(trainer, 0.1, controllers=[early_stop("eval_los")])
    with pytest.raises(
        EtudeError, match="reads 'eval_los', which no evaluation gives; did you mean 'eval_loss'"
    ):
        trainer.train()
    assert trainer.state.global_step == updates


def test_controllers_without_evaluations_are_refused(make):
    trainer = make()
    attach(trainer, 0.1, controllers=[early_stop()])
    with pytest.raises(EtudeError, match='early_stop needs evaluations: write eval_strategy="steps"'):
        trainer.train()
    assert trainer.state.global_step == 0


def test_what_a_trainer_cannot_do_for_a_controller_is_said(make):
    class Guard(Halve):
        def update(self, state, t, reading):
            return dict(state), Restore("spike")

    trainer = make(**EVALUATING)
    attach(trainer, 0.1, controllers=[Guard()])
    with pytest.raises(EtudeError, match="asks for Restore, which a trainer's loop cannot do"):
        trainer.train()
