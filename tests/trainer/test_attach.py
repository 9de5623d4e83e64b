"""One line after the trainer's construction: whose groups, whose optimizer, whose rates."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from transformers import Adafactor, TrainerCallback, TrainingArguments

import etude
from etude import Group, Plan, linear, warmup
from etude.errors import EtudeError, EtudeWarning, PlanError, ScheduleError
from etude.trainer import attach

LR = "2e-2 * (warmup(0.5) >> cosine(to=0.1))"


def planned(trainer, tick, updates=6, **keys):
    rates = etude.plan(trainer.model, **keys, tick=tick).over(updates)
    names = [group.name for group in rates.plan.groups]
    return [dict(zip(names, rates.at(k)["lr"], strict=True)) for k in range(updates)]


@pytest.mark.parametrize("tick", [0, 0.5, 1])
def test_every_update_uses_the_plans_rates(make, used, tick):
    trainer = make()
    attach(trainer, LR, layer_decay=0.5, head=10, tick=tick)
    rates = used(trainer)
    assert rates == planned(trainer, tick, lr=LR, layer_decay=0.5, head=10)
    assert len(rates[0]) == 4
    assert trainer.state.global_step == 6


def test_pain_20_each_weight_moves_by_its_groups_rate(make, record):
    """LLRD asked for, and applied: SGD with unit gradients moves a weight by the sum of its rates."""
    trainer = make()
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    attached = attach(trainer, 0.25, layer_decay=0.5, head=4)
    trainer.add_callback(record(unit=True))
    trainer.train()
    moved = {}
    for group in attached.plan.groups:
        for name in group.params:
            delta = before[name] - dict(trainer.model.named_parameters())[name]
            torch.testing.assert_close(delta, torch.full_like(delta, 6 * 0.25 * group.scale["lr"]))
        moved[group.name] = group.scale["lr"]
    assert moved == {"embeddings": 0.25, "layer.0": 0.5, "layer.1..top": 1, "head": 4}
    assert sum(len(group.params) for group in attached.plan.groups) == len(before)


def test_pain_10_the_first_update_is_not_wasted(make, record):
    trainer = make(max_steps=1)
    before = trainer.model.classifier.weight.detach().clone()
    attach(trainer, "0.25 * (warmup(1) >> hold())")
    trainer.add_callback(record(unit=True))
    trainer.train()
    torch.testing.assert_close(before - trainer.model.classifier.weight, torch.full_like(before, 0.125))


@pytest.mark.parametrize(
    ("optim", "options", "kind", "kept"),
    [
        (
            "adamw_torch",
            {"adam_beta1": 0.8, "adam_epsilon": 1e-6},
            torch.optim.AdamW,
            {"betas": (0.8, 0.999)},
        ),
        ("adamw_torch_fused", {}, torch.optim.AdamW, {"fused": True}),
        ("adafactor", {}, Adafactor, {"scale_parameter": False, "relative_step": False}),
        ("sgd", {"optim_args": "momentum=0.7"}, torch.optim.SGD, {"momentum": 0.7}),
        ("adagrad", {}, torch.optim.Adagrad, {"lr_decay": 0}),
    ],
)
def test_the_optimizer_is_the_one_that_optim_names(make, record, optim, options, kind, kept):
    trainer = make(optim=optim, **options)
    before = trainer.model.classifier.weight.detach().clone()
    attach(trainer, LR, layer_decay=0.9, weight_decay=0.01)
    seen = record()
    trainer.add_callback(seen)
    trainer.train()
    assert type(trainer.optimizer.optimizer) is kind
    assert len(seen.hypers[-1]) == 6
    for group in seen.hypers[-1]:
        assert {key: group[key] for key in kept} == kept
        assert group["weight_decay"] == (0.0 if group["name"].endswith("no_decay") else 0.01)
    assert seen.rates == planned(trainer, 0.5, lr=LR, layer_decay=0.9, weight_decay=0.01)
    assert not torch.equal(before, trainer.model.classifier.weight)


def test_an_optimizer_class_of_ones_own_is_kept(make, used):
    trainer = make(given={"optimizer_cls_and_kwargs": (torch.optim.NAdam, {"lr": 1.0, "betas": (0.7, 0.9)})})
    attach(trainer, LR, layer_decay=0.5)
    assert used(trainer) == planned(trainer, 0.5, lr=LR, layer_decay=0.5)
    assert type(trainer.optimizer.optimizer) is torch.optim.NAdam
    assert all(group["betas"] == (0.7, 0.9) for group in trainer.optimizer.param_groups)


@pytest.mark.all
def test_an_optimizer_of_eight_bits(make, used):
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="optim='adamw_8bit' is bitsandbytes'")
    trainer = make(optim="adamw_8bit")
    attach(trainer, LR, layer_decay=0.5)
    assert used(trainer) == planned(trainer, 0.5, lr=LR, layer_decay=0.5)
    assert type(trainer.optimizer.optimizer) is bitsandbytes.optim.AdamW


def test_a_bare_path_is_multiplied_by_the_learning_rate_of_the_arguments(make, used):
    trainer = make(learning_rate=0.04)
    attached = attach(trainer, warmup(0.5) >> linear())
    assert str(attached.plan.hypers["lr"]) == "0.04 * (warmup(0.5) >> linear())"
    shares = [rates["all"] / 0.04 for rates in used(trainer)]
    assert shares == pytest.approx([1 / 6, 3 / 6, 5 / 6, 5 / 6, 3 / 6, 1 / 6])


def test_a_peak_of_one_that_is_written_stays(make):
    with pytest.warns(EtudeWarning, match="learning_rate=0.04"):
        attached = attach(make(learning_rate=0.04), "1 * cosine()")
    assert attached.plan.hypers["lr"].peak == 1


def test_the_weight_decay_of_the_arguments_holds_where_none_is_given(make, record):
    trainer = make(weight_decay=0.3)
    attach(trainer, LR)
    trainer.add_callback(seen := record())
    trainer.train()
    assert {group["name"]: group["weight_decay"] for group in seen.hypers[0]} == {
        "all": 0.3,
        "all.no_decay": 0,
    }
    other = make(weight_decay=0.3)
    assert attach(other, LR, weight_decay="cosine()").plan.hypers["weight_decay"].peak == 0.3
    with pytest.warns(EtudeWarning, match="without effect in TrainingArguments: weight_decay=0.3;"):
        assert attach(make(weight_decay=0.3), LR, weight_decay=0).plan.hypers["weight_decay"].peak == 0


def test_settings_that_lose_their_effect_are_named_once(make):
    trainer = make(
        learning_rate=1e-3, lr_scheduler_type="cosine_with_restarts", warmup_steps=0.1, optim="adamw_torch",
        lr_scheduler_kwargs={"num_cycles": 2},
    )  # fmt: skip
    with pytest.warns(EtudeWarning) as caught:
        attach(trainer, LR)
    assert [str(one.message) for one in caught] == [
        "without effect in TrainingArguments: lr_scheduler_type='cosine_with_restarts', "
        "lr_scheduler_kwargs={'num_cycles': 2}, warmup_steps=0.1, learning_rate=0.001; the plan given to "
        "attach sets the rates. Leave them out"
    ]
    assert caught[0].filename == __file__


def test_a_default_that_a_subclass_changed_is_no_setting(make):
    @dataclass
    class Small(TrainingArguments):
        learning_rate: float = field(default=1e-6)

    attach(make(arguments=Small), LR)


def test_a_ready_plan_and_a_function_that_plans(make, used):
    trainer = make()
    names = [name for name, _ in trainer.model.named_parameters()]
    plan = Plan({"lr": "0.5 * linear()"}, [Group("low", names[:7], {"lr": 0.1}), Group("high", names[7:])])
    attach(trainer, plan=plan)
    assert used(trainer)[0] == {"low": 0.05 * 11 / 12, "high": 0.5 * 11 / 12}
    other = make()
    attached = attach(other, plan=lambda model: etude.plan(model, 0.1, head=10))
    assert [rates["head"] for rates in used(other)] == [1.0] * 6
    assert attached.used["head"] == 1.0


def test_the_model_is_planned_when_the_optimizer_is_made(make, used):
    """What was frozen or added after `attach` counts, as it does for the trainer itself."""
    trainer = make()
    attached = attach(trainer, 0.1, layer_decay=0.5, head=3)
    assert len(attached.plan.groups) == 4
    trainer.model.bert.requires_grad_(False)
    assert used(trainer) == [{"all": pytest.approx(0.3)}] * 6
    assert attached.plan.groups[0].params == ("classifier.weight", "classifier.bias")


def test_attached_again_the_new_plan_holds(make, used):
    trainer = make()
    attach(trainer, 0.1)
    used(trainer)
    attach(trainer, 0.3, head=2)
    assert {tuple(rates.values()) for rates in used(trainer)} == {(0.3, 0.6)}
    assert sum(type(one).__name__ == "Watch" for one in trainer.callback_handler.callbacks) == 1


def test_a_model_made_anew_is_planned_anew(make, used):
    """With `model_init` the trainer makes model and optimizer for every `train()`."""
    trainer = make(given={"model_init": lambda: make().model}, learning_rate=0.1)
    attached = attach(trainer, "linear()")
    first = used(trainer)
    trainer.args.learning_rate = 0.2  # as a search does for each trial
    second = used(trainer)
    assert [row["all"] for row in second] == [2 * row["all"] for row in first]
    assert attached.plan.hypers["lr"].peak == 0.2


def test_before_training_there_is_a_plan_and_no_driver(make):
    attached = attach(make(), LR, layer_decay=0.5)
    assert repr(attached) == f"Attachment({LR.replace('2e-2', '0.02')}, 3 groups)"
    assert [row["group"] for row in attached.plan.table()] == ["embeddings", "layer.0", "layer.1..head"]
    with pytest.raises(EtudeError, match="there is no driver yet"):
        _ = attached.driver


def test_nothing_is_said_to_the_user(make, capfd, recwarn, caplog):
    """Neither torch nor transformers warns, on the console or otherwise, in a run with all there is."""
    from etude import early_stop

    trainer = make(
        evaluate=4, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=3, logging_steps=1,
        logging_strategy="steps", optim="adamw_torch",
    )  # fmt: skip
    attach(trainer, LR, layer_decay=0.9, head=2, controllers=[early_stop(patience=3)])
    trainer.train()
    trainer.train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-3")
    assert trainer.state.global_step == 6
    assert not recwarn.list
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    told = capfd.readouterr().err.splitlines()
    assert [line for line in told if line and not line.startswith("Writing model shards")] == []


@pytest.mark.parametrize(
    ("keys", "kind", "said"),
    [
        ({}, ScheduleError, 'lr="2e-5 \\* \\(warmup\\(0.1\\) >> cosine\\(to=0.01\\)\\)"'),
        ({"lr": "cosin()"}, ScheduleError, "did you mean 'cosine'"),
        ({"lr": LR, "layer_decay": 9}, PlanError, "layer_decay=9"),
        ({"lr": LR, "foreign": "ignore"}, EtudeError, "'raise', 'adopt', 'restore'"),
        ({"lr": LR, "on_mismatch": "scratch"}, EtudeError, '"checkpoint", "recipe" or a function'),
        ({"plan": 3}, PlanError, "got int"),
        ({"plan": Plan({"lr": 1}), "head": 2, "lr": LR}, PlanError, "lr, head was given too"),
        ({"lr": LR, "controllers": [etude.early_stop("accuracy")]}, EtudeError, "write 'eval_accuracy'"),
    ],
)
def test_what_cannot_be_is_said_at_once(make, keys, kind, said):
    trainer = make()
    with pytest.raises(kind, match=said):
        attach(trainer, **keys)
    assert "create_optimizer" not in vars(trainer)


def test_only_a_trainer_without_an_optimizer_can_be_attached(make):
    with pytest.raises(EtudeError, match="got Linear; in a loop of your own write Driver"):
        attach(torch.nn.Linear(1, 1), LR)
    model = make().model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(EtudeError, match="leave optimizers= out"):
        attach(make(given={"model": model, "optimizers": (optimizer, None)}), LR)
    trained = make(max_steps=1)
    trained.train()
    with pytest.raises(EtudeError, match="attach before the first train"):
        attach(trained, LR)


def test_an_optimizer_with_groups_of_its_own_is_refused(make):
    class Projected(torch.optim.SGD):
        def __init__(self, params, rank, **options):
            super().__init__([{**group, "rank": rank} for group in params], **options)

    class Elsewhere(torch.optim.SGD):
        def __init__(self, params, **options):
            super().__init__([torch.zeros(1, requires_grad=True)], **options)

    for kind, options, said in (
        (Projected, {"rank": 4}, "Projected keeps rank for groups of its own making"),
        (Elsewhere, {}, "Elsewhere updates parameters that are not the model's own"),
    ):
        trainer = make(given={"optimizer_cls_and_kwargs": (kind, {"lr": 0.1, **options})})
        attach(trainer, LR)
        with pytest.raises(PlanError, match=said):
            trainer.train()


def test_momentum_follows_its_own_path(make):
    class Betas(TrainerCallback):
        used: ClassVar[list] = []

        def on_pre_optimizer_step(self, args, state, control, **more):
            self.used.append(more["optimizer"].param_groups[0]["betas"])

    trainer = make(max_steps=10, optim="adamw_torch")
    attach(trainer, "1e-3 * one_cycle()", momentum="one_cycle_momentum()", tick=0)
    trainer.add_callback(Betas())
    trainer.train()
    momentum = etude.one_cycle_momentum().over(10)
    assert Betas.used == [(pytest.approx(momentum(k)), 0.999) for k in range(10)]
