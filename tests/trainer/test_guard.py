"""The guard in a trainer: it drops and clips updates, refuses to roll back, and leaves a quiet run alone."""

import math

import pytest
import torch
from transformers import Trainer

from etude import early_stop
from etude.control.controller import Clip, Discard
from etude.control.spike import spike
from etude.errors import EtudeError
from etude.trainer import attach


class Faulty(Trainer):
    """Its losses are multiplied, by the number of the forward pass."""

    def __init__(self, *args, **keys):
        super().__init__(*args, **keys)
        self.factors, self.calls = {}, 0

    def compute_loss(self, *args, **keys):
        loss = super().compute_loss(*args, **keys)
        self.calls += 1
        return loss * self.factors.get(self.calls - 1, 1.0)


@pytest.fixture
def faulty(make):
    def made(factors, **keys):
        trainer = make(kind=Faulty, train=128, **keys)
        trainer.factors = factors
        return trainer

    return made


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).clone()


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_update_of_nan_is_dropped_and_the_clock_stands(faulty, record, accumulation, optim):
    """Update 5 of 10: no weight, no moment and no decay moves, and it is made up at the end."""
    trainer = faulty(
        {5 * accumulation: math.nan}, max_steps=10, gradient_accumulation_steps=accumulation, optim=optim,
        weight_decay=0.1,
    )  # fmt: skip
    attached = attach(trainer, "1e-3 * linear()", controllers=[spike()])
    seen = []

    class Watch(record):
        def on_step_end(self, args, state, control, **more):
            seen.append((weights(trainer), attached.t))

    trainer.add_callback(Watch())
    trainer.train()
    assert attached.t == 10
    assert [t for _, t in seen] == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10]
    assert torch.equal(seen[4][0], seen[5][0])
    assert not torch.equal(seen[5][0], seen[6][0])
    ((t, asked),) = attached.guard.asked
    assert (t, type(asked), asked.reason) == (5, Discard, "train_loss is nan and grad_norm is nan")
    assert weights(trainer).isfinite().all()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_dropped_update_leaves_no_statistics_of_its_batch(faulty, accumulation):
    trainer = faulty({5 * accumulation: math.nan}, max_steps=10, gradient_accumulation_steps=accumulation)
    norm = torch.nn.BatchNorm1d(8)
    trainer.model.classifier = torch.nn.Sequential(norm, trainer.model.classifier)
    attached = attach(trainer, "1e-3 * linear()", controllers=[spike()])
    trainer.train()
    assert len(attached.guard.asked) == 1
    assert trainer.calls == 11 * accumulation
    assert int(norm.num_batches_tracked) == 10 * accumulation


def test_an_update_that_grad_scaler_skips_as_well_is_no_reason_to_stop_the_clock(faulty, record):
    """The trainer then never calls its scheduler; the next update is made, and counts."""
    trainer = faulty({5: math.nan}, max_steps=10)
    attached = attach(trainer, "1e-3 * linear()", controllers=[spike()])
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    seen = []

    class Watch(record):
        def on_train_begin(self, args, state, control, **more):
            super().on_train_begin(args, state, control, **more)
            # As accelerate makes its optimizer in fp16, which takes a GPU.
            core = trainer.optimizer.optimizer
            trainer.accelerator.scaler = scaler
            trainer.optimizer.__init__(core, scaler=scaler)
            trainer.accelerator.unscale_gradients = lambda *_: scaler.unscale_(core)

        def on_step_end(self, args, state, control, **more):
            seen.append(attached.t)

    trainer.add_callback(Watch())
    trainer.train()
    assert seen == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10]
    assert weights(trainer).isfinite().all()


def test_without_the_guard_the_same_update_ruins_the_model(faulty):
    trainer = faulty({5: math.nan}, max_steps=10)
    attach(trainer, "1e-3 * linear()")
    trainer.train()
    assert weights(trainer).isnan().any()


@pytest.mark.parametrize("largest", [0.0, 1e-3])
def test_a_spike_is_clipped_to_what_was_asked_for(faulty, largest):
    """With SGD the weights move by the rate times the norm."""
    trainer = faulty({25: 1e4}, max_grad_norm=largest)
    attached = attach(trainer, "0.1 * hold()", controllers=[spike("clip")])
    seen = []
    step = trainer.create_optimizer().step

    def watched(*args, **keys):
        before = weights(trainer)
        result = step(*args, **keys)
        seen.append(float((weights(trainer) - before).double().norm()) / 0.1)
        return result

    trainer.optimizer.step = watched
    trainer.train()
    ((t, asked),) = attached.guard.asked
    assert (t, type(asked)) == (25, Clip)
    assert seen[25] == pytest.approx(min(asked.norm, largest or math.inf), rel=1e-3)
    assert len(seen) == 32


@pytest.mark.parametrize("policy", ["skip", "clip"])
def test_a_quiet_run_is_the_same_with_the_guard_and_without_it(faulty, policy):
    ends = []
    for controllers in ([], [spike(policy)]):
        trainer = faulty({})
        attached = attach(trainer, "1e-2 * linear()", controllers=controllers)
        trainer.train()
        ends.append(weights(trainer))
    assert torch.equal(*ends)
    assert attached.guard.asked == []
    read = attached.driver.memory["spike"]["read"]
    assert [len(one) for one in read.values()] == [32, 32]


def test_it_reads_the_loss_and_the_norm_that_the_trainer_logs(faulty):
    trainer = faulty({}, logging_strategy="steps", logging_steps=1, gradient_accumulation_steps=2)
    attached = attach(trainer, "1e-2 * linear()", controllers=[spike()])
    trainer.train()
    read = attached.driver.memory["spike"]["read"]
    logged = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert read["train_loss"] == pytest.approx([row["loss"] for row in logged], abs=1e-4)
    assert [math.exp(x) for x in read["grad_norm"]] == pytest.approx(
        [row["grad_norm"] for row in logged], rel=1e-4
    )


def test_nothing_but_nan_ends_the_run(faulty):
    trainer = faulty(dict.fromkeys(range(8, 99), math.nan))
    attached = attach(trainer, "1e-3 * linear()", controllers=[spike(in_a_row=4)])
    trainer.train()
    assert attached.t == attached.driver.total == 8
    assert trainer.state.global_step == 12
    assert "4 updates dropped in a row" in attached.driver.edits[-1].reason
    assert weights(trainer).isfinite().all()


@pytest.mark.parametrize("given", [{"policy": "rollback"}, {"rollbacks": 1}])
def test_a_guard_that_may_roll_back_is_refused_before_the_first_update(make, given):
    with pytest.raises(
        EtudeError, match=r"spike may roll back, which a trainer's loop cannot do.*policy='skip'"
    ):
        attach(make(), 0.1, controllers=[spike(**given)])


def test_a_metric_of_no_kind_is_refused(make):
    with pytest.raises(
        EtudeError, match=r"early_stop reads 'loss'.*of every update there are train_loss and"
    ):
        attach(make(), 0.1, controllers=[early_stop("loss")])


def test_attached_again_the_trainer_has_its_own_methods_but_for_one_guard(faulty):
    trainer = faulty({5: math.nan})
    attach(trainer, 0.1, controllers=[spike()])
    attach(trainer, 0.1)
    assert "training_step" not in vars(trainer) or trainer.training_step.__func__ is Trainer.training_step
    trainer.train()
    assert weights(trainer).isnan().any()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_small_last_batch_of_an_epoch_is_no_spike(make, accumulation):
    """37 examples in batches of 4: the last has one, whose loss is 50 times the others'."""
    last = {10 * (epoch + 1) - 1: 50.0 for epoch in range(6)}
    trainer = make(
        kind=Faulty, train=37, num_train_epochs=6, gradient_accumulation_steps=accumulation, max_grad_norm=0.0
    )
    trainer.factors = last
    attached = attach(trainer, "1e-3 * linear()", controllers=[spike(warmup=4)])
    trainer.train()
    assert attached.guard.asked == []
    updates, small = (60, 6) if accumulation == 1 else (30, 6)
    assert len(attached.driver.memory["spike"]["read"]["train_loss"]) == updates - small
