"""Groups and plans: what they accept, what they refuse, and what a torch optimizer is built from."""

import numpy as np
import pytest
import torch

from etude import Group, Plan, cosine, linear, warmup
from etude.errors import EtudeError, PlanError, ScheduleError


def test_a_hyper_parameter_takes_whatever_stands_for_a_schedule():
    shape = warmup(0.1) >> cosine()
    for lr in (2e-5 * shape, f"2e-5 * ({shape})"):
        plan = Plan({"lr": lr, "weight_decay": 0.01, "momentum": linear(to=0.9)}, tick=1)
        assert plan.text == {
            "lr": "2e-05 * (warmup(0.1) >> cosine())",
            "weight_decay": "0.01 * hold()",
            "momentum": "1 * linear(to=0.9)",
            "tick": 1,
        }
        rates = plan.over(10).at(0)
        assert rates == {
            "lr": [2e-5],
            "weight_decay": [0.01],
            "momentum": [pytest.approx(0.99, rel=1e-15, abs=0)],
        }


def test_its_text_makes_the_same_plan():
    plan = Plan({"lr": "2e-5 * (warmup(0.1) >> cosine())", "weight_decay": 0.01}, [Group("a")], tick=0)
    text = plan.text
    again = Plan({hyper: text[hyper] for hyper in text if hyper != "tick"}, [Group("a")], text["tick"])
    assert again == plan
    assert again.over(50).matrix() == plan.over(50).matrix()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Plan({"weight_decay": 0.1}), 'schedule for "lr"'),
        (lambda: Plan({}), 'schedule for "lr"'),
        (lambda: Plan({"lr": 1}, []), "at least one group"),
        (lambda: Plan({"lr": 1}, [Group("a"), Group("a")]), "two groups are called 'a'"),
        (
            lambda: Plan({"lr": 1}, [Group("a", ("w",)), Group("b", ("v", "w"))]),
            "w is in two groups, 'a' and 'b'",
        ),
        (lambda: Plan({"lr": 1}, [Group("a", ("w", "w"))]), "w is in two groups"),
        (lambda: Plan({"lr": 1}, [Group("a", scale={"weight_decay": 0})]), "scales 'weight_decay'"),
        (lambda: Plan({"lr": 1, "weight_decay": 1}, [Group("a", scale={"weigth_decay": 0})]), "did you mean"),
        (lambda: Plan({"lr": 1}, tick=2), "tick=2"),
        (lambda: Plan({"lr": 1}, tick=-0.1), "tick=-0.1"),
        (lambda: Plan({"lr": 1}, tick="middle"), "tick takes a number"),
        (lambda: Plan({"lr": 1}, tick=float("nan")), "tick takes a finite number"),
        (lambda: Plan({"lr": "fast"}), "no word"),
        (lambda: Plan({"lr": -1e-5}), "never negative"),
        (lambda: Plan({"lr": float("nan")}), "finite"),
        (lambda: Group("a", scale={"lr": -1}), "0 or more"),
        (lambda: Group("a", scale={"lr": float("nan")}), "finite"),
        (lambda: Group("a", scale={"lr": "2"}), "takes a number"),
        (lambda: Group("a", gate="0.5 * hold()"), "a gate is a path"),
        (lambda: Group("a", gate=0.5), "a gate is a path"),
        (lambda: Group("a", gate="frozn()"), "did you mean 'frozen'"),
    ],
)
def test_what_is_refused(make, says):
    with pytest.raises(EtudeError) as error:
        make()
    assert isinstance(error.value, (PlanError, ScheduleError))
    assert says in str(error.value)


def test_a_gate_that_does_not_fit_the_run_is_refused_when_the_run_is_known():
    with pytest.raises(PlanError, match=r"gate of group 'a' does not fit the run.*too short"):
        Plan({"lr": 1}, [Group("a", gate="frozen(0.5) >> warmup(0.1)")]).over(100)
    with pytest.raises(PlanError, match="group 'a' would thaw when the run is over"):
        Plan({"lr": 1}, [Group("a", gate="frozen(100) >> hold(start=1)")]).over(100)


def test_an_empty_group_is_refused_by_name():
    plan = Plan({"lr": 0.1}, [Group("body", ["weight", "bias"]), Group("rest")])
    with pytest.raises(PlanError, match="no parameter is in rest"):
        plan.torch_groups(torch.nn.Linear(2, 2))


def test_groups_are_plain_data():
    group = Group("a", ["w", "v"], {"lr": np.float64(0.5)}, "frozen(0.5) >> hold(start=1)")
    assert group.params == ("w", "v")
    assert type(group.scale["lr"]) is float
    assert group == Group("a", ("w", "v"), {"lr": 0.5}, group.gate)
    for unhashable in (group, Plan({"lr": 1})):
        with pytest.raises(TypeError):
            hash(unhashable)


MODEL = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 1))
GROUPS = [
    Group("body", ("0.weight", "0.bias"), {"lr": 0.1}),
    Group("norm", ("1.weight", "1.bias"), {"weight_decay": 0}),
    Group("head", ("2.weight", "2.bias"), {"lr": 10}),
]


def test_torch_groups_are_what_an_optimizer_takes():
    plan = Plan({"lr": "1e-3 * linear()", "weight_decay": 0.01}, GROUPS)
    optimizer = torch.optim.AdamW(plan.torch_groups(MODEL))
    found = [(g["name"], g["param_names"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert found == [
        ("body", ["0.weight", "0.bias"], 1e-4, 0.01),
        ("norm", ["1.weight", "1.bias"], 1e-3, 0),
        ("head", ["2.weight", "2.bias"], 1e-2, 0.01),
    ]
    named = dict(MODEL.named_parameters())
    for group in optimizer.param_groups:
        assert all(p is named[name] for p, name in zip(group["params"], group["param_names"], strict=True))


def test_torch_groups_name_what_does_not_fit():
    with pytest.raises(PlanError, match=r"in no group of the plan: 2\.weight, 2\.bias"):
        Plan({"lr": 1}, [*GROUPS[:1], Group("norm", ("1.weight", "1.bias"))]).torch_groups(MODEL)
    with pytest.raises(PlanError, match=r"the model has no 2\.wieght; did you mean '2\.weight'"):
        Plan({"lr": 1}, [Group("a", ("2.wieght",))]).torch_groups(MODEL)


def test_frozen_parameters_may_stay_out_of_the_plan():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    groups = Plan({"lr": 1}, [Group("head", ("1.weight", "1.bias"))]).torch_groups(model)
    assert [len(group["params"]) for group in groups] == [2]


def test_table():
    assert Plan({"lr": "1e-3 * linear()", "weight_decay": 0.01}, GROUPS[:2]).table() == [
        {"group": "body", "tensors": 2, "lr": 1e-4, "weight_decay": 0.01, "gate": None},
        {"group": "norm", "tensors": 2, "lr": 1e-3, "weight_decay": 0, "gate": None},
    ]
    gated = Plan({"lr": 1}, [Group("a", gate="frozen(0.3) >> warmup(0.05) >> hold()")])
    assert gated.table()[0]["gate"] == "frozen(0.3) >> warmup(0.05) >> hold()"


def test_the_notebook_shows_a_plan():
    assert "body" in Plan({"lr": 1, "weight_decay": 0}, GROUPS)._repr_html_()
