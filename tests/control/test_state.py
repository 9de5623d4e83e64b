"""What a checkpoint holds: strict JSON, resume as if nothing had happened, another plan refused."""

import copy
import json
import math
from dataclasses import dataclass

import pytest
import torch

import etude
from etude import Driver, Group, Plan, Rollback, Scale, Stretch
from etude.errors import EtudeError, PlanMismatch

GROUPS = [
    Group("layer.0", ("0.weight", "0.bias"), {"lr": 0.9}, "frozen(0.3) >> hold(start=1.0)"),
    Group("head", ("1.weight", "1.bias"), {"lr": 10.0, "weight_decay": 0.0}),
]
HYPERS = {"lr": "2e-05 * (warmup(0.1) >> cosine(to=0.01))", "weight_decay": 0.01}


@dataclass(frozen=True)
class Halve:
    """Halve the rate after `patience` readings that are not below the best."""

    patience: int = 3
    name: str = "halve"
    reads: tuple = ("eval_loss",)

    def init(self):
        return {"best": None, "bad": 0}

    def update(self, state, t, reading):
        value = reading["eval_loss"]
        if state["best"] is None or value < state["best"]:
            return {"best": value, "bad": 0}, None
        if state["bad"] + 1 < self.patience:
            return {**state, "bad": state["bad"] + 1}, None
        return {**state, "bad": 0}, Scale(t, 0.5, author=self.name, reason="flat")


def driven(hypers=None, total=375.9375, controllers=(), tick=0.5, groups=GROUPS, **units):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    plan = Plan(hypers or HYPERS, groups, tick)
    optimizer = torch.optim.AdamW(plan.torch_groups(net))
    units = units or {"epoch": 125.3125, "batch": 16}
    driver = Driver(plan.over(total, **units), etude.torch.sink(optimizer), controllers)
    return driver, optimizer, net


def stored(state):
    return json.loads(json.dumps(state, allow_nan=False))


def test_the_state_is_the_one_of_the_design():
    driver, *_ = driven(controllers=[Halve()])
    driver.observe(100, {"eval_loss": 0.41})
    driver.observe(110, {"eval_loss": 0.5})
    driver.edit(Scale(124, 0.5, author="plateau", reason="eval_loss 0.41, 3 readings"))
    state = stored(driver.state_dict())
    assert state == {
        "etude": 1,
        "span": {"total": 375.9375, "epoch": 125.3125, "batch": 16, "tokens": None},
        "plan": {
            "lr": "2e-05 * (warmup(0.1) >> cosine(to=0.01))", "weight_decay": "0.01 * hold()", "tick": 0.5,
        },
        "groups": [
            {"name": "layer.0", "scale": {"lr": 0.9}, "gate": "frozen(0.3) >> hold(start=1.0)",
             "params": ["0.weight", "0.bias"]},
            {"name": "head", "scale": {"lr": 10.0, "weight_decay": 0.0}, "gate": None,
             "params": ["1.weight", "1.bias"]},
        ],
        "edits": [
            {"edit": "scale", "at": 124.0, "by": 0.5, "hyper": "lr", "groups": "*", "author": "plateau",
             "reason": "eval_loss 0.41, 3 readings"},
        ],
        "controllers": {"halve": {"best": 0.41, "bad": 1}},
        "kinds": {"halve": ["Halve", ["eval_loss"]]},
    }  # fmt: skip
    assert list(state) == ["etude", "span", "plan", "groups", "edits", "controllers", "kinds"]


def test_there_is_no_clock_in_it():
    driver, *_ = driven()
    before = stored(driver.state_dict())
    for k in range(200):
        driver.apply(k)
    assert stored(driver.state_dict()) == before


def test_an_open_run_is_written_as_null():
    hypers = {"lr": "2e-5 * (warmup(10) >> hold() >> linear(0.2))"}
    groups = [Group("all", tuple(p for g in GROUPS for p in g.params))]
    driver, *_ = driven(hypers, math.inf, groups=groups)
    state = stored(driver.state_dict())
    assert state["span"]["total"] is None
    again, *_ = driven(hypers, math.inf, groups=groups)
    again.load_state_dict(state)
    assert again.total == math.inf
    driver.edit(etude.Redraw(100, "hold()", math.inf))
    again.load_state_dict(stored(driver.state_dict()))
    assert again.edits == driver.edits


UPDATES = 40
LOSSES = [
    1.0,
    0.8,
    0.9,
    0.85,
    0.95,
    0.7,
    0.9,
    0.9,
    0.9,
    0.6,
    0.7,
    0.7,
    0.7,
    0.65,
    0.66,
    0.9,
    0.9,
    0.9,
    0.9,
    0.9,
]
BATCHES = torch.randn(UPDATES, 4, 2, generator=torch.Generator().manual_seed(1))


def train(driver, optimizer, net, begin=0):
    """Train from update `begin` on: what each update used, the weights after it, and the state then."""
    trace, states = [], []
    for k in range(begin, UPDATES):
        states.append(
            (
                stored(driver.state_dict()),
                copy.deepcopy(optimizer.state_dict()),
                copy.deepcopy(net.state_dict()),
            )
        )
        driver.apply(k)
        used = driver.read("lr"), driver.read("weight_decay"), [p.requires_grad for p in net.parameters()]
        optimizer.zero_grad()
        net(BATCHES[k]).square().mean().backward()
        optimizer.step()
        trace.append((used, torch.cat([p.detach().flatten() for p in net.parameters()])))
        if k % 2:
            driver.observe(k + 1, {"eval_loss": LOSSES[k // 2]})
        if k == 20:
            driver.edit(Stretch(21, UPDATES * 1.25))
        if k == 30:
            driver.edit(Scale(31, 0.1, groups="head", author="anna"))
    return trace, states


def test_resume_at_any_update_is_the_uninterrupted_run():
    whole, states = train(*driven(total=UPDATES, controllers=[Halve(2)]))
    assert len({tuple(used[0]) for used, _ in whole}) == UPDATES
    assert len(states[-1][0]["edits"]) == 8
    assert states[5][0]["controllers"]["halve"] == {"best": 0.8, "bad": 0}
    for begin, (saved, moments, weights) in enumerate(states):
        driver, optimizer, net = driven(total=UPDATES, controllers=[Halve(2)])
        net.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        driver.load_state_dict(saved)
        assert bool(moments["state"]) == (begin > 0)
        trace, after = train(driver, optimizer, net, begin)
        for (used, weight), (used_, weight_) in zip(trace, whole[begin:], strict=True):
            assert used == used_
            assert torch.equal(weight, weight_)
        assert [state for state, *_ in after] == [state for state, *_ in states[begin:]]


def test_the_cut_comes_at_the_next_bad_reading_after_a_resume():
    driver, *_ = driven(controllers=[Halve(3)])
    for t, loss in ((10, 1.0), (20, 1.1), (30, 1.1)):
        driver.observe(t, {"eval_loss": loss})
    resumed, *_ = driven(controllers=[Halve(3)])
    resumed.load_state_dict(stored(driver.state_dict()))
    assert resumed.memory == {"halve": {"best": 1.0, "bad": 2}}
    resumed.observe(40, {"eval_loss": 1.1})
    assert [edit.at for edit in resumed.edits] == [40]
    fresh, *_ = driven(controllers=[Halve(3)])
    fresh.observe(40, {"eval_loss": 1.1})
    assert fresh.edits == ()


@pytest.mark.parametrize("order", ["driver first", "optimizer first", "driver built last"])
def test_the_order_of_loading_does_not_matter(order):
    driver, optimizer, _ = driven()
    driver.edit(Scale(3, 0.5))
    for k in range(20):
        driver.apply(k)
    saved, moments = stored(driver.state_dict()), optimizer.state_dict()
    driver.apply(20)
    expected = driver.read("lr")
    again, fresh, _ = driven()
    if order == "driver first":
        again.load_state_dict(saved)
        fresh.load_state_dict(moments)
    elif order == "optimizer first":
        fresh.load_state_dict(moments)
        again.load_state_dict(saved)
    else:
        fresh.load_state_dict(moments)
        again = Driver(again.rates, etude.torch.sink(fresh))
        again.load_state_dict(saved)
    again.apply(20)
    assert again.read("lr") == expected == [group["lr"] for group in fresh.param_groups]


def test_loading_needs_nothing_but_the_state_and_a_time():
    driver, *_ = driven()
    driver.edit(Scale(30, 0.5))
    saved = stored(driver.state_dict())
    _, optimizer, _ = driven()
    for group in optimizer.param_groups:
        group["lr"] = 123.0
        group.pop("initial_lr", None)
    late = Driver(driver.rates, etude.torch.sink(optimizer))
    late.load_state_dict(saved)
    late.apply(50)
    assert [group["lr"] for group in optimizer.param_groups] == driver.at(50)["lr"]


# --- another plan ------------------------------------------------------------------------------------------

OTHERS = {
    "plan": ({"hypers": {**HYPERS, "lr": "1e-3 * (warmup(0.1) >> cosine())"}},
             [("lr", HYPERS["lr"], "0.001 * (warmup(0.1) >> cosine())")]),
    "total": ({"total": 500}, [("span total", "375.9375", "500.0")]),
    "units": ({"epoch": 100, "batch": 32, "tokens": 5},
              [("span epoch", "125.3125", "100.0"), ("span batch", "16.0", "32.0"),
               ("span tokens", "nothing", "5.0")]),
    "tick": ({"tick": 0}, [("tick", "0.5", "0")]),
    "one more": ({"hypers": {**HYPERS, "momentum": 0.9}}, [("momentum", "nothing", "0.9 * hold()")]),
    "one less": ({"hypers": {"lr": HYPERS["lr"]},
                  "groups": [GROUPS[0], Group("head", GROUPS[1].params, {"lr": 10})]},
                 [("weight_decay", "0.01 * hold()", "nothing"),
                  ("head scale", "{'lr': 10.0, 'weight_decay': 0.0}", "{'lr': 10.0}")]),
    "gate": ({"groups": [Group("layer.0", GROUPS[0].params, {"lr": 0.9}), GROUPS[1]]},
             [("layer.0 gate", "frozen(0.3) >> hold(start=1.0)", "nothing")]),
}  # fmt: skip


@pytest.mark.parametrize(("other", "rows"), OTHERS.values(), ids=OTHERS)
def test_another_plan_is_refused_with_every_field_that_differs(other, rows):
    driver, *_ = driven()
    driver.edit(Scale(124, 0.5))
    saved = stored(driver.state_dict())
    again, *_ = driven(**other)
    before = again.rates
    with pytest.raises(PlanMismatch) as error:
        again.load_state_dict(saved)
    assert error.value.rows == tuple(rows)
    for field, theirs, ours in rows:
        assert f"{field}: {theirs} in the checkpoint, {ours} here" in str(error.value)
    assert 'on_mismatch="checkpoint" or "recipe"' in str(error.value)
    assert again.rates is before


@pytest.mark.parametrize("other", [given for given, _ in OTHERS.values()], ids=OTHERS)
def test_the_user_chooses_the_checkpoint_or_the_recipe(other):
    driver, *_ = driven()
    driver.edit(Scale(124, 0.5))
    saved = stored(driver.state_dict())
    by_checkpoint, optimizer, _ = driven(**other)
    by_checkpoint.load_state_dict(saved, on_mismatch="checkpoint")
    assert stored(by_checkpoint.state_dict()) == saved
    assert by_checkpoint.total == 375.9375
    by_checkpoint.apply(200)
    assert [group["lr"] for group in optimizer.param_groups] == driver.at(200)["lr"]

    by_recipe, optimizer, _ = driven(**other)
    mine = stored(by_recipe.state_dict())
    by_recipe.load_state_dict(saved, on_mismatch="recipe")
    assert stored(by_recipe.state_dict()) == mine
    by_recipe.apply(200)
    assert [group["lr"] for group in optimizer.param_groups] == driven(**other)[0].at(200)["lr"]


@pytest.mark.parametrize("on_mismatch", [None, "checkpoint", "recipe"])
def test_the_same_plan_needs_no_choice(on_mismatch):
    driver, *_ = driven()
    driver.edit(Scale(124, 0.5))
    again, *_ = driven()
    again.load_state_dict(stored(driver.state_dict()), on_mismatch)
    assert again.edits == driver.edits
    assert again.rates.matrix() == driver.rates.matrix()


def test_a_plan_said_in_other_words_is_the_same():
    driver, *_ = driven({"lr": "2/100000 * (warmup(0.1)>>cosine(to=1/100))", "weight_decay": "0.01"})
    driver.load_state_dict(stored(driven()[0].state_dict()))


def test_by_the_recipe_the_controllers_begin_anew():
    """What they remember is of edits that are gone: a level at its floor, a decay that has begun."""
    made = [etude.cooldown(patience=1), etude.plateau(patience=1, min=0.25)]

    def held(peak):
        return Driver(
            Plan({"lr": f"{peak} * (warmup(10) >> hold() >> linear(0.2))"}).over(100), controllers=made
        )

    driver, again = held(0.1), held(0.2)
    for t in (20, 30, 40):
        driver.observe(t, {"eval_loss": 1.0})
    assert driver.memory["cooldown"]["done"]
    assert driver.memory["plateau"]["level"] == 0.25
    again.load_state_dict(stored(driver.state_dict()), on_mismatch="recipe")
    assert again.memory == {one.name: one.init() for one in made}
    for t in (50, 60):
        again.observe(t, {"eval_loss": 1.0})
    assert [one.name for one in again.edits] == ["advance", "scale"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (etude.spike(norm=None), etude.spike()),
        (etude.plateau(name="x"), etude.greedy(name="x")),
        (etude.early_stop("eval_loss"), etude.early_stop("eval_accuracy")),
        (etude.early_stop(name="a"), etude.early_stop(name="b")),
    ],
)
def test_a_controller_does_not_take_the_memory_of_another(before, after):
    driver, *_ = driven(controllers=[before])
    for k, loss in enumerate((0.9, 0.8, 0.85)):
        driver.observe(k, {"train_loss": loss, "eval_loss": loss})
    again, *_ = driven(controllers=[after])
    again.load_state_dict(stored(driver.state_dict()))
    assert again.memory == {after.name: after.init()}
    same, *_ = driven(controllers=[before])
    same.load_state_dict(stored(driver.state_dict()))
    assert same.memory == driver.memory != {before.name: before.init()}


def test_a_state_of_before_says_no_kinds():
    driver, *_ = driven(controllers=[Halve()])
    driver.observe(10, {"eval_loss": 0.5})
    state = stored(driver.state_dict())
    del state["kinds"]
    again, *_ = driven(controllers=[Halve()])
    again.load_state_dict(state)
    assert again.memory == driver.memory


def test_other_groups_cannot_go_by_the_checkpoint():
    saved = stored(driven()[0].state_dict())
    one = [Group("all", tuple(p for g in GROUPS for p in g.params))]
    driver, *_ = driven({"lr": HYPERS["lr"], "weight_decay": 0.01}, groups=one)
    with pytest.raises(PlanMismatch) as error:
        driver.load_state_dict(saved)
    assert ("groups", "['layer.0', 'head']", "['all']") in error.value.rows
    with pytest.raises(PlanMismatch, match="groups the parameters in another way"):
        driver.load_state_dict(saved, on_mismatch="checkpoint")
    driver.load_state_dict(saved, on_mismatch="recipe")
    driver.apply(10)


def test_states_that_cannot_be_read():
    driver, *_ = driven()
    state = stored(driver.state_dict())
    with pytest.raises(PlanMismatch, match="format 2"):
        driver.load_state_dict({**state, "etude": 2})
    with pytest.raises(PlanMismatch, match="format None"):
        driver.load_state_dict({})
    with pytest.raises(EtudeError, match='"checkpoint" or "recipe"'):
        driver.load_state_dict(state, on_mismatch="keep")


def test_a_rollback_is_resumed():
    driver, *_ = driven(controllers=[Halve(1)])
    for t, loss in ((100, 0.5), (110, 0.6)):
        driver.observe(t, {"eval_loss": loss})
    driver.edit(Rollback(110, 105, keep=0))
    driver.observe(108, {"eval_loss": 0.7})
    again, *_ = driven(controllers=[Halve(1)])
    again.load_state_dict(stored(driver.state_dict()))
    assert [edit.name for edit in again.edits] == ["scale", "rollback", "scale"]
    assert again.rates.matrix() == driver.rates.matrix()
