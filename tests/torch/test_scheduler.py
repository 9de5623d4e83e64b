"""The torch scheduler: what code that insists on one may do with it, by what the optimizer then really used.

The numbers are those of the list of pains in the research notes.
"""

import copy
import io
import itertools
import json
import math
import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch

import etude
from etude import Driver, Group, Plan, Redraw, Scale, Stretch, early_stop
from etude.core.shapes import SHAPES
from etude.errors import EtudeWarning, ForeignChange, PlanError, PlanMismatch, ScheduleError
from etude.torch import LRScheduler

SCALES = {"emb": 0.25, "body": 1.0, "head": 10.0}
WORKHORSE = "0.1 * (warmup(0.2) >> cosine(to=0.01))"
WORDS = {
    name: f"0.1 * (warmup(0.1) >> {shape.example} >> hold())"
    for name, shape in SHAPES.items()
    if not shape.gate_only
}


def planned(lr=WORKHORSE, gate=None, tick=0.5, **hypers):
    gates = {"emb": gate}
    groups = [Group(name, (name,), {"lr": scale}, gates.get(name)) for name, scale in SCALES.items()]
    return Plan({"lr": lr, **hypers}, groups, tick)


def weights():
    torch.manual_seed(0)
    return torch.nn.ParameterDict({name: torch.nn.Parameter(torch.randn(3).double()) for name in SCALES})


def scheduled(lr=WORKHORSE, total=20, make=torch.optim.SGD, gate=None, tick=0.5, controllers=(), **given):
    """A real optimizer over one weight per group, and its scheduler."""
    plan = planned(lr, gate, tick)
    optimizer = make(plan.torch_groups(weights()), **given)
    return LRScheduler(optimizer, plan.over(total), controllers)


def update(optimizer, gradient=1.0):
    """One real update; returns how far each weight moved."""
    held = [group["params"][0] for group in optimizer.param_groups]
    before = [w.detach().clone() for w in held]
    for w in held:
        w.grad = torch.full_like(w, gradient) if w.requires_grad else None
    optimizer.step()
    return [(old - w.detach())[0].item() for old, w in zip(before, held, strict=True)]


def run(scheduler, updates):
    """What each update used, read back from the optimizer."""
    used = []
    for _ in range(updates):
        used.append(scheduler.get_last_lr())
        update(scheduler.optimizer)
        scheduler.step()
    return used


def used_by(rates, updates):
    return [rates.at(k)["lr"] for k in updates]


# --- the face ----------------------------------------------------------------------------------------------


def test_it_is_what_others_look_for():
    scheduler = scheduled()
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    optimizer = scheduler.optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    assert (scheduler.last_epoch, scheduler._step_count) == (0, 1)
    assert scheduler.base_lrs == pytest.approx([0.025, 0.1, 1.0])
    assert scheduler.get_last_lr() == scheduler._last_lr == scheduler.get_lr()
    assert repr(scheduler) == f"LRScheduler({WORKHORSE}, update 0 of 20, lr 0.003125 to 0.125)"
    run(scheduler, 3)
    assert (scheduler.last_epoch, scheduler._step_count) == (3, 4)
    assert not any("initial_lr" in group for group in optimizer.param_groups)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_drives_the_weights_as_the_driver_says(word):
    scheduler = scheduled(WORDS[word], total=13)
    for k in range(13):
        expected = scheduler.driver.at(k)["lr"]
        assert scheduler.get_last_lr() == scheduler.get_lr() == expected
        assert update(scheduler.optimizer) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        scheduler.step()


def test_decay_and_momentum_follow_their_own_paths():
    plan = planned(weight_decay="0.5 * linear()", momentum="0.9 * linear(to=0.5)")
    optimizer = torch.optim.AdamW(plan.torch_groups(weights()))
    scheduler = LRScheduler(optimizer, plan.over(20))
    for _ in range(7):
        update(optimizer)
        scheduler.step()
    at = scheduler.driver.at(7)
    assert [group["weight_decay"] for group in optimizer.param_groups] == at["weight_decay"]
    assert [group["betas"][0] for group in optimizer.param_groups] == at["momentum"]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        (planned(), r"got Plan .*: write LRScheduler\(optimizer, plan\.over\(total\)\)"),
        ("2e-5 * cosine()", "got str 2e-5"),
        (2e-5, "got float"),
    ],
    ids=["plan", "text", "number"],
)
def test_rates_that_are_not_bound_to_a_run_are_refused(rates, said):
    optimizer = torch.optim.SGD(planned().torch_groups(weights()))
    with pytest.raises(PlanError, match=said):
        LRScheduler(optimizer, rates)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(PlanError, match="takes an optimizer first, got ParameterDict"):
        LRScheduler(weights(), planned().over(20))


def test_a_driver_may_be_given_and_keeps_its_own_settings():
    plan = planned()
    optimizer, other = (torch.optim.SGD(plan.torch_groups(weights())) for _ in range(2))
    driver = Driver(plan.over(20), etude.torch.sink(optimizer), [early_stop("loss")])
    scheduler = LRScheduler(optimizer, driver)
    assert scheduler.driver is driver
    run(scheduler, 2)
    assert driver.read() == driver.at(2)["lr"]
    with pytest.raises(PlanError, match="give them to Driver"):
        LRScheduler(optimizer, driver, foreign="adopt")
    for wrong in (Driver(plan.over(20), etude.torch.sink(other)), Driver(plan.over(20))):
        with pytest.raises(PlanError, match="another optimizer"):
            LRScheduler(optimizer, wrong)


def test_a_position_may_be_named_and_is_absolute():
    scheduler = scheduled()
    for k in (7, 7, 2, 19, 0):
        scheduler.step(k)
        assert scheduler.last_epoch == k
        assert update(scheduler.optimizer) == pytest.approx(scheduler.driver.at(k)["lr"], rel=1e-12)
    scheduler.step()
    assert scheduler.last_epoch == 1
    for wrong in (-1, math.nan):
        with pytest.raises(ScheduleError, match="0 or more"):
            scheduler.step(wrong)


def test_a_preview_and_a_loop_that_fast_forwards_need_no_updates():
    scheduler = scheduled()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(20):
            assert scheduler.get_last_lr() == scheduler.driver.at(k)["lr"]
            scheduler.step()


def test_an_epoch_may_be_the_unit():
    scheduler = scheduled("0.1 * linear()", total=5)
    for epoch in range(5):
        for _ in range(3):
            assert update(scheduler.optimizer)[1] == pytest.approx(0.1 * (1 - (epoch + 0.5) / 5))
        scheduler.step()


def test_an_optimizer_lets_go_of_the_scheduler_before():
    first = scheduled("0.1 * hold()")
    optimizer, gone = first.optimizer, weakref.ref(first)
    del first
    assert gone() is None
    second = LRScheduler(optimizer, planned("0.2 * hold()").over(20))
    optimizer.load_state_dict(optimizer.state_dict())
    assert second.get_last_lr() == pytest.approx([0.05, 0.2, 2.0])


# --- the clock ---------------------------------------------------------------------------------------------


def test_pain_1_more_calls_than_updates_move_nothing():
    """Four calls per update, as accelerate makes on four processes, and a scheduler that is read twice."""
    scheduler = scheduled()
    used = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(20):
            used.append(scheduler.get_last_lr())
            update(scheduler.optimizer)
            for _ in range(4):
                scheduler.step()
    assert used == used_by(scheduler.driver, range(20))
    assert [one.category for one in said] == [EtudeWarning]
    assert said[0].filename == __file__


def test_pain_4_batches_that_only_accumulate_move_nothing():
    scheduler = scheduled(total=6)
    used = [scheduler.get_last_lr()]
    update(scheduler.optimizer)
    scheduler.step()
    with pytest.warns(EtudeWarning, match="rate waits"):
        scheduler.step()
    for batch in range(15):
        if batch % 3 == 2:
            used.append(scheduler.get_last_lr())
            update(scheduler.optimizer)
        scheduler.step()
    assert used == used_by(scheduler.driver, range(6))


def test_pain_11_after_the_end_the_rate_stays_and_it_is_said_once():
    scheduler = scheduled(total=10)
    run(scheduler, 10)
    end = scheduler.get_last_lr()
    assert end == pytest.approx([0.1 * 0.01 * scale for scale in SCALES.values()], rel=1e-12)
    with pytest.warns(EtudeWarning, match="goes on after the end") as said:
        assert run(scheduler, 20) == [end] * 20
    assert len(said) == 1


def test_pain_12_the_peak_and_the_end_are_met_exactly():
    first, last = scheduled(tick=0), scheduled(tick=1)
    assert first.driver.at(4)["lr"][1] == 0.1
    assert run(first, 20)[4][1] == 0.1
    assert run(last, 20)[19] == [0.1 * 0.01 * scale for scale in SCALES.values()]
    assert 0 < scheduled().get_last_lr()[1] < 0.1  # 10: the first update is not wasted at 0


def scaled(fused, updates=12, overflows=(0, 5), guarded=True):
    """A loop with GradScaler; the gradients of some updates overflow. Gives what every real update used."""
    plan = planned()
    held = weights()
    optimizer = torch.optim.AdamW(plan.torch_groups(held), fused=fused)
    scheduler = LRScheduler(optimizer, plan.over(20))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=100)
    used = []
    for k in range(updates):
        before = held["body"].detach().clone()
        loss = sum(w.sum() for w in held.values()) * (math.inf if k in overflows else 1.0)
        scaler.scale(loss).backward()
        rates = scheduler.get_last_lr()
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        skipped = scaler.get_scale() < scale
        assert skipped == (k in overflows) == torch.equal(before, held["body"])
        if not (guarded and skipped):
            scheduler.step()
        if not skipped:
            used.append(rates)
    return scheduler, used, scaler


@pytest.mark.parametrize("fused", [False, True])
def test_pain_16_a_skipped_update_does_not_move_the_clock(fused):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler, used, _ = scaled(fused)
    assert scheduler.last_epoch == 10
    assert used == used_by(scheduler.driver, range(10))


@pytest.mark.parametrize(("fused", "overflows"), [(False, (1, 5)), (True, (0, 5)), (True, (3, 4))])
def test_pain_16_also_where_the_loop_steps_anyway(fused, overflows):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        scheduler, used, _ = scaled(fused, overflows=overflows, guarded=False)
    assert [one.category for one in said] == ([] if fused else [EtudeWarning])
    assert scheduler.last_epoch == 10
    assert used == used_by(scheduler.driver, range(10))


def test_pain_16_an_epoch_moves_the_clock_though_its_last_update_was_skipped():
    plan = planned()
    held = weights()
    optimizer = torch.optim.AdamW(plan.torch_groups(held), fused=True)
    scheduler = LRScheduler(optimizer, plan.over(3))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for factor in (1.0, math.inf):
        scaler.scale(sum(w.sum() for w in held.values()) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    scheduler.step()
    assert scheduler.last_epoch == 1


# --- checkpoints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_pain_5_a_run_that_stops_at_any_update_goes_on_the_same(word):
    whole = scheduled(WORDS[word], total=9)
    rows = run(whole, 9)
    for stop in range(9):
        first = scheduled(WORDS[word], total=9)
        used = run(first, stop)
        saved = json.loads(json.dumps(first.state_dict(), allow_nan=False))
        assert saved["driver"]["plan"] == first.driver.rates.plan.text
        again = scheduled(WORDS[word], total=9)
        again.load_state_dict(saved)
        assert again._step_count == first._step_count
        assert used + run(again, 9 - stop) == rows


ORDERS = [
    order
    for order in itertools.permutations(("build", "optimizer", "scheduler"))
    if order.index("build") < order.index("scheduler")
]


@pytest.mark.parametrize("stale", [False, True], ids=["after step", "before step"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_pain_6_the_order_of_building_and_loading_does_not_matter(order, stale):
    source = scheduled(make=torch.optim.AdamW, gate="frozen(0.2) >> hold(start=1)")
    run(source, 7)
    saved = copy.deepcopy(source.optimizer.state_dict())
    if stale:  # the optimizer was saved before scheduler.step()
        update(source.optimizer)
        source.step()
    state = source.state_dict()
    assert saved["state"]
    plan = planned(gate="frozen(0.2) >> hold(start=1)")
    held = weights()
    optimizer = torch.optim.AdamW(plan.torch_groups(held))
    scheduler = None
    for what in order:
        if what == "build":
            scheduler = LRScheduler(optimizer, plan.over(20))
        elif what == "optimizer":
            optimizer.load_state_dict(saved)
        else:
            scheduler.load_state_dict(state)
    assert all(w.requires_grad for w in held.values())
    expected = source.driver.at(8 if stale else 7)["lr"]
    assert [group["lr"] for group in optimizer.param_groups] == scheduler.get_last_lr() == expected


def test_pain_7_a_fresh_optimizer_and_a_number_are_enough():
    straight = run(scheduled(), 20)
    for k in range(20):
        scheduler = scheduled()
        assert not any("initial_lr" in group for group in scheduler.optimizer.param_groups)
        scheduler.step(k)
        assert run(scheduler, 20 - k) == straight[k:]


def test_pain_22_a_checkpoint_with_other_groups_is_refused_by_name():
    source = scheduled()
    run(source, 3)
    plan = Plan({"lr": WORKHORSE}, list(reversed(planned().groups)))
    optimizer = torch.optim.SGD(plan.torch_groups(weights()))
    scheduler = LRScheduler(optimizer, plan.over(20))
    with pytest.raises(PlanMismatch, match=r"groups: \['emb', 'body', 'head'\] in the checkpoint"):
        scheduler.load_state_dict(source.state_dict())
    assert scheduler.last_epoch == 0
    assert scheduler.get_last_lr() == scheduler.driver.at(0)["lr"]


def test_pain_28_the_optimizer_that_was_reloaded_is_the_one_that_is_driven():
    scheduler = scheduled(total=10)
    run(scheduler, 2)
    before = scheduler.optimizer.param_groups
    scheduler.optimizer.load_state_dict(copy.deepcopy(scheduler.optimizer.state_dict()))
    assert scheduler.optimizer.param_groups is not before
    for k in range(2, 10):
        assert update(scheduler.optimizer) == pytest.approx(scheduler.driver.at(k)["lr"], rel=1e-12)
        scheduler.step()


def test_pain_44_the_state_is_plain_and_loads_with_weights_only():
    plan = planned(np.float64(0.1) * etude.cosine())
    optimizer = torch.optim.SGD(plan.torch_groups(weights()), lr=np.float64(0.1))
    optimizer.param_groups[0]["lr"] = np.float64(0.1)
    optimizer.param_groups[1]["lr"] = torch.tensor(0.1)
    scheduler = LRScheduler(optimizer, plan.over(np.int64(20)), [early_stop("loss")])
    run(scheduler, 3)
    scheduler.observe({"loss": np.float32(0.5)})
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert list(loaded) == ["last_epoch", "_step_count", "_last_lr", "driver"]
    assert loaded == scheduler.state_dict() == json.loads(json.dumps(loaded, allow_nan=False))
    assert loaded["driver"]["controllers"] == {"early_stop": {"best": 0.5, "bad": 0}}
    assert all(type(rate) is float for rate in loaded["_last_lr"])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
@pytest.mark.parametrize("word", WORDS)
def test_pain_45_a_copy_is_a_run_of_its_own(word, duplicate):
    scheduler = scheduled(WORDS[word], total=12, controllers=[early_stop("loss", patience=1)])
    run(scheduler, 2)
    scheduler.observe({"loss": 0.1})
    scheduler.edit(Scale(2, 0.5))
    clone = duplicate(scheduler)
    assert clone.optimizer is not scheduler.optimizer
    here = scheduler.get_last_lr()
    ahead = run(clone, 4)
    clone.optimizer.load_state_dict(clone.optimizer.state_dict())
    assert scheduler.get_last_lr() == here
    assert ahead == used_by(scheduler.driver, range(2, 6)) == run(scheduler, 4)
    clone.observe({"loss": 0.2})
    assert (clone.driver.total, scheduler.driver.total) == (6, 12)


def test_pain_47_another_rate_on_resume_is_asked_about():
    source = scheduled()
    run(source, 5)
    scheduler = scheduled(WORKHORSE.replace("0.1 *", "0.3 *"))
    with pytest.raises(PlanMismatch, match=r"lr: 0\.1 \* .* in the checkpoint, 0\.3 \* .* here"):
        scheduler.load_state_dict(source.state_dict())
    scheduler.on_mismatch = "recipe"
    scheduler.load_state_dict(source.state_dict())
    assert scheduler.get_last_lr() == pytest.approx([3 * rate for rate in source.get_last_lr()])
    optimizer = torch.optim.SGD(planned().torch_groups(weights()))
    scheduler = LRScheduler(optimizer, planned("0.3 * hold()").over(20), on_mismatch="checkpoint")
    scheduler.load_state_dict(source.state_dict())
    assert scheduler.get_last_lr() == source.get_last_lr()


def test_pain_2_a_longer_run_goes_on_as_it_was_told_when_it_was_made():
    source = scheduled("0.1 * linear()")
    run(source, 10)
    plan = planned("0.1 * linear()")

    def made(total, on_mismatch=None):
        optimizer = torch.optim.SGD(plan.torch_groups(weights()))
        return LRScheduler(optimizer, plan.over(total), on_mismatch=on_mismatch)

    longer = made(40, lambda t, total: Stretch(t, total))
    longer.load_state_dict(source.state_dict())
    assert longer.driver.total == 40
    assert [row[1] for row in run(longer, 30)] == pytest.approx(
        [0.05 * (1 - (k + 0.5) / 30) for k in range(30)]
    )
    same = made(20, lambda t, total: Stretch(t, total))
    same.load_state_dict(source.state_dict())
    assert same.driver.edits == ()
    with pytest.raises(PlanMismatch, match=r"span total: 20\.0 in the checkpoint, 40\.0 here"):
        made(40).load_state_dict(source.state_dict())


def test_the_state_of_another_scheduler_is_refused_with_the_way_on():
    scheduler = scheduled()
    other = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.zeros(1)], lr=1.0), 5).state_dict()
    with pytest.raises(PlanMismatch, match=r"step_size.*write scheduler\.step\(0\)"):
        scheduler.load_state_dict(other)


# --- groups and control ------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_pain_17_a_group_that_joins_has_its_multiplier_times_the_schedule_now(word):
    gated = scheduled(WORDS[word], total=10, gate="frozen(0.4) >> hold(start=1)")
    plain = run(scheduled(WORDS[word], total=10), 10)
    for k in range(10):
        moved = update(gated.optimizer)
        assert moved[0] == (0 if k < 4 else pytest.approx(plain[k][0], rel=1e-12, abs=1e-15))
        assert moved[1:] == pytest.approx(plain[k][1:], rel=1e-12, abs=1e-15)
        gated.step()


def test_pain_17_a_group_that_another_hand_adds_is_named():
    scheduler = scheduled()
    run(scheduler, 2)
    update(scheduler.optimizer)
    late = {"params": [("late", torch.nn.Parameter(torch.ones(1)))], "name": "late", "lr": 1.0}
    scheduler.optimizer.add_param_group(late)
    with pytest.raises(PlanError, match="new are late"):
        scheduler.step()


def test_pain_36_a_change_under_way_lasts_and_is_written_down():
    plain = run(scheduled(), 20)
    scheduler = scheduled()
    used = run(scheduler, 3)
    scheduler.edit(Scale(3, 0.5, author="me", reason="too fast"))
    used += run(scheduler, 5)
    state = scheduler.state_dict()
    again = scheduled()
    again.load_state_dict(state)
    used += run(again, 12)
    assert used == plain[:3] + [[0.5 * rate for rate in row] for row in plain[3:]]
    (edit,) = state["driver"]["edits"]
    assert (edit["author"], edit["reason"], edit["at"]) == ("me", "too fast", 3)


def test_a_reading_acts_on_the_update_that_comes_next():
    scheduler = scheduled(controllers=[early_stop("loss", patience=1)])
    run(scheduler, 4)
    assert scheduler.observe({"loss": 1.0}) == ()
    run(scheduler, 1)
    scheduler.observe({"loss": 2.0})
    assert scheduler.driver.total == scheduler.last_epoch == 5
    longer = scheduled(total=5)
    run(longer, 5)
    longer.edit(Redraw(5, "linear(to=0)", 10))
    assert longer.get_last_lr() == longer.driver.at(5)["lr"]
    assert longer.driver.total == 10


@pytest.mark.parametrize("foreign", ["raise", "adopt", "restore"])
def test_a_rate_that_another_hand_wrote(foreign):
    plan = planned("0.1 * hold()")
    optimizer = torch.optim.SGD(plan.torch_groups(weights()))
    scheduler = LRScheduler(optimizer, plan.over(20), foreign=foreign)
    optimizer.param_groups[1]["lr"] = 0.05
    update(optimizer)
    if foreign == "raise":
        with pytest.raises(ForeignChange, match=r"body had 0\.1, now 0\.05"):
            scheduler.step()
    else:
        scheduler.step()
        assert scheduler.get_last_lr()[1] == (0.05 if foreign == "adopt" else 0.1)


# --- tensors and compilation -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["number", "tensor", "capturable"])
def test_pain_49_fifty_changes_compile_at_most_twice_and_tensors_stay(kind):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    plan = planned("0.1 * cosine()", weight_decay=0.01)
    given = {"capturable": True} if kind == "capturable" else {"foreach": False}
    optimizer = torch.optim.AdamW(plan.torch_groups(weights()), **given)
    if kind != "number":
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(0.1, dtype=torch.float64)
    held = [group["lr"] for group in optimizer.param_groups]
    scheduler = LRScheduler(optimizer, plan.over(50))
    counter = CompileCounter()
    step = torch.compile(optimizer.step, backend=counter)
    compiled = []
    for k in range(50):
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones(3, dtype=torch.float64)
        before = [group["params"][0].detach().clone() for group in optimizer.param_groups]
        step()
        moved = [
            (old * (1 - rate * 0.01) - group["params"][0].detach())[0].item()
            for old, group, rate in zip(
                before, optimizer.param_groups, scheduler.driver.at(k)["lr"], strict=True
            )
        ]
        assert moved == pytest.approx(scheduler.driver.at(k)["lr"], rel=1e-4)  # Adam's clock is float32
        scheduler.step()
        compiled.append(counter.frame_count)
    assert scheduler.last_epoch == 50
    assert compiled[-1] <= compiled[0] + (kind == "number")
    if kind != "number":
        assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, held, strict=True))
        assert len({id(tensor) for tensor in held}) == 3
    assert scheduler.base_lrs == pytest.approx([0.025, 0.1, 1.0])
    json.dumps(scheduler.state_dict(), allow_nan=False)


def test_pain_49_one_tensor_for_all_groups_is_parted():
    plan = planned("0.1 * hold()")
    optimizer = torch.optim.Adam(plan.torch_groups(weights()))
    shared = torch.tensor(0.1, dtype=torch.float64)
    for group in optimizer.param_groups:
        group["lr"] = shared
    scheduler = LRScheduler(optimizer, plan.over(20))
    assert update(optimizer) == pytest.approx([0.025, 0.1, 1.0], rel=1e-6)
    assert scheduler.get_last_lr() == pytest.approx([0.025, 0.1, 1.0])
