"""The clock counts updates of the weights, and the plan is bound to as many as the trainer makes."""

import math

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback

from etude.errors import ScheduleError
from etude.trainer import attach


class Weights(TrainerCallback):
    """A weight after each micro-batch and after each update, to see when it moved."""

    def __init__(self):
        self.between, self.after = [], []

    def on_substep_end(self, args, state, control, **more):
        self.between.append(more["model"].classifier.weight[0, 0].item())

    def on_step_end(self, args, state, control, **more):
        self.after.append(more["model"].classifier.weight[0, 0].item())


@pytest.mark.parametrize("accumulated", [1, 3, 8])
def test_pain_4_rates_change_with_updates_of_the_weights_only(make, used, accumulated):
    """25 examples are 7 batches of 4, no multiple of 3 or 8: the last update of an epoch is a short one."""
    trainer = make(train=25, num_train_epochs=2, gradient_accumulation_steps=accumulated)
    attached = attach(trainer, "1e-2 * linear()", tick=0)
    start = trainer.model.classifier.weight[0, 0].item()
    trainer.add_callback(seen := Weights())
    rates = used(trainer)
    updates = 2 * math.ceil(7 / accumulated)
    assert [row["all"] for row in rates] == pytest.approx([1e-2 * (1 - k / updates) for k in range(updates)])
    assert attached.t == attached.driver.total == updates == trainer.state.global_step
    assert len(set(seen.after)) == updates
    assert len(seen.between) == 2 * 7 - updates
    assert set(seen.between) <= {start, *seen.after}


@pytest.mark.parametrize(
    ("examples", "batch", "accumulated", "dropped", "length"),
    [
        (24, 4, 1, False, {"num_train_epochs": 1}),
        (25, 4, 2, False, {"num_train_epochs": 3}),
        (25, 4, 2, True, {"num_train_epochs": 3}),
        (23, 5, 3, False, {"num_train_epochs": 2.5}),
        (9, 2, 1, True, {"num_train_epochs": 0.5}),
        (25, 4, 3, False, {"max_steps": 5}),
        (7, 4, 4, False, {"max_steps": 3}),
        (3, 4, 1, False, {"num_train_epochs": 2}),
    ],
)
def test_pain_8_the_plan_is_as_long_as_the_run(make, used, examples, batch, accumulated, dropped, length):
    trainer = make(
        train=examples, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulated,
        dataloader_drop_last=dropped, **length,
    )  # fmt: skip
    attached = attach(trainer, "linear(to=0.5)", tick=1)
    rates = used(trainer)
    assert len(rates) == trainer.state.global_step == attached.driver.total == attached.t
    assert rates[-1]["all"] == 5e-5 * 0.5


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch_fused"])
def test_an_update_that_fp16_skips_does_not_move_the_clock(make, used, recwarn, optim):
    """Two of nine tries overflow; the trainer counts them and étude does not, so seven updates are made.

    A fused optimizer skips by itself, in a call of its `step()` like any other.
    """

    class Overflowing(Trainer):
        tries = 0

        def training_step(self, *args, **keys):
            loss = super().training_step(*args, **keys)
            self.tries += 1
            if self.tries in (1, 4):
                self.model.classifier.weight.grad.fill_(math.inf)
            return loss

    trainer = make(kind=Overflowing, train=40, max_steps=7, optim=optim)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # as fp16=True does on a GPU
    attached = attach(trainer, "7e-3 * linear()", tick=0)
    trainer.add_callback(seen := Weights())
    used(trainer)
    assert (attached.t, trainer.state.global_step, trainer.tries) == (7, 9, 9)
    assert len(set(seen.after)) == 8  # with the first try, which was skipped
    assert seen.after[2] == seen.after[3]
    assert attached.used["all"] == pytest.approx(1e-3)
    assert not recwarn.list


def test_pain_14_a_smaller_batch_after_an_oom_is_planned_anew(make, used):
    """`auto_find_batch_size` starts over: the update that fails is the seventh of 10, and 14 follow."""

    class Small(Trainer):
        def training_step(self, model, inputs, *rest):
            if len(inputs["labels"]) > 3 and self.state.global_step == 6:
                raise RuntimeError("CUDA out of memory.")
            return super().training_step(model, inputs, *rest)

    trainer = make(kind=Small, train=40, auto_find_batch_size=True)
    attached = attach(trainer, "1e-2 * (warmup(0.5) >> linear())", tick=0)
    rates = [row["all"] for row in used(trainer)]
    assert trainer._train_batch_size == 3
    assert rates[:6] == pytest.approx([1e-2 * k / 5 for k in (0, 1, 2, 3, 4, 5)])
    up, down = [1e-2 * k / 7 for k in range(7)], [1e-2 * (1 - k / 7) for k in range(7)]
    assert rates[6:] == pytest.approx(up + down)
    assert attached.driver.total == attached.t == 14
    assert attached.driver.rates.span.batch == 3


def test_a_second_training_is_a_run_of_its_own(make, used):
    trainer = make()
    attach(trainer, "1e-2 * linear()", tick=0)
    first = used(trainer)
    trainer.args.num_train_epochs = 2
    second = used(trainer)
    assert (len(first), len(second)) == (6, 12)
    assert first[0] == second[0] == {"all": 1e-2}
    assert second[6]["all"] == pytest.approx(5e-3)


def test_lengths_in_epochs_and_examples(make, used):
    trainer = make(num_train_epochs=3, train=25)
    attach(trainer, 'linear("1ep", start=0, to=1) >> hold("28ex") >> linear()', tick=0)
    rates = [row["all"] / 5e-5 for row in used(trainer)]
    assert rates == pytest.approx([*(k / 7 for k in range(7)), *[1] * 7, *(1 - k / 7 for k in range(7))])


class Stream(IterableDataset):
    """Examples without a length."""

    def __init__(self, examples):
        self.examples = examples

    def __iter__(self):
        return iter(self.examples * 100)


def test_streamed_data_has_updates_and_no_epochs(make, used):
    from_list = make(train=24).train_dataset
    trainer = make(train=Stream(from_list), max_steps=5)
    attach(trainer, "1e-2 * linear()", tick=0)
    assert [row["all"] for row in used(trainer)] == pytest.approx([1e-2 * (1 - k / 5) for k in range(5)])
    trainer = make(train=Stream(from_list), max_steps=5)
    attach(trainer, 'warmup("1ep") >> hold()')
    with pytest.raises(ScheduleError, match="epoch"):
        trainer.train()


def test_where_the_data_ends_before_a_skipped_update_is_made_up_the_run_ends(make, used):
    class Overflowing(Trainer):
        def training_step(self, *args, **keys):
            loss = super().training_step(*args, **keys)
            if self.state.global_step == 2:
                self.model.classifier.weight.grad.fill_(math.inf)
            return loss

    trainer = make(kind=Overflowing)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    attached = attach(trainer, "6e-3 * linear()", tick=0)
    used(trainer)
    assert (attached.t, attached.driver.total, trainer.state.global_step) == (5, 6, 6)
