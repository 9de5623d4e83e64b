"""Weight decay by kind and shape, not by name alone."""

import pytest

from etude.model.leaf import Leaf, decays


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (Leaf("dense.weight", (4, 4), module="Linear"), True),
        (Leaf("score.weight", (1, 4), module="Linear"), True),
        (Leaf("types.weight", (1, 4), module="Embedding"), True),
        (Leaf("c_attn.weight", (4, 12), module="Conv1D"), True),
        (Leaf("experts.gate_up_proj", (8, 4, 4), module="MixtralExperts"), True),
        (Leaf("relative_attention_bias.weight", (32, 4), module="Embedding"), True),
        (Leaf("normalised_projection.weight", (4, 4), module="Linear"), True),
        (Leaf("dense.bias", (4,), module="Linear"), False),
        (Leaf("attention.bias", (16, 1), module="SeparableConv1D"), False),
        (Leaf("experts.gate_up_proj_bias", (8, 4), module="GptOssExperts"), False),
        (Leaf("ln_1.weight", (4,), module="Norm"), False),
        (Leaf("q_norm.weight", (2, 4), module="Norm"), False),
        (Leaf("cls_token", (1, 1, 4), module="ViTEmbeddings"), False),
        (Leaf("layer_scale", (4,), module="Block"), False),
        (Leaf("logit_scale", (), module="CLIPModel"), False),
    ],
)
def test_weight_decay(leaf, expected):
    assert decays(leaf) is expected


def test_a_leaf_knows_its_size_and_its_owner():
    assert (Leaf("scale", ()).size, Leaf("weight", (2, 3)).size) == (1, 6)
    assert (Leaf("a", ()).owner, Leaf("b", (), tied_to="a").owner) == ("a", "a")
