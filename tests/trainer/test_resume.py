"""A resumed run is the same run, and one that would be another is refused."""

from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from etude import Redraw, Scale, Stretch, early_stop
from etude.errors import EtudeError, PlanMismatch
from etude.trainer import attach

NAME = "bert.embeddings.word_embeddings.weight"
LR = "3e-2 * (warmup(0.3) >> cosine(to=0.01))"
READING = {"evaluate": 4, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps"}
SAVING = {"save_strategy": "steps", "save_steps": 1, "optim": "adamw_torch"}


class Halving(TrainerCallback):
    """Halves the rate after update k - 1, by hand."""

    def __init__(self, attached, k):
        self.attached, self.k = attached, k

    def on_step_end(self, args, state, control, **more):
        if state.global_step == self.k:
            self.attached.edit(Scale(self.attached.t, 0.5, author="me", reason="too fast"))


def checkpoint(trainer, k):
    return str(Path(trainer.args.output_dir, f"checkpoint-{k}"))


def weights(trainer):
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


def test_pain_5_stopped_after_any_update_and_resumed_is_the_run_that_was_not_stopped(make, used):
    """Bit for bit, with warm-up, layer-wise rates and AdamW's moments, across an epoch's end."""
    whole = make(num_train_epochs=2, train=12, **SAVING)
    attach(whole, LR, layer_decay=0.9, weight_decay=0.1)
    rates = used(whole)
    assert len(rates) == 6
    for stopped in range(1, 6):
        again = make(num_train_epochs=2, train=12, folder="again", optim="adamw_torch")
        attached = attach(again, LR, layer_decay=0.9, weight_decay=0.1)
        assert used(again, resume_from_checkpoint=checkpoint(whole, stopped)) == rates[stopped:]
        assert attached.t == again.state.global_step == 6
        assert all(torch.equal(a, b) for a, b in zip(*map(weights, (whole, again)), strict=True))


def half_done(make, used, lr=LR, **keys):
    """A run of 10 updates with a checkpoint after the fifth."""
    trainer = make(**{"train": 40, "save_strategy": "steps", "save_steps": 5, "optim": "adamw_torch", **keys})
    attach(trainer, lr)
    return trainer, [row["all"] for row in used(trainer)]


def resumed(make, used, first, lr=LR, on_mismatch=None, **keys):
    trainer = make(**{"train": 40, "folder": "again", "optim": "adamw_torch", **keys})
    attached = attach(trainer, lr, on_mismatch=on_mismatch)
    return attached, [row["all"] for row in used(trainer, resume_from_checkpoint=checkpoint(first, 5))]


def test_pain_2_a_longer_run_is_refused_with_both_totals(make, used):
    first, _ = half_done(make, used)
    with pytest.raises(PlanMismatch, match=r"span total: 10\.0 in the checkpoint, 20.0 here"):
        resumed(make, used, first, num_train_epochs=2)


def test_pain_2_a_longer_run_goes_on_as_it_is_told_to(make, used):
    """Updates 5, 6, 7 of a line from 1 to 0 over 10, when the run gets 20."""
    first, before = half_done(make, used, "linear()", learning_rate=1.0)

    def after(choice):
        attached, rates = resumed(
            make, used, first, "linear()", choice, num_train_epochs=2, learning_rate=1.0
        )
        assert attached.t == attached.driver.total == 5 + len(rates)
        return rates

    assert before[:6] == pytest.approx([0.95, 0.85, 0.75, 0.65, 0.55, 0.45])
    kept = after("checkpoint")
    assert (len(kept), kept[:3]) == (5, before[5:8])
    anew = after("recipe")
    assert (len(anew), anew[:3]) == (15, pytest.approx([1 - 5.5 / 20, 1 - 6.5 / 20, 1 - 7.5 / 20]))
    stretched = after(lambda t, total: Stretch(t, total))
    assert (len(stretched), stretched[:3]) == (15, pytest.approx([0.5 * (1 - x / 30) for x in (1, 3, 5)]))
    held = after(lambda t, total: Redraw(t, "hold() >> linear(5)", total))
    assert (len(held), held[:3]) == (15, [0.5] * 3)
    warm = after(lambda t, total: Redraw(t, "linear(2, to=1) >> linear()", total))
    assert warm[:3] == pytest.approx([0.625, 0.875, 1 - 0.5 / 13])


def test_pain_3_another_batch_is_refused(make, used):
    first, _ = half_done(make, used, max_steps=10)
    with pytest.raises(PlanMismatch, match=r"span batch: 4\.0 in the checkpoint, 8\.0 here"):
        resumed(make, used, first, max_steps=10, per_device_train_batch_size=8)


def test_pain_47_a_new_rate_is_refused_or_takes_the_place_of_the_old_everywhere(make, used):
    first, before = half_done(make, used, "1.0 * linear()")
    with pytest.raises(
        PlanMismatch, match=r"lr: 1.0 \* linear\(\) in the checkpoint, 0.1 \* linear\(\) here"
    ):
        resumed(make, used, first, "0.1 * linear()")
    attached, rates = resumed(make, used, first, "0.1 * linear()", "recipe")
    assert rates == pytest.approx([row / 10 for row in before[5:]])
    for group in attached.trainer.optimizer.param_groups:
        numbers = [value for value in group.values() if isinstance(value, float)]
        assert max(numbers) < 0.1 + 1e-9, group
    assert attached.scheduler.base_lrs == [0.1]
    _, rates = resumed(make, used, first, "0.1 * linear()", "checkpoint")
    assert rates == before[5:]


def test_pain_6_the_order_of_building_makes_no_difference(make, used):
    """Optimizer and scheduler built long before the checkpoint is loaded, as `create_optimizer_and_scheduler`
    does, or by the trainer itself: the rates of the next update are the same."""
    first, before = half_done(make, used)
    trainer = make(train=40, folder="again", optim="adamw_torch")
    attach(trainer, LR)
    trainer.create_optimizer_and_scheduler(10)
    assert used(trainer, resume_from_checkpoint=checkpoint(first, 5)) == [
        {"all": rate} for rate in before[5:]
    ]


def test_pain_22_parameters_in_other_groups_are_refused_by_name(make, used):
    """Torch would go by position, and name nothing."""
    first, _ = half_done(make, used)
    for keys in ({"layer_decay": 0.5}, {"weight_decay": 0.1}):
        trainer = make(train=40, folder="again", optim="adamw_torch")
        attach(trainer, LR, **keys)
        with pytest.raises(PlanMismatch, match="has its parameters in other groups") as said:
            trainer.train(resume_from_checkpoint=checkpoint(first, 5))
        assert said.value.rows[0][:2] == ("all", f"41 parameters from {NAME} on")


def test_a_checkpoint_that_was_written_without_etude_is_refused(make, used):
    first = make(train=40, save_strategy="steps", save_steps=5, optim="adamw_torch")
    first.train()
    with pytest.raises(PlanMismatch, match="this checkpoint was written without étude"):
        resumed(make, used, first)


def test_a_checkpoint_without_the_optimizer_is_refused(make, used):
    first, _ = half_done(make, used, save_only_model=True)
    with pytest.raises(EtudeError, match=r"of update 5 has no scheduler\.pt or optimizer\.pt"):
        resumed(make, used, first)


def test_pain_36_an_edit_lasts_through_a_resume(make, used):
    first = make(train=40, save_strategy="steps", save_steps=5)
    attached = attach(first, "0.1 * linear()")
    first.add_callback(Halving(attached, 3))
    before = [row["all"] for row in used(first)]
    assert before == pytest.approx([0.1 * (1 - (k + 0.5) / 10) * (0.5 if k >= 3 else 1) for k in range(10)])
    again, rates = resumed(make, used, first, "0.1 * linear()", optim="sgd")
    assert rates == before[5:]
    assert again.driver.edits == (Scale(3, 0.5, author="me", reason="too fast"),)


def test_pain_34_a_controllers_memory_comes_back(make, used):
    """Patience 3 with two bad readings before the checkpoint: the run ends at the first one after it."""
    keys = READING | {"save_steps": 3}
    ends = []
    for folder, again in (("run", None), ("again", "checkpoint-3")):
        trainer = make(**keys, folder=folder)
        stop = early_stop("eval_loss", patience=3, threshold=9.0)  # no reading after the first is better
        attached = attach(trainer, LR, controllers=[stop])
        run = Path(trainer.args.output_dir).parent / "run"
        rates = used(trainer, **({"resume_from_checkpoint": str(run / again)} if again else {}))
        assert attached.driver.memory["early_stop"]["bad"] == 3
        ends.append((trainer.state.global_step, len(rates), attached.driver.edits))
    assert [(step, updates) for step, updates, _ in ends] == [(4, 4), (4, 1)]
    assert ends[0][2] == ends[1][2]


def test_the_reading_that_the_checkpoint_holds_is_not_counted_twice(make, used):
    """`eval_on_start` evaluates a resumed run where its checkpoint had just been evaluated."""
    keys = READING | {"save_steps": 2}
    first = make(**keys)
    attach(first, LR, controllers=[early_stop("eval_loss", patience=3, threshold=9.0)])
    used(first)
    again = make(**keys, folder="again", eval_on_start=True)
    attach(again, LR, controllers=[early_stop("eval_loss", patience=3, threshold=9.0)])
    assert len(used(again, resume_from_checkpoint=checkpoint(first, 2))) == 2


@pytest.mark.parametrize(
    ("other", "on_mismatch", "bad"),
    [
        ({}, None, 2),
        ({"on": "eval_runtime"}, None, 0),
        ({"lr": "1e-2 * linear()"}, "recipe", 0),
    ],
    ids=["the same", "another metric", "another plan"],
)
def test_a_memory_of_something_else_is_not_taken_for_this_ones(make, used, other, on_mismatch, bad):
    """Two readings before the checkpoint, of which one was bad, and one after it."""

    def run(on="eval_loss", lr=LR, choice=None, path=None, **keys):
        trainer = make(**READING | {"save_steps": 2, "max_steps": 3}, **keys)
        stop = early_stop(on, patience=9, threshold=99.0)
        attached = attach(trainer, lr, controllers=[stop], on_mismatch=choice)
        used(trainer, **({"resume_from_checkpoint": path} if path else {}))
        return trainer, attached.driver.memory["early_stop"]["bad"]

    first, whole = run()
    assert whole == 2
    assert run(**other, choice=on_mismatch, path=checkpoint(first, 2), folder="again")[1] == bad


def test_a_run_that_an_edit_ended_is_not_trained_beyond_its_end(make, used):
    keys = READING | {"save_steps": 1}
    first = make(**keys)
    attach(first, LR, controllers=[early_stop("eval_loss", patience=2, threshold=9.0)])
    assert len(used(first)) == 3
    again = make(**keys, folder="again")
    attach(again, LR, controllers=[early_stop("eval_loss", patience=2, threshold=9.0)])
    with pytest.raises(EtudeError, match=r"has ended at 3, by Stop\(at=3.0, author='early_stop'"):
        again.train(resume_from_checkpoint=checkpoint(first, 3))


def test_a_finished_run_that_is_resumed_does_nothing(make, used):
    first, _ = half_done(make, used)
    again = make(train=40, folder="again", optim="adamw_torch")
    attach(again, LR)
    assert used(again, resume_from_checkpoint=checkpoint(first, 10)) == []
