"""Layer-wise rates in MLX: every group's weights move as the plan says, eager and compiled."""

# what the tests are about may not be installed

import functools
import shutil

import pytest

pytest.importorskip("mlx.core", reason="needs mlx")

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map, tree_unflatten

import etude
from etude.errors import EtudeError, PlanError
from etude.mlx import leaves, optimizer, schedule, sink

UPDATES = 12
SHAPE = "0.1 * (warmup(0.25) >> cosine(to=0.1))"


class Layers(nn.Module):
    """Three blocks of two parts; all weights 1."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(3)]
        self.update(tree_map(mx.ones_like, self.parameters()))


class Pair(nn.Module):
    def __init__(self, *names):
        super().__init__()
        for name in names:
            setattr(self, name, mx.ones(2))


class Loop:
    """A loop with one gradient for all weights, which counts how often its update was traced."""

    def __init__(self, model, one, compiled=False, gradient=1.0):
        self.model, self.one, self.traces = model, one, 0
        state = [model.state, one.state]

        def step(gradient):
            self.traces += 1
            gradients = tree_map(lambda w: mx.ones_like(w) * gradient, model.trainable_parameters())
            one.update(model, gradients)

        self.step = mx.compile(step, inputs=state, outputs=state) if compiled else step
        self.gradient = mx.array(gradient)

    def weights(self):
        return {name: array.reshape(-1)[0].item() for name, array in tree_flatten(self.model.parameters())}

    def update(self):
        """How far each weight moved in one update."""
        before = self.weights()
        self.step(self.gradient)
        return {name: before[name] - after for name, after in self.weights().items()}


def planned(model, **options):
    return etude.plan(leaves(model), SHAPE, layer_decay=0.5, **options)


@pytest.mark.parametrize("driven", [False, True])
def test_each_layer_moves_by_its_own_rate(driven):
    model = Layers()
    plan = planned(model)
    rates = plan.over(UPDATES)
    one = optimizer(plan if driven else rates, model, optim.SGD)
    driver = etude.Driver(rates, sink(one)) if driven else None
    loop = Loop(model, one)
    for k in range(UPDATES):
        if driver:
            driver.apply(k)
        moved = loop.update()
        for group, rate in zip(plan.groups, rates.at(k)["lr"], strict=True):
            assert [moved[name] for name in group.params] == pytest.approx(
                [rate] * len(group.params), abs=2e-7
            )
        assert one.learning_rate.tolist() == pytest.approx(rates.at(k)["lr"], rel=1e-6)
    assert one.step.item() == UPDATES


def test_it_is_a_multi_optimizer_with_one_optimizer_a_group():
    model = Layers()
    plan = planned(model)
    one = optimizer(plan.over(UPDATES), model)
    assert isinstance(one, optim.MultiOptimizer)
    assert [type(each) for each in one.optimizers] == [optim.AdamW] * len(plan.groups)


def test_adamw_beside_one_of_mlx_for_each_group():
    model = Layers()
    plan = planned(model, weight_decay=0.3)
    rates = plan.over(UPDATES)
    mine = Loop(model, optimizer(rates, model, functools.partial(optim.AdamW, eps=1e-6)), gradient=0.5)
    others = []
    for i, group in enumerate(plan.groups):
        decay = rates.at(0)["weight_decay"][i]
        assert decay == (0 if "no_decay" in group.name else 0.3)
        column = mx.array([row[i] for row in rates.matrix()])
        one = optim.AdamW(lambda step, column=column: column[step], eps=1e-6, weight_decay=decay)
        others.append(Loop(Pair("w"), one, gradient=0.5))
    for _ in range(UPDATES):
        moved = mine.update()
        for group, other in zip(plan.groups, others, strict=True):
            assert [moved[name] for name in group.params] == pytest.approx(
                [other.update()["w"]] * len(group.params), abs=3e-7
            )


GROUPS = [
    etude.Group("late", ("late",), gate="frozen(4) >> hold(start=1)"),
    etude.Group("early", ("early",), gate="hold(3) >> frozen()"),
    etude.Group("never", ("never",), gate="frozen()"),
    etude.Group("free", ("free",)),
]
NAMES = [group.name for group in GROUPS]


def heedless(learning_rate):
    return optim.Adafactor(relative_step=True)


@pytest.mark.parametrize("driven", [False, True])
@pytest.mark.parametrize("make", [optim.AdamW, functools.partial(optim.Adam, bias_correction=True), heedless])
def test_a_frozen_group_stays_still_and_thaws_without_a_past(driven, make):
    """Neither rate, nor moments, nor decay, nor Adam's own count of updates moves while it is frozen."""
    model = Pair(*NAMES)
    plan = etude.Plan({"lr": 0.1}, GROUPS)
    one = optimizer(plan if driven else plan.over(UPDATES), model, make)
    driver = etude.Driver(plan.over(UPDATES), sink(one)) if driven else None
    loop, moved = Loop(model, one, gradient=0.7), []
    for k in range(UPDATES):
        if driver:
            driver.apply(k)
        moved.append(loop.update())
    late, early, never, free = ([row[name] for row in moved] for name in NAMES)
    assert late[:4] == [0] * 4
    assert late[4:] == pytest.approx(free[: UPDATES - 4], abs=1e-6)
    assert early == [*pytest.approx(free[:3], abs=1e-6).expected, *[0] * (UPDATES - 3)]
    assert set(never) == {0}
    assert 0 not in free


compiler = pytest.mark.skipif(
    mx.default_device().type == mx.cpu and shutil.which("g++") is None,
    reason="mx.compile on a CPU needs g++",
)


@compiler
def test_edits_act_on_the_next_compiled_update_and_compile_nothing():
    model = Pair("late", "free")
    groups = [
        etude.Group("late", ("late",), gate="frozen(2) >> hold(start=1)"),
        etude.Group("free", ("free",), {"lr": 3}),
    ]
    plan = etude.Plan({"lr": "0.1 * (hold(6) >> linear())"}, groups)
    one = optimizer(plan, model, optim.SGD)
    driver = etude.Driver(plan.over(10), sink(one))
    loop = Loop(model, one, compiled=True)
    edits = {1: etude.Scale(1, 0.5), 3: etude.Advance(3), 5: etude.Scale(5, 3, groups="late"),
             6: etude.Stretch(6, 20)}  # fmt: skip
    for k in range(12):
        if k in edits:
            driver.edit(edits[k])
        driver.apply(k)
        moved = loop.update()
        assert [moved["late"], moved["free"]] == pytest.approx(driver.at(k)["lr"], abs=2e-7)
        assert driver.read() == pytest.approx(driver.at(k)["lr"], rel=1e-6)
    assert moved["late"] > 0
    assert loop.traces == 1


@compiler
def test_rates_and_gates_are_computed_in_a_compiled_update():
    model = Pair("late", "free")
    groups = [
        etude.Group("late", ("late",), gate="frozen(2) >> hold(start=1)"),
        etude.Group("free", ("free",)),
    ]
    rates = etude.Plan({"lr": "0.1 * (hold(3) >> linear())"}, groups).over(8)
    loop = Loop(model, optimizer(rates, model, functools.partial(optim.SGD, momentum=0.5)), compiled=True)
    momentum = {"late": 0.0, "free": 0.0}
    for k in range(8):
        moved = loop.update()
        for name, rate, opened in zip(momentum, rates.at(k)["lr"], rates.open(k), strict=True):
            momentum[name] = 0.5 * momentum[name] + 1 if opened else 0.0
            assert moved[name] == pytest.approx(rate * momentum[name], abs=2e-7)
    assert loop.traces == 1


def test_momentum_and_decay_are_the_numbers_of_the_plan():
    model = Pair("a", "b")
    groups = [etude.Group("a", ("a",), {"momentum": 0.5}), etude.Group("b", ("b",), {"weight_decay": 2})]
    plan = etude.Plan({"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01}, groups)
    one = optimizer(plan.over(9), model, optim.SGD)
    assert [(each.momentum, each.weight_decay) for each in one.optimizers] == [(0.4, 0.01), (0.8, 0.02)]
    lion = optimizer(plan.over(9), model, optim.Lion)
    assert [each.betas for each in lion.optimizers] == [[0.4, 0.99], [0.8, 0.99]]


def test_what_would_change_under_a_compiled_update_is_refused():
    model = Pair("w")
    group = [etude.Group("w", ("w",))]
    plan = etude.Plan({"lr": 0.1, "weight_decay": "0.1 * linear()"}, group)
    with pytest.raises(PlanError, match=r"weight_decay changes during the run.*write weight_decay=0\.1"):
        optimizer(plan, model)
    plan = etude.Plan({"lr": 0.1, "weight_decay": 0.1}, group)
    with pytest.raises(PlanError, match="weight_decay changes during the run"):
        optimizer(plan.over(10).edit(etude.Scale(5, 2, "weight_decay")), model)
    driver = etude.Driver(plan.over(10), sink(optimizer(plan, model)))
    driver.apply(0)
    driver.edit(etude.Scale(1, 2, "weight_decay"))
    with pytest.raises(PlanError, match="weight_decay may not change"):
        driver.apply(1)
    with pytest.raises(PlanError, match="Adam takes no 'weight_decay'"):
        optimizer(plan, model, optim.Adam)


def test_one_owner_writes_the_rates():
    model = Pair("w")
    plan = etude.Plan({"lr": 0.1}, [etude.Group("w", ("w",))])
    one = optimizer(plan, model)
    with pytest.raises(EtudeError, match=r"driver\.edit"):
        one.learning_rate = 0.5
    with pytest.raises(PlanError, match="not bound to a run"):
        sink(optimizer(plan.over(10), model))
    with pytest.raises(PlanError, match="got AdamW"):
        sink(optim.AdamW(0.1))
    assert Loop(model, one).update()["w"] != 0  # NaN: nobody wrote a rate


def test_a_plan_of_another_model_is_refused():
    plan = planned(Layers())
    with pytest.raises(PlanError, match=r"the model has no layers\.0"):
        optimizer(plan, Pair("w"))
    model = Layers()
    model.tail = nn.Linear(2, 2)
    with pytest.raises(PlanError, match=r"in no group of the plan: tail\.weight"):
        optimizer(plan, model)


def test_what_is_thawed_by_hand_is_refused_when_it_comes():
    model = Layers()
    model.layers[0].freeze()
    one = optimizer(planned(model).over(UPDATES), model)
    model.unfreeze()
    with pytest.raises(PlanError, match=r"layers\.0.* is in no group"):
        one.update(model, model.trainable_parameters())


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    def half(model, one, updates):
        loop = Loop(model, one, gradient=0.3)
        for _ in range(updates):
            loop.update()
        return loop.weights()

    straight = Layers()
    plan = planned(straight, weight_decay=0.1)
    whole = half(straight, optimizer(plan.over(UPDATES), straight), UPDATES)
    model = Layers()
    one = optimizer(plan.over(UPDATES), model)
    half(model, one, 5)
    saved = tmp_path / "state.safetensors"
    mx.save_safetensors(str(saved), dict(tree_flatten(one.state)))
    again = optimizer(plan.over(UPDATES), model)
    held = tree_unflatten(list(mx.load(str(saved)).items()))
    assert held["states"][0]["layers"][0]["layers"][0]["weight"]["m"].sum().item() != 0
    again.state = held
    assert half(model, again, UPDATES - 5) == pytest.approx(whole, abs=1e-7)
    with pytest.raises(EtudeError, match="not that of an optimizer"):
        again.state = {"states": []}


@pytest.mark.parametrize("tick", [0, 0.5])
def test_a_schedule_in_an_optimizer_of_mlx(tick):
    text = "0.1 * (warmup(3) >> hold(2) >> linear())"
    rates = etude.Plan({"lr": text}, tick=tick).over(UPDATES)
    loop = Loop(Pair("w"), optim.SGD(schedule(etude.parse(text).over(UPDATES), tick=tick)))
    moved = [loop.update()["w"] for _ in range(UPDATES + 2)]
    assert moved == pytest.approx([rates.at(k)["lr"][0] for k in range(UPDATES + 2)], abs=2e-7)


def test_a_schedule_of_one_group_of_a_plan():
    groups = [
        etude.Group("body", gate=etude.parse("frozen(4) >> hold(start=1)")),
        etude.Group("head", (), {"lr": 3}),
    ]
    rates = etude.Plan({"lr": SHAPE}, groups).over(UPDATES)
    for i, name in enumerate(("body", "head")):
        loop = Loop(Pair("w"), optim.SGD(schedule(rates, group=name)))
        assert [loop.update()["w"] for _ in range(UPDATES)] == pytest.approx(
            [r[i] for r in rates.matrix()], abs=2e-7
        )
    with pytest.raises(PlanError, match="write group='body'"):
        schedule(rates)


def test_a_schedule_resolves_single_updates_at_20_million():
    rate = schedule(etude.parse("hold(19_999_000) >> linear()").over(20_000_000))
    found = [rate(mx.array(19_999_000 + i, mx.uint64)).item() for i in range(0, 1000, 7)]
    assert found == pytest.approx([1 - (i + 0.5) / 1000 for i in range(0, 1000, 7)], abs=1e-6)
