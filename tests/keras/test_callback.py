"""A driver leads a real fit: edits act on the next update, controllers read, a resumed run goes on."""

# ruff: noqa: E402  # what the tests are about may not be installed

import json

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs keras")

import etude
from etude import Driver, Group, Plan
from etude.errors import EtudeError, ForeignChange, PlanError
from etude.keras import Callback, optimizer, sink

pytestmark = pytest.mark.filterwarnings("ignore:.*__array__ implementation:DeprecationWarning")

GROUPS = [
    Group("late", ("late.kernel",), gate=etude.parse("frozen(2) >> hold(start=1)")),
    Group("free", ("free.kernel",), {"lr": 3, "weight_decay": 0}),
]
PLAN = Plan({"lr": "0.1 * (warmup(3) >> hold(6) >> linear())", "weight_decay": 0.2}, GROUPS)


class Edits(keras.callbacks.Callback):
    """Makes each edit right before the update that it is to act on."""

    def __init__(self, driver, edits):
        super().__init__()
        self.driver, self.edits, self.made = driver, edits, 0

    def on_train_batch_begin(self, batch, logs=None):
        for edit in self.edits.get(self.made, ()):
            self.driver.edit(edit)
        self.made += 1


class Halve:
    """Halves the rate at every reading of the loss, and remembers how often."""

    name, reads = "halve", ("loss",)

    def init(self):
        return {"seen": 0}

    def update(self, state, t, reading):
        return {"seen": state["seen"] + 1}, etude.Scale(t, 0.5, author=self.name)


@pytest.fixture
def driven(summed):
    """A model, a planned optimizer and a driver for it."""

    def make(controllers=(), total=16):
        model = summed("late", "free")
        return (
            model,
            optimizer(keras.optimizers.SGD(), PLAN, model),
            Driver(PLAN.over(total), controllers=controllers),
        )

    return make


def check(found, rates, updates, start=0):
    """Every weight moved by its rate, and by its decay times the rate."""
    weights = {"late": 1.0, "free": 1.0}
    for k in range(updates):
        at = rates.at(start + k)
        for i, name in enumerate(weights):
            expected = at["lr"][i] * (1 + at["weight_decay"][i] * weights[name])
            assert found[name][k] == pytest.approx(expected, abs=2e-6), (name, k)
            weights[name] -= found[name][k]


def test_edits_act_on_the_next_update(driven, moved):
    model, one, driver = driven()
    edits = {
        3: [etude.Scale(3, 0.5)],
        5: [etude.Advance(5), etude.Scale(5, 2, "weight_decay")],
        7: [etude.Scale(7, 3, groups="free")],
        8: [etude.Stretch(8, 18)],
    }
    found = moved(model, one, 14, [Edits(driver, edits), Callback(driver)])
    assert len(driver.edits) == 5
    check(found, driver.rates, 14)


def test_a_table_that_is_used_up_is_filled_again(driven, moved, monkeypatch):
    monkeypatch.setattr("etude.keras.source.AHEAD", 4)
    monkeypatch.setattr("etude.keras.callback.AHEAD", 4)
    model, one, driver = driven()
    check(moved(model, one, 16, [Callback(driver)]), driver.rates, 16)
    assert np.isnan(moved(model, None, 1)["free"][0])  # without the callback nobody fills it any more


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras on torch makes one update at a time")
def test_several_updates_in_one_execution(driven, summed):
    model, one, driver = driven()
    model.compile(one, loss=lambda y, out: keras.ops.mean(out), steps_per_execution=4)
    data = np.ones((16, 1), np.float32)
    model.fit(data, data, batch_size=1, verbose=0, callbacks=[Callback(driver)])
    weight = 1.0
    for k in range(16):
        at = driver.rates.at(k)
        weight -= at["lr"][0] * (1 + at["weight_decay"][0] * weight)
    assert keras.ops.convert_to_numpy(model.trainable_variables[0])[0] == pytest.approx(weight, abs=1e-5)
    assert int(one.iterations) == 16
    plain = keras.optimizers.SGD(0.1, weight_decay=0.5)
    model = summed("w")
    model.compile(plain, "mse", steps_per_execution=4)
    with pytest.raises(PlanError, match="steps_per_execution=4: nobody can write"):
        model.fit(data, data, verbose=0, callbacks=[Callback(Driver(PLAIN.over(12), sink(plain)))])


def test_controllers_read_the_logs_and_the_logs_have_the_rates(driven):
    model, one, driver = driven([Halve()])
    model.compile(one, loss=lambda y, out: keras.ops.mean(out))
    data = np.ones((4, 1), np.float32)
    history = model.fit(data, data, batch_size=1, verbose=0, epochs=3, callbacks=[Callback(driver)]).history
    assert [(edit.at, edit.author) for edit in driver.edits] == [(t, "halve") for t in (4, 8, 12)]
    assert driver.memory["halve"] == {"seen": 3}
    rates = {name: history[f"learning_rate/{name}"] for name in ("late", "free")}
    assert rates["late"] == pytest.approx([0.1, 0.05, PLAN.over(16).at(11)["lr"][0] / 4])
    assert rates["free"] == pytest.approx([3 * rate for rate in rates["late"]])


def test_the_run_ends_where_the_driver_says(driven):
    for total, epochs, controllers in (
        (16, 3, ()),
        (10, 3, ()),
        (16, 9, [etude.early_stop("loss", patience=1)]),
    ):
        model, one, driver = driven(controllers, total)
        model.compile(one, loss=lambda y, out: keras.ops.mean(out) * 0)
        data = np.ones((4, 1), np.float32)
        model.fit(data, data, batch_size=1, verbose=0, epochs=epochs, callbacks=[Callback(driver)])
        assert int(one.iterations) == min(driver.total, 4 * epochs)
    assert driver.total == 8


def test_a_run_that_broke_off_goes_on_with_edits_and_memory(driven, tmp_path):
    data = np.ones((4, 1), np.float32)

    def fit(model, one, driver, backup, *more):
        model.compile(one, loss=lambda y, out: keras.ops.mean(out))
        callbacks = [
            Callback(driver, backup=tmp_path / backup / "driver.json"),
            keras.callbacks.BackupAndRestore(tmp_path / backup / "weights"),
            *more,
        ]
        model.fit(data, data, batch_size=1, verbose=0, epochs=4, callbacks=callbacks)
        return [float(keras.ops.convert_to_numpy(x)[0]) for x in model.trainable_variables]

    class Break(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 10:
                raise KeyboardInterrupt

    straight = driven([Halve()])
    whole = fit(*straight, "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(*driven([Halve()]), "broken", Break())
    file = tmp_path / "broken" / "driver.json"
    states = json.loads(file.read_text())
    later = json.loads(json.dumps(states["states"][-1]))
    later["updates"], later["driver"]["controllers"]["halve"]["seen"] = 9, 99  # newer than the weights saved
    file.write_text(json.dumps({"etude": 1, "states": [*states["states"], later]}))
    resumed = driven([Halve()])
    assert fit(*resumed, "broken") == pytest.approx(whole, abs=1e-6)
    assert int(resumed[1].iterations) == 16
    assert resumed[2].memory == straight[2].memory == {"halve": {"seen": 4}}
    assert resumed[2].edits == straight[2].edits
    assert {state["updates"] for state in json.loads(file.read_text())["states"]} == {4, 8, 9, 12, 16}


def test_a_resumed_run_without_the_drivers_state_is_refused(driven, tmp_path):
    model, one, driver = driven()
    model.compile(one, loss=lambda y, out: keras.ops.mean(out))
    data = np.ones((4, 1), np.float32)
    model.fit(data, data, batch_size=1, verbose=0, callbacks=[Callback(driver)])
    with pytest.raises(EtudeError, match=r"has made 4 updates, and .* has no state of the driver"):
        model.fit(data, data, verbose=0, callbacks=[Callback(driver, backup=tmp_path / "driver.json")])


def test_rates_of_a_saved_model_are_not_those_of_the_driver_that_goes_on(driven, tmp_path):
    model, one, driver = driven()
    model.compile(one, loss=lambda y, out: keras.ops.mean(out))
    data = np.ones((4, 1), np.float32)
    model.fit(data, data, batch_size=1, verbose=0, callbacks=[Callback(driver)])
    assert float(one.learning_rate) == pytest.approx(0.1)
    model.save_weights(tmp_path / "x.weights.h5")
    model.load_weights(tmp_path / "x.weights.h5")
    assert int(one.iterations) == 4
    assert np.isnan(float(one.learning_rate))


PLAIN = Plan({"lr": "0.1 * (warmup(3) >> hold(6) >> linear())", "weight_decay": 0.5})


def test_a_plain_optimizer_is_written_before_every_update(summed, moved):
    model, one = summed("w"), keras.optimizers.SGD(1e-9, weight_decay=0.5)
    driver = Driver(PLAIN.over(16), sink(one))
    found = moved(model, one, 12, [Edits(driver, {5: [etude.Scale(5, 0.5)]}), Callback(driver)])["w"]
    weight = 1.0
    for k, change in enumerate(found):
        assert change == pytest.approx(driver.at(k)["lr"][0] * (1 + 0.5 * weight), abs=1e-6)
        weight -= change
    assert driver.read() == pytest.approx(driver.at(11)["lr"])
    assert found[6] < 0.7 * found[3]


class Foreign(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            self.model.optimizer.learning_rate = 0.025


def test_another_hand_on_the_rate_is_found(summed, moved):
    model, one = summed("w"), keras.optimizers.SGD(1e-9, weight_decay=0.5)
    with pytest.raises(ForeignChange, match=r"it was 0\.1, now 0\.025"):
        moved(model, one, 9, [Callback(Driver(PLAIN.over(16), sink(one))), Foreign()])
    model, one = summed("w"), keras.optimizers.SGD(1e-9, weight_decay=0.5)
    driver = Driver(PLAIN.over(16), sink(one), foreign="adopt")
    moved(model, one, 9, [Callback(driver), Foreign()])
    assert [(edit.at, edit.by) for edit in driver.edits] == [(5, pytest.approx(0.25))]
    assert float(one.learning_rate) == pytest.approx(0.025)


def test_what_does_not_fit_together_is_refused_before_the_first_update(driven, summed):
    def begin(callback, model, one, **options):
        model.compile(one, "mse", **options)
        data = np.ones((4, 1), np.float32)
        model.fit(data, data, batch_size=1, verbose=0, callbacks=[callback])

    model, one, driver = driven()
    with pytest.raises(PlanError, match="a driver without a sink"):
        begin(Callback(driver), model, keras.optimizers.SGD(0.1))
    with pytest.raises(PlanError, match="computes its rates itself"):
        begin(Callback(driver), model, optimizer(keras.optimizers.SGD(), PLAN.over(16), model))
    other = Plan({"lr": 0.1}, [Group("one", ("late.kernel", "free.kernel"))])
    with pytest.raises(PlanError, match=r"the driver's groups are one; .* late, free"):
        begin(Callback(other.over(9)), model, one)


def test_what_a_plain_optimizer_cannot_do_is_refused(summed):
    for one in (
        keras.optimizers.SGD(etude.keras.Schedule("0.1 * linear()", 9)),
        optimizer(keras.optimizers.SGD(), Plan({"lr": 0.1}, [Group("w", ("w.kernel",))]), summed("w")),
    ):
        with pytest.raises(PlanError, match="made with a number"):
            sink(one)
    one = sink(keras.optimizers.SGD(0.1))
    with pytest.raises(PlanError, match="make them equal"):
        Driver(PLAIN.over(12), one).apply(0)
    frozen = Plan({"lr": 0.1}, [Group("", gate=etude.parse("frozen(3) >> hold(start=1)"))])
    with pytest.raises(PlanError, match="freezes its group"):
        Driver(frozen.over(9), one).apply(0)
    with pytest.raises(PlanError, match="hold momentum"):
        Driver(Plan({"lr": 0.1, "momentum": 0.9}).over(9), one).apply(0)
    with pytest.raises(PlanError, match="cannot join"):
        one.add(Group("new"), (), {})
