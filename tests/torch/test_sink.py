"""The torch sink, by its effects: how far a weight moved, what the optimizer used, what stayed still."""

import copy
import pickle
import warnings

import pytest
import torch

import etude
from etude import Driver, Group, Plan, Scale
from etude.errors import ForeignChange, PlanError

NAMES = ["emb", "layer.0", "layer.1", "head"]
SCALES = [0.25, 0.5, 1.0, 10.0]


def layered(hypers=None, optimizer=torch.optim.SGD, scales=SCALES, gates=(None,) * 4, **given):
    """One weight vector a layer, each its own group, under a real optimizer and a run of 100 updates."""
    torch.manual_seed(0)
    keys = [name.replace(".", "") for name in NAMES]
    net = torch.nn.ParameterDict({key: torch.nn.Parameter(torch.randn(3).double()) for key in keys})
    groups = [
        Group(name, (key,), {"lr": scale}, gate)
        for name, key, scale, gate in zip(NAMES, keys, scales, gates, strict=True)
    ]
    plan = Plan(hypers or {"lr": "0.1 * linear()"}, groups, tick=0)
    built = optimizer(plan.torch_groups(net), **given)
    return Driver(plan.over(100), etude.torch.sink(built)), built, [net[key] for key in keys]


def update(optimizer, weights, gradient=1.0):
    """One real update; returns how far each weight moved."""
    before = [w.detach().clone() for w in weights]
    for weight in weights:
        if weight.requires_grad:
            weight.grad = torch.full_like(weight, gradient)
    optimizer.step()
    return [(old - w.detach())[0].item() for old, w in zip(before, weights, strict=True)]


def test_one_update_moves_each_layer_in_proportion_to_its_multiplier():
    driver, optimizer, weights = layered()
    for k in (0, 50, 99):
        driver.apply(k)
        moved = update(optimizer, weights)
        level = 0.1 * (100 - k) / 100
        assert moved == pytest.approx([level * scale for scale in SCALES], rel=1e-12, abs=0)


def test_decay_and_momentum_reach_the_weights():
    hypers = {"lr": 0.1, "weight_decay": "0.5 * linear()", "momentum": "0.9 * hold(0.5) >> hold(start=0)"}
    driver, optimizer, weights = layered(hypers, momentum=0.9)
    driver.apply(0)
    assert driver.read("momentum") == [0.9] * 4
    update(optimizer, weights)
    before = [w.detach().clone() for w in weights]
    driver.apply(50)
    assert driver.read("weight_decay") == [0.25] * 4
    moved = update(optimizer, weights, 0.0)
    assert moved == pytest.approx([0.1 * s * 0.25 * w[0].item() for s, w in zip(SCALES, before, strict=True)])


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Adam, torch.optim.NAdam])
def test_momentum_of_adam_is_its_first_beta(optimizer):
    driver, built, _ = layered({"lr": 0.1, "momentum": "0.95 * linear()"}, optimizer, betas=(0.9, 0.98))
    driver.apply(20)
    assert [group["betas"] for group in built.param_groups] == [(pytest.approx(0.76), 0.98)] * 4
    assert driver.read("momentum") == driver.at(20)["momentum"]
    driver.apply(21)
    assert driver.read("momentum") == driver.at(21)["momentum"]


def test_a_hyper_parameter_that_the_optimizer_has_not():
    driver, *_ = layered({"lr": 0.1, "weight_decay": 0.1}, torch.optim.Rprop, scales=[1] * 4)
    driver.sink.optimizer.param_groups[0].pop("weight_decay")
    with pytest.raises(PlanError, match="no 'weight_decay'; its groups hold name, param_names, lr"):
        driver.apply(0)


@pytest.mark.parametrize("given", [{}, {"foreach": True}, {"fused": True}])
def test_the_log_reads_what_the_optimizer_used(given):
    driver, optimizer, weights = layered(optimizer=torch.optim.AdamW, weight_decay=0.0, **given)
    for k in range(100):
        driver.apply(k)
        used = driver.read("lr")
        assert used == driver.at(k)["lr"]
        moved = update(optimizer, weights)  # Adam moves by its rate under a constant gradient
        assert moved == pytest.approx(used, rel=1e-6, abs=1e-15)


# --- another hand ------------------------------------------------------------------------------------------


def test_a_change_by_another_hand_is_raised_once_and_named():
    driver, optimizer, _ = layered()
    driver.apply(0)
    optimizer.param_groups[1]["lr"] = 7.0
    with pytest.raises(ForeignChange) as error:
        driver.apply(1)
    assert error.value.hyper == "lr"
    assert error.value.changes == (("layer.0", 0.05, 7.0),)
    assert "layer.0 had 0.05, now 7" in str(error.value)
    driver.apply(1)
    assert driver.read("lr") == driver.at(1)["lr"]


def test_a_scheduler_of_torch_beside_the_driver_is_found_out():
    driver, optimizer, _ = layered()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        driver.apply(0)
        other.step()
    with pytest.raises(ForeignChange, match="One driver owns"):
        driver.apply(1)


def test_two_drivers_on_one_optimizer_find_each_other_out():
    driver, optimizer, _ = layered()
    other = Driver(Plan({"lr": 0.7}, driver.rates.plan.groups).over(100), etude.torch.sink(optimizer))
    driver.apply(0)
    other.apply(0)
    with pytest.raises(ForeignChange):
        driver.apply(1)


@pytest.mark.parametrize("hyper", ["lr", "weight_decay"])
def test_a_change_may_be_restored(hyper):
    driver, optimizer, _ = layered({"lr": "0.1 * linear()", "weight_decay": 0.1})
    driver = Driver(driver.rates, driver.sink, foreign="restore")
    driver.apply(0)
    optimizer.param_groups[3][hyper] = 5.0
    driver.apply(1)
    assert driver.read(hyper) == driver.at(1)[hyper]
    assert driver.edits == ()
    assert [group[hyper] for group in optimizer.param_groups] == driver.at(1)[hyper]


@pytest.mark.parametrize("hyper", ["lr", "weight_decay"])
@pytest.mark.parametrize("named", [True, False])
def test_a_change_may_be_adopted_and_lasts(hyper, named):
    driver, optimizer, _ = layered({"lr": "0.1 * linear()", "weight_decay": "0.1 * linear(to=0.5)"})
    if not named:
        for group in optimizer.param_groups:
            del group["name"]
    driver = Driver(driver.rates, etude.torch.sink(optimizer), foreign="adopt")
    plain = driver.rates
    for k in range(30):
        driver.apply(k)
    for group in optimizer.param_groups[2:]:
        group[hyper] *= 0.5
    for k in range(30, 60):
        driver.apply(k)
        expected = [x * f for x, f in zip(plain.at(k)[hyper], [1, 1, 0.5, 0.5], strict=True)]
        assert driver.read(hyper) == pytest.approx(expected, rel=1e-15, abs=0)
        assert driver.read(hyper) == driver.at(k)[hyper]
    assert [(e.at, e.by, e.hyper, e.groups, e.author) for e in driver.edits] == [
        (30, 0.5, hyper, "layer.1", "foreign"), (30, 0.5, hyper, "head", "foreign")
    ]  # fmt: skip
    assert driver.edits[0].reason.startswith(f"{hyper} of ")


def test_adopting_names_that_look_like_patterns():
    group = [Group("layer[0-1]*", ("a",)), Group("layer0x", ("b",))]
    net = torch.nn.ParameterDict({n: torch.nn.Parameter(torch.ones(1)) for n in "ab"})
    plan = Plan({"lr": 0.5}, group)
    optimizer = torch.optim.SGD(plan.torch_groups(net))
    driver = Driver(plan.over(10), etude.torch.sink(optimizer), foreign="adopt")
    driver.apply(0)
    optimizer.param_groups[0]["lr"] = 0.25
    driver.apply(1)
    assert driver.read("lr") == [0.25, 0.5]


def test_a_change_from_zero_cannot_be_adopted():
    driver, optimizer, _ = layered()
    driver = Driver(driver.rates, driver.sink, foreign="adopt")
    driver.apply(100)
    optimizer.param_groups[0]["lr"] = 1.0
    with pytest.raises(ForeignChange):
        driver.apply(100)
    assert driver.edits == ()


# --- load_state_dict ---------------------------------------------------------------------------------------


def test_after_load_state_dict_the_rate_really_used_still_changes():
    driver, optimizer, weights = layered(momentum=0.0)
    driver.apply(0)
    update(optimizer, weights)
    saved = copy.deepcopy(optimizer.state_dict())
    groups = optimizer.param_groups
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups is not groups
    for k in (50, 75):
        driver.apply(k)
        moved = update(optimizer, weights)
        assert moved == pytest.approx([0.1 * (1 - k / 100) * s for s in SCALES], rel=1e-12, abs=0)


def test_a_loaded_rate_is_not_a_foreign_one():
    driver, optimizer, _ = layered({"lr": "0.1 * linear()", "weight_decay": "0.1 * linear(to=0.5)"})
    driver.apply(10)
    saved = copy.deepcopy(optimizer.state_dict())
    for k in range(11, 60):
        driver.apply(k)
    optimizer.load_state_dict(saved)
    driver.apply(60)
    for hyper in ("lr", "weight_decay"):
        assert driver.read(hyper) == driver.at(60)[hyper]


def test_a_change_after_loading_is_foreign():
    driver, optimizer, _ = layered()
    driver.apply(10)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    driver.apply(11)
    optimizer.param_groups[0]["lr"] = 3.0
    with pytest.raises(ForeignChange):
        driver.apply(12)


def test_groups_keep_their_names_through_a_file_without_them():
    driver, optimizer, weights = layered()
    driver.apply(10)
    saved = copy.deepcopy(optimizer.state_dict())
    for group, name in zip(saved["param_groups"], reversed(NAMES), strict=True):
        group["name"] = name
    optimizer.load_state_dict(saved)
    driver.apply(20)
    assert [group["name"] for group in optimizer.param_groups] == NAMES
    assert update(optimizer, weights) == pytest.approx([0.08 * s for s in SCALES], rel=1e-12, abs=0)


# --- tensors -----------------------------------------------------------------------------------------------


def tensor_rates(shared):
    driver, optimizer, weights = layered(optimizer=torch.optim.Adam)
    one = torch.tensor(0.1, dtype=torch.float64)
    for group in optimizer.param_groups:
        group["lr"] = one if shared else one.clone()
    return Driver(driver.rates, etude.torch.sink(optimizer)), optimizer, weights


def test_a_rate_that_is_a_tensor_stays_that_tensor():
    driver, optimizer, weights = tensor_rates(shared=False)
    held = [group["lr"] for group in optimizer.param_groups]
    for k in range(50):
        driver.apply(k)
        assert driver.read("lr") == driver.at(k)["lr"]
        assert all(type(value) is float for value in driver.read("lr"))
        moved = update(optimizer, weights)
        assert moved == pytest.approx(driver.at(k)["lr"], rel=1e-6)
    assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, held, strict=True))


def test_a_tensor_that_several_groups_share_is_parted():
    driver, optimizer, weights = tensor_rates(shared=True)
    for k in range(3):
        driver.apply(k)
        assert driver.read("lr") == driver.at(k)["lr"]
        assert update(optimizer, weights) == pytest.approx(driver.at(k)["lr"], rel=1e-6)


def test_a_tensor_in_single_precision_is_no_foreign_change():
    driver, optimizer, _ = layered(optimizer=torch.optim.Adam)
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(0.1)
    driver = Driver(driver.rates, etude.torch.sink(optimizer))
    for k in range(20):
        driver.apply(k)
        assert driver.read("lr") == pytest.approx(driver.at(k)["lr"], rel=1e-7)
    optimizer.param_groups[0]["lr"].fill_(3.0)
    with pytest.raises(ForeignChange):
        driver.apply(20)


# --- gates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeroed", [True, False])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_frozen_weights_stay_to_the_last_bit_under_momentum_and_decay(optimizer, zeroed):
    given = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    gates = ("hold(0.1) >> frozen(0.1) >> hold(start=1)", None, None, None)
    driver, built, weights = layered({"lr": 0.1, "weight_decay": 0.5}, optimizer, gates=gates, **given)
    for k in range(10):
        driver.apply(k)
        assert update(built, weights)[0] != 0
    moments = copy.deepcopy(built.state[weights[0]])
    assert any(isinstance(value, torch.Tensor) and value.any() for value in moments.values())
    frozen = weights[0].detach().clone()
    for k in range(10, 20):
        driver.apply(k)
        built.zero_grad(set_to_none=zeroed)
        assert weights[0].requires_grad is False
        moved = update(built, weights)
        assert moved[0] == 0
        assert all(moved[1:])
    assert torch.equal(weights[0], frozen)
    for name, value in built.state[weights[0]].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(moments[name])), name
    driver.apply(20)
    assert weights[0].requires_grad
    assert update(built, weights)[0] != 0


def test_without_the_gate_momentum_and_decay_would_move_them():
    driver, optimizer, weights = layered({"lr": 0.1, "weight_decay": 0.5}, torch.optim.AdamW)
    driver.apply(0)
    update(optimizer, weights)
    weights[0].requires_grad_(False)
    before = weights[0].detach().clone()
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    assert not torch.equal(weights[0], before)


def test_a_rate_of_zero_freezes_nothing():
    driver, _, weights = layered(gates=("hold(start=0)", None, None, None))
    driver.apply(5)
    assert driver.read("lr")[0] == 0
    assert weights[0].requires_grad


def test_gates_follow_the_time_and_not_the_calls():
    gates = ("frozen(0.3) >> hold(start=1)", "cosine(0.5) >> frozen()", None, None)
    driver, _, weights = layered(gates=gates)
    for k in (10, 40, 90, 0, 60, 29, 30, 99, 49):
        driver.apply(k)
        assert [w.requires_grad for w in weights] == driver.rates.open(k) == [k >= 30, k < 50, True, True]
        assert driver.read("lr") == driver.at(k)["lr"]


def test_resume_after_a_thaw_trains_on():
    gates = ("frozen(0.3) >> hold(start=1)", None, None, None)
    driver, _, _ = layered(gates=gates)
    saved = driver.state_dict()
    again, optimizer, weights = layered(gates=gates)
    weights[0].requires_grad_(False)
    again.load_state_dict(saved)
    again.apply(31)
    assert weights[0].requires_grad
    assert update(optimizer, weights)[0] == pytest.approx(0.1 * 0.69 * 0.25)


# --- the group list ----------------------------------------------------------------------------------------


def test_a_group_that_another_hand_adds_is_named():
    driver, optimizer, _ = layered()
    driver.apply(0)
    late = torch.nn.Parameter(torch.ones(1))
    optimizer.add_param_group({"params": [("late", late)], "name": "late", "lr": 1.0})
    with pytest.raises(PlanError, match="gone are none, new are late") as error:
        driver.apply(1)
    assert "emb, layer.0, layer.1, head" in str(error.value)


def test_a_group_that_another_hand_deletes_is_named():
    driver, optimizer, _ = layered()
    driver.apply(0)
    del optimizer.param_groups[1]
    with pytest.raises(PlanError, match=r"gone are layer\.0, new are none"):
        driver.apply(1)
    with pytest.raises(PlanError):
        driver.read("lr")


def test_a_list_in_another_order_is_refused():
    driver, optimizer, _ = layered()
    driver.apply(0)
    optimizer.param_groups = list(reversed(optimizer.param_groups))
    with pytest.raises(PlanError, match="another hand"):
        driver.apply(1)


def test_edits_reach_the_weights():
    driver, optimizer, weights = layered()
    driver.edit(Scale(50, 0.5, groups="layer.*"))
    for k, factors in ((49, [1, 1, 1, 1]), (50, [1, 0.5, 0.5, 1])):
        driver.apply(k)
        expected = [0.1 * (1 - k / 100) * s * f for s, f in zip(SCALES, factors, strict=True)]
        assert update(optimizer, weights) == pytest.approx(expected, rel=1e-12, abs=0)


def test_the_lazy_room_is_reached_as_the_design_writes_it():
    assert etude.torch.sink is __import__("etude.torch.sink", fromlist=["sink"]).sink


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_group_that_joins_mid_run_gets_its_multiplier_times_the_shape_where_it_is(optimizer, named):
    """Pain 17: torch's schedulers crash, or give a newcomer 1.6 times what was asked for."""
    hypers = {"lr": "0.1 * (warmup(0.1) >> cosine())", "weight_decay": 0.01}
    driver, built, weights = layered(hypers, optimizer=optimizer)
    if not named:
        for group in built.param_groups:
            del group["param_names"]
    for k in range(40):
        driver.apply(k)
        update(built, weights)
    driver.edit(Scale(40, 0.5, groups="layer.*"))
    new = torch.nn.Parameter(torch.randn(3).double())
    driver.add_group(Group("adapter", ("adapter",), {"lr": 3.0}), [new], 40)
    shape = driver.rates.plan.hypers["lr"].over(100)
    assert driver.read("lr")[-1] == pytest.approx(3 * shape(40), rel=1e-12)
    assert driver.read("weight_decay")[-1] == 0.01
    for k in range(40, 100):
        driver.apply(k)
        decayed = 1 + 0.01 * new[0].item()
        moved = update(built, [*weights, new])
        assert driver.read("lr")[-1] == pytest.approx(3 * shape(k), rel=1e-12, abs=0)
        assert driver.read("lr")[1] == pytest.approx(0.5 * SCALES[1] * shape(k), rel=1e-12, abs=0)
        assert driver.read("lr") == driver.at(k)["lr"]
        if optimizer is torch.optim.SGD:
            assert moved[-1] == pytest.approx(3 * shape(k) * decayed, rel=1e-9, abs=1e-15)
    state = driver.state_dict()
    assert [group["name"] for group in state["groups"]] == [*NAMES, "adapter"]


def test_a_group_that_joins_frozen_is_frozen_and_a_name_is_taken_once():
    driver, built, _ = layered()
    driver.apply(10)
    new = torch.nn.Parameter(torch.zeros(3))
    driver.add_group(Group("late", ("late",), gate="frozen(0.5) >> hold(start=1)"), [new], 10)
    assert not new.requires_grad
    driver.apply(50)
    assert new.requires_grad
    with pytest.raises(PlanError, match="two groups are called 'late'"):
        driver.add_group(Group("late"), [torch.nn.Parameter(torch.zeros(1))], 60)
    assert len(built.param_groups) == 5
    driver.apply(60)


def test_without_the_check_the_plan_is_written_over_what_another_hand_wrote():
    driver, built, _ = layered()
    driver.sink = etude.torch.sink(built, check=False)
    driver.apply(10)
    built.param_groups[0]["lr"] = 7.0
    driver.apply(11)
    assert driver.read("lr") == driver.at(11)["lr"]


def test_a_foreign_change_of_a_later_group_leaves_the_earlier_ones_as_they_were():
    driver, built, _ = layered()
    driver.apply(10)
    before = driver.read("lr")
    built.param_groups[2]["lr"] = 7.0
    with pytest.raises(ForeignChange, match=r"layer\.1 had 0.09, now 7") as error:
        driver.apply(11)
    assert error.value.changes == (("layer.1", before[2], 7.0),)
    assert driver.read("lr") == [*before[:2], 7.0, before[3]]
    driver.apply(11)
    assert driver.read("lr") == driver.at(11)["lr"]


def test_a_copied_driver_writes_into_its_own_optimizer():
    driver, built, _ = layered()
    driver.apply(10)
    copied = copy.deepcopy(driver)
    assert copied.sink.optimizer is not built
    copied.apply(60)
    assert copied.read("lr") == driver.at(60)["lr"]
    assert driver.read("lr") == driver.at(10)["lr"]
    driver.apply(11)
    again = pickle.loads(pickle.dumps(driver))
    again.apply(12)
    assert again.read("lr") == driver.at(12)["lr"]


def test_the_optimizers_default_keeps_its_tensor():
    """Pain 49: a tensor that is shared must not be written through."""
    peak = torch.tensor(0.5)
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    built = torch.optim.AdamW([{"params": [w]} for w in weights], lr=peak, capturable=False, foreach=False)
    plan = Plan({"lr": "0.1 * linear()"}, [Group("a"), Group("b", scale={"lr": 2})], tick=0)
    driver = Driver(plan.over(10), etude.torch.sink(built))
    driver.apply(5)
    assert driver.read("lr") == pytest.approx([0.05, 0.1])
    assert peak == built.defaults["lr"] == 0.5


def test_a_foreign_change_in_the_last_digits_shows_them():
    driver, built, _ = layered()
    driver.apply(10)
    rate = built.param_groups[0]["lr"]
    built.param_groups[0]["lr"] = rate * (1 + 1e-12)
    with pytest.raises(ForeignChange) as error:
        driver.apply(11)
    assert f"emb had {rate!r}, now {rate * (1 + 1e-12)!r}" in str(error.value)
