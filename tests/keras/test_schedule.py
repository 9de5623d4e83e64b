"""A schedule in Keras's own optimizers: used by a fit, saved with the model, resumed by their count."""

# ruff: noqa: E402  # what the tests are about may not be installed

import pytest

keras = pytest.importorskip("keras", reason="needs keras")

import etude
from etude.errors import ScheduleError
from etude.keras import Schedule

pytestmark = pytest.mark.filterwarnings("ignore:.*__array__ implementation:DeprecationWarning")

TEXT = "0.1 * (warmup(4) >> hold(2) >> cosine(to=0.1))"
UPDATES = 12


def planned(tick=0.5, total=UPDATES):
    rates = etude.Plan({"lr": TEXT}, tick=tick).over(total)
    return [rates.at(k)["lr"][0] for k in range(UPDATES)]


@pytest.mark.parametrize("tick", [0, 0.5])
def test_a_fit_moves_the_weights_by_the_rates_of_the_plan(summed, moved, tick):
    found = moved(summed("w"), keras.optimizers.SGD(Schedule(TEXT, UPDATES, tick)), UPDATES)
    assert found["w"] == pytest.approx(planned(tick), abs=1e-6)


def test_a_total_that_is_no_whole_number(summed, moved):
    found = moved(summed("w"), keras.optimizers.SGD(Schedule(TEXT, 11.3)), UPDATES)
    assert found["w"] == pytest.approx(planned(total=11.3), abs=1e-6)


def test_it_agrees_with_keras_own_at_tick_0():
    theirs = keras.optimizers.schedules.CosineDecay(0.0, 900, 0.01, warmup_target=2e-3, warmup_steps=100)
    mine = Schedule("2e-3 * (warmup(100) >> cosine(to=0.01))", 1000, tick=0)
    for step in (0, 1, 50, 99, 100, 101, 550, 999, 1000, 1500):
        assert float(mine(step)) == pytest.approx(float(theirs(step)), rel=2e-6, abs=1e-10), step


def test_a_saved_model_holds_its_schedule_as_text(summed, moved, tmp_path):
    text = "0.1 * (warmup('1ep') >> hold('64ex') >> linear())"
    schedule = Schedule(text, UPDATES, epoch=4, batch=32)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="w")])
    model.compile(keras.optimizers.SGD(schedule), "mse")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").optimizer._learning_rate
    assert type(again) is Schedule
    assert again.get_config() == schedule.get_config()
    assert again.get_config()["schedule"] == str(etude.parse(text))
    assert [float(again(k)) for k in range(UPDATES)] == [float(schedule(k)) for k in range(UPDATES)]
    assert float(again(5)) == pytest.approx(0.1)


def test_a_resumed_fit_goes_on_where_it_was(summed, moved):
    """The rate is a function of the optimizer's count, whatever `initial_epoch` says."""
    model = summed("w")
    first = moved(model, keras.optimizers.SGD(Schedule(TEXT, UPDATES)), 5)["w"]
    second = moved(model, None, 7, initial_epoch=1, epochs=2)["w"]
    assert first + second == pytest.approx(planned(), abs=1e-6)


def test_accumulated_gradients_make_one_update_of_several_batches(summed, moved):
    schedule = Schedule(TEXT, UPDATES, gradient_accumulation_steps=2)
    found = moved(summed("w"), keras.optimizers.SGD(schedule, gradient_accumulation_steps=2), 2 * UPDATES)[
        "w"
    ]
    assert found[1::2] == pytest.approx(planned(), abs=1e-6)
    assert set(found[::2]) == {0}


def test_an_open_run():
    schedule = Schedule("1e-3 * (warmup(10) >> inv_sqrt())", None, tick=0)
    assert float(schedule(40)) == pytest.approx(5e-4)
    assert Schedule.from_config(schedule.get_config()).total is None


def test_a_schedule_that_does_not_fit_is_refused_at_once():
    with pytest.raises(ScheduleError, match="too short"):
        Schedule("1e-3 * warmup(10)", 100)


def test_single_updates_differ_at_the_end_of_a_run_of_20_million():
    schedule = Schedule("hold(19_999_000) >> linear()", 20_000_000)
    found = [float(schedule(19_999_000 + i)) for i in range(0, 1000, 7)]
    assert found == pytest.approx([1 - (i + 0.5) / 1000 for i in range(0, 1000, 7)], abs=1e-6)
