"""Layer-wise rates in a real fit: every variable moves as the plan says, whatever optimizer moves it."""

# ruff: noqa: E402  # what the tests are about may not be installed

import json
import math

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs keras")

import etude
from etude import Group, Plan
from etude.errors import EtudeError, PlanError
from etude.keras import leaves, optimizer

pytestmark = pytest.mark.filterwarnings("ignore:.*__array__ implementation:DeprecationWarning")

UPDATES = 10
SHAPE = "0.1 * (warmup(0.3) >> cosine(to=0.1))"


def group(name, **options):
    return Group(name, (f"{name}.kernel",), **options)


def test_each_layer_moves_by_its_own_rate(summed, moved):
    names = ("low", "middle", "top")
    model = summed(*names)
    plan = etude.plan(
        leaves(model),
        SHAPE,
        groups=[("low", {"lr_scale": 0.25}), ("top", {"lr": 0.4}), ("", {"lr_scale": 1})],
    )
    rates = plan.over(UPDATES)
    found = moved(model, optimizer(keras.optimizers.SGD(), rates, model), UPDATES)
    position = {one.params[0].partition(".")[0]: i for i, one in enumerate(plan.groups)}
    assert {one.scale["lr"] for one in plan.groups} == {0.25, 1, 4}
    for name in names:
        assert found[name] == pytest.approx([row[position[name]] for row in rates.matrix()], abs=1e-6)


@pytest.mark.parametrize("kind", ["SGD", "AdamW", "Nadam", "Adafactor", "Muon"])
def test_any_optimizer_beside_one_of_its_kind_for_each_layer(summed, moved, kind):
    """Rate and weight decay of each group; the same optimizer on a model of that layer alone."""
    make = getattr(keras.optimizers, kind)
    groups = [group("a", scale={"lr": 0.5, "weight_decay": 3}), group("b", scale={"weight_decay": 0})]
    rates = Plan({"lr": SHAPE, "weight_decay": 0.3}, groups, tick=0).over(UPDATES)
    model = summed("a", "b")
    found = moved(model, optimizer(make(), rates, model), UPDATES, gradient=0.7)
    for i, (name, decay) in enumerate((("a", 0.9), ("b", 0.0))):
        column = f"0.1 * {(0.5, 1)[i]} * (warmup(0.3) >> cosine(to=0.1))"
        decays = {"weight_decay": decay} | ({"adam_weight_decay": decay} if kind == "Muon" else {})
        alone = make(etude.keras.Schedule(column, UPDATES, tick=0), **decays)
        other = moved(summed(name), alone, UPDATES, gradient=0.7)
        assert found[name] == pytest.approx(other[name], abs=2e-6), name
        assert max(map(abs, found[name])) > 1e-3


def test_weight_decay_follows_a_path_of_its_own(summed, moved):
    rates = Plan({"lr": 0.1, "weight_decay": "0.5 * linear()"}, [group("w")], tick=0).over(UPDATES)
    model = summed("w")
    found = moved(model, optimizer(keras.optimizers.SGD(), rates, model), UPDATES)["w"]
    weight = 1.0
    for k in range(UPDATES):
        change = 0.1 * (0.5 * (1 - k / UPDATES) * weight + 1)
        assert found[k] == pytest.approx(change, abs=1e-6)
        weight -= change


def test_the_optimizers_own_weight_decay_where_the_plan_has_none(summed, moved):
    rates = Plan({"lr": 0.1}, [group("w")]).over(UPDATES)
    model = summed("w")
    found = moved(model, optimizer(keras.optimizers.SGD(weight_decay=0.5), rates, model), 1)["w"]
    assert found == [pytest.approx(0.1 * 1.5, abs=1e-6)]


GATES = {
    "late": "frozen(4) >> hold(start=1)",
    "early": "hold(3) >> frozen()",
    "never": "frozen()",
    "free": None,
}


@pytest.mark.parametrize("kind", ["AdamW", "Lamb"])
def test_a_frozen_group_stays_still_and_thaws_without_a_past(summed, moved, kind):
    """Neither moments nor decay move it; Adam corrects the bias of new moments as of new ones."""
    model = summed(*GATES)
    groups = [group(name, gate=None if gate is None else etude.parse(gate)) for name, gate in GATES.items()]
    rates = Plan({"lr": 0.1, "weight_decay": 0.2}, groups).over(UPDATES)
    found = moved(model, optimizer(getattr(keras.optimizers, kind)(), rates, model), UPDATES, gradient=0.7)
    assert found["late"][:4] == [0] * 4
    assert found["late"][4:] == pytest.approx(found["free"][: UPDATES - 4], abs=2e-6)
    assert found["early"][:3] == pytest.approx(found["free"][:3], abs=2e-6)
    assert found["early"][3:] == [0] * (UPDATES - 3)
    assert set(found["never"]) == {0}
    assert 0 not in found["free"]


def test_accumulated_gradients_make_one_update_of_several_batches(summed, moved):
    groups = [group("a", scale={"lr": 2}), group("b", gate=etude.parse("frozen(2) >> hold(start=1)"))]
    rates = Plan({"lr": SHAPE}, groups).over(UPDATES)
    model = summed("a", "b")
    one = optimizer(keras.optimizers.SGD(gradient_accumulation_steps=2), rates, model)
    found = moved(model, one, 2 * UPDATES)
    for i, name in enumerate(("a", "b")):
        assert found[name][1::2] == pytest.approx([rates.at(k)["lr"][i] for k in range(UPDATES)], abs=1e-6)
        assert set(found[name][::2]) == {0}


def test_it_stands_inside_a_loss_scale(summed, moved):
    model = summed("w")
    rates = Plan({"lr": SHAPE}, [group("w")]).over(UPDATES)
    inner = optimizer(keras.optimizers.SGD(), rates, model)
    found = moved(model, keras.optimizers.LossScaleOptimizer(inner), UPDATES)["w"]
    assert found == pytest.approx([rates.at(k)["lr"][0] for k in range(UPDATES)], abs=1e-6)


def dense():
    keras.utils.clear_session()
    x = keras.Input((3,))
    return keras.Model(x, keras.layers.Dense(1, name="head")(keras.layers.Dense(4, name="body")(x)))


def fit(model, updates, **options):
    x = np.random.default_rng(0).normal(size=(updates * 2, 3)).astype("float32")
    model.fit(x, x[:, :1], batch_size=2, shuffle=False, verbose=0, **options)
    return np.concatenate([keras.ops.convert_to_numpy(one).ravel() for one in model.trainable_variables])


def test_a_saved_model_goes_on_as_if_it_had_not_stopped(tmp_path):
    def planned(model):
        groups = [
            ("body", {"lr_scale": 0.3, "gate": "frozen(2) >> warmup(3) >> hold()"}),
            ("head", {"lr_scale": 2}),
        ]
        plan = etude.plan(leaves(model), SHAPE, weight_decay=0.1, groups=groups)
        rates = plan.over(20).edit(etude.Scale(12, 0.5, groups="*"))
        model.compile(optimizer(keras.optimizers.AdamW(beta_1=0.8), rates, model), "mse")

    keras.utils.set_random_seed(1)
    straight = dense()
    planned(straight)
    start = [keras.ops.convert_to_numpy(one) for one in straight.weights]
    fit(straight, 8)
    whole = fit(straight, 8)
    model = dense()
    model.set_weights(start)
    planned(model)
    fit(model, 8)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == 8
    assert again.optimizer.beta_1 == 0.8
    assert fit(again, 8) == pytest.approx(whole, abs=1e-6)
    config = json.loads(json.dumps(again.optimizer.get_config(), allow_nan=False))
    assert config["plan"]["plan"]["lr"] == SHAPE
    assert config["plan"]["edits"][0]["by"] == 0.5


def test_a_bare_plan_that_nobody_drives_does_not_go_unnoticed(summed, moved):
    model = summed("w")
    found = moved(model, optimizer(keras.optimizers.SGD(), Plan({"lr": 0.1}, [group("w")]), model), 1)
    assert math.isnan(found["w"][0])


def test_one_owner_writes_the_rates(summed):
    model = summed("w")
    one = optimizer(keras.optimizers.SGD(), Plan({"lr": SHAPE}, [group("w")]).over(UPDATES), model)
    assert float(one.learning_rate) == pytest.approx(0.1 / 6)
    with pytest.raises(EtudeError, match=r"driver\.edit"):
        one.learning_rate = 0.5


def test_what_cannot_take_a_plan_is_refused(summed):
    model, plan = summed("w"), Plan({"lr": 0.1}, [group("w")])
    used = keras.optimizers.SGD()
    used.build(model.trainable_variables)
    planned = optimizer(keras.optimizers.SGD(), plan, model)
    for one in (used, planned, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())):
        with pytest.raises(PlanError, match="a plan goes into a plain optimizer"):
            optimizer(one, plan, model)
    one = keras.optimizers.AdamW()
    one.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(PlanError, match="contradict each other"):
        optimizer(one, Plan({"lr": 0.1, "weight_decay": 0.1}, [group("w")]), model)
    with pytest.raises(PlanError, match="hold momentum as one number"):
        optimizer(keras.optimizers.SGD(), Plan({"lr": 0.1, "momentum": 0.9}, [group("w")]), model)


def test_a_plan_of_another_model_is_refused(summed, moved):
    plan = Plan({"lr": 0.1}, [group("a"), group("b")])
    with pytest.raises(PlanError, match=r"the model has no b\.kernel; did you mean 'a\.kernel'"):
        optimizer(keras.optimizers.SGD(), plan, summed("a"))
    model = summed("a", "b", "c")
    with pytest.raises(PlanError, match=r"in no group of the plan: c\.kernel"):
        optimizer(keras.optimizers.SGD(), plan, model)
    model.get_layer("c").trainable = False
    one = optimizer(keras.optimizers.SGD(), plan.over(3), model)
    model.get_layer("c").trainable = True
    with pytest.raises(PlanError, match=r"in no group of the plan: c/kernel"):
        moved(model, one, 1)
