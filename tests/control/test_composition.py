"""Controllers together: one product of named factors, every edit in the log, replay to the last bit."""

import itertools
import json
import math
import random

import pytest
import torch

import etude
from etude import Driver, Group, Plan, Scale, Stretch
from etude.control.cooldown import cooldown
from etude.control.early_stop import early_stop
from etude.control.extend import extend
from etude.control.greedy import greedy
from etude.control.plateau import plateau
from etude.control.rewarm import rewarm
from etude.control.target import target
from etude.control.variance import variance
from etude.core.rates import rates_from_state

GROUPS = [
    Group("body", ("0.weight", "0.bias"), {"lr": 0.1}),
    Group("head", ("1.weight", "1.bias"), {"lr": 10, "weight_decay": 0}),
]
SHAPE = "warmup(0.1) >> cosine(to=0.01)"
PLAN = Plan({"lr": f"1e-3 * ({SHAPE})", "weight_decay": "0.1"}, GROUPS)


def driven(controllers=(), plan=PLAN, total=100):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    optimizer = torch.optim.AdamW(plan.torch_groups(net))
    return Driver(plan.over(total), etude.torch.sink(optimizer), controllers), optimizer


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_pain_35_the_rate_is_the_product_of_its_named_factors_in_any_order(order):
    """Warm-up × cosine × plateau × greedy × a scale by hand × the multiplier of the group."""
    several = [
        plateau("loss", 0.5, 2),
        greedy("acc", 0.8, 2),
        plateau("loss", 0.3, 3, name="slow", groups="head"),
    ]
    driver, optimizer = driven([several[i] for i in order])
    shape = etude.parse(SHAPE).over(100)
    by_hand = 1.0
    for k in range(100):
        driver.apply(k)
        factors = {name: {"body": 1.0, "head": 1.0} for name in ("plateau", "greedy", "slow", "user")}
        for edit in driver.edits:
            for group in ("body", "head") if edit.groups == "*" else (edit.groups,):
                factors[edit.author][group] *= edit.by
        for group, scale, used in zip(GROUPS, (0.1, 10), optimizer.param_groups, strict=True):
            product = 1e-3 * shape(k + 0.5) * scale * math.prod(one[group.name] for one in factors.values())
            assert used["lr"] == pytest.approx(product, rel=1e-14)
            assert used["weight_decay"] == (0 if group.name == "head" else 0.1)
        if k % 10 == 9:
            driver.observe(k + 1, {"loss": 1.0 - 0.1 * (k < 40), "acc": 0.5 + 0.001 * k})
        if k in (33, 66):
            driver.edit(Scale(k + 1, 0.7))
            by_hand *= 0.7
    assert {edit.author for edit in driver.edits} == {"plateau", "greedy", "slow", "user"}
    assert factors["user"]["head"] == by_hand
    for edit in driver.edits:
        written = edit.as_json()
        assert {"edit", "at", "by", "author", "reason"} <= set(written)
        assert written["reason"] or written["author"] == "user"


def test_pain_36_a_scale_lasts_through_the_run_and_a_resume():
    driver, optimizer = driven()
    plain = driver.rates
    for k in range(60):
        if k == 3:
            driver.edit(Scale(3, 0.5, reason="by hand"))
        driver.apply(k)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [value * (0.5 if k >= 3 else 1) for value in plain.at(k)["lr"]], rel=1e-15
        )
    again, optimizer = driven()
    again.load_state_dict(json.loads(json.dumps(driver.state_dict(), allow_nan=False)))
    for k in range(60, 100):
        again.apply(k)
        assert [group["lr"] for group in optimizer.param_groups] == driver.at(k)["lr"]
        assert driver.at(k)["lr"] == pytest.approx([value / 2 for value in plain.at(k)["lr"]], rel=1e-15)
    assert [(edit.at, edit.author, edit.reason) for edit in again.edits] == [(3, "user", "by hand")]


EVERY = [
    plateau("loss", 0.5, 2), greedy("loss", 0.7, 2, cooldown=1), variance("train_loss", window=8, warmup=2),
    rewarm("train_loss", z=6), cooldown("loss", 4), extend("loss", margin=0.4, threshold=0.0, most=2),
    early_stop("loss", 12), target(0.01, "loss"),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tick", [0, 0.5, 1])
def test_replay_of_the_edits_is_what_was_used_to_the_last_bit(seed, tick):
    """All controllers at once, over noise with spikes; and a run resumed in the middle is the same run."""
    shape = "warmup(0.1) >> hold(0.5) >> linear(to=0.1)"
    plan = Plan({"lr": f"1e-3 * ({shape})", "weight_decay": "0.1 * linear()"}, GROUPS, tick)
    driver, optimizer = driven(EVERY, plan, 200)
    rng, used, k = random.Random(seed), [], 0
    while k < driver.total:
        driver.apply(k)
        used.append([group["lr"] for group in optimizer.param_groups])
        k += 1
        loss = 0.5 + math.exp(-k / 60) + 0.1 * rng.gauss(0, 1) + (9 if k == 15 or rng.random() < 0.01 else 0)
        reading = {"train_loss": loss}
        if k % 7 == 0:
            reading["loss"] = loss
        driver.observe(k, reading)
        if k == 50:
            driver.edit(Scale(k, 0.9))
        if k == 100:  # the host goes down and comes back
            saved = json.loads(json.dumps(driver.state_dict(), allow_nan=False))
            driver, optimizer = driven(EVERY, plan, 200)
            driver.load_state_dict(saved)
    assert {"rewarm", "plateau", "greedy"} <= {edit.author for edit in driver.edits}
    replayed = rates_from_state(json.loads(json.dumps(driver.state_dict(), allow_nan=False)))
    assert [replayed.at(k)["lr"] for k in range(len(used))] == used
    assert replayed.matrix() == driver.rates.matrix()
    straight, _ = driven([], plan, 200)
    for edit in driver.edits:
        straight.edit(edit)
    assert [straight.at(k)["lr"] for k in range(len(used))] == used


@pytest.mark.parametrize("every", [2.5, 1.0, 0.4])
def test_pain_33_a_controller_ticks_once_for_each_evaluation_whatever_else_is_read(every):
    """Evaluations every 2.5 epochs of 8 updates; the training loss is read after each update."""
    driver, _ = driven([plateau("eval_loss", 0.5, 2, min=0)], total=80)
    evaluations = 0
    for k in range(80):
        driver.observe(k + 1, {"train_loss": 1.0})
        if (k + 1) // (8 * every) > k // (8 * every):
            evaluations += 1
            driver.observe(k + 1, {"eval_loss": 1.0})
            with pytest.raises(etude.EtudeError, match="there is one reading per metric and time"):
                driver.observe(k + 1, {"eval_loss": 0.1})  # the same evaluation, handed over again
    assert len(driver.edits) == (evaluations - 1) // 2
    assert driver.memory["plateau"]["bad"] == (evaluations - 1) % 2


def test_each_sees_the_edits_of_those_before_it_in_the_same_reading():
    """What a target has ended is not made longer."""
    for order in ([target(0.5, "loss"), extend("loss")], [extend("loss"), target(0.5, "loss")]):
        driver, _ = driven(order)
        driver.observe(50, {"loss": 0.9})
        driver.observe(95, {"loss": 0.4})
        assert driver.total == 95
    assert [edit.author for edit in driver.edits] == ["extend", "target"]


def test_an_edit_by_hand_and_controllers_that_see_the_rates():
    driver, _ = driven(
        [cooldown("loss", 1)], Plan({"lr": "hold() >> linear(10)", "weight_decay": 0}, GROUPS), 100
    )
    driver.edit(Stretch(10, 200))
    driver.observe(50, {"loss": 1.0})
    driver.observe(60, {"loss": 1.0})
    assert [edit.author for edit in driver.edits] == ["user", "cooldown"]
    assert driver.total == pytest.approx(60 + 10 * 190 / 90)
