"""Weight decay by kind and shape, not by name alone."""

import pytest

from etude.errors import PlanError
from etude.model.leaf import NO_DECAY, Leaf, decays, kinds, listed


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (Leaf("dense.weight", (4, 4), module="Linear"), ""),
        (Leaf("score.weight", (1, 4), module="Linear"), ""),
        (Leaf("types.weight", (1, 4), module="Embedding"), "embedding"),
        (Leaf("wte.weight", (64, 4), module="Embedding"), "embedding"),
        (Leaf("c_attn.weight", (4, 12), module="Conv1D"), ""),
        (Leaf("stem.weight", (1, 4, 3), module="Conv"), ""),
        (Leaf("experts.gate_up_proj", (8, 4, 4), module="MixtralExperts"), ""),
        (Leaf("relative_attention_bias.weight", (32, 4), module="Embedding"), "embedding"),
        (Leaf("attention.relative_position_bias_table", (49, 2), module="SwinSelfAttention"), ""),
        (Leaf("normalised_projection.weight", (4, 4), module="Linear"), ""),
        (Leaf("dense.bias", (4,), module="Linear"), "bias"),
        (Leaf("attention.bias", (16, 1), module="SeparableConv1D"), "bias"),
        (Leaf("attention.in_proj_bias", (12,), module="MultiheadAttention"), "bias"),
        (Leaf("rnn.bias_hh_l0", (16,), module="GRU"), "bias"),
        (Leaf("experts.gate_up_proj_bias", (8, 4), module="GptOssExperts"), "bias"),
        (Leaf("ln_1.weight", (4,), module="Norm"), "norm"),
        (Leaf("ln_1.bias", (4,), module="Norm"), "bias norm"),
        (Leaf("q_norm.weight", (2, 4), module="Norm"), "norm"),
        (Leaf("cls_token", (1, 1, 4), module="ViTEmbeddings"), "vector"),
        (Leaf("pos_embed", (1, 5, 4), module="VisionTransformer"), "embedding"),
        (Leaf("layer_scale", (4,), module="Block"), "vector"),
        (Leaf("attention.bias_k", (1, 1, 4), module="MultiheadAttention"), "vector"),
        (Leaf("logit_scale", (), module="CLIPModel"), "vector"),
    ],
)
def test_what_a_parameter_is_and_whether_it_decays(leaf, expected):
    assert kinds(leaf) == {*expected.split()}
    assert decays(leaf) == (expected in ("", "embedding"))
    assert decays(leaf, ())


def test_kinds_are_listed_or_named_alone():
    assert listed("bias") == {"bias"}
    assert listed(NO_DECAY) == {"bias", "norm", "vector"}
    assert listed(()) == frozenset()
    with pytest.raises(
        PlanError, match="no_decay='norms' is no kind of parameter, which are bias, norm, vector"
    ):
        listed(["bias", "norms"])


def test_a_leaf_knows_its_size_and_its_owner():
    assert (Leaf("scale", ()).size, Leaf("weight", (2, 3)).size) == (1, 6)
    assert (Leaf("a", ()).owner, Leaf("b", (), tied_to="a").owner) == ("a", "a")
