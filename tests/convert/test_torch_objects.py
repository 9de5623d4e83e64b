"""torch's schedulers, as source and as objects: converted text gives the rates that torch uses."""

import pytest
import torch
from torch.optim import SGD, AdamW, lr_scheduler

import etude
from etude.convert import torch_objects
from etude.convert.python.reading import python
from etude.convert.pytorch.composed import KNOWN
from etude.errors import RecipeError

TOTALS = (1, 2, 3, 10, 97)
OPTIMIZER = "optimizer = torch.optim.AdamW(parameters, lr=0.02)\n"

SIMPLE = [
    "StepLR(optimizer, 30)", "StepLR(optimizer, 7, gamma=0.5)", "StepLR(optimizer, 1, gamma=0.9)",
    "StepLR(optimizer, 5, gamma=1)",
    "MultiStepLR(optimizer, [3, 6, 6, 50])", "MultiStepLR(optimizer, milestones=[0, 2], gamma=0.5)",
    "ConstantLR(optimizer)", "ConstantLR(optimizer, 0.25, 60)",
    "LinearLR(optimizer)", "LinearLR(optimizer, 1e-3, total_iters=10)",
    "LinearLR(optimizer, 1.0, 0.0, total_iters=97)", "LinearLR(optimizer, 1, 0.1, 1)",
    "ExponentialLR(optimizer, 0.99)", "ExponentialLR(optimizer, 1.01)", "ExponentialLR(optimizer, 1e-5)",
    "PolynomialLR(optimizer)", "PolynomialLR(optimizer, 97, power=0.9)", "PolynomialLR(optimizer, 200)",
    "PolynomialLR(optimizer, 1, 2)",
    "CosineAnnealingLR(optimizer, 97)", "CosineAnnealingLR(optimizer, T_max=10, eta_min=1e-3)",
    "CosineAnnealingLR(optimizer, 1)", "CosineAnnealingLR(optimizer, 200, eta_min=1e-3)",
    "CosineAnnealingLR(optimizer, 33, eta_min=0.05)", "CosineAnnealingLR(optimizer, 10.5)",
    "CosineAnnealingWarmRestarts(optimizer, 10)", "CosineAnnealingWarmRestarts(optimizer, 10, 2, 1e-3)",
    "CosineAnnealingWarmRestarts(optimizer, 1)", "CosineAnnealingWarmRestarts(optimizer, 1, 3)",
    "CosineAnnealingWarmRestarts(optimizer, 100, eta_min=1e-4)",
]  # fmt: skip
CYCLES = [
    "OneCycleLR(optimizer, max_lr=0.1, total_steps=TOTAL, "
    f"pct_start={share}, anneal_strategy='{anneal}', three_phase={three})"
    for share in (0.3, 0.0, 0.05, 0.5, 0.7, 1.0)
    for anneal in ("cos", "linear")
    for three in (False, True)
    if share or not three
]
CYCLES += [
    "OneCycleLR(optimizer, 0.1, epochs=10, steps_per_epoch=20, div_factor=10, final_div_factor=100)",
    "OneCycleLR(optimizer, 0.1, total_steps=97, cycle_momentum=False)",
]
CYCLES += [
    f"CyclicLR(optimizer, {rates}, mode='{mode}', gamma=0.99)"
    for mode in ("triangular", "triangular2", "exp_range")
    for rates in ("1e-3, 0.1, step_size_up=10", "base_lr=0, max_lr=0.1, step_size_up=7, step_size_down=3")
]
SEQUENCES = [
    f"SequentialLR(optimizer, [{first}, {second}], milestones=[{milestone}])"
    for milestone in (1, 5)
    for first in (
        "LinearLR(optimizer, 1e-3, total_iters=5)", "ConstantLR(optimizer, 0.1, 3)", "StepLR(optimizer, 3)",
    )
    for second in (
        "CosineAnnealingLR(optimizer, T_max=92)", "CosineAnnealingLR(optimizer, T_max=20, eta_min=1e-4)",
        "CosineAnnealingWarmRestarts(optimizer, 10, 2)", "ExponentialLR(optimizer, 0.97)",
        "MultiStepLR(optimizer, [4, 8])", "LinearLR(optimizer, 1, 0.1, 40)", "PolynomialLR(optimizer, 50)",
    )
]  # fmt: skip
SEQUENCES += [
    "SequentialLR(optimizer, schedulers=[LinearLR(optimizer, 0.1, total_iters=5), "
    "ConstantLR(optimizer, 1.0, total_iters=1), CosineAnnealingLR(optimizer, 37)], milestones=[5, 60])"
]
CHAINS = [
    "ChainedScheduler([ConstantLR(optimizer, 0.1, 5), ExponentialLR(optimizer, 0.95)])",
    "ChainedScheduler([LinearLR(optimizer, 0.1, total_iters=5), CosineAnnealingLR(optimizer, 97)])",
    "ChainedScheduler([StepLR(optimizer, 10, 0.5), MultiStepLR(optimizer, [3, 50])], optimizer=optimizer)",
]


def made(text, rates=(0.02,)):
    """The real scheduler, on an optimizer with one parameter per rate."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return eval(text, vars(lr_scheduler) | {"optimizer": AdamW(groups, lr=0.02)})


def used(scheduler, updates):
    """Rate and momentum of every update, as a training loop meets them."""
    group, seen = scheduler.optimizer.param_groups[0], []
    for k in range(updates):
        seen.append((group["lr"], group["betas"][0]))
        scheduler.optimizer.step()
        if k < updates - 1:
            scheduler.step()
    return seen


def assert_says(converted, wanted):
    """To 1e-12 of the peak, and of 1 for the momentum, which is AdamW's own where nothing is said."""
    plan = etude.Plan(converted.hypers, tick=converted.tick)
    bound, peak = plan.over(len(wanted)), plan.hypers["lr"].peak
    for k, (rate, momentum) in enumerate(wanted):
        found = bound.at(k)
        assert found["lr"][0] == pytest.approx(rate, rel=0, abs=1e-12 * peak), (len(wanted), k)
        assert found.get("momentum", [0.9])[0] == pytest.approx(momentum, rel=0, abs=1e-12), (len(wanted), k)


def refusal(convert, *given):
    try:
        return convert(*given), ""
    except RecipeError as error:
        return None, str(error)


@pytest.mark.parametrize("text", [*SIMPLE, *CYCLES, *SEQUENCES, *CHAINS])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_rates_are_those_of_torch(text):
    compared = 0
    for total in TOTALS:
        call = text.replace("TOTAL", str(total))
        converted, error = refusal(python, f"{OPTIMIZER}scheduler = {call}", total)
        try:
            scheduler = made(call)
            wanted = used(scheduler, total)
        except ZeroDivisionError:
            assert "without an update" in error, total
            continue
        if converted is None:
            assert "no part of that curve" in error or "without an update" in error, total
            continue
        # The object is read before its run and after.
        for one in (converted, torch_objects(made(call), total), torch_objects(scheduler, total)):
            assert_says(one, wanted)
        compared += 1
    assert compared >= 1


def test_every_scheduler_of_torch_is_known():
    own = {name for name in lr_scheduler.__all__ if name != "LRScheduler"}
    assert own == set(KNOWN)


def test_a_live_scheduler_says_what_it_was_made_with_and_its_optimizer_the_rest():
    scheduler = made("CosineAnnealingLR(optimizer, 100, eta_min=0.002)")
    used(scheduler, 40)
    converted = torch_objects(scheduler)
    assert converted.text == {"lr": "0.02 * cosine(to=0.002/0.02)", "weight_decay": "0.01", "tick": 0}
    assert converted.total == 100


def test_a_scheduler_that_accelerate_wrapped_is_the_one_inside():
    accelerate = pytest.importorskip("accelerate", reason="accelerate wraps the scheduler")
    inner = made("StepLR(optimizer, 30)")
    wrapped = accelerate.scheduler.AcceleratedScheduler(inner, inner.optimizer)
    converted = torch_objects(wrapped)
    assert converted.hypers == torch_objects(inner).hypers
    assert "once per process" in converted.warnings[0]


def test_groups_are_told_and_their_ratio_stays_where_torch_gives_it_up():
    scheduler = made("CosineAnnealingLR(optimizer, 10, eta_min=0.01)", rates=(0.02, 0.005))
    converted = torch_objects(scheduler)
    assert "others have 0.25 times its rate" in converted.warnings[0]
    assert "a group with a lower one rises" in converted.warnings[1]
    groups = [etude.Group("first"), etude.Group("low", scale={"lr": 0.25})]
    last = etude.Plan(converted.hypers, groups, converted.tick).over(10).at(9)["lr"]
    assert last[1] == pytest.approx(last[0] / 4)
    for _ in range(9):
        scheduler.optimizer.step()
        scheduler.step()
    assert scheduler.optimizer.param_groups[1]["lr"] > 0.005


def test_the_weight_decay_of_the_groups_that_decay_is_the_plans():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": parameters[:1], "weight_decay": 0.1},
        {"params": parameters[1:], "weight_decay": 0.0},
    ]
    converted = torch_objects(lr_scheduler.StepLR(AdamW(groups, lr=0.02), 5))
    assert converted.hypers["weight_decay"] == "0.1"
    assert "Groups decay by 0, 0.1" in converted.warnings[0]


@pytest.mark.parametrize(
    ("text", "total", "trap"),
    [
        ("StepLR(optimizer, 30)", 95, "drops a last time 5 updates before the end"),
        ("MultiStepLR(optimizer, [30, 80])", 50, "Milestone 80 is not reached"),
        ("LinearLR(optimizer, 1e-4, total_iters=5)", 50, "torch refuses 0"),
        ("ExponentialLR(optimizer, 0.95)", 100, "by 0.0059 over 100 updates"),
        ("ExponentialLR(optimizer, 0.95)", None, "the rate halves within 14"),
        ("PolynomialLR(optimizer, 50)", 100, "the rest trains nothing"),
        ("CosineAnnealingLR(optimizer, 50)", 100, "climbs back, in 100 updates to 100% of the peak"),
        ("CosineAnnealingLR(optimizer, 50)", None, "taken to end at T_max=50"),
        ("CosineAnnealingLR(optimizer, 50, eta_min=0.001)", 50, "eta_min=0.001 is one rate for all groups"),
        (
            "CosineAnnealingWarmRestarts(optimizer, 25, 2)", 100,
            "at 85% of the peak; repeat(cosine(start=1), 3, stretch=2) has 3 cycles",
        ),
        ("OneCycleLR(optimizer, 0.1, total_steps=9)", None, "ends at 4e-06 of the peak"),
        ("OneCycleLR(optimizer, 0.1, total_steps=9)", None, "end an update early"),
        ("OneCycleLR(optimizer, 0.1, total_steps=9)", None, "the peak of every group"),
        ("OneCycleLR(optimizer, 0.1, total_steps=9)", None, "momentum (with Adam the first beta) moves too"),
        ("CyclicLR(optimizer, 1e-3, 0.1)", None, "never trains at the optimizer's own rate"),
        ("CyclicLR(optimizer, 1e-3, 0.1, mode='exp_range', gamma=0.9)", 50, "0.0052 after 50 of them"),
        ("ReduceLROnPlateau(optimizer)", None, "a controller and no schedule"),
    ],
)  # fmt: skip
def test_where_torchs_words_trap_it_is_said_once(text, total, trap):
    found = [one for one in torch_objects(made(text), total).warnings if trap in one]
    assert len(found) == 1
    assert found[0].endswith(".")


def test_the_restarts_that_are_offered_instead_end_at_a_minimum():
    offered = etude.parse("repeat(cosine(start=1), 3, stretch=2)").over(100)
    assert offered(100) == 0
    assert etude.parse("repeat(cosine(25, start=1), 2, stretch=2) >> wave(half=100, start=1)").over(100)(
        100
    ) == pytest.approx(0.8535533905932737)


@pytest.mark.parametrize(
    ("text", "total", "says"),
    [
        ("LambdaLR(optimizer, lambda k: 0.9**k)", None, "write what it computes as a path"),
        ("MultiplicativeLR(optimizer, lambda k: 0.9)", None, "write what it computes as a path"),
        ("CosineAnnealingWarmRestarts(optimizer, 25, 2)", None, "say the total"),
        ("OneCycleLR(optimizer, 0.1, total_steps=9)", 10, "torch refuses to step past 9"),
        ("CyclicLR(optimizer, 0.1, 1, scale_fn=lambda x: 1)", None, "scale_fn: a function of its own"),
        (
            "ChainedScheduler([ConstantLR(optimizer), CosineAnnealingWarmRestarts(optimizer, 9)])", 9,
            "CosineAnnealingWarmRestarts sets the rate by itself",
        ),
        (
            "ChainedScheduler([ConstantLR(optimizer), CosineAnnealingLR(optimizer, 9, eta_min=0.01)])", 9,
            "adds its eta_min",
        ),
        (
            "ChainedScheduler([ConstantLR(optimizer), CosineAnnealingLR(optimizer, 9)])", 20,
            "past its T_max",
        ),
        (
            "SequentialLR(optimizer, [LinearLR(optimizer), CyclicLR(optimizer, 0.1, 1)], [5])", 9,
            "CyclicLR inside another scheduler",
        ),
        ("SWALR(optimizer, 0.1)", None, "SWALR is no scheduler that can be converted"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_with_what_to_write(text, total, says):
    scheduler = (
        made(text, (0.02,))
        if "SWALR" not in text
        else torch.optim.swa_utils.SWALR(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02), 0.1)
    )
    with pytest.raises(RecipeError) as caught:
        torch_objects(scheduler, total)
    assert says in str(caught.value)


def test_what_is_no_scheduler_is_refused():
    with pytest.raises(RecipeError, match="str is no torch scheduler"):
        torch_objects("StepLR")
