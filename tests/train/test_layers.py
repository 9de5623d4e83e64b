"""The keys of a recipe that say which layer gets what: how they may be written, and what they do to a run."""

import pytest
import torch
from safetensors.torch import load_file

from etude.errors import PlanError, RecipeError
from etude.report.log import read as read_log
from etude.train.finetuning import finetune
from etude.train.recipe import Recipe, read, template

STAGES = 'stage("head", 0.1) >> stage("layer.0..head")'


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("layer_decay=0.8", 0.8),
        ("layer_decay='0.8'", 0.8),
        ("layer_decay=[0.5, 0.6, 1]", [0.5, 0.6, 1.0]),
        ("layer_decay={encoder: 0.5, decoder: [0.5, 1]}", {"encoder": 0.5, "decoder": [0.5, 1.0]}),
        ("convention=fastai(0.01)", "fastai(0.01)"),
        ("embeddings=0.1", 0.1),
        ("min_scale=0.2", 0.2),
        ("no_decay=bias", ["bias"]),
        ("no_decay=bias,embedding", ["bias", "embedding"]),
        ("no_decay=[bias, norm]", ["bias", "norm"]),
        ("no_decay=[]", []),
        ("freeze=layer.2", "layer.2"),
        ("freeze=3", 3),
        ("freeze={encoder: 3, decoder: embeddings}", {"encoder": 3, "decoder": "embeddings"}),
        ("freeze=[embeddings, '\\.bias$']", ["embeddings", r"\.bias$"]),
        (f"stages={STAGES}", STAGES),
        ("stages=[{rungs: head, over: 0.1}, {rungs: layer.0..head}]", STAGES),
        ("new=pooler", ["pooler"]),
        ("new=[pooler, classifier.bias]", ["pooler", "classifier.bias"]),
        ("groups=[{match: pooler, lr: 1e-5}]", [{"match": "pooler", "lr": 1e-5}]),
        ("groups=[[pooler, {lr_scale: '2', weight_decay: 0}]]",
         [{"match": "pooler", "lr_scale": 2.0, "weight_decay": 0.0}]),
        ("groups=[{match: '\\.0\\.', depth: 2}, {match: x, freeze: true}]",
         [{"match": r"\.0\.", "depth": 2}, {"match": "x", "freeze": True}]),
        ("groups=[{match: y, gate: cosine() >> frozen(0.1)}]",
         [{"match": "y", "gate": "cosine() >> frozen(0.1)"}]),
    ],
)  # fmt: skip
def test_what_is_written_is_plain_and_reads_back_equal(tmp_path, setting, value):
    recipe, _ = read(overrides=[setting])
    key = setting.partition("=")[0]
    assert getattr(recipe, key) == value
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.dump(), encoding="utf-8")
    assert read(path)[0] == recipe
    assert recipe.plan_options[key] == value


def test_a_convention_with_rates_of_its_own_needs_no_factor(tmp_path):
    assert (Recipe().layer_decay, Recipe(convention="beit").layer_decay) == (0.9, 0.9)
    assert [Recipe(convention=name).layer_decay for name in ("ulmfit", "fastai", "thirds")] == [None] * 3
    assert Recipe(convention="ulmfit", layer_decay=0.5).layer_decay == 0.5
    path = tmp_path / "recipe.yaml"
    path.write_text(template(), encoding="utf-8")
    assert read(path, ["convention=thirds", "layer_decay=null"])[0].convention == "thirds"
    with pytest.raises(
        RecipeError, match=r"says every rung's rate: leave out layer_decay \(in a recipe: layer_d"
    ):
        read(path, ["convention=thirds"])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("layer_decay=2", "layer_decay must be less than or equal to 1"),
        ("layer_decay=[0.5, 0]", "layer_decay must be greater than 0"),
        ("layer_decay={encoder: 2}", "layer_decay must be less than or equal to 1"),
        ("layer_decay=slow", "layer_decay must be a number"),
        ("layer_decay=[]", "layer_decay is an empty list"),
        ("convention=beat", "did you mean 'bert' or 'beit'"),
        ("convention=[bert]", "convention is not understood"),
        ("embeddings=0", "embeddings must be greater than 0"),
        ("min_scale=2", "min_scale must be less than or equal to 1"),
        ("head=0.1 min_scale=0.5", "head=0.1 lies below min_scale=0.5"),
        ("no_decay=norms", "'norms' is no kind of parameter"),
        ("no_decay=3", "no_decay must be a list of texts"),
        ("freeze=0.5", "freeze must be a whole number"),
        ("freeze=[true]", "freeze must be a number"),
        ("stages=unfreze(1)", "stages is not understood"),
        ("new=[3]", "new must be a list of texts"),
        ("groups=pooler", "groups must be a list"),
        ("groups=[pooler]", "groups must have entries such as"),
        ("groups=[{lr: 1e-5}]", "groups must have a regular expression as match in every entry"),
        ("groups=[{match: pooler, lr_scal: 2}]", "did you mean 'lr_scale'"),
        ("groups=[{match: pooler, lr: fast}]", "groups must be a number"),
        ("groups=[{match: pooler, gate: hld()}]", "did you mean 'hold'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(setting, says):
    with pytest.raises(RecipeError) as caught:
        read(overrides=setting.split(" ") if " min_scale" in setting else [setting])
    assert says in str(caught.value)


def test_functions_have_no_place_in_a_recipe():
    with pytest.raises(RecipeError, match="must have a regular expression as match"):
        read(overrides={"groups": [(len, {"lr_scale": 2})]})


def test_names_of_others_are_understood():
    recipe, renamed = read(overrides=["llrd=0.8", "layer_decay_min_scale=0.1", "embedding_lr_scale=0.5"])
    assert (recipe.layer_decay, recipe.min_scale, recipe.embeddings) == (0.8, 0.1, 0.5)
    assert len(renamed) == 3


def test_a_run_does_what_its_recipe_says_of_layers(tiny, tmp_path):
    options = {
        "convention": "beit", "layer_decay": 0.5, "head": 2, "freeze": "embeddings", "new": ["pooler"],
        "no_decay": ["norm"], "groups": [{"match": r"layer\.0\.output", "freeze": True}], "epochs": 1,
    }  # fmt: skip
    run = finetune(output=tmp_path / "run", **tiny.keys(**options))
    start = read_log(run.folder / "log.jsonl").start
    scales = {
        group["name"]: (group["scale"]["lr"], group["scale"]["weight_decay"]) for group in start["groups"]
    }
    assert scales == {
        "embeddings..layer.0.frozen": (0, 0), "layer.0": (0.25, 1), "layer.0.no_decay": (0.25, 0),
        "layer.1": (0.5, 1), "layer.1.no_decay": (0.5, 0), "head": (2, 1),
    }  # fmt: skip
    old, new = load_file(tiny.model / "model.safetensors"), load_file(run.model / "model.safetensors")
    still = {name for name in old if torch.equal(old[name], new[f"bert.{name}"])}
    assert still == {name for name in old if name.startswith("embeddings") or "layer.0.output" in name}
    assert 9 == len(still) < len(old)


def test_what_the_model_has_not_is_refused_before_anything_is_written(tiny, tmp_path):
    for option, says in (
        ({"convention": "thirds"}, "needs three blocks, and this model has 2"),
        ({"freeze": "layer.2"}, "'layer.2' is no rung"),
        ({"new": ["score"]}, "'score' matches no parameter"),
        ({"layer_decay": [0.5, 1]}, "2 ratios for 4 rungs below the head: embeddings, layer.0, layer.1, top"),
    ):
        with pytest.raises(PlanError, match=says):
            finetune(output=tmp_path / "run", **tiny.keys(**option))
        assert not (tmp_path / "run").exists()


def test_a_frozen_run_that_is_resumed_ends_like_one_that_was_not(tiny, tmp_path, interrupt_at):
    options = {"freeze": "embeddings", "convention": "fastai(0.1)", "epochs": 1}
    whole = finetune(output=tmp_path / "whole", **tiny.keys(**options))
    interrupt_at(9)
    run = finetune(output=tmp_path / "run", **tiny.keys(**options))
    assert run.interrupted
    interrupt_at(-1)
    run = finetune(run.folder, resume=True)
    ends = [load_file(one.folder / "checkpoints" / "00000021" / "model.safetensors") for one in (whole, run)]
    assert len(ends[0]) > 30
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    moments = load_file(run.folder / "checkpoints" / "00000021" / "optimizer.safetensors")
    assert any("classifier" in name for name in moments)
    assert not any("embeddings" in name for name in moments)
