"""Freezing and thawing in torch, by effects: what moved, where the backward pass ended, what stood still."""

import copy
import gc
import io
import pickle
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import etude
from etude import Driver, Group, Plan
from etude.errors import PlanError
from etude.torch.freezing import Still

WIDTH, BATCH, TOTAL = 6, 8, 40
PARTS = ("embed", "low", "high", "head")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5)

    def forward(self, x):
        return x + torch.tanh(self.dropout(self.norm(self.linear(x))))


class Net(nn.Module):
    """An embedding, two blocks with BatchNorm and dropout, a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(4, WIDTH)
        self.low, self.high = Block(), Block()
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x):
        return self.head(self.high(self.low(self.embed(x))))


def plan_of(net, gates, lr=0.01, tick=0.5, **hypers):
    """One group for each part of the net, with its gate if it has one; the multipliers differ."""
    names = [name for name, _ in net.named_parameters()]
    groups = [
        Group(part, [n for n in names if n.startswith(f"{part}.")], {"lr": 1 + i}, gates.get(part))
        for i, part in enumerate(part for part in PARTS if hasattr(net, part))
    ]
    return Plan({"lr": lr, **hypers}, groups, tick)


SGD = partial(torch.optim.SGD, momentum=0.9)
TRUNK = {"embed": "frozen(0.5) >> hold(start=1)", "low": "frozen(0.5) >> hold(start=1)"}


class Run:
    """A net in training under a driver; batches and dropout follow from the number of the update alone."""

    def __init__(self, gates, net=None, make=SGD, statistics=True, **given):
        self.net = net or Net()
        self.plan = plan_of(self.net, gates, **given)
        self.optimizer = make(self.plan.torch_groups(self.net))
        sink = etude.torch.sink(self.optimizer, statistics=statistics)
        self.driver = Driver(self.plan.over(TOTAL), sink)

    def update(self, k, to_none=True):
        self.driver.apply(k)
        torch.manual_seed(k)
        loss = self.net(torch.randn(BATCH, 4)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=to_none)
        return loss

    def updates(self, *ks):
        for k in ks:
            self.update(k)
        return self

    def part(self, name):
        """Weights and buffers of a part, copied."""
        state = getattr(self.net, name).state_dict()
        return {key: value.clone() for key, value in state.items()}


def same(one, other):
    assert one.keys() == other.keys()
    assert one
    return all(torch.equal(value, other[key]) for key, value in one.items())


# --- weights ------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adamw": torch.optim.AdamW,
    "adamw foreach": partial(torch.optim.AdamW, foreach=True),
    "adamw fused": partial(torch.optim.AdamW, fused=True),
    "adam": torch.optim.Adam,
    "nadam": torch.optim.NAdam,
    "rmsprop": partial(torch.optim.RMSprop, momentum=0.9),
    "adagrad": torch.optim.Adagrad,
    "adafactor": torch.optim.Adafactor,
    "rprop": torch.optim.Rprop,
}


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_pain_24_frozen_weights_stay_bit_for_bit_through_momentum_and_decay(make, to_none):
    decay = {} if make is torch.optim.Rprop else {"weight_decay": 0.1}
    run = Run({"low": "hold(5) >> frozen(10) >> hold(start=1)"}, make=make, **decay)
    before = run.part("low")
    for k in range(5):
        run.update(k, to_none)
    frozen = run.part("low")
    assert not same(before, frozen)
    for k in range(5, 15):
        head = run.part("head")
        run.update(k, to_none)
        assert same(frozen, run.part("low"))
        assert not same(head, run.part("head"))
    run.update(15, to_none)
    assert not same(frozen, run.part("low"))


@pytest.mark.parametrize("to_none", [True, False])
def test_a_group_that_thaws_goes_on_with_the_moments_it_had(to_none):
    """Also where `zero_grad` leaves gradients of 0, which would go on wearing the moments down."""
    run = Run({"low": "hold(5) >> frozen(10) >> hold(start=1)"}, make=torch.optim.AdamW)
    for k in range(5):
        run.update(k, to_none)
    weight = run.net.low.linear.weight
    kept = {key: value.clone() for key, value in run.optimizer.state[weight].items()}
    assert kept["step"] == 5
    for k in range(5, 15):
        run.update(k, to_none)
    assert same(kept, run.optimizer.state[weight])
    run.update(15, to_none)
    assert run.optimizer.state[weight]["step"] == 6


@pytest.mark.parametrize("tick", [0, 0.5, 1])
@pytest.mark.parametrize(("length", "first"), [(3, 3), ("2.5up", 3), ("3.01up", 4), (0.075, 3), (0.08, 4)])
def test_a_group_trains_from_the_first_update_that_begins_after_its_time(tick, length, first):
    """Whatever the tick: 7.5% of 40 updates are 3, 8% are 3.2."""
    gate = (
        f'frozen("{length}") >> hold(start=1)'
        if isinstance(length, str)
        else f"frozen({length}) >> hold(start=1)"
    )
    run = Run({"low": gate}, tick=tick)
    for k in range(6):
        before = run.part("low")["linear.weight"]
        run.update(k)
        opened = [p.requires_grad for p in run.net.low.parameters()]
        assert opened == [k >= first] * len(opened)
        assert torch.equal(before, run.part("low")["linear.weight"]) == (k < first)


SCHEDULES = ["linear()", "warmup(0.2) >> cosine()", "one_cycle()", "hold()", "step(times=4)", "exp(to=0.01)"]


@pytest.mark.parametrize("lr", SCHEDULES)
def test_pain_17_what_joins_at_40_percent_moves_at_its_multiplier_times_the_schedule_now(lr):
    make = partial(torch.optim.SGD, momentum=0)
    run = Run({"low": "frozen(0.4) >> hold(start=1)"}, make=make, lr=f"0.01 * ({lr})").updates(*range(16))
    before = run.part("low")["linear.weight"]
    run.driver.apply(16)
    torch.manual_seed(16)
    run.net(torch.randn(BATCH, 4)).square().mean().backward()
    gradient = run.net.low.linear.weight.grad.clone()
    run.optimizer.step()
    now = run.plan.hypers["lr"].over(TOTAL)(16.5)
    rates = run.driver.read("lr")
    assert rates == [now, 2 * now, 3 * now, 4 * now]
    assert 0 < now <= 0.01
    assert torch.equal(run.net.low.linear.weight, before.add(gradient, alpha=-2 * now))
    assert gradient.abs().max() > 0


# --- the backward pass, and the optimizer's state -----------------------------------------------------------


def nodes(loss):
    """How many steps the backward pass has."""
    seen, left = set(), [loss.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [following for following, _ in node.next_functions]
    return len(seen)


def test_the_backward_pass_ends_at_the_lowest_layer_that_trains():
    run, reached = Run(TRUNK), []

    def watch(module, args, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: reached.append(module))

    for part in PARTS:
        getattr(run.net, part).register_forward_hook(watch)
    early = nodes(run.update(0))
    assert reached == [run.net.head, run.net.high]
    late = nodes(run.update(20))
    assert reached[2:] == [run.net.head, run.net.high, run.net.low, run.net.embed]
    assert early < 0.6 * late


def test_a_rate_of_zero_saves_nothing():
    stopped, zero = (
        Run({"embed": "frozen()", "low": "frozen()"}),
        Run({"embed": "hold(start=0)", "low": "hold(start=0)"}),
    )
    assert nodes(stopped.update(0)) < nodes(zero.update(0))
    assert len(stopped.optimizer.state) < len(zero.optimizer.state)


def test_the_optimizer_holds_state_for_what_has_trained():
    gates = {"embed": "frozen(0.75) >> hold(start=1)", "low": "frozen(0.5) >> hold(start=1)"}
    run = Run(gates, make=torch.optim.AdamW)
    for k, parts in ((0, PARTS[2:]), (20, PARTS[1:]), (30, PARTS)):
        run.update(k)
        held = {id(parameter) for parameter in run.optimizer.state}
        expected = {id(p) for part in parts for p in getattr(run.net, part).parameters()}
        assert held == expected


# --- resume -------------------------------------------------------------------------------------------------

STAGES = {"embed": "frozen(20) >> hold(start=1)", "low": "frozen(10) >> hold(start=1)"}


@pytest.mark.parametrize("make", [OPTIMIZERS["sgd"], torch.optim.AdamW], ids=["sgd", "adamw"])
def test_pain_18_a_run_killed_between_two_stages_goes_on_bit_for_bit(make):
    straight = Run(STAGES, make=make, weight_decay=0.1)
    killed = Run(STAGES, make=make, weight_decay=0.1).updates(*range(15))
    parts = (killed.net, killed.optimizer, killed.driver)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    assert len(killed.optimizer.state) > 0
    assert killed.driver.state_dict()["groups"]
    file.seek(0)
    resumed = Run(STAGES, make=make, weight_decay=0.1)
    for part, state in zip((resumed.net, resumed.optimizer, resumed.driver), torch.load(file), strict=True):
        part.load_state_dict(state)
    straight.updates(*range(15))
    for k in range(15, 30):
        straight.update(k)
        resumed.update(k)
        for part in PARTS:
            assert same(straight.part(part), resumed.part(part)), (k, part)
        trains = [[p.requires_grad for p in run.net.parameters()] for run in (straight, resumed)]
        assert trains[0] == trains[1]
        assert trains[0][0] == (k >= 20)
        assert straight.driver.read("lr") == resumed.driver.read("lr")
        assert [group["name"] for group in resumed.optimizer.param_groups] == list(PARTS)


# --- running statistics -------------------------------------------------------------------------------------


def buffers(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def test_pain_25_statistics_of_a_frozen_trunk_stand_still_through_model_train():
    run = Run(TRUNK)
    low, high = buffers(run.net.low), buffers(run.net.high)
    for k in range(20):
        run.net.train()
        run.update(k)
        assert same(low, buffers(run.net.low))
    assert buffers(run.net.high)["norm.num_batches_tracked"] == 20
    assert not same(high, buffers(run.net.high))
    assert run.net.low.norm.training


def test_pain_25_and_so_they_do_after_a_resume():
    killed = Run(TRUNK).updates(*range(5))
    resumed = Run(TRUNK)
    resumed.net.load_state_dict(killed.net.state_dict())
    low = buffers(resumed.net.low)
    for k in range(5, 20):
        resumed.net.train()
        resumed.update(k)
    assert same(low, buffers(resumed.net.low))
    assert same(low, buffers(killed.net.low))


def test_the_statistics_may_be_left_to_run():
    run = Run(TRUNK, statistics=False).updates(*range(5))
    assert buffers(run.net.low)["norm.num_batches_tracked"] == 5


def test_a_frozen_norm_normalises_with_the_statistics_it_has():
    run = Run(TRUNK)
    run.net.low.norm.running_mean.fill_(0.25)
    run.driver.apply(0)
    x = torch.randn(BATCH, WIDTH)
    expected = copy.deepcopy(run.net.low.norm).eval()(x)
    assert torch.equal(run.net.low.norm(x), expected)


def test_after_the_thaw_everything_is_as_if_nothing_had_been():
    run = Run(TRUNK).updates(*range(20))
    plain = Net()
    plain.load_state_dict(run.net.state_dict())
    run.driver.apply(20)
    for net in (run.net, plain):
        net.train()
        torch.manual_seed(20)
        net(torch.randn(BATCH, 4)).square().mean().backward()
    assert same(buffers(run.net), buffers(plain))
    for mine, theirs in zip(run.net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


def test_an_evaluation_in_between_changes_nothing():
    run = Run(TRUNK).updates(0)
    run.net.eval()
    before = buffers(run.net)
    with torch.no_grad():
        run.net(torch.randn(BATCH, 4))
    assert same(before, buffers(run.net))
    assert not run.net.low.norm.training
    run.net.train()
    run.update(20)
    assert buffers(run.net.low)["norm.num_batches_tracked"] == 1


def test_dropout_of_a_frozen_block_goes_on():
    run = Run({"low": "frozen()", "embed": "frozen()"})
    run.driver.apply(0)
    x = torch.ones(BATCH, WIDTH)
    first, second = run.net.low(x), run.net.low(x)
    assert not torch.equal(first, second)


def test_an_error_in_the_forward_pass_leaves_the_mode_as_it_was():
    run = Run(TRUNK)
    run.driver.apply(0)
    with pytest.raises(RuntimeError):
        run.net.low.norm(torch.randn(BATCH, WIDTH + 1))
    assert run.net.low.norm.training


class Recomputed(Net):
    def forward(self, x):
        return self.head(
            checkpoint(
                self.high, checkpoint(self.low, self.embed(x), use_reentrant=False), use_reentrant=False
            )
        )


def test_statistics_stand_still_where_activations_are_recomputed():
    run = Run(TRUNK, Recomputed())
    low = buffers(run.net.low)
    run.updates(*range(3))
    assert same(low, buffers(run.net.low))
    assert run.net.low.norm.training
    run.update(20)
    assert not same(low, buffers(run.net.low))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*")
def test_statistics_stand_still_in_a_compiled_model():
    """Also where it was compiled before the group first froze: it looks for new hooks only when it must."""
    gate = "hold(2) >> frozen(2) >> hold(start=1)"
    run = Run({"embed": gate, "low": gate})
    plain, run.net = run.net, torch.compile(run.net, backend="eager")
    seen = []
    for k in range(6):
        run.update(k)
        seen.append(buffers(plain.low)["norm.num_batches_tracked"].item())
    assert seen == [1, 2, 2, 2, 3, 4]
    assert buffers(plain.high)["norm.num_batches_tracked"] == 6
    torch._dynamo.reset()


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copied_run_freezes_and_thaws_on_its_own(way):
    run = Run(TRUNK).updates(0, 1)
    twin = copy.deepcopy(run) if way == "deepcopy" else pickle.loads(pickle.dumps(run))
    assert twin.net.low.norm is not run.net.low.norm
    low = buffers(twin.net.low)
    twin.update(2)
    assert same(low, buffers(twin.net.low))
    twin.update(20)
    assert buffers(twin.net.low)["norm.num_batches_tracked"] == 1
    run.update(2)
    assert same(low, buffers(run.net.low))
    assert not any(p.requires_grad for p in run.net.low.parameters())


def test_a_model_that_was_copied_while_frozen_trains_under_a_plan_of_its_own():
    run = Run(TRUNK).updates(0)
    again = Run({}, copy.deepcopy(run.net))
    again.update(0)
    assert buffers(again.net.low)["norm.num_batches_tracked"] == 1


KEEPERS = {
    "batch norm": lambda: nn.BatchNorm1d(WIDTH),
    "without weights": lambda: nn.BatchNorm1d(WIDTH, affine=False),
    "instance norm": lambda: nn.InstanceNorm1d(BATCH, affine=True, track_running_stats=True),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "spectral norm, old": lambda: nn.utils.spectral_norm(nn.Linear(WIDTH, WIDTH)),
}


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*")
@pytest.mark.parametrize("make", KEEPERS.values(), ids=KEEPERS)
def test_whatever_keeps_running_statistics_stands_still(make):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.low = nn.Sequential(nn.Linear(4, WIDTH), make())
            self.head = nn.Linear(WIDTH, 1)

        def forward(self, x):
            return self.head(self.low(x))

    run = Run({"low": "frozen(3) >> hold(start=1)"}, Around())
    before = buffers(run.net.low)
    assert before
    run.updates(0, 1, 2)
    assert same(before, buffers(run.net.low))
    run.update(3)
    assert not same(before, buffers(run.net.low))


def test_what_the_user_froze_is_the_users():
    """A norm that is in no group keeps the mode that `model.train()` gives it."""
    net = Net()
    net.low.requires_grad_(False)
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    plan = Plan({"lr": 0.1}, [Group("all", names, gate="frozen(0.5) >> hold(start=1)")])
    optimizer = torch.optim.SGD(plan.torch_groups(net))
    Driver(plan.over(TOTAL), etude.torch.sink(optimizer)).apply(0)
    net(torch.randn(BATCH, 4))
    assert buffers(net.low)["norm.num_batches_tracked"] == 1
    assert buffers(net.high)["norm.num_batches_tracked"] == 0


def test_a_plan_that_freezes_nothing_leaves_the_modules_alone():
    run = Run({}).updates(0, 1)
    assert not any(module._forward_pre_hooks for module in run.net.modules())


def test_modules_hidden_from_the_collector_are_asked_for():
    run, seen = Run(TRUNK), Run(TRUNK)
    seen.driver.apply(0)
    gc.freeze()
    try:
        with pytest.raises(PlanError, match=r"gc.freeze\(\) hides the modules of embed, low, high, head"):
            run.driver.apply(0)
        low = buffers(seen.net.low)
        seen.updates(*range(3))
        assert same(low, buffers(seen.net.low))
    finally:
        gc.unfreeze()
    run.driver.apply(0)
    assert any(
        isinstance(getattr(hook, "__self__", None), Still)
        for hook in run.net.low.norm._forward_pre_hooks.values()
    )


# --- a group that comes late --------------------------------------------------------------------------------


def test_a_group_that_joins_with_a_gate_has_its_statistics_frozen_too():
    run = Run(TRUNK).updates(0)
    late = Block()
    names = [f"late.{name}" for name, _ in late.named_parameters()]
    run.driver.add_group(Group("late", names, gate="frozen(0.5) >> hold(start=1)"), late.parameters(), 1)
    before = buffers(late)
    late(torch.randn(BATCH, WIDTH))
    assert same(before, buffers(late))
    run.driver.apply(20)
    late(torch.randn(BATCH, WIDTH))
    assert not same(before, buffers(late))


# --- the page -----------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "stages.md").read_text(encoding="utf-8")


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))


def test_the_whole_of_ulmfit_in_one_line():
    model = bert()
    plan = etude.plan(model, "0.01 * slanted_triangular()", convention="ulmfit", stages="unfreeze('1ep')")
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    driver = Driver(plan.over(16, epoch=2), etude.torch.sink(optimizer))
    shape, encoder = plan.hypers["lr"].over(16), model.bert.encoder.layer
    order = [model.classifier, encoder[5], *(encoder[i] for i in (4, 3, 2, 1, 0)), model.bert.embeddings]
    for k in range(16):
        driver.apply(k)
        trains = [all(p.requires_grad for p in part.parameters()) for part in order]
        assert trains == [i <= k // 2 for i in range(8)]
        assert [p.requires_grad for p in model.bert.pooler.parameters()] == [k >= 2] * 2
        used = {round(rate / shape(k + 0.5), 9) for rate in driver.read() if rate}
        powers = {round(2.6**-i, 9) for i in range(max(k // 2, 0) + 1)}
        assert used <= powers | {1.0}
        assert len(used) >= k // 2


def test_the_blocks_of_the_page_run_as_they_are_printed():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    names = {"etude": etude, "model": bert()}
    for block in blocks:
        exec(block, names)
        names["plan"].over(80, epoch=10)
    assert str(names["gates"]["", 6]) == 'frozen("1ep") >> hold(start=1)'
    for text in names["stages"].values():
        etude.plan(names["model"], 1e-3, stages=text).over(80, epoch=10)
