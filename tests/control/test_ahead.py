"""Updates that are computed ahead: what is written is what the plan says at that moment, to the last bit."""

import copy
import pickle
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etude
from etude import Driver, Group, Plan, Rollback, Scale, Stop, Stretch
from etude.control.ahead import NO_BLOCK, RUN_UP
from etude.errors import ForeignChange

LAW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

PATHS = [
    "warmup(0.1) >> cosine(to=0.01)", "warmup(20) >> poly(power=0.9)",
    "cosine(0.31, to=0.3) >> step(times=3)", "repeat(cosine(start=1), 3, stretch=2)",
    "(warmup(0.13) >> hold(0.21) >> exp(0.2, to=0.1) >> rex()) * linear(to=0.7)", "tanh()", "hold()",
    "exp_warmup(0.2) >> hold()", "cyclic(up=7, start=0.1, gamma=0.999)",
]  # fmt: skip
GATES = [
    None, "frozen(0.3) >> warmup(0.11) >> hold()", "hold(0.4, start=0.7) >> cosine(0.2) >> frozen()",
    "frozen(0.5) >> hold(start=1)", "wave(half=0.21, low=0.3)", "warmup(0.9) >> hold()",
]  # fmt: skip
HYPERS = {"lr": "1e-3 * (warmup(0.1) >> cosine(to=0.01))", "weight_decay": "0.1 * linear(to=0.5)"}


def driven(hypers=None, gates=GATES, total=100, tick=0.5, check=True, **given):
    groups = [Group(f"g{i}", (f"{i}",), {"lr": 0.3 + i / 7}, gate) for i, gate in enumerate(gates)]
    held = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(1)) for _ in gates)
    plan = Plan(hypers or HYPERS, groups, tick)
    optimizer = torch.optim.AdamW(plan.torch_groups(held))
    return Driver(plan.over(total), etude.torch.sink(optimizer, check=check), **given), optimizer


def assert_written(driver, begin, end=None):
    for hyper, values in driver.rates.at(begin, end).items():
        assert [x.hex() for x in driver.read(hyper)] == [x.hex() for x in values], (hyper, begin, end)
    groups = driver.sink.optimizer.param_groups
    assert [group["params"][0].requires_grad for group in groups] == driver.rates.open(begin)


def gone(driver, updates):
    """Go through these updates; how many of them were computed ahead."""
    ahead = 0
    for k in updates:
        driver.apply(k)
        assert_written(driver, k)
        ahead += driver._block.first <= k < driver._block.first + driver._block.count
    return ahead


plans = st.fixed_dictionaries(
    {
        "hypers": st.fixed_dictionaries(
            {
                "lr": st.sampled_from(PATHS).map(lambda path: f"3e-4 * {path}" if "*" in path else path),
                "weight_decay": st.sampled_from([0.1, "0.1 * cosine()", "0.1 * (hold(0.3) >> poly())"]),
            }
        ),
        "gates": st.lists(st.sampled_from(GATES), min_size=1, max_size=7),
        "total": st.sampled_from([60, 97.3, 200, 240.999]),
        "tick": st.sampled_from([0, 0.5, 1]),
        "check": st.booleans(),
    }
)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("on"), st.integers(1, 60)),
        st.tuples(st.just("to"), st.integers(0, 250)),
        st.tuples(st.just("again"), st.integers(1, 3)),
        st.tuples(st.just("as floats"), st.integers(1, 40)),
        st.tuples(st.just("part"), st.floats(0.1, 2)),
        st.tuples(st.just("scale"), st.sampled_from([0.5, 0.7, 1.3])),
        st.tuples(st.just("stretch"), st.sampled_from([7.25, 30])),
    ),
    max_size=8,
)


@LAW
@given(plan=plans, moves=moves, begun=st.integers(0, 40))
def test_what_is_applied_is_what_the_plan_says_to_the_last_bit(plan, moves, begun):
    """On and on, back and forth, again, in parts, with an end and without, and with edits in between."""
    driver, _ = driven(**plan)
    k = 0

    def go(begin, end=None):
        driver.apply(begin, end)
        assert_written(driver, begin, end)

    for what, much in [("on", RUN_UP + begun), *moves, ("on", 50)]:
        if what == "on":
            for _ in range(much):
                go(k)
                k += 1
        elif what == "as floats":
            for _ in range(much):
                go(float(k), float(k + 1))
                k += 1
        elif what == "to":
            k = much
            go(k)
        elif what == "again":
            for _ in range(much):
                go(max(k - much, 0))
        elif what == "part":
            go(k, k + much)
            go(k + much)
        elif k < driver.total and driver.rates.regimes[-1].at <= k:
            driver.edit(Scale(k, much) if what == "scale" else Stretch(k, driver.total + much))
            go(k)


@pytest.mark.parametrize("tick", [0, 0.5, 1])
@pytest.mark.parametrize("check", [True, False])
def test_most_updates_of_a_run_are_computed_ahead(tick, check):
    driver, _ = driven(total=1000, tick=tick, check=check)
    assert gone(driver, range(1010)) > 900


def test_a_loop_that_counts_examples_is_followed_too():
    driver, _ = driven(gates=[None], total=2005 / 16)
    blocks = []
    for examples in range(0, 2005, 16):
        begin, end = examples / 16, min(examples + 16, 2005) / 16
        driver.apply(begin, end)
        assert_written(driver, begin, end)
        blocks += [driver._block] * (driver._block not in [NO_BLOCK, *blocks])
    assert [(block.first, block.count) for block in blocks] == [(16, 68), (84, 41)]
    assert end == 125.3125


def test_without_numpy_every_update_is_computed_by_itself(monkeypatch):
    driver, _ = driven()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "numpy", None)
        for k in range(60):
            driver.apply(k)
            assert driver._block is NO_BLOCK
            assert driver.read("lr") == driver.at(k)["lr"]
    assert gone(driver, range(60, 99)) > 30


def test_gates_switch_on_the_exact_update():
    gates = [f"frozen({at}) >> hold(start=1)" for at in (100, 101, '"250.5up"')] + ["hold(300) >> frozen()"]
    driver, optimizer = driven(gates=gates, total=400)
    switched = {}
    before = driver.rates.open(0)
    for k in range(400):
        driver.apply(k)
        now = [group["params"][0].requires_grad for group in optimizer.param_groups]
        switched |= {i: k for i, (old, new) in enumerate(zip(before, now, strict=True)) if old != new}
        before = now
    assert switched == {0: 100, 1: 101, 2: 251, 3: 300}
    assert driver._block.count > 0


def test_gates_follow_a_jump_out_of_a_block_and_back():
    driver, _ = driven(gates=["frozen(0.5) >> hold(start=1)", None], total=200)
    gone(driver, range(60))
    assert driver._block.first + driver._block.count > 62
    gone(driver, (150, 60, 61, 150, 62))


def test_an_edit_in_the_middle_of_a_block_acts_at_once():
    driver, _ = driven(gates=[None, None], total=400)
    gone(driver, range(60))
    assert driver._block.first + driver._block.count > 70
    plain = driver.rates
    driver.edit(Scale(61, 0.5))
    gone(driver, (60, 61, 62))
    assert driver.read("lr") == [0.5 * value for value in plain.at(62)["lr"]]
    gone(driver, range(63, 120))
    driver.edit(Rollback(120, 90, keep=0))
    gone(driver, range(90, 130))
    assert driver.read("lr") == plain.at(129)["lr"]
    driver.edit(Stop(135.5))
    gone(driver, range(130, 140))


def test_edits_ahead_are_not_overrun():
    driver, _ = driven(gates=[None], total=400)
    driver.edit(Scale(100, 0.5))
    driver.edit(Scale(150.25, 0.5))
    assert gone(driver, range(300)) > 250


@pytest.mark.parametrize("hyper", ["lr", "weight_decay"])
@pytest.mark.parametrize(
    "change", [lambda now, coming: 7.0, lambda now, coming: coming], ids=["other", "next"]
)
def test_a_foreign_write_inside_a_block_is_seen_and_leaves_the_others(hyper, change):
    driver, optimizer = driven(total=400)
    gone(driver, range(60))
    before, coming = driver.read(hyper), driver.at(60)[hyper]
    found = change(before[4], coming[4])
    optimizer.param_groups[4][hyper] = found
    with pytest.raises(ForeignChange) as error:
        driver.apply(60)
    assert error.value.changes == (("g4", before[4], found),)
    assert driver.read(hyper) == [*before[:4], found, before[5]]
    assert gone(driver, (60, 61, 62)) == 3


@pytest.mark.parametrize("foreign", ["restore", "adopt"])
def test_what_another_hand_writes_inside_a_block_is_dealt_with(foreign):
    driver, optimizer = driven(gates=[None] * 3, total=400, foreign=foreign)
    plain = driver.rates
    gone(driver, range(60))
    for i in range(60, 100, 4):
        optimizer.param_groups[1]["lr"] *= 0.5
        gone(driver, range(i, i + 4))
    assert len(driver.edits) == (0 if foreign == "restore" else 10)
    factor = 1 if foreign == "restore" else 0.5**10
    assert driver.read("lr")[1] == pytest.approx(factor * plain.at(99)["lr"][1], rel=1e-12)


@pytest.mark.parametrize("check", [True, False])
def test_an_optimizer_that_is_loaded_inside_a_block_is_written_anew(check):
    driver, optimizer = driven(total=400, check=check)
    gone(driver, range(60))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert gone(driver, range(60, 70)) == 10


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda driver: pickle.loads(pickle.dumps(driver))])
def test_a_copy_inside_a_block_writes_into_its_own_optimizer(copied):
    driver, _ = driven(total=400)
    gone(driver, range(60))
    before = driver.read("lr")
    gone(copied(driver), range(60, 100))
    assert driver.read("lr") == before
    gone(driver, range(60, 70))


def test_a_state_that_is_loaded_inside_a_block_counts_from_then_on():
    driver, _ = driven(total=400)
    gone(driver, range(30))
    saved = driver.state_dict()
    driver.edit(Scale(30, 0.1))
    gone(driver, range(30, 80))
    driver.load_state_dict(saved)
    assert driver.edits == ()
    gone(driver, range(80, 120))


def test_a_group_that_joins_inside_a_block_is_written_from_then_on():
    driver, _ = driven(gates=[None, None], total=400)
    gone(driver, range(60))
    driver.add_group(Group("late", ("late",), {"lr": 3.0}), [torch.nn.Parameter(torch.zeros(1))], 60)
    assert gone(driver, range(60, 120)) > 30
    assert len(driver.read("lr")) == 3


@pytest.mark.parametrize("irregular", ["halves", "jumps", "fractions", "short", "edits"])
def test_a_loop_that_does_not_go_on_pays_for_nothing(irregular):
    driver, _ = driven(gates=[None], total=400)
    for k in range(100):
        if irregular == "edits" and k % 10 == 0:
            driver.edit(Scale(k, 0.99))
        begin = {"halves": k / 2, "jumps": 3 * k, "fractions": k + 0.5}.get(irregular, k)
        driver.apply(begin, {"halves": begin + 0.5, "short": begin + 0.9}.get(irregular))
        assert driver._block is NO_BLOCK


def test_a_block_is_never_much_longer_than_what_the_loop_has_gone():
    driver, _ = driven(gates=[None], total=100_000)
    lengths = {}
    for k in range(5000):
        driver.apply(k)
        lengths[driver._block.first] = driver._block.count
    begins = sorted(first for first in lengths if first)
    assert begins[0] == RUN_UP
    assert all(lengths[first] <= 4 * (first + 1) for first in begins)
    assert max(lengths.values()) == 2048


def test_an_open_run_is_computed_ahead():
    plan = Plan({"lr": "warmup(10) >> hold() >> linear(0.5)"}, [Group("all", ("0",))], tick=0)
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "name": "all"}], lr=1)
    driver = Driver(plan.over(float("inf")), etude.torch.sink(optimizer))
    assert gone(driver, range(200)) > 150
    driver.edit(etude.Advance(200))
    assert gone(driver, range(200, 420)) > 150
