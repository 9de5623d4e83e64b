"""Which lists of names are chains of blocks, and which are not."""

import pytest

from etude.model.anatomy.chain import Chain, find
from etude.model.leaf import Leaf


def leaf(name: str, shape: tuple[int, ...] | None = None, module: str = "Linear") -> Leaf:
    """`weight` is a matrix, `norm` and `bias` are vectors; `=` shapes are written out."""
    kind = "Norm" if "norm" in name or "bn" in name else module
    vector = kind == "Norm" or name.endswith("bias")
    return Leaf(name, shape or ((4,) if vector else (4, 4)), module=kind)


def found(*names: str, embeddings: tuple[str, ...] = ()) -> list[Chain]:
    return find([leaf(name, module="Embedding" if name in embeddings else "Linear") for name in names])


def chains(*names: str, embeddings: tuple[str, ...] = ()) -> dict[str, int]:
    return {chain.path: len(chain.blocks) for chain in found(*names, embeddings=embeddings)}


def block(path: str, *parts: str) -> list[str]:
    return [f"{path}.{part}.weight" for part in parts or ("attn", "mlp", "norm")]


def blocks(path: str, n: int, *parts: str) -> list[str]:
    return [name for i in range(n) for name in block(f"{path}.{i}", *parts)]


@pytest.mark.parametrize("prefix", ["", "bert.", "base_model.model.model.decoder."])
def test_a_chain_is_found_under_any_prefix(prefix):
    (chain,) = found(f"{prefix}wte.weight", *blocks(f"{prefix}h", 11), "head.weight")
    assert len(chain.blocks) == 11
    assert chain.block(f"{prefix}h.10.norm.weight") == 11


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "_orig_mod.module.", "_fsdp_wrapped_module."])
def test_a_wrapper_leaves_no_trace(wrapper):
    bare = ["wte.weight", *blocks("h", 3), "head.weight"]
    assert chains(*(wrapper + name for name in bare)) == chains(*bare) == {"h": 3}
    inside = [name.replace("h.1.", "h.1._fsdp_wrapped_module._checkpoint_wrapped_module.") for name in bare]
    assert chains(*inside) == {"h": 3}


def test_blocks_are_ordered_by_number_not_by_registration_or_spelling():
    (chain,) = found(*(name for i in reversed(range(12)) for name in block(f"h.{i}")))
    assert list(chain.blocks) == [frozenset(block(f"h.{i}")) for i in range(12)]
    assert chain.block("h.10.attn.weight") == 11
    assert chain.block("h.1.attn.weight") == 2
    assert chain.block("h2.weight") is None


def test_one_block_alone_is_a_chain_when_something_stands_before_it():
    assert chains("wte.weight", *blocks("encoder.layer", 1)) == {"encoder.layer": 1}
    assert chains(*blocks("encoder.layer", 1)) == {}


def test_what_repeats_inside_a_block_is_no_chain():
    experts = [f"experts.{i}.{part}" for i in range(8) for part in ("up", "down")]
    for n in (1, 3):
        assert chains("wte.weight", *blocks("h", n, "attn", "norm", *experts)) == {"h": n}


def test_the_unlike_parts_of_a_block_are_no_chain():
    parts = [f"layer.0.Attention.{part}" for part in "qkvo"] + [
        "layer.0.norm",
        "layer.1.Dense.wi",
        "layer.1.Dense.wo",
        "layer.1.norm",
    ]
    assert chains("wte.weight", *blocks("block", 1, *parts)) == {"block": 1}
    assert chains("wte.weight", *blocks("block", 4, *parts)) == {"block": 4}


def test_a_table_of_positions_in_the_first_block_does_not_make_it_a_model():
    parts = [f"layer.0.Attention.{part}" for part in "qkvo"] + ["layer.1.Dense.wi", "layer.1.Dense.wo"]
    table = "block.0.layer.0.Attention.bias_table.weight"
    assert chains("wte.weight", table, *blocks("block", 4, *parts), embeddings=(table,)) == {"block": 4}


def test_blocks_may_differ_in_a_table_or_in_their_mixer():
    odd = [
        *block("h.0", "attn.q", "attn.o", "relative", "mlp", "norm"),
        *blocks("h", 3, "attn.q", "attn.o", "mlp", "norm"),
    ]
    assert chains("wte.weight", *dict.fromkeys(odd)) == {"h": 3}
    hybrid = [
        name
        for i in range(6)
        for name in block(
            f"h.{i}", "attn.q" if i % 3 == 0 else "mamba.in", "norm1", "mlp.up", "mlp.down", "norm2"
        )
    ]
    assert chains("wte.weight", *hybrid) == {"h": 6}


def test_blocks_of_which_no_two_are_alike_are_known_by_what_their_list_is_called():
    kinds = [("mamba.in", "mamba.out"), ("attn.q", "attn.o"), ("mlp.up", "mlp.down")]
    names = [name for i, kind in enumerate(kinds) for name in block(f"layers.{i}", *kind)]
    assert chains("wte.weight", *names) == {"layers": 3}
    assert chains("wte.weight", *(name.replace("layers", "things") for name in names)) == {}


def test_a_dense_layer_below_layers_of_experts_is_a_block():
    dense = block("h.0", "attn.q", "attn.o", "norm1", "norm2", "mlp.up", "mlp.down")
    experts = ("attn.q", "attn.o", "norm1", "norm2", "mlp.gate", "mlp.experts.up", "mlp.experts.down")
    later = [name for i in (1, 2) for name in block(f"h.{i}", *experts)]
    assert chains("wte.weight", *dense, *later) == {"h": 3}


def test_layers_of_a_head_are_no_chain():
    head = ["classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias"]
    assert chains("wte.weight", *blocks("h", 3), *head) == {"h": 3}
    assert chains("wte.weight", *head) == {}


def test_parallel_lists_are_parts_of_the_same_blocks():
    names = [
        "emb.weight",
        *blocks("attentions", 3, "q", "k"),
        *(f"norm1.{i}.weight" for i in range(3)),
        *blocks("ffns", 3, "lin1", "lin2"),
        *(f"norm2.{i}.weight" for i in range(3)),
    ]
    (chain,) = found(*names)
    assert chain.blocks[1] == {name for name in names if ".1." in name}
    assert chain.block("norm2.2.weight") == 3


def test_lists_of_blocks_side_by_side_are_several_chains_unless_one_is_a_small_part():
    three = [*blocks("layer", 5), *blocks("x_layers", 5, "cross", "mlp", "norm")]
    assert chains("emb.weight", *three) == {"layer": 5, "x_layers": 5}
    small = [leaf(f"scores_layers.{i}.{part}.weight", (1, 4)) for i in range(5) for part in "ab"]
    (chain,) = find([leaf("emb.weight"), *map(leaf, blocks("layers", 5)), *small])
    assert chain.block("scores_layers.4.b.weight") == 5


def test_encoder_and_decoder_of_one_make_stay_two_chains():
    names = ["emb.weight", *blocks("encoder.layers", 3), *blocks("decoder.layers", 3)]
    assert chains(*names) == {"encoder.layers": 3, "decoder.layers": 3}
    names = ["emb.weight", *blocks("encoder_layers", 3), *blocks("decoder_layers", 3)]
    assert chains(*names) == {"encoder_layers": 3, "decoder_layers": 3}


def test_two_models_in_a_list_are_not_two_blocks():
    towers = [f"towers.{i}.{name}" for i in range(2) for name in ("emb.weight", *blocks("h", 4))]
    embeddings = ("towers.0.emb.weight", "towers.1.emb.weight")
    assert chains(*towers, embeddings=embeddings) == {"towers.0.h": 4, "towers.1.h": 4}
    assert chains("scale.weight", *towers, embeddings=embeddings) == {"towers.0.h": 4, "towers.1.h": 4}


def test_the_members_of_a_sequential_are_no_blocks():
    names = ["0.auto.emb.weight", *blocks("0.auto.encoder.layer", 6), "2.linear.weight"]
    assert chains(*names, embeddings=("0.auto.emb.weight",)) == {"0.auto.encoder.layer": 6}
    names = ["0.auto.emb.weight", *blocks("0.auto.encoder.layer", 1)]
    assert chains(*names, embeddings=("0.auto.emb.weight",)) == {"0.auto.encoder.layer": 1}


def test_a_list_that_is_called_one_of_blocks_goes_before_others():
    names = [
        "emb.weight",
        *blocks("visual.blocks", 4),
        *blocks("visual.merger_list", 2, "norm", "up", "down"),
    ]
    assert chains(*names) == {"visual.blocks": 4}
    assert chains("emb.weight", *blocks("visual.self_attends", 4)) == {"visual.self_attends": 4}


# Stages.


def test_stages_that_are_lists_of_blocks_are_one_chain():
    stages = [name for s, n in enumerate((2, 3)) for name in blocks(f"encoder.blocks.{s}", n)]
    (chain,) = found("emb.weight", *stages)
    assert [sorted(names)[0] for names in chain.blocks] == [
        *(f"encoder.blocks.0.{i}.attn.weight" for i in range(2)),
        *(f"encoder.blocks.1.{i}.attn.weight" for i in range(3)),
    ]


def test_numbered_attributes_are_stages_too():
    names = [
        "conv1.weight",
        *blocks("layer1", 2, "conv1", "bn1", "conv2", "bn2"),
        *blocks("layer2", 3, "conv1", "bn1", "conv2", "bn2"),
    ]
    (chain,) = found(*names)
    assert len(chain.blocks) == 5
    assert chain.block("layer2.0.bn1.weight") == 3


def stage(i: int, width: int, first: tuple[int, int] | None = None, last: tuple[int, int] | None = None):
    """A stage of two blocks `width` wide, with its downsampling registered before or after them."""
    parts = [
        leaf(f"stages.{i}.blocks.{j}.{fc}.weight", shape)
        for j in range(2)
        for fc, shape in (("fc1", (4 * width, width)), ("fc2", (width, 4 * width)))
    ]
    before = [leaf(f"stages.{i}.down.weight", first)] if first else []
    return [*before, *parts, *([leaf(f"stages.{i}.downsample.weight", last)] if last else [])]


def test_what_a_stage_has_before_its_blocks_stands_with_its_first():
    (chain,) = find([*stage(0, 8), *stage(1, 16, first=(16, 8))])
    assert chain.block("stages.1.down.weight") == 3


def test_what_ends_a_stage_stands_with_its_last_block():
    (chain,) = find([*stage(0, 8, last=(16, 32)), *stage(1, 16)])  # Swin: four neighbours of 8 become 16
    assert chain.block("stages.0.downsample.weight") == 2


def test_what_feeds_a_stage_but_is_registered_after_its_blocks_is_known_by_its_width():
    (chain,) = find([*stage(0, 8), *stage(1, 16, last=(16, 8))])  # FasterNet
    assert chain.block("stages.1.downsample.weight") == 3


def test_lists_beside_the_stages_are_parts_of_them_if_their_widths_fit():
    widths = (8, 16, 32, 64)
    patches = [
        part
        for i, width in enumerate(widths)
        for part in (leaf(f"patch.{i}.proj.weight", (width, 3)), leaf(f"patch.{i}.norm.weight", (width,)))
    ]
    stages = [part for i, width in enumerate(widths) for part in stage(i, width)]
    vectors = [leaf(f"stages.{i}.blocks.0.fc2.bias", (width,)) for i, width in enumerate(widths)]
    norms = [leaf(f"norm.{i}.weight", (width,)) for i, width in enumerate(widths)]
    (chain,) = find([*patches, *stages, *vectors, *norms])
    assert [chain.block(f"patch.{i}.proj.weight") for i in range(4)] == [None, 3, 5, 7]  # the first is a stem
    assert [chain.block(f"norm.{i}.weight") for i in range(4)] == [2, 4, 6, 8]
    stem = [leaf(f"stem.{i}.conv.weight", (5, 5)) for i in range(4)]
    (chain,) = find([*stem, *stages, *vectors])
    assert chain.block("stem.3.conv.weight") is None


def test_what_joins_two_stages_in_their_list_is_no_block():
    names = [
        *blocks("network.0", 2, "a", "b"),
        "network.1.proj.weight",
        *blocks("network.2", 2, "a", "b"),
    ]
    (chain,) = found(*names)
    assert len(chain.blocks) == 4
    assert chain.block("network.1.proj.weight") == 3


def test_the_convolutions_inside_a_block_are_no_stage():
    names = [f"stages.{s}.layers.{b}.layer.{c}.conv.weight" for s in (0, 1) for b in (0, 1) for c in (0, 1)]
    (chain,) = found("stem.weight", *names)
    assert len(chain.blocks) == 4


# Plain stacks.


def test_the_layers_of_a_sequential_are_a_plain_stack():
    (chain,) = found("0.weight", "0.bias", "1.bn.weight", "3.weight", "3.bias", "5.weight")
    assert not chain.whole
    assert [sorted(names) for names in chain.blocks] == [
        ["0.bias", "0.weight", "1.bn.weight"],
        ["3.bias", "3.weight"],
        ["5.weight"],
    ]


def test_the_layers_of_a_recurrent_net_are_blocks():
    names = [
        f"rnn.{part}_l{i}{way}"
        for i in range(3)
        for part in ("weight_ih", "weight_hh")
        for way in ("", "_reverse")
    ]
    (chain,) = found("emb.weight", *names)
    assert [chain.block(f"rnn.weight_hh_l{i}_reverse") for i in range(3)] == [1, 2, 3]
    (awd,) = found(
        "emb.weight", *(f"rnns.{i}.{part}_l0" for i in range(3) for part in ("weight_ih", "weight_hh"))
    )
    assert awd.block("rnns.2.weight_hh_l0") == 3


def test_norms_beside_a_plain_stack_go_with_its_layers():
    names = [f"conv{i}.weight" for i in (1, 2, 3)] + [f"bn{i}.weight" for i in (1, 2, 3)]
    (chain,) = found(*names, "out.weight")
    assert [sorted(names) for names in chain.blocks] == [
        [f"bn{i}.weight", f"conv{i}.weight"] for i in (1, 2, 3)
    ]


def test_several_unnamed_stacks_are_none():
    names = [
        f"{path}.branch{i}.{conv}.weight" for path in ("mixed_a", "mixed_b") for i in (0, 1) for conv in "cd"
    ]
    assert chains("stem.weight", *names) == {}
