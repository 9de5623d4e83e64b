"""What runs between blocks, leads into them or lies beside stages, told by widths, numbers and siblings."""

import pytest

from etude.errors import PlanError
from etude.model.ladder import ladder
from etude.model.leaf import Leaf


def linear(name, out, into):
    return Leaf(f"{name}.weight", (out, into), module="Linear")


def norm(name, width=8):
    return Leaf(f"{name}.weight", (width,), module="Norm")


def blocks(count=4, path="layers", width=8):
    return [
        leaf
        for i in range(count)
        for leaf in (
            linear(f"{path}.{i}.attn", width, width),
            linear(f"{path}.{i}.mlp", width, width),
            norm(f"{path}.{i}.norm", width),
        )
    ]


WORDS = Leaf("embed.weight", (50, 8), module="Embedding")


def rungs(leaves):
    found = ladder(leaves)
    return {p.leaf.name.removesuffix(".weight"): found.name(p.tower, p.depth) for p in found.placements}


def test_a_prediction_in_the_middle_and_its_way_back_stand_there():
    found = rungs([WORDS, *blocks(), linear("out", 30, 8), linear("out_mid", 8, 30)])
    assert (found["out"], found["out_mid"]) == ("layer.1", "layer.1")


def test_layers_one_fewer_than_the_blocks_lie_between_them():
    found = rungs([WORDS, *blocks(), *(linear(f"conv_layers.{i}", 8, 8) for i in range(3))])
    assert [found[f"conv_layers.{i}"] for i in range(3)] == ["layer.0", "layer.1", "layer.2"]


def test_a_layer_after_the_blocks_that_leads_into_their_width_feeds_them():
    found = rungs([WORDS, *blocks(), linear("latent_proj", 8, 3), linear("summary", 3, 8)])
    assert (found["latent_proj"], found["summary"]) == ("embeddings", "top")


def test_what_an_unembedding_undoes_is_an_embedding():
    found = rungs([WORDS, *blocks(), linear("stream_proj", 8, 8), linear("stream_unembed_proj", 8, 8)])
    assert (found["stream_proj"], found["stream_unembed_proj"]) == ("embeddings", "top")


def test_a_plain_norm_registered_before_blocks_that_begin_with_one_may_be_their_last():
    pre = [leaf for i in range(4) for leaf in (norm(f"layers.{i}.a"), *blocks(1, f"layers.{i}.b"))]
    with pytest.raises(PlanError, match="layer_norm"):
        ladder([WORDS, norm("layer_norm"), *pre])
    post = rungs([WORDS, norm("layer_norm"), *blocks()])
    assert post["layer_norm"] == "embeddings"
