"""Calls of optax against optax itself, in float64 where jax may use it."""

import inspect

import pytest

from etude import Plan
from etude.convert.converted import recognised
from etude.convert.optax.calls import OPTIMIZERS, SCHEDULES, optax
from etude.errors import RecipeError

real = pytest.importorskip("optax", reason="optax")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

UPDATES = 97

# Peaks and lengths that make odd boundaries; each is run by optax and read by étude.
CALLS = [
    "optax.constant_schedule(3e-4)",
    "optax.linear_schedule(1e-5, 3e-4, 60)",
    "optax.linear_schedule(3e-4, 0.0, 97)",
    "optax.linear_schedule(3e-4, 1e-5, 60, transition_begin=7)",
    "optax.linear_schedule(3e-4, 1e-5, 0)",
    "optax.linear_schedule(3e-4, 1e-5, 500)",
    "optax.polynomial_schedule(3e-4, 1e-5, 2, 60)",
    "optax.polynomial_schedule(3e-4, 1e-5, power=0.5, transition_steps=60, transition_begin=-3)",
    "optax.cosine_decay_schedule(3e-4, 97)",
    "optax.cosine_decay_schedule(init_value=3e-4, decay_steps=60, alpha=0.1)",
    "optax.cosine_decay_schedule(3e-4, 60, 0.1, exponent=1.7)",
    "optax.cosine_decay_schedule(3e-4, 500, 0.1)",
    "optax.exponential_decay(3e-4, 20, 0.5)",
    "optax.exponential_decay(3e-4, 20, 0.5, transition_begin=7)",
    "optax.exponential_decay(3e-4, 20, 0.5, end_value=5e-5)",
    "optax.exponential_decay(3e-4, 20, 0.5, 7, True)",
    "optax.exponential_decay(3e-4, 20, 0.5, 7, True, 5e-5)",
    "optax.exponential_decay(3e-4, 20, 0.5, staircase=True, end_value=1.5e-4)",
    "optax.exponential_decay(3e-4, 20, 1.5, end_value=6e-4)",
    "optax.exponential_decay(3e-4, 20, 0.5, end_value=1e-3)",
    "optax.exponential_decay(3e-4, 20, 0.5, end_value=0.0)",
    "optax.exponential_decay(3e-4, 0, 0.5)",
    "optax.warmup_constant_schedule(0.0, 3e-4, 10)",
    "optax.warmup_cosine_decay_schedule(0.0, 3e-4, 10, 97)",
    "optax.warmup_cosine_decay_schedule(1e-6, 3e-4, 10, 60, end_value=3e-5, exponent=2.0)",
    "optax.warmup_cosine_decay_schedule(0.0, 3e-4, warmup_steps=0, decay_steps=97)",
    "optax.warmup_exponential_decay_schedule(0.0, 3e-4, 10, 20, 0.5)",
    "optax.warmup_exponential_decay_schedule(0.0, 3e-4, 10, 20, 0.5, 3, False, 5e-5)",
    "optax.piecewise_constant_schedule(3e-4, {30: 0.1, 60: 0.1})",
    "optax.piecewise_constant_schedule(3e-4, {30: 0.5})",
    "optax.piecewise_constant_schedule(1e-4, {60: 0.5, 30: 3.0})",
    "optax.piecewise_constant_schedule(1e-4, {30: 0.0})",
    "optax.piecewise_constant_schedule(1e-4)",
    "optax.piecewise_interpolate_schedule('linear', 1e-4, {30: 3.0, 60: 0.1})",
    "optax.piecewise_interpolate_schedule('cosine', 1e-4, {30: 3.0, 90: 0.0})",
    "optax.cosine_onecycle_schedule(97, 3e-4)",
    "optax.cosine_onecycle_schedule(60, 3e-4, pct_start=0.25, div_factor=10.0, final_div_factor=1e2)",
    "optax.cosine_onecycle_schedule(60, 3e-4, pct_start=0.0)",
    "optax.linear_onecycle_schedule(97, 3e-4)",
    "optax.linear_onecycle_schedule(60, 3e-4, 0.25, 0.9, 10.0, 1e2)",
    "optax.sgdr_schedule([dict(init_value=0.0, peak_value=3e-4, warmup_steps=5, decay_steps=30),"
    " dict(init_value=0.0, peak_value=1e-4, warmup_steps=5, decay_steps=60, end_value=1e-5)])",
    "optax.join_schedules([optax.linear_schedule(0.0, 3e-4, 10), optax.constant_schedule(3e-4),"
    " optax.linear_schedule(3e-4, 0.0, 20)], [10, 77])",
    "optax.join_schedules([optax.constant_schedule(1e-4), optax.exponential_decay(3e-4, 20, 0.5)],"
    " boundaries=[10])",
    "optax.join_schedules([optax.cosine_decay_schedule(3e-4, 60, 0.1),"
    " optax.cosine_decay_schedule(1e-4, 60, 0.2)], [30])",
    "optax.join_schedules([optax.exponential_decay(3e-4, 20, 0.5),"
    " optax.join_schedules([optax.constant_schedule(1e-4), optax.constant_schedule(2e-4)], [7])], [50])",
]  # fmt: skip


def rates(converted, updates=UPDATES, hyper="lr"):
    plan = Plan(converted.hypers, tick=converted.tick).over(updates)
    return [plan.at(k)[hyper][0] for k in range(updates)]


@pytest.mark.parametrize("call", CALLS)
def test_calls(call):
    with jax.enable_x64(True):
        schedule = eval(call, {"optax": real})
        expected = [float(schedule(k)) for k in range(UPDATES)]
        found = rates(optax(f"rate = {call}", total=UPDATES))
    # optax takes logarithms and cosines in float32 where it makes its own arrays.
    exact = not any(word in call for word in ("onecycle", "interpolate"))
    tolerance = {"rel": 1e-12, "abs": 1e-15} if exact else {"rel": 1e-6, "abs": 1e-9}
    assert found == pytest.approx(expected, **tolerance)


def test_every_schedule_of_optax_is_tried():
    tried = " ".join(CALLS)
    assert not [name for name in SCHEDULES if f"optax.{name}(" not in tried]
    for name, schedule in SCHEDULES.items():
        names = tuple(inspect.signature(getattr(real, name)).parameters)
        assert schedule.names == names[: len(schedule.names)] == names


def test_the_defaults_of_weight_decay_are_those_of_optax():
    for name, usual in OPTIMIZERS.items():
        parameters = inspect.signature(getattr(real, name)).parameters
        assert next(iter(parameters)) == "learning_rate"
        found = parameters.get("weight_decay")
        assert (None if found is None else found.default) == usual, name


SOURCE = """
import optax
from config import args

peak = 3e-4
warm = 10
total_steps = args.epochs * len(loader)
schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0, peak_value=peak, warmup_steps=warm, decay_steps=total_steps, end_value=peak / 10
)
tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.05))
"""


def test_a_whole_source():
    assert recognised(SOURCE) == ["optax"]
    converted = optax(SOURCE, total=97)
    assert converted.hypers["lr"] == "0.0003 * (warmup(10) >> cosine(87, to=0.1))"
    assert rates(converted, hyper="weight_decay") == [0.05] * 97
    with jax.enable_x64(True):
        schedule = real.warmup_cosine_decay_schedule(0.0, 3e-4, 10, 97, 3e-5)
        assert rates(converted) == pytest.approx(
            [float(schedule(k)) for k in range(97)], rel=1e-12, abs=1e-18
        )


def test_the_rate_that_an_optimizer_of_optax_really_uses():
    source = "tx = optax.sgd(optax.exponential_decay(0.5, 10, 0.5, staircase=True))"
    tx = eval(source.removeprefix("tx = "), {"optax": real})
    weight, moved = jnp.zeros(()), []
    state = tx.init(weight)
    for _ in range(30):
        update, state = tx.update(jnp.ones(()), state)
        moved.append(-float(update))
    assert rates(optax(source), 30) == pytest.approx(moved, rel=1e-6)


def test_the_traps():
    warnings = optax(SOURCE, total=97).warnings
    assert any("the run has 97 updates, the cosine 87" in warning for warning in warnings)
    assert any("end_value=3e-05 is a rate" in warning for warning in warnings)
    assert any("decays every parameter without a mask;" in warning for warning in warnings)
    assert any("0.001 if nothing is said" in warning for warning in optax("optax.lion(1e-4)").warnings)
    assert not optax("optax.adamw(1e-4, mask=mask)").warnings
    assert any("the end is peak/250000" in warning for warning in optax(f"s = {CALLS[35]}").warnings)
    assert any("the rate never moves" in warning for warning in optax(f"s = {CALLS[19]}").warnings)


def test_a_rate_that_is_a_number():
    assert optax("tx = optax.adam(learning_rate=1e-3)").hypers == {"lr": "0.001 * hold()"}
    assert optax("tx = optax.nadamw(1e-3)").hypers == {
        "lr": "0.001 * hold()",
        "weight_decay": "0.0001",
    }


def test_the_schedule_names_the_length_of_the_run():
    assert optax("s = optax.cosine_decay_schedule(3e-4, 60)").total == 60
    assert optax("s = optax.constant_schedule(3e-4)").total is None
    assert optax("s = optax.exponential_decay(3e-4, 20, 0.5)", total=40).total == 40


def test_another_peak():
    converted = optax("s = optax.warmup_constant_schedule(0.0, 3e-4, 10)", lr=1e-3)
    assert max(rates(converted)) == 1e-3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s = optax.exponential_decay(3e-4, 20, 0.5)", "has no end"),
        ("s = optax.exponential_decay(args.lr, 20, 0.5, 0, True)", r"init_value = args\.lr \(line 1\)"),
        ("s = optax.cosine_decay_schedule(3e-4)", "decay_steps is not said"),
        ("s = optax.cosine_decay_schedule(3e-4, 0)", "make it longer"),
        ("s = optax.warmup_cosine_decay_schedule(0, 3e-4, 10, 10)", "counts the warm-up"),
        ("s = optax.constant_schedule(0.0)", "0 throughout"),
        ("s = optax.polynomial_schedule(1, 0, 0, 10)", "a constant rate"),
        ("s = optax.piecewise_constant_schedule(1e-3, bounds)", "boundaries_and_scales = bounds"),
        ("s = optax.piecewise_interpolate_schedule('cubic', 1e-3)", "'linear' or 'cosine'"),
        ("s = optax.cosine_onecycle_schedule(0, 1e-3)", "above 0"),
        ("s = optax.sgdr_schedule(3)", "one a cycle"),
        ("s = optax.join_schedules(parts, [10])", "one boundary less"),
        ("s = optax.join_schedules([optax.constant_schedule(1)], [10])", "one boundary less"),
        ("c = optax.constant_schedule\ns = optax.join_schedules([c(1), c(2), c(1)], [9, 3])", "not in order"),
        ("a = optax.constant_schedule(1)\nb = optax.constant_schedule(2)", "leave the one"),
        ("a = optax.adam(1)\nb = optax.sgd(2)", r"adam \(line 1\), sgd \(line 2\)"),
        ("a = optax.adam(lambda step: 1 / step)", "which is read and not run"),
        ("a = optax.chain()", "no schedule"),
        ("optax.adam(", "no Python source"),
    ],
)
def test_what_cannot_be_said(source, message):
    with pytest.raises(RecipeError, match=message):
        optax(source)


def test_a_bent_cosine_is_not_cut():
    with pytest.raises(RecipeError, match="no part of that curve"):
        optax("s = optax.cosine_decay_schedule(3e-4, 500, exponent=2.0)", total=97)
