"""Controllers that act by the plan: a longer warm-up, a decay started now, a longer run; on real rates."""

import math

import pytest

from etude import Driver, Plan, Stop
from etude.control.cooldown import cooldown
from etude.control.extend import extend
from etude.control.rewarm import rewarm
from etude.control.target import target
from etude.core.shapes import SHAPES
from etude.errors import ScheduleError


def driven(lr, one, total=1000, **hypers):
    return Driver(Plan({"lr": lr, **hypers}, tick=0).over(total), controllers=[one])


def level(driver, t):
    return driver.at(t)["lr"][0]


# --- rewarm ------------------------------------------------------------------------------------------------


def trained(driver, spikes, until=None):
    """Read the training loss after every update, with spikes after some."""
    for t in range(1, int(until or max(spikes) + 1)):
        driver.observe(t, {"train_loss": 50.0 if t in spikes else 2.0 + 0.1 * (t % 3)})


def test_a_spike_in_the_warm_up_makes_it_longer():
    driver = driven("1e-3 * (warmup(100) >> cosine(to=0.1))", rewarm())
    plain = driver.rates
    trained(driver, {60}, 61)
    assert [(edit.at, edit.author) for edit in driver.edits] == [(60, "rewarm")]
    assert [driver.at(t) for t in range(60)] == [plain.at(t) for t in range(60)]
    assert level(driver, 60) == pytest.approx(0.3e-3)  # half of 0.6
    for t in range(60, 260):
        assert level(driver, t) == pytest.approx(1e-3 * (0.3 + 0.7 * (t - 60) / 200))
    assert level(driver, 260) == pytest.approx(1e-3)
    for u in (0.25, 0.5, 0.99):  # the rest as written, in the time that remains
        assert level(driver, 260 + u * 740) == pytest.approx(plain.at(100 + u * 900)["lr"][0])
    assert driver.total == 1000


def test_soon_after_the_warm_up_counts_and_later_does_not():
    for at, edits in ((199, 1), (201, 0), (600, 0)):
        driver = driven("warmup(100) >> cosine()", rewarm())
        trained(driver, {at})
        assert len(driver.edits) == edits, at


def test_each_warm_up_is_longer_than_the_last_and_there_is_an_end():
    driver = driven("warmup(20) >> linear()", rewarm(times=2))
    trained(driver, {15, 30, 90, 150}, 200)
    assert [(edit.at, str(edit.path)) for edit in driver.edits] == [
        (15, "linear(40, to=1.0, start=0.375) >> linear()"),
        (30, "linear(80, to=1.0, start=0.3046875) >> linear()"),
    ]


def test_an_early_spike_before_there_is_a_band_and_small_changes_are_none():
    driver = driven("warmup(100) >> linear()", rewarm(warmup=8))
    trained(driver, {5}, 30)
    for t in range(30, 100):
        driver.observe(t, {"train_loss": 2.0 + 0.001 * t})
    assert driver.edits == ()


@pytest.mark.parametrize("lr", ["cosine()", "hold()", "linear(0.5) >> linear(to=1)", "warmup(1.0e3)"])
def test_a_schedule_without_a_warm_up_stays_as_it_is(lr):
    driver = driven(lr.replace("1.0e3", '"100%"'), rewarm())
    trained(driver, {50}, 60)
    assert driver.edits == ()


def test_in_an_open_run_what_waits_for_the_end_goes_on_waiting():
    driver = driven("warmup(100) >> hold() >> linear(0.2)", rewarm(), math.inf)
    trained(driver, {50})
    assert str(driver.edits[0].path) == "linear(200, to=1.0, start=0.25) >> hold() >> linear(0.2)"
    assert driver.total == math.inf
    assert level(driver, 250) == level(driver, 10**6) == 1


AFTER = [
    "hold() >> linear(0.2)", 'hold(0.5) >> sqrt("200up", to=0.1) >> hold()', "repeat(cosine(start=1), 4)",
    "inv_sqrt(timescale=50)", "exp(to=0.01)", "poly(power=3)", "rex()", "multistep(at=(0.5, 0.7), by=0.1)",
    "repeat(linear(start=1), 2, stretch=2, fade=0.5)", "step(every=100, by=0.5)", "inv_time(timescale=200)",
    "cyclic(up=90, down=180, start=0.1)",
]  # fmt: skip


@pytest.mark.parametrize("rest", AFTER)
def test_whatever_follows_is_drawn_again_in_the_time_that_remains(rest):
    driver = driven(f"2 * (warmup(100) >> {rest})", rewarm())
    plain = driver.rates
    trained(driver, {70})
    begin = 70 + 200
    for u in (0.02, 0.23, 0.27, 0.49, 0.52, 0.74, 0.76, 0.99):
        ours, theirs = level(driver, begin + u * (1000 - begin)), plain.at(100 + u * 900)["lr"][0]
        assert ours == pytest.approx(theirs, rel=1e-9), u
    assert driver.total == 1000


@pytest.mark.parametrize("word", [n for n, one in SHAPES.items() if not one.gate_only and "warmup" not in n])
def test_every_word_may_follow(word):
    driver = driven(f"warmup(100) >> {SHAPES[word].example}", rewarm())
    trained(driver, {70})
    assert [edit.author for edit in driver.edits] == ["rewarm"]
    assert level(driver, 269.9) == pytest.approx(1, abs=1e-3)
    assert 0 <= level(driver, 999) <= 1 + 1e-12


# --- cooldown ----------------------------------------------------------------------------------------------


def test_a_stall_starts_the_decay_and_the_run_ends_earlier():
    driver = driven("warmup(100) >> hold() >> linear(200)", cooldown(patience=2))
    for t, loss in ((50, 1.0), (100, 0.9), (200, 0.8), (300, 0.81), (400, 0.8)):
        driver.observe(t, {"eval_loss": loss})
    assert [(edit.at, edit.author) for edit in driver.edits] == [(400, "cooldown")]
    assert driver.total == 600
    assert [level(driver, t) for t in (399, 400, 500)] == pytest.approx([1, 1, 0.5])
    driver.observe(500, {"eval_loss": 0.9})
    driver.observe(600, {"eval_loss": 0.9})
    assert len(driver.edits) == 1


def test_a_stall_in_an_open_run_gives_it_its_end():
    driver = driven("warmup(100) >> hold() >> linear(0.2)", cooldown(patience=1), math.inf)
    driver.observe(300, {"eval_loss": 0.8})
    driver.observe(400, {"eval_loss": 0.8})
    assert driver.total == 500
    assert level(driver, 450) == pytest.approx(0.5)


def test_nothing_counts_in_the_warm_up():
    driver = driven("warmup(100) >> hold() >> linear(200)", cooldown(patience=2))
    for t in range(10, 130, 10):
        driver.observe(t, {"eval_loss": 1.0})
    assert [edit.at for edit in driver.edits] == [110]


@pytest.mark.parametrize("lr", ["hold()", "cosine()", "warmup(10) >> linear()", "repeat(cosine(start=1), 1)"])
def test_where_no_piece_is_left_a_stall_is_no_error(lr):
    driver = driven(lr, cooldown(patience=1))
    for t in range(10, 1001, 10):
        driver.observe(t, {"eval_loss": 1.0})
    assert driver.edits == ()
    assert driver.total == 1000


# --- extend ------------------------------------------------------------------------------------------------


def test_a_gain_near_the_end_stretches_what_is_left():
    driver = driven("1e-3 * linear()", extend(), weight_decay="0.1 * linear()")
    plain = driver.rates
    driver.observe(500, {"eval_loss": 1.0})
    driver.observe(890, {"eval_loss": 0.9})  # a gain, but not near the end
    driver.observe(950, {"eval_loss": 0.8})
    assert driver.total == 1250
    for u in (0.0, 0.3, 0.9):
        assert driver.at(950 + 300 * u) == {
            hyper: [pytest.approx(value) for value in row] for hyper, row in plain.at(950 + 50 * u).items()
        }


def test_a_gain_at_the_end_warms_up_again_and_falls_to_where_it_was():
    driver = driven("1e-3 * (warmup(0.1) >> cosine(to=0.1))", extend(by=0.2, to=0.6))
    driver.observe(900, {"eval_loss": 1.0})
    driver.observe(1000, {"eval_loss": 0.9})
    assert driver.total == 1200
    assert [level(driver, t) for t in (1000, 1020, 1110, 1200)] == pytest.approx([1e-4, 6e-4, 3.5e-4, 1e-4])


def test_a_constant_rate_goes_on():
    driver = driven("1e-3 * hold()", extend())
    driver.observe(900, {"eval_loss": 1.0})
    driver.observe(1000, {"eval_loss": 0.9})
    assert driver.total == 1250
    assert level(driver, 1200) == 1e-3


def test_the_run_never_outgrows_its_cap():
    driver, loss, t = driven("linear()", extend(by=0.3, most=1.5)), 1.0, 0
    while t < driver.total and t < 5000:
        t += 50
        loss *= 0.97
        driver.observe(min(t, driver.total), {"eval_loss": loss})
    assert driver.total == 1500
    assert [edit.total for edit in driver.edits] == [1300, 1500]


@pytest.mark.parametrize(
    ("losses", "options"),
    [([1.0, 0.995], {}), ([1.0, 1.1], {}), ([1.0, math.nan], {}), ([1.0, -math.inf], {}), ([0.9], {})],
)
def test_no_gain_worth_it_no_extension(losses, options):
    driver = driven("linear()", extend(**options))
    for t, loss in zip((900, 1000), losses, strict=False):
        driver.observe(t, {"eval_loss": loss})
    assert driver.edits == ()


def test_what_somebody_stopped_stays_stopped():
    driver = driven("linear()", extend())
    driver.observe(940, {"eval_loss": 1.0})
    driver.edit(Stop(950))
    driver.observe(950, {"eval_loss": 0.5})
    assert driver.total == 950


def test_an_open_run_has_no_end_to_extend():
    driver = driven("warmup(10) >> hold()", extend(), math.inf)
    for t in range(10, 1000, 10):
        driver.observe(t, {"eval_loss": 1 / t})
    assert driver.edits == ()


@pytest.mark.parametrize("given", [{"by": 0}, {"most": 1}, {"margin": 1.0}, {"to": 1.5}, {"to": 0}])
def test_extend_refuses(given):
    with pytest.raises(ScheduleError, match=rf"extend\({next(iter(given))}="):
        extend(**given)


def test_an_open_run_that_has_begun_its_decay_is_not_extended():
    rates = Plan({"lr": "0.1 * (warmup(10) >> hold() >> linear(20))"}).over(math.inf)
    driver = Driver(rates, controllers=[cooldown(patience=2), extend()])
    for t, loss in ((20, 1.0), (30, 1.0), (40, 1.0), (60, 0.5)):
        driver.observe(t, {"eval_loss": loss})
    assert [edit.name for edit in driver.edits] == ["advance"]
    assert driver.total == 60


@pytest.mark.parametrize(
    ("lr", "read"),
    [
        ("1e-3 * repeat(cosine(start=1), 3)", (60, 70, 80)),
        ("1e-3 * (warmup(0.1) >> hold(0.3) >> linear(0.2, to=0.5) >> hold())", (130, 140, 150)),
    ],
)
def test_a_decay_under_way_is_not_left(lr, read):
    """Neither for the next restart, a jump upwards, nor for what holds behind it."""
    driver = driven(lr, cooldown(patience=2), 300)
    for t in read:
        driver.observe(t, {"eval_loss": 1.0})
    assert driver.edits == ()


def test_a_reading_that_is_not_finite_breaks_no_row():
    driver = driven("1e-3 * hold()", target(0.9, "acc", patience=2), 100)
    for t, value in ((10, 0.95), (20, math.nan), (30, 0.95)):
        driver.observe(t, {"acc": value})
    assert driver.total == 30


@pytest.mark.parametrize("lr", ["0.1 * (hold() * linear())", "0.1 * ((warmup(0.1) >> hold()) * cosine())"])
def test_nothing_is_added_to_a_product_that_has_ended_at_nothing(lr):
    driver = driven(lr, extend(), 100)
    for t, loss in ((50, 1.0), (100, 0.5)):
        driver.observe(t, {"eval_loss": loss})
    assert driver.edits == ()
