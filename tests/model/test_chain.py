"""Which lists of names are chains of blocks, and which are not."""

import pytest

from etude.model.chain import find
from etude.model.leaf import Leaf


def chains(*names: str, embeddings: tuple[str, ...] = ()) -> dict[str, int]:
    leaves = [Leaf(name, (4, 4), module="Embedding" if name in embeddings else "Linear") for name in names]
    return {chain.path: len(chain.blocks) for chain in find(leaves)}


def block(path: str, *parts: str) -> list[str]:
    return [f"{path}.{part}.weight" for part in parts or ("attn", "mlp", "norm")]


def blocks(path: str, n: int, *parts: str) -> list[str]:
    return [name for i in range(n) for name in block(f"{path}.{i}", *parts)]


@pytest.mark.parametrize("prefix", ["", "bert.", "module.", "_orig_mod.module.model.decoder."])
def test_a_chain_is_found_under_any_prefix(prefix):
    assert chains(f"{prefix}wte.weight", *blocks(f"{prefix}h", 11), "head.weight") == {f"{prefix}h": 11}


def test_blocks_are_ordered_by_number_not_by_registration_or_spelling():
    names = [name for i in reversed(range(12)) for name in block(f"h.{i}")]
    (chain,) = find([Leaf(name, (4, 4)) for name in names])
    assert list(chain.blocks) == [(f"h.{i}.",) for i in range(12)]
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
        "layer.1.norm",
    ]
    assert chains("wte.weight", *blocks("block", 1, *parts)) == {"block": 1}
    assert chains("wte.weight", *blocks("block", 4, *parts)) == {"block": 4}


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
    (chain,) = find([Leaf(name, (4, 4)) for name in names])
    assert chain.blocks[1] == ("attentions.1.", "norm1.1.", "ffns.1.", "norm2.1.")
    assert chain.block("norm2.2.weight") == 3


def test_encoder_and_decoder_of_one_make_stay_two_chains():
    names = ["emb.weight", *blocks("encoder.layers", 3), *blocks("decoder.layers", 3)]
    assert chains(*names) == {"encoder.layers": 3, "decoder.layers": 3}
    names = ["emb.weight", *blocks("encoder_layers", 3), *blocks("decoder_layers", 3)]
    assert chains(*names) == {"encoder_layers": 3, "decoder_layers": 3}


def test_two_models_in_a_list_are_not_two_blocks():
    towers = [f"towers.{i}.{name}" for i in range(2) for name in ("emb.weight", *blocks("h", 4))]
    assert chains(*towers) == {"towers.0.h": 4, "towers.1.h": 4}
    embeddings = ("towers.0.emb.weight", "towers.1.emb.weight")
    assert chains("scale.weight", *towers, embeddings=embeddings) == {"towers.0.h": 4, "towers.1.h": 4}


def test_the_members_of_a_sequential_are_no_blocks():
    names = ["0.auto.emb.weight", *blocks("0.auto.encoder.layer", 6), "2.linear.weight"]
    assert chains(*names, embeddings=("0.auto.emb.weight",)) == {"0.auto.encoder.layer": 6}
    names = ["0.auto.emb.weight", *blocks("0.auto.encoder.layer", 1)]
    assert chains(*names, embeddings=("0.auto.emb.weight",)) == {"0.auto.encoder.layer": 1}


def test_stages_that_are_only_lists_of_blocks_are_one_chain():
    stages = [name for s, n in enumerate((2, 3)) for name in blocks(f"encoder.blocks.{s}", n)]
    (chain,) = find([Leaf(name, (4, 4)) for name in ("emb.weight", *stages)])
    assert [prefixes[0] for prefixes in chain.blocks] == [
        *(f"encoder.blocks.0.{i}." for i in range(2)),
        *(f"encoder.blocks.1.{i}." for i in range(3)),
    ]
