"""What the trainer logs: the rates that each update used, under the groups' names."""

from transformers import TrainerCallback

import etude
from etude import Scale
from etude.trainer import attach


class At(TrainerCallback):
    """Does something when update k - 1 has been made."""

    def __init__(self, k, do):
        self.k, self.do = k, do

    def on_step_end(self, args, state, control, **more):
        if state.global_step == self.k:
            self.do()


LR = "2e-2 * (warmup(0.3) >> cosine(to=0.01))"


def test_pain_52_every_update_logs_the_rates_it_used(make, used):
    """For every group, under a stable name; the log alone gives the schedule back."""
    trainer = make(logging_strategy="steps", logging_steps=1, train=40, max_grad_norm=0)
    attached = attach(trainer, LR, layer_decay=0.5, head=4)
    rates = used(trainer)
    names = ["embeddings", "layer.0", "layer.1..top", "head"]
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["step"] for row in logged] == list(range(1, 11))
    for row, update in zip(logged, rates, strict=True):
        assert {key: value for key, value in row.items() if key.startswith("lr/")} == {
            f"lr/{name}": update[name] for name in names
        }
        assert row["learning_rate"] == update["head"] == max(update.values())
    plan = etude.plan(trainer.model, LR, layer_decay=0.5, head=4)
    assert [[row[f"lr/{name}"] for name in names] for row in logged] == plan.over(10).matrix()
    assert attached.used == rates[-1]


def test_where_it_logs_less_often_it_is_the_rate_of_the_last_update(make, used):
    trainer = make(logging_strategy="steps", logging_steps=3)
    attach(trainer, LR, head=4)
    rates = used(trainer)
    logged = [(row["step"], row["lr/head"]) for row in trainer.state.log_history if "loss" in row]
    assert logged == [(3, rates[2]["head"]), (6, rates[5]["head"])]


def test_the_log_of_each_epoch_and_the_summary(make, used):
    trainer = make(logging_strategy="epoch", num_train_epochs=2, evaluate=4, eval_strategy="epoch")
    attach(trainer, LR)
    rates = used(trainer)
    by_step = {row["step"]: row["lr/all"] for row in trainer.state.log_history if "lr/all" in row}
    assert by_step == {6: rates[5]["all"], 12: rates[11]["all"]}
    assert "lr/all" not in trainer.state.log_history[-1]


def test_other_callbacks_see_them_too(make, used):
    """What reports to TensorBoard or Weights & Biases is a callback."""

    class Reporter(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **more):
            seen.append(logs)

    seen = []
    trainer = make(logging_strategy="steps", logging_steps=2)
    trainer.callback_handler.callbacks.insert(0, Reporter())  # reporters come before what is added later
    attach(trainer, LR)
    rates = used(trainer)
    assert [row["lr/all"] for row in seen[:3]] == [rates[k]["all"] for k in (1, 3, 5)]


def test_a_part_without_weight_decay_is_named_where_its_rate_is_its_own(make, used):
    trainer = make(logging_strategy="steps", logging_steps=1)
    attached = attach(trainer, 0.1, head=2, weight_decay=0.1)
    trainer.add_callback(At(3, lambda: attached.edit(Scale(3, 0.5, groups="head.no_decay"))))
    used(trainer)
    logged = [{key for key in row if key.startswith("lr/")} for row in trainer.state.log_history]
    assert logged[:3] == [{"lr/embeddings..top", "lr/head"}] * 3
    assert logged[3:6] == [{"lr/embeddings..top", "lr/head", "lr/head.no_decay"}] * 3
