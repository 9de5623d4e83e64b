"""axolotl's YAML against the formulas of axolotl 0.19.0, `utils/schedulers.py`, and torch's one-cycle.

Run beside axolotl's own file once, the formulas differed by at most 3e-16 of the peak.
"""

import math

import pytest

from etude import Plan
from etude import plan as plan_of
from etude.convert.axolotl.configs import axolotl
from etude.convert.converted import recognised
from etude.errors import RecipeError
from etude.model.leaf import Leaf

TOTAL = 97
BASE = {"base_model": "m", "datasets": [], "learning_rate": "2e-4", "max_steps": TOTAL}


def rates(converted, updates=TOTAL, hyper="lr"):
    plan = Plan(converted.hypers, tick=converted.tick).over(updates)
    return [plan.at(k)[hyper][0] for k in range(updates)]


def cosine(k, warm, total=TOTAL, floor=0.0, rise=lambda u: u):
    if k < warm:
        return rise(k / warm)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (k - warm) / max(1, total - warm)))


def constant(k, warm, floor, turn):
    return cosine(min(k, int(TOTAL * turn)) if k >= warm else k, warm, int(TOTAL * turn), floor)


def rex(k, warm, floor):
    """`RexLR` begins to count at 1."""
    step = k + 1
    if 1 <= step <= warm:
        return step / warm
    after, left = step - warm, TOTAL - warm
    if after >= left:
        return floor
    z = (left - after % left) / left
    return floor + (1 - floor) * z / (0.1 + 0.9 * z)


def expected(curve, *args, **options):
    return [2e-4 * curve(k, *args, **options) for k in range(TOTAL)]


@pytest.mark.parametrize("warm", [0, 2, 10])
@pytest.mark.parametrize("floor", [0.1, 0.5])
def test_cosine_with_a_floor(warm, floor):
    converted = axolotl(BASE | {"lr_scheduler": "cosine", "warmup_steps": warm, "cosine_min_lr_ratio": floor})
    assert rates(converted) == pytest.approx(expected(cosine, warm, floor=floor), rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("warm", [0, 10])
@pytest.mark.parametrize("turn", [0.5, 0.8, 1.0])
def test_cosine_that_turns_constant(warm, turn):
    said = {"warmup_steps": warm, "cosine_min_lr_ratio": 0.1, "cosine_constant_lr_ratio": turn}
    assert rates(axolotl(BASE | said)) == pytest.approx(
        expected(constant, warm, 0.1, turn), rel=1e-12, abs=1e-18
    )
    open_ended = axolotl({**BASE, **said, "max_steps": None})
    assert rates(open_ended, 100) == pytest.approx(
        rates(axolotl(BASE | said | {"max_steps": 100}), 100), rel=1e-9
    )


@pytest.mark.parametrize("warm", [2, 10])
def test_a_quadratic_warmup(warm):
    said = {"warmup_steps": warm, "lr_quadratic_warmup": True, "cosine_min_lr_ratio": 0.1}
    converted = axolotl(BASE | said)
    assert rates(converted) == pytest.approx(
        expected(cosine, warm, rise=lambda u: u**2), rel=1e-12, abs=1e-18
    )
    assert any("does nothing beside lr_quadratic_warmup" in warning for warning in converted.warnings)


@pytest.mark.parametrize("warm", [0, 2, 10])
@pytest.mark.parametrize("floor", [{}, {"cosine_min_lr_ratio": 0.1}])
def test_rex(warm, floor):
    converted = axolotl(BASE | {"lr_scheduler": "rex", "warmup_steps": warm, **floor})
    found = expected(rex, warm, floor.get("cosine_min_lr_ratio", 0.0))
    assert rates(converted) == pytest.approx(found, rel=1e-12, abs=1e-18)
    assert any("d=0.9" in warning for warning in converted.warnings)


def test_rex_of_an_unknown_length_is_as_far_off_as_its_warning_says():
    converted = axolotl({**BASE, "lr_scheduler": "rex", "warmup_steps": 0, "max_steps": None})
    off = [abs(a - b) / 2e-4 for a, b in zip(rates(converted), expected(rex, 0, 0.0), strict=True)]
    assert 5 / TOTAL < max(off) <= 10 / TOTAL
    assert any("one update ahead" in warning for warning in converted.warnings)


@pytest.mark.parametrize(
    "kwargs", [{}, {"div_factor": 10.0, "final_div_factor": 100.0, "anneal_strategy": "linear"}]
)
def test_one_cycle_is_torchs(kwargs):
    torch = pytest.importorskip("torch", reason="torch")
    said = {
        "lr_scheduler": "one_cycle",
        "warmup_steps": 30,
        "lr_scheduler_kwargs": kwargs,
        "weight_decay": 0.01,
    }
    converted = axolotl(BASE | said)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    options = {"pct_start": 30 / TOTAL, "anneal_strategy": "cos", **kwargs}
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-4, total_steps=TOTAL, **options)
    used, momenta = [], []
    for _ in range(TOTAL):
        used.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        if scheduler.last_epoch < TOTAL - 1:
            scheduler.step()
    assert rates(converted) == pytest.approx(used, rel=1e-12)
    assert rates(converted, hyper="momentum") == pytest.approx(momenta, rel=1e-12)
    assert rates(converted, hyper="weight_decay") == [0.01] * TOTAL


def test_the_words_of_hugging_face_and_the_warmups_of_axolotl():
    assert rates(axolotl(BASE | {"warmup_steps": 10})) == pytest.approx(
        expected(cosine, 10), rel=1e-12, abs=1e-18
    )
    ratio = axolotl(BASE | {"warmup_ratio": 0.119})  # 11.543 updates, cut down
    assert rates(ratio) == pytest.approx(expected(cosine, 11), rel=1e-12, abs=1e-18)
    nothing = axolotl(BASE)  # 0.03 of 97, cut down
    assert rates(nothing) == pytest.approx(expected(cosine, 2), rel=1e-12, abs=1e-18)
    assert any("Nothing is said of a warm-up" in warning for warning in nothing.warnings)
    assert axolotl(BASE | {"max_steps": 10_000}).hypers["lr"].startswith("0.0002 * (warmup(100) >>")
    one = axolotl(BASE | {"warmup_steps": 1})
    assert rates(one) == pytest.approx(expected(cosine, 2), rel=1e-12, abs=1e-18)
    assert any("one of 2" in warning for warning in one.warnings)
    held = axolotl(BASE | {"lr_scheduler": "constant_with_warmup", "warmup_steps": 10})
    assert rates(held)[10:] == [2e-4] * 87


def test_without_a_total_the_warmup_is_a_share():
    said = {key: value for key, value in BASE.items() if key != "max_steps"}
    converted = axolotl({**said, "warmup_ratio": 0.1, "cosine_min_lr_ratio": 0.1})
    assert converted.hypers["lr"] == "0.0002 * (warmup(0.1) >> cosine(to=0.1))"
    assert converted.total is None
    assert any("down to whole updates" in warning for warning in converted.warnings)


LEAVES = [
    Leaf("model.embed_tokens.weight", (8, 4), module="Embedding"),
    Leaf("model.layers.0.self_attn.q_proj.weight", (4, 4)),
    Leaf("model.layers.0.mlp.up_proj.weight", (4, 4)),
    Leaf("lm_head.weight", (8, 4)),
]


def test_groups():
    said = {
        "embedding_lr_scale": 0.1, "weight_decay": 0.01,
        "lr_groups": [{"name": "attention", "modules": ["self_attn.q_proj", "embed_tokens"], "lr": 1e-5}],
    }  # fmt: skip
    converted = axolotl(BASE | said)
    assert any("biases and norms of its modules" in warning for warning in converted.warnings)
    groups = converted.settings["groups"][:-1]  # axolotl's embeddings win over its groups
    assert converted.settings["groups"][-1] == ("embed_tokens", {"lr": 1e-5})
    settled = plan_of(
        LEAVES, converted.hypers["lr"], weight_decay=converted.hypers["weight_decay"], groups=groups
    )
    found = {
        leaf: (row["lr"], row["weight_decay"])
        for row, group in zip(settled.table(), settled.groups, strict=True)
        for leaf in group.params
    }
    assert found == {
        "model.embed_tokens.weight": pytest.approx((2e-5, 0.0)),
        "lm_head.weight": pytest.approx((2e-5, 0.0)),
        "model.layers.0.self_attn.q_proj.weight": pytest.approx((1e-5, 0.01)),
        "model.layers.0.mlp.up_proj.weight": pytest.approx((2e-4, 0.01)),
    }
    absolute = axolotl(BASE | {"embedding_lr": 1e-5})
    assert absolute.settings["groups"][0][1] == {"lr": 1e-5}


def test_loraplus_takes_the_place_of_the_groups():
    converted = axolotl(BASE | {"loraplus_lr_ratio": 16, "embedding_lr": 1e-5, "weight_decay": 0.01})
    assert converted.settings == {"groups": [("lora_B", {"lr_scale": 16.0})]}
    assert rates(converted, hyper="weight_decay") == [0.0] * TOTAL
    assert any("embedding_lr: nothing of it is used" in warning for warning in converted.warnings)
    assert any("lora_embedding_" in warning for warning in converted.warnings)


def test_other_traps():
    unused = axolotl(BASE | {"lr_scheduler": "linear", "cosine_min_lr_ratio": 0.1, "deepspeed": "zero2.json"})
    assert any("do nothing with lr_scheduler linear" in warning for warning in unused.warnings)
    assert any("block in the deepspeed file" in warning for warning in unused.warnings)
    assert rates(unused)[-1] < 1e-5
    turn = axolotl(BASE | {"cosine_constant_lr_ratio": 0.8})
    assert any("without a cosine_min_lr_ratio" in warning for warning in turn.warnings)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"learning_rate": None}, "learning_rate: got None"),
        ({"lr_scheduler": "cosin"}, "did you mean 'cosine'"),
        ({"warmup_ratio": 1.5}, "a share of the run is below 1"),
        ({"lr_scheduler": "one_cycle", "max_steps": None}, "say the total"),
        ({"cosine_min_lr_ratio": 2}, "at most 1"),
        (
            {"cosine_min_lr_ratio": 0.1, "cosine_constant_lr_ratio": 0.05, "warmup_steps": 10},
            "before its warm-up",
        ),
        ({"jagged_restart_steps": 100}, "ReLoRA"),
        ({"lr_groups": [{"name": "x"}]}, "write name, modules and lr"),
    ],
)
def test_what_cannot_be_said(more, message):
    with pytest.raises(RecipeError, match=message):
        axolotl({**BASE, **more})


def test_the_format_is_known_by_its_keys():
    assert recognised(BASE) == ["axolotl"]
    assert recognised({"lr_scheduler": "rex", "micro_batch_size": 2}) == ["axolotl"]
