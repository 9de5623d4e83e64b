"""`etude.plan` on real architectures: the depth of every parameter, and what one update does to it."""

import contextlib
import io
import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    T5EncoderModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import etude
from etude.errors import PlanError, ScheduleError
from etude.model.leaf import Leaf
from etude.planning import layout, plan

HEADS = {
    "base": AutoModel,
    "seq": AutoModelForSequenceClassification,
    "lm": AutoModelForCausalLM,
    "mlm": AutoModelForMaskedLM,
}
SMALL = {
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
    "embedding_size": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 3,
    # other names for the same things
    "n_embd": 16,
    "n_head": 2,
    "n_positions": 32,
    "dim": 16,
    "hidden_dim": 24,
    "n_heads": 2,
    "emb_dim": 16,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "d_inner": 24,
    "d_head": 8,
    "num_heads": 2,
    "ffn_dim": 24,
    "word_embed_proj_dim": 16,
    "num_local_experts": 2,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
}
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def tiny(kind: str, family: str, layers: int = 3, **extra):
    """A small random model of a family of transformers, under one of its heads."""
    config_type = CONFIG_MAPPING[family]
    default = config_type().to_dict()
    chosen = {key: value for key, value in SMALL.items() if key in default or key == "num_labels"}
    chosen |= {key: layers for key in LAYERS if key in default}
    if family == "gpt_neo":
        chosen["attention_types"] = [[["global"], layers]]
    with contextlib.redirect_stderr(io.StringIO()):
        return HEADS[kind].from_config(config_type(**chosen | extra))


# family, head, backbone: embeddings | top | head, read off the models' code. Each is the beginnings of names,
# embeddings and top inside the backbone unless they begin with a slash.
FAMILIES = """
bert          seq  bert          embeddings | pooler | classifier
bert          base -             embeddings | pooler |
bert          mlm  bert          embeddings | | cls
roberta       seq  roberta       embeddings | | classifier
xlm-roberta   seq  roberta       embeddings | | classifier
xlm-roberta   mlm  roberta       embeddings /lm_head.dec | | lm_head.bias lm_head.dense lm_head.layer_norm
distilbert    seq  distilbert    embeddings | | pre_classifier classifier
electra       seq  electra       embeddings | | classifier
deberta-v2    seq  deberta       embeddings | | pooler classifier
mpnet         seq  mpnet         embeddings encoder.relative_attention_bias | | classifier
modernbert    seq  model         embeddings | final_norm | head classifier
modernbert    base -             embeddings | final_norm |
nomic_bert    seq  nomic_bert    embeddings | pooler | classifier
roformer      seq  roformer      embeddings encoder.embed_positions | | classifier
megatron-bert seq  bert          embeddings | encoder.ln pooler | classifier
rembert       seq  rembert       embeddings encoder.embedding_hidden_mapping_in | pooler | classifier
ibert         seq  ibert         embeddings | | classifier
squeezebert   seq  transformer   embeddings | pooler | classifier
mobilebert    seq  mobilebert    embeddings | pooler | classifier
xlnet         seq  transformer   mask_emb word_embedding | | sequence_summary logits_proj
xlm           seq  transformer   position_embeddings embeddings layer_norm_emb | | sequence_summary
gpt2          base -             wte wpe | ln_f |
gpt2          seq  transformer   wte wpe | ln_f | score
gpt2          lm   transformer   wte wpe | ln_f |
gpt_neo       lm   transformer   wte wpe | ln_f |
gpt_neox      lm   gpt_neox      embed_in | final_layer_norm | lm_head
opt           lm   model.decoder embed_tokens embed_positions | final_layer_norm |
bloom         lm   transformer   word_embeddings word_embeddings_layernorm | ln_f |
falcon        lm   transformer   word_embeddings | ln_f |
llama         lm   model         embed_tokens | norm | lm_head
llama         seq  model         embed_tokens | norm | score
llama         base -             embed_tokens | norm |
mistral       lm   model         embed_tokens | norm | lm_head
qwen2         lm   model         embed_tokens | norm | lm_head
qwen3         seq  model         embed_tokens | norm | score
gemma         lm   model         embed_tokens | norm |
gemma2        lm   model         embed_tokens | norm |
gemma3_text   lm   model         embed_tokens | norm |
phi           lm   model         embed_tokens | final_layernorm | lm_head
mixtral       lm   model         embed_tokens | norm | lm_head
mamba         lm   backbone      embeddings | norm_f |
esm           seq  esm           embeddings | encoder.emb_layer_norm_after contact_head | classifier
olmo          lm   model         embed_tokens | | lm_head
"""
CASES = [line.split(maxsplit=3) for line in FAMILIES.strip().splitlines()]


@pytest.mark.parametrize(
    ("family", "kind", "backbone", "expected"), CASES, ids=[f"{family}-{kind}" for family, kind, *_ in CASES]
)
def test_every_parameter_of_every_family_stands_where_its_code_uses_it(family, kind, backbone, expected):
    model = tiny(kind, family)
    ladder = layout(model, layer_decay=0.9).ladder
    rungs = {rung.name: {p.leaf.name for p in rung.placements} for rung in ladder.rungs()}
    assert ladder.blocks == 3
    inside = "" if backbone == "-" else backbone + "."
    for rung, words in zip(("embeddings", "top", "head"), expected.split("|"), strict=True):
        found = rungs.pop(rung, set())
        inner = inside if rung != "head" else ""
        begins = [word[1:] if word[0] == "/" else inner + word for word in words.split()]
        assert {name for name in found if not name.startswith(tuple(begins))} == set()
        assert all(any(name.startswith(begin) for name in found) for begin in begins)
    assert sorted(rungs) == ["layer.0", "layer.1", "layer.2"]
    for rung, names in rungs.items():
        number = rung.removeprefix("layer.")
        assert {re.search(r"\.(\d+)\.", "." + name)[1] for name in names} == {number}
    placed = [p.leaf.name for p in ladder.placements]
    assert placed == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize(("family", "kind"), [case[:2] for case in CASES])
def test_depth_never_falls_along_the_order_of_execution(family, kind):
    model = tiny(kind, family).eval()
    depth = {
        name: place for place in layout(model, layer_decay=0.9).ladder.placements for name in place.names
    }
    executed: dict[
        str, int
    ] = {}  # by the first use of each tensor: a tied output layer has been the embedding

    def watch(path: str, module: nn.Module, _: object) -> None:
        for name, _ in module.named_parameters(recurse=False):
            place = depth[f"{path}.{name}"]
            executed.setdefault(place.leaf.name, place.depth)

    for path, module in model.named_modules():
        module.register_forward_pre_hook(partial(watch, path))
    model(input_ids=torch.arange(3, 11)[None], attention_mask=torch.ones(1, 8, dtype=torch.long))
    assert len(executed) > 0.6 * len(list(model.parameters()))
    assert list(executed.values()) == sorted(executed.values())


@pytest.mark.parametrize("kind", ["seq", "base"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "modernbert", "distilbert", "mobilebert"])
def test_a_model_of_one_layer_has_three_or_more_rungs(family, kind):
    ladder = layout(tiny(kind, family, layers=1), layer_decay=0.9).ladder
    assert ladder.blocks == 1
    assert {"embeddings", "layer.0"} <= {rung.name for rung in ladder.rungs()}


def test_deberta_v3_relative_embeddings_and_their_norm_are_embeddings():
    extra = {"relative_attention": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
    extra |= {"pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True}
    ladder = layout(tiny("seq", "deberta-v2", **extra), layer_decay=0.5).ladder
    bottom = {p.leaf.name for p in ladder.rungs()[0].placements}
    assert {
        f"deberta.encoder.{name}" for name in ("rel_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias")
    } < bottom


def test_a_depth_by_hand_moves_what_stands_beside_the_layers():
    model = tiny("base", "deberta-v2", conv_kernel_size=3)
    (first, *_) = plan(
        model, 1e-3, layer_decay=0.5, groups=[(r"^encoder\.conv", {"depth": "layer.0"})]
    ).groups[1:]
    assert first.name == "layer.0"
    assert "encoder.conv.conv.weight" in first.params


def test_t5_encoder_with_its_tables():
    ladder = layout(T5EncoderModel(tiny("base", "t5").config), layer_decay=0.5).ladder
    depth = {p.leaf.name: p.depth for p in ladder.placements}
    assert ladder.blocks == 3
    assert depth["shared.weight"] == 0
    assert depth["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] == 1
    assert depth["encoder.final_layer_norm.weight"] == 4


def test_two_towers_have_a_ladder_each():
    model = tiny("seq", "t5", num_decoder_layers=2)
    (all_of_it,) = plan(model, 1e-3).groups
    assert all_of_it.name == "all"
    settled = plan(model, 1e-3, layer_decay=0.5, head=3)
    assert {group.name: group.scale["lr"] for group in settled.groups} == {
        "encoder.embeddings": 0.125, "encoder.layer.0": 0.25, "encoder.layer.1+decoder.layer.0": 0.5,
        "encoder.layer.2..top+decoder.layer.1..top": 1, "head": 3,
    }  # fmt: skip
    apart = plan(model, 1e-3, layer_decay={"encoder": 0.5, "decoder": 0.25}, freeze="encoder.layer.1")
    assert {group.name: group.scale["lr"] for group in apart.groups} == {
        "encoder.embeddings..layer.1.frozen": 0, "encoder.layer.2..top+decoder.layer.1..top+head": 1,
        "decoder.layer.0": 0.25,
    }  # fmt: skip


def test_a_layers_number_in_both_towers_is_refused_with_the_lines_to_write():
    model = tiny("seq", "t5", num_decoder_layers=2)
    with pytest.raises(PlanError, match=r"hits encoder\.layer\.0 .* and decoder\.layer\.0") as caught:
        plan(model, 1e-3, groups=[(r"block\.0\.", {"lr_scale": 0.5})])
    lines = re.findall(r'\(r"(.*?)", …\)', str(caught.value))
    assert lines == [r"^transformer\.encoder\..*block\.0\.", r"^transformer\.decoder\..*block\.0\."]
    settled = plan(model, 1e-3, groups=[(line, {"lr_scale": 0.5}) for line in lines[:1]])
    assert "encoder.layer.0.x0.5" in {group.name for group in settled.groups}
    with pytest.raises(PlanError, match=r"hits encoder\.layer\.0 .* and decoder\.layer\.0"):
        plan(model, 1e-3, groups=[(r"block\.0\.", {"depth": "head"})])


def test_albert_says_that_its_layers_share_one_block():
    ladder = layout(tiny("seq", "albert"), layer_decay=0.5).ladder
    assert ladder.blocks == 1
    assert "the only block in albert.encoder.albert_layer_groups" in ladder.rungs()[1].placements[0].reason


def test_funnel_stages_are_one_ladder():
    ladder = layout(tiny("seq", "funnel", block_sizes=[2, 3], num_decoder_layers=2), layer_decay=0.5).ladder
    assert ladder.blocks == 5


def test_tied_embeddings_are_reported_and_move_once():
    model = tiny("lm", "gpt2")
    rows = layout(model, layer_decay=0.5).rows()
    assert any("tied to lm_head.weight (head)" in reason for reason in rows[0].reasons)
    owners = [name for group in plan(model, 1.0, layer_decay=0.5).groups for name in group.params]
    assert owners.count("transformer.wte.weight") == 1
    assert "lm_head.weight" not in owners


@pytest.mark.parametrize(
    ("kind", "family", "asked", "said"),
    [
        ("base", "bert", {"head": 10}, r"head=10 has no effect: this model has no head; leave it out"),
        (
            "lm",
            "gpt2",
            {"head": 10},
            r"has no head \(lm_head.weight is transformer.wte.weight, an embedding\)",
        ),
        ("lm", "gpt2", {"layer_decay": 0.9, "head": 2}, r"or say which parameters are the head: new="),
    ],
)
def test_a_ratio_for_a_head_that_is_not_there_is_refused(kind, family, asked, said):
    with pytest.raises(PlanError, match=said):
        plan(tiny(kind, family), 1e-3, **asked)


def test_a_ratio_for_embeddings_that_are_not_there_is_refused():
    blocks = [Leaf(f"h.{i}.{part}.weight", (4, 4)) for i in range(2) for part in ("attn", "mlp")]
    with pytest.raises(PlanError, match=r"embeddings=0.1 has no effect: nothing .* stands below its blocks"):
        plan(blocks, 1e-3, embeddings=0.1)
    by_hand = [("^h.0.attn", {"depth": "embeddings"})]
    made = plan(blocks, 1e-3, embeddings=0.1, groups=by_hand)
    assert [group.scale["lr"] for group in made.groups] == [0.1, 1.0]


def test_a_head_that_is_frozen_is_a_head():
    model = tiny("seq", "bert")
    model.classifier.requires_grad_(False)
    assert plan(model, 1e-3, head=10).groups[0].scale["lr"] == 1.0


class Wrapped(nn.Module):
    """What DDP and others do to names."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module


@pytest.mark.parametrize(
    "wrap", [Wrapped, torch.compile, lambda m: Wrapped(torch.compile(m))], ids=["ddp", "compile", "both"]
)
def test_a_wrapped_model_has_the_same_table(wrap):
    model = tiny("seq", "bert")
    plain = layout(model, layer_decay=0.9, head=10, weight_decay=0.1).rows()
    wrapped = layout(wrap(model), layer_decay=0.9, head=10, weight_decay=0.1).rows()
    assert [row[:2] + row.setting + (row.size,) for row in plain] == [
        row[:2] + row.setting + (row.size,) for row in wrapped
    ]
    for before, after in zip(plain, wrapped, strict=True):
        assert all(
            a.leaf.name.endswith(b.leaf.name)
            for a, b in zip(after.placements, before.placements, strict=True)
        )


BERT = tiny("seq", "bert")
NAMES = [name for name, _ in BERT.named_parameters()]


@settings(max_examples=40, deadline=None)
@given(
    frozen=st.sets(st.sampled_from(NAMES), max_size=len(NAMES) - 1),
    layer_decay=st.sampled_from([1.0, 0.9, 0.5]),
    head=st.sampled_from([1.0, 10.0]),
    weight_decay=st.sampled_from([0.0, 0.01]),
)
def test_laws_of_groups(frozen, layer_decay, head, weight_decay):
    """Each trainable parameter once, one group per setting, none empty; freezing moves nobody else."""
    asked = {"layer_decay": layer_decay, "head": head, "weight_decay": weight_decay}
    full = {name: group.scale for group in plan(BERT, 1e-3, **asked).groups for name in group.params}
    for name, parameter in BERT.named_parameters():
        parameter.requires_grad_(name not in frozen)
    try:
        groups = plan(BERT, 1e-3, **asked).groups
    finally:
        BERT.requires_grad_(True)
    held = [name for group in groups for name in group.params]
    assert sorted(held) == sorted(set(NAMES) - frozen)
    assert all(group.params for group in groups)
    distinct = {tuple(group.scale.items()) for group in groups}
    assert len(distinct) == len(groups) == len({group.name for group in groups})
    assert all(full[name] == group.scale for group in groups for name in group.params)


def test_the_layer_wise_setup_of_bert():
    groups = plan(BERT, 2e-5, layer_decay=0.5, head=10, weight_decay=0.01).groups
    assert [(group.name, *group.scale.values()) for group in groups] == [
        ("embeddings", 0.125, 1.0),
        ("embeddings.no_decay", 0.125, 0.0),
        ("layer.0", 0.25, 1.0),
        ("layer.0.no_decay", 0.25, 0.0),
        ("layer.1", 0.5, 1.0),
        ("layer.1.no_decay", 0.5, 0.0),
        ("layer.2..top", 1.0, 1.0),
        ("layer.2..top.no_decay", 1.0, 0.0),
        ("head", 10.0, 1.0),
        ("head.no_decay", 10.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["all"]),
        ({"weight_decay": 0.01}, ["all", "all.no_decay"]),
        ({"head": 10}, ["embeddings..top", "head"]),
        ({"layer_decay": 0.5}, ["embeddings", "layer.0", "layer.1", "layer.2..head"]),
        (
            {"groups": [(r"layer\.1\.attention", {"lr_scale": 0.5}), (r"layer\.2", {"lr": 1e-4})]},
            ["embeddings..layer.1+top..head", "layer.1.x0.5", "layer.2.x0.1"],
        ),
        (
            {"weight_decay": 0.01, "groups": [("classifier", {"weight_decay": 0.05})]},
            ["all", "all.decay_x5", "all.no_decay"],
        ),
    ],
)
def test_groups_are_named_for_what_they_span(asked, names):
    assert sorted(group.name for group in plan(BERT, 1e-3, **asked).groups) == sorted(names)


def test_weight_decay_reaches_matrices_and_embeddings_only():
    held = {group.name: group.params for group in plan(tiny("lm", "llama"), 1e-3, weight_decay=0.1).groups}
    assert all(name.endswith("norm.weight") for name in held["all.no_decay"])
    assert not any("norm" in name for name in held["all"])
    held = {group.name: group.params for group in plan(BERT, 1e-3, weight_decay=0.1).groups}
    assert {name.rpartition(".")[2] for name in held["all"]} == {"weight"}
    assert "classifier.weight" in held["all"]
    assert all("LayerNorm" in name or name.endswith("bias") for name in held["all.no_decay"])


@pytest.mark.parametrize(
    ("kind", "family"), [("seq", "bert"), ("lm", "gpt2"), ("lm", "llama"), ("seq", "modernbert")]
)
def test_one_update_moves_each_layer_in_proportion_to_its_multiplier(kind, family):
    model = tiny(kind, family)
    head = 8 if kind == "seq" or family == "llama" else 1  # GPT-2's is tied to the embeddings
    made = plan(model, 2.0**-6, layer_decay=0.5, head=head)
    optimizer = torch.optim.SGD(made.torch_groups(model))
    for parameter in model.parameters():
        parameter.data.zero_()
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {name: parameter.unique().tolist() for name, parameter in model.named_parameters()}
    depth = {p.leaf.name: p.depth for p in layout(model, layer_decay=0.5).ladder.placements}
    multiplier = {0: 0.125, 1: 0.25, 2: 0.5, 3: 1.0, 4: 1.0, 5: 8.0}
    assert moved == {name: [-(2.0**-6) * multiplier[depth[name]]] for name in moved}
    assert len({value for (value,) in moved.values()}) >= 4


def test_one_update_decays_what_shall_decay():
    model = tiny("seq", "bert")
    optimizer = torch.optim.AdamW(plan(model, 0.5, weight_decay=0.5).torch_groups(model))
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        stays = name.endswith("bias") or "LayerNorm" in name
        assert parameter.unique().tolist() == [1.0 if stays else 0.75], name


def test_no_weight_decay_is_none_also_where_the_optimizer_has_its_own_default():
    model = tiny("seq", "bert")
    optimizer = torch.optim.AdamW(plan(model, 1e-3).torch_groups(model))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0]


def test_rows_hold_every_parameter_with_its_reason():
    model = tiny("seq", "bert")
    model.bert.embeddings.requires_grad_(False)
    rows = layout(model, "2e-5 * warmup(0.1) >> cosine()", layer_decay=0.5, head=10, weight_decay=0.01).rows()
    assert sum(row.size for row in rows) == model.num_parameters()
    assert sum(len(row.placements) for row in rows) == len(list(model.named_parameters()))
    assert (rows[0].rung, rows[0].group, rows[0].setting) == ("embeddings", None, None)
    assert rows[-1][:3] == (5, "head", "head.no_decay")
    assert rows[-1].reasons == ("outside bert, which holds the blocks",)
    assert [row.depth for row in rows] == sorted(row.depth for row in rows)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layer_decay": 0}, "write 0.9, or 1"),
        ({"layer_decay": 1.1}, "write 0.9, or 1"),
        ({"layer_decay": float("nan")}, "layer_decay takes a finite number"),
        ({"layer_decay": "0.9"}, "layer_decay takes a number"),
        ({"head": 0}, "write 10, or 1"),
        ({"head": -1}, "write 10, or 1"),
        ({"head": float("inf")}, "head takes a finite number"),
        ({"groups": [("classifer", {"lr_scale": 2})]}, "matches no parameter; did you mean"),
        ({"groups": [("classifier", {"depth": "layer.3"})]}, "no rung of this model"),
        (
            {"weight_decay": 0.1, "groups": [("LayerNorm", {"weight_decay": 0.1})]},
            "only, and those have none",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(asked, message):
    with pytest.raises(PlanError, match=message):
        plan(BERT, 1e-3, **asked)


def test_rates_that_are_none_are_refused_by_the_language():
    for lr in ("fast", -1e-3, float("nan")):
        with pytest.raises(ScheduleError):
            plan(BERT, lr)


def test_models_that_are_none_are_refused():
    with pytest.raises(PlanError, match="torch module or a list of Leaf, got str"):
        plan("bert-base-uncased", 1e-3)
    with pytest.raises(PlanError, match="no parameters"):
        plan(nn.ReLU(), 1e-3)
    with pytest.raises(PlanError, match="no parameter of this model is trainable"):
        plan([Leaf("weight", (2, 2), trainable=False)], 1e-3)


def test_a_plain_model_needs_no_ladder_until_depth_is_asked_for():
    model = nn.ModuleDict({"low": nn.Linear(3, 4), "high": nn.Linear(4, 2)})
    assert [group.name for group in plan(model, 1e-3, weight_decay=0.1).groups] == ["all", "all.no_decay"]
    (rest, last) = plan(model, 1e-3, groups=[("high", {"lr_scale": 10})]).groups
    assert (rest.name, last.name, last.params) == ("model", "model.x10", ("high.weight", "high.bias"))
    assert [group.name for group in plan(model, 1e-3, freeze="low").groups] == ["model", "model.frozen"]
    for asked in (
        {"layer_decay": 0.5},
        {"head": 2},
        {"embeddings": 0.1},
        {"freeze": "embeddings"},
        {"freeze": 1},
    ):
        with pytest.raises(PlanError, match=r"no chain of repeated blocks.*low\.weight"):
            plan(model, 1e-3, **asked)
    by_hand = [("low", {"depth": 1}), ("high", {"depth": "head"})]
    assert [group.name for group in plan(model, 1e-3, head=5, groups=by_hand).groups] == ["layer.0", "head"]


def test_a_group_may_have_a_schedule_of_its_own_and_two_gates_make_two_groups():
    bert = tiny("seq", "bert")
    gates = [
        ("classifier", {"gate": "warmup(0.5) >> hold()"}),
        ("pooler", {"gate": "frozen(0.2) >> hold(start=1)"}),
    ]
    planned = plan(bert, "1e-3 * hold()", layer_decay=0.5, weight_decay=0.1, groups=gates, tick=0)
    names = [group.name for group in planned.groups]
    assert [name for name in names if "gated" in name] == [
        "top.gated1", "top.gated1.no_decay", "head.gated2", "head.gated2.no_decay",
    ]  # fmt: skip
    optimizer = torch.optim.SGD(planned.torch_groups(bert))
    driver = etude.Driver(planned.over(10), etude.torch.sink(optimizer))
    rates = {}
    for k in (0, 1, 2, 3, 5):
        driver.apply(k)
        rates[k] = dict(zip(names, driver.read("lr"), strict=True))
        assert bert.bert.pooler.dense.weight.requires_grad == (k >= 2)
        assert bert.classifier.weight.requires_grad
    assert [rates[k]["head.gated2"] for k in (0, 1, 3, 5)] == pytest.approx([0, 2e-4, 6e-4, 1e-3])
    assert [rates[k]["top.gated1"] for k in (0, 1, 2, 5)] == [0, 0, 1e-3, 1e-3]
    assert {rates[k]["layer.2"] for k in rates} == {1e-3}


def test_momentum_has_a_path_of_its_own_beside_the_rate():
    model = nn.Linear(2, 2)
    planned = plan(model, "1e-3 * one_cycle()", momentum="one_cycle_momentum()", tick=0)
    optimizer = torch.optim.AdamW(planned.torch_groups(model))
    driver = etude.Driver(planned.over(100), etude.torch.sink(optimizer))
    seen = []
    for k in (0, 30, 100):
        driver.apply(k)
        seen.append((driver.read("lr")[0], driver.read("momentum")[0], optimizer.param_groups[0]["betas"][1]))
    assert seen == [
        (pytest.approx(4e-5), 0.95, 0.999), (1e-3, 0.85, 0.999), (pytest.approx(4e-9), 0.95, 0.999),
    ]  # fmt: skip
