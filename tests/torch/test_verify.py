"""`etude.verify` finds what goes wrong between a plan and an optimizer, and leaves no trace."""

import copy
import hashlib
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import etude
from etude.control.driver import Driver
from etude.core.plan import Group, Plan
from etude.errors import PlanError
from etude.torch import LRScheduler, sink
from etude.torch.verify import verify

PEAK = 2e-3
SCALES = {"embeddings": 0.25, "layers.0": 0.5, "layers.1": 1.0, "head": 10.0}


class Net(nn.Module):
    """Embeddings, two layers with a norm, a head."""

    def __init__(self, width=6):
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = nn.Embedding(5, width)
        layers = [nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width)) for _ in range(2)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width, 3)

    def forward(self, ids):
        hidden = self.embeddings(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden)


def planned(model, gates=None, lr=PEAK, tick=0.5):
    """One group per rung and kind of weight decay, as `etude.plan` makes them."""
    groups = []
    for rung, scale in SCALES.items():
        for suffix, decay in (("", 1.0), (".no_decay", 0.0)):
            names = [
                n for n, p in model.named_parameters() if n.startswith(rung) and (p.dim() > 1) == bool(decay)
            ]
            if names:
                multipliers = {"lr": scale, "weight_decay": decay}
                groups.append(Group(rung + suffix, tuple(names), multipliers, (gates or {}).get(rung)))
    return Plan({"lr": lr, "weight_decay": 0.1}, groups, tick)


@pytest.fixture
def model():
    return Net()


@pytest.fixture
def plan(model):
    return planned(model)


def measured(found):
    return {row.group: pytest.approx(row.measured, rel=1e-3) for row in found.rows}


def plain(groups):
    """Groups for optimizers that take no names."""
    return [{"params": group["params"], "lr": group["lr"]} for group in groups]


# --- any optimizer -----------------------------------------------------------------------------------------

KINDS = [
    "SGD",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "Adagrad",
    "Adadelta",
    "RMSprop",
    "Rprop",
    "ASGD",
]
KINDS += ["Adafactor"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_rates_of_any_optimizer_are_measured(model, plan, kind):
    optimizer = getattr(torch.optim, kind)(plain(plan.torch_groups(model)))
    for _ in range(2):
        found = verify(model, optimizer, plan)
        assert found.check().how == f"by an update of {kind} with unit gradients"
        assert found.unit == PEAK
        assert {row.group: row.planned for row in found.rows} == measured(found)
        assert {row.planned for row in found.rows} == set(SCALES.values())
        for parameter in model.parameters():  # the second time there is state
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    optimizer.param_groups[2]["lr"] *= 1.01
    assert verify(model, optimizer, plan).wrong == plan.groups[2].params


@pytest.mark.parametrize(
    "options", [{"fused": True}, {"foreach": True}, {"amsgrad": True}, {"momentum": 0.9}]
)
def test_every_way_to_update_is_measured(model, plan, options):
    kind = torch.optim.SGD if "momentum" in options else torch.optim.AdamW
    assert verify(model, kind(plan.torch_groups(model), **options), plan).ok
    assert not verify(model, kind(model.parameters(), lr=PEAK, **options), plan).ok


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_any_precision(dtype):
    model = Net().to(dtype)
    plan = planned(model, lr=2e-6)  # of which float16 has one digit
    optimizer = torch.optim.SGD(plan.torch_groups(model))
    assert verify(model, optimizer, plan).ok
    optimizer.param_groups[2]["lr"] *= 1.5
    assert verify(model, optimizer, plan).wrong == plan.groups[2].params


class Strict(torch.optim.AdamW):
    """Takes no rate that is a number, as torchao's optimizers."""

    def step(self, closure=None):
        assert all(isinstance(group["lr"], torch.Tensor) for group in self.param_groups)
        super().step()


def test_rates_that_are_tensors(model, plan):
    groups = plan.torch_groups(model)
    for group in groups:
        group["lr"] = torch.tensor(group["lr"])
    optimizer = Strict(groups)
    held = [group["lr"] for group in optimizer.param_groups]
    assert verify(model, optimizer, plan).check().how.startswith("by an update")
    assert [id(group["lr"]) for group in optimizer.param_groups] == [id(lr) for lr in held]
    assert held[0] == torch.tensor(PEAK * SCALES["embeddings"])
    held[0].mul_(2)
    assert verify(model, optimizer, plan).wrong == ("embeddings.weight",)


def test_two_optimizers_that_share_the_model(model, plan):
    groups = plan.torch_groups(model)
    matrices = [g for g in plain(groups) if g["params"][0].dim() == 2]
    others = [g for g in plain(groups) if g["params"][0].dim() != 2]
    both = [torch.optim.Muon(matrices), torch.optim.AdamW(others)]
    found = verify(model, both, plan).check()
    assert found.how.count("Muon") == found.how.count("AdamW") == 1
    assert verify(model, both[1], plan).missing == tuple(
        name for name, parameter in model.named_parameters() if parameter.dim() == 2
    )


class Early(torch.optim.SGD):
    """Makes its state when it is built, as some do."""

    def __init__(self, groups):
        super().__init__(groups)
        for parameter in (parameter for group in groups for parameter in group["params"]):
            self.state[parameter]["updates"] = torch.zeros(())

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["updates"] += 1
        super().step()


def test_an_optimizer_that_needs_the_state_it_was_built_with(model, plan):
    optimizer = Early(plan.torch_groups(model))
    before = traces(model, optimizer)
    assert verify(model, optimizer, plan).check().how == "by an update of Early with unit gradients"
    assert traces(model, optimizer) == before


class Closure(torch.optim.SGD):
    """An optimizer that cannot update without the loss; it breaks when it has begun."""

    def step(self, closure=None):
        super().step()
        return closure()


def test_an_optimizer_that_cannot_be_made_to_update_is_read_and_it_is_said(model, plan):
    before = traces(model, optimizer := Closure(plan.torch_groups(model)))
    found = verify(model, optimizer, plan)
    assert found.ok
    assert found.how.startswith(
        "only as the groups of Closure say, which could not be made to update (TypeError"
    )
    assert traces(model, optimizer) == before
    assert not verify(model, Closure(model.parameters(), lr=PEAK), plan).ok


# --- no trace ----------------------------------------------------------------------------------------------


def digest(*tensors):
    made = hashlib.sha256()
    for tensor in tensors:
        made.update(
            b"none" if tensor is None else tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
        )
    return made.hexdigest()


def plainly(value):
    """A value of an optimizer's state, by what it is and by which object it is."""
    if isinstance(value, torch.Tensor):
        return id(value), digest(value.reshape(-1))
    if isinstance(value, dict):
        return {id(key) if isinstance(key, torch.Tensor) else key: plainly(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [plainly(x) for x in value]
    return repr(value)


def traces(model, optimizer):
    """All that a probe could leave behind."""
    parameters = list(model.parameters())
    return {
        "weights": [(id(p), p.data_ptr(), p.requires_grad, digest(p)) for p in parameters],
        "gradients": [(id(p.grad), digest(p.grad)) for p in parameters],
        "buffers": digest(*model.buffers()),
        "optimizer": {name: plainly(value) for name, value in vars(optimizer).items()},
        "objects": {name: id(value) for name, value in vars(optimizer).items()},
        "groups": [id(group) for group in optimizer.param_groups],
        "random": (random.getstate(), repr(np.random.get_state()), digest(torch.get_rng_state())),
        "grad mode": torch.is_grad_enabled(),
    }


class Noisy(torch.optim.AdamW):
    """Draws random numbers, counts in an attribute, in place in another, and in its groups."""

    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.updates, self.log = 0, []

    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        self.updates += 1
        self.log.append(torch.randn(1).item())
        for group in self.param_groups:
            group["seen"] = group.get("seen", 0) + 1


@pytest.mark.parametrize("kind", [torch.optim.AdamW, Noisy])
@pytest.mark.parametrize("age", [0, 3])
def test_it_leaves_no_trace(model, plan, kind, age):
    optimizer = kind(plan.torch_groups(model))
    scheduler = LRScheduler(optimizer, plan.over(10))
    for _ in range(age):
        model(torch.arange(5)).sum().backward()
        optimizer.step()
        scheduler.step()
    model.layers[0].requires_grad_(False)
    model.layers[0][0].weight.grad = torch.zeros(6, 6)
    model.layers[0][0].bias.grad = None
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append("own"))
    of_all = register_optimizer_step_post_hook(lambda *_: called.append("all"))
    try:
        before, clock = traces(model, optimizer), {**vars(scheduler)}
        assert len(optimizer.state) == age * len(list(model.parameters())) / 3
        found = verify(model, optimizer, plan)
        assert set(found.faults) == {"still", "drifting"}
        assert traces(model, optimizer) == before
        assert vars(scheduler) == clock
        assert called == []
        optimizer.step()
        assert set(called) == {"own", "all"}
        assert traces(model, optimizer) != before
    finally:
        of_all.remove()


def test_a_run_goes_on_as_if_nothing_had_been():
    def run(probe):
        model = Net()
        plan = planned(model, lr="2e-3 * warmup(0.5) >> cosine()")
        optimizer = torch.optim.AdamW(plan.torch_groups(model), fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 / (1 + k))
        for _ in range(4):
            model(torch.arange(5)).square().sum().backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            if probe:
                verify(model, optimizer, plan).check()
        return digest(*model.parameters()), scheduler.get_last_lr()

    assert run(probe=True) == run(probe=False)


class Held(torch.optim.Optimizer):
    """A wrapper that keeps another optimizer under a name of its own, as SAM and Lookahead do."""

    def __init__(self, inner):
        self.base = inner
        self.param_groups, self.state, self.defaults = inner.param_groups, inner.state, inner.defaults
        self._optimizer_step_pre_hooks = self._optimizer_step_post_hooks = {}

    def step(self, closure=None):
        self.base.step()


def test_an_optimizer_inside_another_is_left_alone_too(model, plan):
    inner = torch.optim.AdamW(plan.torch_groups(model))
    model(torch.arange(5)).sum().backward()
    inner.step()
    outer = Held(inner)
    before = traces(model, inner)
    assert verify(model, outer, plan).ok
    assert traces(model, inner) == before
    assert not verify(model, Held(torch.optim.AdamW(model.parameters())), plan).ok


# --- what goes wrong in the field --------------------------------------------------------------------------


def test_pain_20_layer_wise_rates_that_never_reached_the_optimizer(model, plan):
    found = verify(model, torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.1), plan)
    assert measured(found) == dict.fromkeys(measured(found), 1.0)
    assert set(found.wrong) == {n for n, _ in model.named_parameters() if not n.startswith("layers.1")}
    assert "plan.torch_groups(model)" in str(found)
    with pytest.raises(PlanError, match=r"embeddings +1 +0\.25 +1  embeddings\.weight: 1"):
        found.check()


class FirstRate(torch.optim.AdamW):
    """Uses the rate of its first group for all, as DeepSpeed did."""

    @torch.no_grad()
    def step(self, closure=None):
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = rates[0]
        super().step()
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate


class Merged:
    """Hands on to an optimizer whose groups it has merged into the first, as DeepSpeed did."""

    def __init__(self, optimizer):
        first, *rest = optimizer.param_groups
        first["params"] = [p for group in (first, *rest) for p in group["params"]]
        optimizer.param_groups = [first]
        self.optimizer = optimizer


@pytest.mark.parametrize("stack", [FirstRate, lambda groups: Merged(torch.optim.AdamW(groups))])
def test_pain_20_a_stack_that_collapses_the_groups(model, plan, stack):
    optimizer = stack(plan.torch_groups(model))
    found = verify(model, optimizer, plan)
    assert measured(found) == dict.fromkeys(measured(found), SCALES["embeddings"])
    assert set(found.wrong) == {n for n, _ in model.named_parameters() if not n.startswith("embeddings")}
    if isinstance(optimizer, Merged):
        assert "the AdamW inside Merged" in found.how


class Scaled(torch.optim.SGD):
    """Applies timm's factor, which torch's own optimizers ignore."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] *= group["lr_scale"]
        super().step()
        for group in self.param_groups:
            group["lr"] /= group["lr_scale"]


def test_pain_20_a_scale_that_is_written_and_never_applied(model, plan):
    groups = [{**group, "lr": PEAK, "lr_scale": group["lr"] / PEAK} for group in plan.torch_groups(model)]
    found = verify(model, torch.optim.SGD([dict(group) for group in groups]), plan)
    assert measured(found) == dict.fromkeys(measured(found), 1.0)
    assert verify(model, Scaled(groups), plan).ok


def test_a_scheduler_of_another_hand_that_writes_one_rate_into_all(model, plan):
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK, total_steps=10)
    found = verify(model, optimizer, plan)
    assert not found.ok
    assert len({row.measured for row in found.rows}) == 1


def test_a_scheduler_of_another_hand_that_keeps_the_ratios_is_found_by_the_rates(model, plan):
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    driver = Driver(plan.over(10), sink(optimizer))
    driver.apply(0)
    assert verify(model, optimizer, plan, driver.at(0)).ok
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5)
    assert verify(model, optimizer, plan).ok
    found = verify(model, optimizer, plan, driver.at(0))
    assert len(found.wrong) == len(list(model.parameters()))
    assert [row.measured for row in found.rows] == pytest.approx([row.planned / 2 for row in found.rows])


def test_pain_26_a_tied_weight_that_is_listed_twice_moves_twice(model):
    model.head = nn.Linear(6, 5)
    model.head.weight = model.embeddings.weight
    plan = planned(model)
    assert verify(model, torch.optim.SGD(plan.torch_groups(model)), plan).ok
    optimizer = torch.optim.SGD(plan.torch_groups(model))
    optimizer.param_groups[-1]["params"].append(model.head.weight)  # torch looks only when it adds a group
    found = verify(model, optimizer, plan)
    assert found.twice == found.wrong == ("embeddings.weight",)
    assert found.rows[0].measured == pytest.approx(SCALES["embeddings"] + SCALES["head"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = torch.optim.SGD([{**g, "params": g["params"] * 2} for g in plain(plan.torch_groups(model))])
    found = verify(model, again, plan)
    assert set(found.twice) == {name for name, _ in model.named_parameters()}


def test_pain_23_rates_that_slid_by_one_group(model, plan):
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    rates = [group["lr"] for group in optimizer.param_groups]
    slid = [PEAK, *rates[:-1]]  # a scheduler counted an empty group in front, which the stack then dropped
    for group, rate in zip(optimizer.param_groups, slid, strict=True):
        group["lr"] = rate
    found = verify(model, optimizer, plan)
    assert [row.measured * PEAK for row in found.rows] == pytest.approx(slid)
    groups = zip(plan.groups, rates, slid, strict=True)
    assert set(found.wrong) == {name for group, old, new in groups if old != new for name in group.params}


@pytest.mark.parametrize("cause", ["weight decay", "momentum"])
def test_pain_24_a_frozen_weight_that_moves_all_the_same(model, plan, cause):
    weight = model.layers[0][0].weight
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    if cause == "momentum":
        optimizer = torch.optim.SGD(plain(plan.torch_groups(model)), momentum=0.9)
        model(torch.arange(5)).sum().backward()
        optimizer.step()
    weight.requires_grad_(False)
    weight.grad = None
    assert verify(model, optimizer, plan).faults == {"still": ("layers.0.0.weight",)}
    weight.grad = torch.zeros_like(weight)  # as optimizer.zero_grad(set_to_none=False) leaves it
    found = verify(model, optimizer, plan)
    assert found.faults == {"drifting": ("layers.0.0.weight",)}
    before = weight.detach().clone()
    optimizer.step()
    assert not torch.equal(weight, before)


def test_a_frozen_weight_outside_the_plan_is_found_when_it_drifts(model):
    model.embeddings.requires_grad_(False)
    plan = planned(model)
    plan = Plan(plan.hypers, plan.groups[1:])
    frozen = {"params": [model.embeddings.weight], "param_names": ["embeddings.weight"]}
    optimizer = torch.optim.AdamW([*plan.torch_groups(model), frozen])
    assert verify(model, optimizer, plan).ok
    model.embeddings.weight.grad = torch.zeros_like(model.embeddings.weight)
    assert verify(model, optimizer, plan).faults == {"drifting": ("embeddings.weight",)}


def test_what_stands_in_one_place_only(model, plan):
    groups = plan.torch_groups(model)
    groups[1]["params"].pop()
    stranger = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW(
        [*groups, {"params": [stranger], "param_names": ["centre"], "lr": 1.0, "name": "x"}]
    )
    model.late = nn.Linear(2, 2)
    plan = Plan(plan.hypers, [*plan.groups, Group("gone", ("pooler.weight",))])
    found = verify(model, optimizer, plan)
    assert found.faults == {
        "missing": (plan.groups[1].params[-1],),
        "unknown": ("pooler.weight",),
        "unplanned": ("late.weight", "late.bias"),
        "strangers": ("centre",),
    }
    for said in (
        "planned, and not in the optimizer (1): layers.0.0.weight",
        "in the optimizer, and not in the model (1)",
    ):
        assert said in str(found)


def test_a_model_that_was_copied_after_the_optimizer_was_made(model, plan):
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    found = verify(copy.deepcopy(model), optimizer, plan)
    assert len(found.missing) == len(found.strangers) == len(list(model.parameters()))


def test_a_parameter_without_numbers_is_let_pass(model):
    model.head.register_parameter(
        "rest", nn.Parameter(torch.zeros(0))
    )  # as FSDP's of another process's shard
    plan = planned(model)
    assert "head.rest" in plan.groups[-1].params
    assert verify(model, torch.optim.AdamW(plan.torch_groups(model)), plan).ok


# --- wrappers ----------------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """What DDP does to names."""

    def __init__(self, module):
        super().__init__()
        self.module = module


class Whole(nn.Module):
    """A user's module around the model."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.layers = nn.ModuleList()


@pytest.mark.parametrize("wrap", [Wrapped, torch.compile, lambda m: torch.compile(Wrapped(m)), Whole])
@pytest.mark.parametrize("first", ["plan", "wrap"])
def test_names_are_found_through_wrappers(model, plan, wrap, first):
    outer = wrap(model)
    if first == "wrap":
        assert not {name for name, _ in outer.named_parameters()} & {
            name for name, _ in model.named_parameters()
        }
        inside = {id(parameter): name for name, parameter in outer.named_parameters()}
        plan = Plan(
            plan.hypers,
            [
                Group(
                    group.name, tuple(inside[id(model.get_parameter(n))] for n in group.params), group.scale
                )
                for group in plan.groups
            ],
        )
    optimizer = torch.optim.AdamW(plan.torch_groups(outer if first == "wrap" else model))
    assert verify(outer, optimizer, plan).ok
    assert not verify(outer, torch.optim.AdamW(outer.parameters()), plan).ok
    if first == "wrap" and wrap is not Whole:
        assert verify(model, optimizer, plan).ok


def test_peft_adapters():
    peft = pytest.importorskip("peft", reason="the adapters are PEFT's")
    model = Net()
    config = peft.LoraConfig(r=2, target_modules=["layers.0.0", "layers.1.0"], modules_to_save=["head"])
    before = planned(model)
    adapted = peft.get_peft_model(model, config)
    trainable = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    scales = {name: 10.0 if "head" in name else 2.0 if "lora_B" in name else 0.5 for name in trainable}
    plan = Plan(
        {"lr": PEAK},
        [
            Group(str(x), tuple(n for n in trainable if scales[n] == x), {"lr": x})
            for x in set(scales.values())
        ],
    )
    optimizer = torch.optim.AdamW(plan.torch_groups(adapted))
    assert verify(adapted, optimizer, plan).ok
    assert verify(torch.compile(adapted), optimizer, plan).ok
    found = verify(adapted, optimizer, before)  # planned before the adapters were there
    assert set(found.missing) == {n for n, _ in Net().named_parameters() if "head" not in n}
    assert set(found.unplanned) == {n for n in trainable if "lora" in n}
    assert found.unknown == found.strangers == ()


def test_real_ddp_of_one_process(model, plan):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        optimizer = torch.optim.AdamW(plan.torch_groups(model))
        outer = nn.parallel.DistributedDataParallel(model)
        assert verify(outer, optimizer, plan).ok
        outer(torch.arange(5)).sum().backward()
        held = [parameter.grad for parameter in model.parameters()]
        assert verify(outer, optimizer, plan).ok
        assert all(a is p.grad for a, p in zip(held, model.parameters(), strict=True))
    finally:
        torch.distributed.destroy_process_group()


# --- when in the run ---------------------------------------------------------------------------------------


def test_ratios_are_the_same_wherever_the_run_is(model):
    plan = planned(model, lr=f"{PEAK} * (warmup(0.5) >> cosine(to=0.01))")
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    driver = Driver(plan.over(20), sink(optimizer))
    for k in (0, 3, 19):
        driver.apply(k)
        found = verify(model, optimizer, plan)
        assert found.ok
        assert found.unit == pytest.approx(driver.at(k)["lr"][0] / SCALES["embeddings"])
        assert verify(model, optimizer, plan, driver.at(k)).ok
        assert not verify(model, optimizer, plan, driver.at(k + 1)).ok


def test_ratios_are_to_what_most_tensors_agree_on(model, plan):
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    for group in optimizer.param_groups:
        group["lr"] *= 0.3 if group["name"].startswith("layers.1") else 0.6
    found = verify(model, optimizer, plan)
    assert found.unit == pytest.approx(0.6 * PEAK)
    assert set(found.wrong) == {name for name, _ in model.named_parameters() if name.startswith("layers.1")}


def test_ratios_of_a_tie_are_to_the_group_at_the_peak(model):
    model.requires_grad_(False).head.requires_grad_(True)
    plan = Plan({"lr": PEAK}, [Group("a", ("head.bias",)), Group("b", ("head.weight",), {"lr": 10})])
    found = verify(model, torch.optim.AdamW(model.head.parameters(), lr=0.3 * PEAK), plan)
    assert found.unit == pytest.approx(0.3 * PEAK)
    assert found.wrong == ("head.weight",)


GATES = {"embeddings": "frozen(0.5) >> hold(start=1)", "head": "warmup(0.5) >> hold()"}


def test_gates_are_left_to_the_rates(model):
    plan = planned(model, GATES)
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    driver = Driver(plan.over(10), sink(optimizer))
    for k in (1, 8):
        driver.apply(k)
        assert model.embeddings.weight.requires_grad == (k == 8)
        found = verify(model, optimizer, plan)
        assert found.ok
        assert [row.planned for row in found.rows if row.group.startswith(("embeddings", "head"))] == [
            None
        ] * 3
        assert verify(model, optimizer, plan, driver.at(k)).ok
    found = verify(model, optimizer, plan, driver.at(1))
    assert set(found.wrong) == {"embeddings.weight", "head.weight", "head.bias"}
    model.embeddings.weight.requires_grad_(False)  # as a callback that freezes anew on resume
    assert verify(model, optimizer, plan, driver.at(8)).still == ("embeddings.weight",)
    assert verify(model, optimizer, plan).ok
    model.head.bias.requires_grad_(False)  # a gate that never freezes
    assert verify(model, optimizer, plan).still == ("head.bias",)


def test_groups_with_gates_do_not_say_what_the_unit_is(model):
    plan = planned(model, dict.fromkeys(("layers.0", "layers.1"), "warmup(0.5) >> hold()"))
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    for group in optimizer.param_groups:
        group["lr"] *= 0.1 if group["name"].startswith("layers") else 0.6
    found = verify(model, optimizer, plan)
    assert found.ok
    assert found.unit == pytest.approx(0.6 * PEAK)


def test_a_group_with_a_gate_moves_as_one(model):
    plan = planned(model, {"layers.0": "warmup(0.5) >> hold()"})
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    assert verify(model, optimizer, plan).ok
    gated, other = optimizer.param_groups[2:4]
    other["params"].append(gated["params"].pop())
    assert verify(model, optimizer, plan).wrong == ("layers.0.1.bias",)


def test_a_group_that_is_at_rest_at_the_beginning(model, plan):
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    optimizer.param_groups[0]["lr"] = 0.0
    assert verify(model, optimizer, plan).faults == {"still": ("embeddings.weight",)}
    rest = Plan(
        plan.hypers, [Group(plan.groups[0].name, plan.groups[0].params, {"lr": 0.0}), *plan.groups[1:]]
    )
    assert verify(model, optimizer, rest).ok
    optimizer.param_groups[0]["lr"] = 1e-9
    assert verify(model, optimizer, rest).wrong == ("embeddings.weight",)


# --- bad input ---------------------------------------------------------------------------------------------


def test_what_cannot_be_verified_is_refused(model, plan):
    optimizer = torch.optim.AdamW(plan.torch_groups(model))
    for given, message in (
        (("bert", optimizer, plan), "torch model first, got str"),
        ((model, None, plan), "takes a torch optimizer, got NoneType.*on_train_begin"),
        ((model, optimizer, {"lr": 1}), "takes a plan, got dict"),
        ((model, optimizer, Plan({"lr": 1e-3})), "names no parameters"),
        ((model, optimizer, plan, {"lr": [1.0]}), f"a rate for each of {len(plan.groups)} groups"),
    ):
        with pytest.raises(PlanError, match=message):
            verify(*given)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    with pytest.raises(PlanError, match=r"every rate of this optimizer is 0 now.*driver\.apply\(1\)"):
        verify(model, optimizer, plan)
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(PlanError, match="AdamW has a group without rate"):
        verify(model, optimizer, plan)


# --- the page ----------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs/verify.md"


def test_the_page_does_what_it_says(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the page is about a BERT")
    accelerate = pytest.importorskip("accelerate", reason="the page prepares with Accelerate")
    page = PAGE.read_text(encoding="utf-8")
    loop, callback, _ = re.findall(
        r"```python\n(.*?)```", page, re.DOTALL
    )  # tests/architectures has the last
    (table,) = re.findall(r"```\n(2.*?)```", page, re.DOTALL)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=50, **sizes))
    names = {"etude": etude, "torch": torch, "accelerator": accelerate.Accelerator(cpu=True), "model": bert}
    exec(loop, names)
    assert names["found"].ok
    shown = str(verify(bert, torch.optim.AdamW(bert.parameters(), lr=2e-5), names["plan"]))
    for line, written in zip(shown.splitlines(), table.splitlines(), strict=True):
        assert line.startswith(written.split("  bert")[0].removesuffix("…"))
    arguments = transformers.TrainingArguments(str(tmp_path), max_steps=1, report_to=[], use_cpu=True)
    data = [{"input_ids": torch.arange(5), "labels": 1}] * 2
    names["trainer"] = transformers.Trainer(bert, arguments, train_dataset=data)
    exec(callback, names | {"TrainerCallback": transformers.TrainerCallback})
    assert names["trainer"].state.global_step == 1
