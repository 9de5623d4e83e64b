"""The driver: absolute, idempotent, the one owner of the rates; what it does with readings and edits."""

import math
from dataclasses import dataclass

import pytest
import torch

import etude
from etude import Advance, Driver, Group, Plan, Redraw, Rollback, Scale, Stop, Stretch
from etude.control.controller import Controller, Discard, Restore
from etude.errors import EtudeError, EtudeWarning, PlanError, ScheduleError

GROUPS = [
    Group("body", ("0.weight", "0.bias"), {"lr": 0.1}, "frozen(0.2) >> warmup(0.1) >> hold()"),
    Group("head", ("1.weight", "1.bias"), {"lr": 10, "weight_decay": 0}),
]
HYPERS = {"lr": "1e-3 * (warmup(0.1) >> cosine(to=0.01))", "weight_decay": "0.1 * linear(to=0.5)"}


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))


def driven(controllers=(), total=50, hypers=None, tick=0.5, **given):
    plan = Plan(hypers or HYPERS, GROUPS, tick)
    optimizer = torch.optim.AdamW(plan.torch_groups(model()))
    return Driver(plan.over(total), etude.torch.sink(optimizer), controllers, **given), optimizer


@dataclass(frozen=True)
class Halve:
    """Halve the rate after `patience` readings that are not below the best."""

    patience: int = 2
    metric: str = "eval_loss"
    name: str = "halve"

    @property
    def reads(self):
        return (self.metric,)

    def init(self):
        return {"best": None, "bad": 0}

    def update(self, state, t, reading):
        value = reading[self.metric]
        if state["best"] is None or value < state["best"]:
            return {"best": value, "bad": 0}, None
        if state["bad"] + 1 < self.patience:
            return {**state, "bad": state["bad"] + 1}, None
        return {**state, "bad": 0}, Scale(t, 0.5, author=self.name, reason=f"{self.metric} {value}")


@dataclass(frozen=True)
class Guard:
    """Ask the loop to drop an update with a large norm, and to go back after a large loss."""

    name: str = "guard"
    reads: tuple = ("grad_norm",)

    def init(self):
        return {"seen": 0}

    def update(self, state, t, reading):
        answer = Discard("large norm") if reading["grad_norm"] > 10 else None
        if reading.get("loss", 0) > 100:
            answer = Restore("loss")
        return {"seen": state["seen"] + 1}, answer


def test_apply_writes_what_at_says_in_any_order_and_as_often_as_asked():
    driver, optimizer = driven()
    expected = driver.rates
    for k in [*range(50), 7, 7, 49, 0, 12, 33, 12, 80]:
        driver.apply(k)
        driver.apply(k)
        for hyper in HYPERS:
            assert driver.read(hyper) == driver.at(k)[hyper] == expected.at(k)[hyper]
            assert [group[hyper] for group in optimizer.param_groups] == expected.at(k)[hyper]
    driver.apply(3.25, 3.75)
    assert driver.read("lr") == expected.at(3.25, 3.75)["lr"]
    driver.apply(49.5)
    assert driver.read("lr") == expected.at(49.5, 50)["lr"]


def test_the_loop_of_the_design():
    driver, optimizer = driven(total=20)
    body, head = optimizer.param_groups[0]["params"], optimizer.param_groups[1]["params"]
    before = [p.detach().clone() for p in body]
    x = torch.ones(4, 3)
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    net[0].weight, net[0].bias, net[1].weight, net[1].bias = *body, *head
    for k in range(20):
        driver.apply(k)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
        if k == 3:  # the gate opens at 20% of the run
            assert all(torch.equal(p, old) for p, old in zip(body, before, strict=True))
    assert not torch.equal(body[0], before[0])


def test_at_is_pure_and_needs_no_sink():
    driver = Driver(Plan(HYPERS, GROUPS).over(50))
    assert driver.at(10) == driver.rates.at(10)
    for ask in (lambda: driver.apply(10), lambda: driver.read("lr")):
        with pytest.raises(EtudeError, match="no sink"):
            ask()


def test_the_first_reading_that_matters_acts_on_the_next_update():
    driver, _ = driven([Halve(patience=2)])
    plain = driver.rates
    for k in range(50):
        driver.apply(k)
        factor = 0.5 ** ((k - 5) // 10) if k >= 15 else 1
        assert driver.read("lr") == [value * factor for value in plain.at(k)["lr"]]
        if k % 5 == 4:
            assert driver.observe(k + 1, {"eval_loss": 1.0 if k < 10 else 2.0}) == ()
    assert [edit.at for edit in driver.edits] == [15, 25, 35, 45]


def test_edits_of_controllers_and_of_people_take_the_same_road():
    watched, _ = driven([Halve(patience=1)])
    edited, _ = driven()
    for t, loss in ((10, 1.0), (20, 2.0), (30, 0.5), (40, 0.6)):
        watched.observe(t, {"eval_loss": loss})
        if t in (20, 40):
            edited.edit(Scale(t, 0.5))
    assert watched.rates.matrix() == edited.rates.matrix()
    assert [edit.author for edit in watched.edits] == ["halve", "halve"]
    assert [edit.author for edit in edited.edits] == ["user", "user"]


def test_an_edit_acts_on_updates_that_begin_at_its_time_or_later():
    driver, _ = driven(tick=1)
    before = [driver.at(k) for k in range(50)]
    driver.apply(20)
    driver.edit(Scale(20.5, 0.5))
    assert driver.at(20) == before[20]
    assert driver.at(20.5)["lr"] == [0.5 * x for x in Plan(HYPERS, GROUPS, 1).over(50).at(20.5)["lr"]]
    driver.apply(21)
    assert driver.read("lr") == [0.5 * value for value in before[21]["lr"]]


def test_total_follows_the_edits():
    driver, _ = driven(hypers={**HYPERS, "lr": "hold(20) >> linear(10) >> hold()"})
    assert driver.total == 50
    driver.edit(Advance(10))
    assert driver.total == 40
    driver.edit(Stretch(20, 60))
    assert driver.total == 60
    driver.edit(Redraw(30, "linear()", 35))
    assert driver.total == 35
    driver.edit(Stop(33))
    assert driver.total == 33
    driver.edit(Rollback(33, 15, keep=1))
    assert driver.total == 40


def test_a_refused_edit_changes_nothing():
    driver, _ = driven()
    driver.edit(Scale(10, 0.5))
    before = driver.rates
    for edit in (Scale(5, 0.5), Scale(20, 0.5, groups="nobody"), Stretch(20, 15), Advance(40), Stop(51)):
        with pytest.raises(ScheduleError):
            driver.edit(edit)
    assert driver.rates is before


def test_one_reading_per_metric_and_time():
    driver, _ = driven([Halve(patience=1), Guard()])
    driver.observe(10, {"eval_loss": 1.0})
    driver.observe(10, {"grad_norm": 1.0})
    memory = dict(driver.memory)
    for t in (10, 9.5):
        with pytest.raises(ScheduleError, match="one reading per metric and time"):
            driver.observe(t, {"accuracy": 0.5, "eval_loss": 2.0})
    assert driver.memory == memory
    assert driver.edits == ()
    driver.observe(9.75, {"accuracy": 0.5})
    driver.observe(10.5, {"eval_loss": 2.0})
    assert len(driver.edits) == 1


def test_a_controller_is_asked_only_when_its_metrics_are_there():
    driver, _ = driven([Halve(patience=1), Guard()])
    driver.observe(1, {"grad_norm": 1.0})
    driver.observe(2, {"eval_loss": 1.0, "grad_norm": 2.0})
    driver.observe(3, {"eval_loss": 1.0})
    driver.observe(4, {"something": 1.0})
    assert driver.memory == {"halve": {"best": 1.0, "bad": 0}, "guard": {"seen": 2}}
    assert [edit.at for edit in driver.edits] == [3]


def test_what_controllers_ask_of_the_loop_is_handed_to_it():
    driver, _ = driven([Guard()])
    assert driver.observe(1, {"grad_norm": 1.0}) == ()
    assert driver.observe(2, {"grad_norm": 11.0}) == (Discard("large norm"),)
    assert driver.observe(3, {"grad_norm": 1.0, "loss": 1e6}) == (Restore("loss"),)
    assert driver.edits == ()


def test_readings_may_be_tensors():
    driver, _ = driven([Halve(patience=1)])
    driver.observe(1, {"eval_loss": torch.tensor(1.0)})
    assert driver.memory["halve"]["best"] == 1.0
    assert type(driver.memory["halve"]["best"]) is float


def test_after_a_rollback_the_same_times_are_read_again():
    driver, _ = driven([Halve(patience=3)])
    for t in (10, 20, 30):
        driver.observe(t, {"eval_loss": 1.0})
    driver.edit(Rollback(30, 15, keep=0))
    driver.observe(20, {"eval_loss": 1.0})
    assert [edit.name for edit in driver.edits] == ["rollback", "scale"]


def test_every_rank_decides_on_the_reduced_reading():
    losses = {0: [0.9, 1.2, 0.8, 1.4], 1: [1.1, 0.7, 1.3, 0.9]}
    asked = []

    def mean(reading):
        asked.append(dict(reading))
        t = len(asked) // 2 if len(asked) % 2 == 0 else len(asked) // 2 + 1
        return {"eval_loss": sum(series[t - 1] for series in losses.values()) / len(losses)}

    ranks = [driven([Halve(patience=1)], reduce=mean)[0] for _ in losses]
    for i in range(4):
        for rank, driver in enumerate(ranks):
            driver.observe(10 * (i + 1), {"eval_loss": losses[rank][i]})
    assert ranks[0].edits == ranks[1].edits
    assert [edit.at for edit in ranks[0].edits] == [30, 40]
    assert ranks[0].rates.matrix() == ranks[1].rates.matrix()
    alone = [driven([Halve(patience=1)])[0] for _ in losses]
    for i in range(4):
        for rank, driver in enumerate(alone):
            driver.observe(10 * (i + 1), {"eval_loss": losses[rank][i]})
    assert alone[0].edits != alone[1].edits


def test_early_stop_ends_the_loop():
    driver, _ = driven([etude.early_stop("eval_loss", patience=2)])
    losses = iter([0.9, 0.5, 0.6, 0.7, 0.8])
    k = 0
    while k < driver.total:
        driver.apply(k)
        k += 1
        if k % 10 == 0:
            driver.observe(k, {"eval_loss": next(losses)})
    assert k == driver.total == 40
    assert driver.edits[-1].author == "early_stop"


def test_the_classes_are_controllers():
    for one in (Halve(), Guard(), etude.early_stop()):
        assert isinstance(one, Controller)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: driven(foreign="ignore"), EtudeError, "'raise', 'adopt', 'restore'"),
        (
            lambda: driven([Halve(), Halve(metric="loss")]),
            EtudeError,
            "have the name halve: give one",
        ),
    ],
)
def test_what_a_driver_refuses(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_the_groups_of_the_optimizer_are_those_of_the_plan():
    plan, net = Plan(HYPERS, GROUPS), model()
    one = torch.optim.SGD(net.parameters(), lr=1)
    with pytest.raises(PlanError, match=r"the plan has 2 groups \(body, head\), the optimizer has 1"):
        Driver(plan.over(10), etude.torch.sink(one))
    swapped = torch.optim.SGD(list(reversed(plan.torch_groups(net))), lr=1)
    with pytest.raises(PlanError, match="body, head; the optimizer's are head, body"):
        Driver(plan.over(10), etude.torch.sink(swapped))
    unnamed = torch.optim.SGD([{"params": net[0].parameters()}, {"params": net[1].parameters()}], lr=1)
    driver = Driver(plan.over(10), etude.torch.sink(unnamed))
    driver.apply(5)
    assert driver.read("lr") == driver.at(5)["lr"]


def test_an_open_run_is_driven():
    plan = Plan({"lr": "warmup(10) >> hold() >> linear(0.5)"}, [Group("all", ("0.weight",))], tick=0)
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "name": "all"}], lr=1)
    driver = Driver(plan.over(math.inf), etude.torch.sink(optimizer))
    assert driver.total == math.inf
    driver.apply(1_000_000)
    assert driver.read("lr") == [1]
    driver.edit(Advance(1_000_000))
    assert driver.total == 2_000_000
    driver.apply(1_500_000)
    assert driver.read("lr") == [0.5]


@pytest.mark.parametrize("tick", [0, 0.5, 1])
def test_apply_is_at_to_the_last_bit_whatever_word_and_gate_is_in_force(tick):
    """Boundaries lie inside updates, updates have unequal lengths, rates are asked in and out of order."""
    hypers = {
        "lr": "3e-4 * (warmup(0.13) >> hold(0.21) >> exp(0.2, to=0.1) >> rex()) * linear(to=0.7)",
        "weight_decay": "0.1 * (cosine(0.31, to=0.3) >> step(times=3, by=0.7))",
    }
    gates = [
        "frozen(0.17) >> warmup(0.11) >> hold()", "hold(0.3, start=0.7) >> cosine(0.2) >> frozen()", None,
        "wave(half=0.21, low=0.3)",
    ]  # fmt: skip
    groups = [Group(f"g{i}", (f"{i}",), {"lr": 0.3 + i}, gate) for i, gate in enumerate(gates)]
    held = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(1)) for _ in gates)
    plan = Plan(hypers, groups, tick)
    driver = Driver(plan.over(37.3), etude.torch.sink(torch.optim.AdamW(plan.torch_groups(held))))
    driver.edit(Scale(9.5, 0.7))
    driver.edit(Stretch(20.25, 44.6))
    begins = [k * 0.37 for k in range(130)]
    for begin in [*begins, *begins[::-7], *map(float, range(45))]:
        end = None if begin.is_integer() else begin + 0.37
        driver.apply(begin, end)
        for hyper, values in driver.rates.at(begin, end).items():
            assert [x.hex() for x in driver.read(hyper)] == [x.hex() for x in values], (hyper, begin)
        assert [p.requires_grad for p in held] == driver.rates.open(begin)


@pytest.mark.parametrize(
    ("controllers", "says"),
    [
        ([etude.plateau], r"etude.plateau makes a controller: write etude.plateau\(\)"),
        (["plateau"], "'plateau' is no controller"),
        (etude.plateau(), r"is no list: write controllers=\[etude.plateau\(\)\]"),
        (None, "is no list"),
        ([etude.plateau(), etude.plateau()], "the name plateau: give one of them another"),
        ([etude.plateau(groups="haed")], r"plateau\(groups='haed'\): no group matches 'haed'.*head"),
    ],
)
def test_what_is_no_list_of_controllers(controllers, says):
    with pytest.raises(ScheduleError, match=says):
        driven(controllers)


def test_what_is_no_plan_and_no_sink():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(PlanError, match=r"write Driver\(plan.over\(total\)"):
        Driver(Plan({"lr": 0.1}))
    with pytest.raises(PlanError, match=r"etude.torch.sink\(optimizer\); got SGD"):
        Driver(Plan({"lr": 0.1}).over(10), optimizer)


@pytest.mark.parametrize(
    ("t", "reading", "says"),
    [
        (1, 0.5, r"takes a reading such as .*got 0.5"),
        (1, {"eval_loss": "0.5"}, "plateau reads 'eval_loss', of which the reading is '0.5': no number"),
        (1, {"eval_loss": [0.5, 0.6]}, "no number"),
        (1, {"eval_loss": None}, "no number"),
        ("5", {"eval_loss": 0.5}, "takes a number"),
        (math.nan, {"eval_loss": 0.5}, "takes a finite number"),
        (1, {"train_loss": 0.5}, "spike reads train_loss and grad_norm together.*has no grad_norm"),
    ],
)
def test_what_is_no_reading(t, reading, says):
    driver = Driver(Plan({"lr": 0.1}).over(10), controllers=[etude.plateau(), etude.spike()])
    with pytest.raises(ScheduleError, match=says):
        driver.observe(t, reading)


def test_what_no_controller_reads_may_be_anything():
    driver = Driver(Plan({"lr": 0.1}).over(10), controllers=[etude.target(0.5)])
    driver.observe(1, {"eval_loss": torch.tensor(0.4), "eval_per_class": [0.1, 0.2]})
    assert driver.total == 1


@pytest.mark.parametrize("reverse", [False, True])
def test_a_stop_is_final(reverse):
    """Whatever another controller asks for at the same reading, in either order."""
    made = [etude.early_stop(patience=2), etude.cooldown(patience=2)]
    rates = Plan({"lr": "0.1 * (warmup(10) >> hold() >> linear(0.2))"}).over(1000)
    driver = Driver(rates, controllers=made[::-1] if reverse else made)
    for t in (100, 200, 300):
        driver.observe(t, {"eval_loss": 1.0})
    assert driver.total == 300
    with pytest.warns(EtudeWarning, match="has ended at 300, and a reading at 400"):
        assert driver.observe(400, {"eval_loss": 0.1}) == ()
    assert driver.total == 300


def test_the_end_of_a_part_of_an_update_is_the_end_of_the_run():
    driver = Driver(Plan({"lr": "0.1 * linear()"}).over(10.5), controllers=[etude.early_stop(patience=1)])
    driver.observe(10, {"eval_loss": 0.5})
    driver.observe(11, {"eval_loss": 0.6})
    assert [(one.name, one.at) for one in driver.edits] == [("stop", 10.5)]


def test_nobody_counts_an_update_that_is_not_made():
    driver = Driver(
        Plan({"lr": 0.1}).over(100),
        controllers=[etude.plateau("train_loss", patience=2, spike=None), etude.spike(norm=None)],
    )
    driver.observe(0, {"train_loss": 1.0})
    for _ in range(5):
        (asked,) = driver.observe(1, {"train_loss": math.nan})
        assert isinstance(asked, Discard)
        driver.forget(["train_loss"])
    assert driver.memory["plateau"]["bad"] == 0
    assert driver.memory["spike"]["dropped"] == 5


def test_a_refused_reading_may_be_made_again():
    driver = Driver(Plan({"lr": 0.1}).over(10), controllers=[etude.plateau(patience=1, spike=None)])
    driver.edit(Scale(5, 0.5))
    driver.observe(1, {"eval_loss": 1.0})
    with pytest.raises(ScheduleError, match="comes after an edit at 5"):
        driver.observe(2, {"eval_loss": 1.0})
    driver.observe(6, {"eval_loss": 1.0})
    assert len(driver.edits) == 2


@pytest.mark.parametrize("guarded", [True, False])
def test_a_loop_of_ones_own_never_makes_the_update_that_ends_the_run(guarded):
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    controllers = [etude.spike(in_a_row=3)] if guarded else []
    driver = Driver(Plan({"lr": 0.1}).over(20), etude.torch.sink(optimizer), controllers)
    k = 0
    while k < driver.total:
        driver.apply(k)
        parameter.grad = torch.full((1,), math.nan if k == 5 else 0.1)
        reading = {"train_loss": 1.0, "grad_norm": float(parameter.grad.norm())}
        if any(isinstance(one, Discard) for one in driver.observe(k, reading)):
            driver.forget(reading)
        else:
            optimizer.step()
            k += 1
    assert (k, driver.total) == ((5, 5) if guarded else (20, 20))
    assert math.isfinite(parameter.item()) == guarded
    assert [one.name for one in driver.edits] == ["stop"] * guarded
