"""Where parameters stand: the rules one by one, on small made-up models."""

import math

import pytest

from etude.errors import PlanError
from etude.model.ladder import Ladder, ladder
from etude.model.leaf import Leaf


def model(*names: str, blocks: int = 3, path: str = "net.h", **settings) -> list[Leaf]:
    """`blocks` stands for the chain; `E:` marks an embedding and `N:` a norm, `a=b` a second name of b."""
    leaves = []
    for name in names:
        kind, _, bare = name.rpartition(":")
        bare, _, owner = bare.partition("=")
        if bare == "blocks":
            parts = [f"{path}.{i}.{part}" for i in range(blocks) for part in ("attn", "mlp")]
            leaves += [Leaf(f"{part}.weight", (4, 4), module="Linear") for part in parts]
        else:
            module, shape = {"E": ("Embedding", (9, 4)), "N": ("Norm", (4,)), "": ("Linear", (4, 4))}[kind]
            leaves.append(Leaf(f"{bare}.weight", shape, True, module, f"{owner}.weight" if owner else None))
    return leaves


def rungs(leaves: list[Leaf], depths=None) -> dict[str, str]:
    """Name to rung, for everything outside the blocks."""
    found = ladder(leaves, depths)
    return {
        p.leaf.name.removesuffix(".weight"): found.name(p.depth)
        for p in found.placements
        if not p.reason.startswith("block ")
    }


def test_the_four_kinds_of_rungs():
    leaves = model("E:net.wte", "blocks", "N:net.ln", "net.pooler", "score")
    assert rungs(leaves) == {"net.wte": "embeddings", "net.ln": "top", "net.pooler": "top", "score": "head"}
    found = ladder(leaves)
    assert found.blocks == 3
    assert [rung.depth for rung in found.rungs()] == [0, 1, 2, 3, 4, 5]


def test_the_head_may_be_registered_first():
    assert rungs(model("classifier", "E:net.wte", "blocks"))["classifier"] == "head"


def test_an_embedding_is_at_the_bottom_wherever_it_is_registered():
    leaves = model("E:net.emb.word", "blocks", "E:net.positions", "N:net.norm", path="net.enc.h")
    assert rungs(leaves)["net.positions"] == "embeddings"


def test_a_norm_right_after_a_late_embedding_belongs_to_it():
    leaves = model("E:net.emb.word", "blocks", "E:net.enc.rel", "N:net.enc.LayerNorm", path="net.enc.h")
    assert rungs(leaves)["net.enc.LayerNorm"] == "embeddings"
    leaves = model("E:net.emb.word", "blocks", "E:net.enc.rel", "N:net.enc.final_norm", path="net.enc.h")
    assert rungs(leaves)["net.enc.final_norm"] == "top"


def test_what_shares_a_part_with_an_embedding_stands_with_it():
    leaves = model(
        "E:net.emb.word", "N:net.emb.norm", "net.emb.project", "net.map_in", "blocks", path="net.enc.h"
    )
    assert set(rungs(leaves).values()) == {"embeddings"}


def test_what_is_named_for_the_end_is_at_the_top_though_it_comes_before_the_blocks():
    leaves = model("E:net.wte", "N:net.final_layer_norm", "net.project_out", "net.project_in", "blocks")
    assert rungs(leaves) == {
        "net.wte": "embeddings",
        "net.final_layer_norm": "top",
        "net.project_out": "top",
        "net.project_in": "embeddings",
    }


def test_the_backbone_is_bounded_by_the_largest_embedding():
    leaves = model("E:net.emb.word", "E:net.enc.positions", "blocks", "score", path="net.enc.h")
    leaves[1] = leaves[1]._replace(shape=(2, 4))
    assert rungs(leaves) == {"net.emb.word": "embeddings", "net.enc.positions": "embeddings", "score": "head"}


def test_a_large_table_after_the_blocks_does_not_bound_the_backbone():
    leaves = model("E:net.emb.word", "blocks", "E:net.enc.rel", "score", path="net.enc.h")
    leaves[-2] = leaves[-2]._replace(shape=(99, 4))
    assert rungs(leaves) == {"net.emb.word": "embeddings", "net.enc.rel": "embeddings", "score": "head"}


def test_a_table_of_the_backbone_itself_is_at_the_bottom_and_a_vector_is_doubtful():
    leaves = model("E:net.wte", "blocks")
    assert rungs([Leaf("net.mask", (1, 1, 4)), *leaves])["net.mask"] == "embeddings"
    with pytest.raises(PlanError, match=r"net\.scale"):
        ladder([Leaf("net.scale", (4,)), *leaves])


def test_without_embeddings_the_backbone_begins_with_what_comes_before_the_blocks():
    leaves = model("vit.patch.projection", "blocks", "N:vit.norm", "score", path="vit.h")
    assert rungs(leaves) == {"vit.patch.projection": "embeddings", "vit.norm": "top", "score": "head"}


def test_tied_weights_occur_once_at_the_lowest_of_their_depths_and_say_so():
    found = ladder(model("E:net.wte", "blocks", "lm_head=net.wte"))
    (tied,) = [p for p in found.placements if len(p.names) > 1]
    assert (tied.leaf.name, tied.depth, tied.names) == (
        "net.wte.weight",
        0,
        ("net.wte.weight", "lm_head.weight"),
    )
    assert "tied to lm_head.weight (head)" in tied.reason
    # The owner may as well be the head, as in RoBERTa of transformers 5.
    leaves = model("lm_head", "E:net.wte=lm_head", "blocks")
    assert rungs(leaves) == {"lm_head": "embeddings"}


def test_a_block_shared_by_all_layers_has_the_lowest_of_their_depths():
    first, *later = (model("blocks", blocks=1, path=f"net.h.{i}")[:2] for i in range(3))
    names = [[leaf.name.replace(".0.", ".") for leaf in leaves] for leaves in (first, *later)]
    owners = [Leaf(name, (4, 4)) for name in names[0]]
    again = [
        Leaf(name, (4, 4), tied_to=owner)
        for copy in names[1:]
        for name, owner in zip(copy, names[0], strict=True)
    ]
    found = ladder([*model("E:net.wte"), *owners, *again, *model("score")])
    assert found.blocks == 3
    assert [rung.name for rung in found.rungs()] == ["embeddings", "layer.0", "head"]


@pytest.mark.parametrize(
    ("doubtful", "leaves"),
    [
        ("net.embedding_norm", model("E:net.wte", "blocks", "N:net.embedding_norm")),
        ("net.conv", model("E:net.wte", "blocks", "net.conv")),
        ("net.per_layer", model("E:net.wte", "blocks", "net.per_layer", "N:net.per_layer_norm")),
        ("vision_embed", model("E:net.wte", "blocks", "vision_embed")),
        ("extra", model("E:net.wte", "blocks", "E:extra")),
    ],
)
def test_what_is_doubtful_is_refused_with_the_line_that_settles_it(doubtful, leaves):
    with pytest.raises(PlanError) as caught:
        ladder(leaves)
    assert doubtful + ".weight" in str(caught.value)
    assert "groups=[(" in str(caught.value)
    settled = {leaf.name: "top" for leaf in leaves if leaf.name.startswith(doubtful)}
    assert rungs(leaves, settled)[doubtful] == "top"


def test_a_frozen_doubtful_parameter_needs_no_depth():
    leaves = model("E:net.wte", "blocks", "net.conv")
    leaves[-1] = leaves[-1]._replace(trainable=False)
    assert "net.conv" not in rungs(leaves)


def test_two_chains_are_refused_and_can_be_settled():
    encoder = model("E:net.shared", "E:net.encoder.embed=net.shared", "blocks", path="net.encoder.h")
    decoder = model(
        "E:net.decoder.embed=net.shared", "blocks", "N:net.decoder.norm", "score", path="net.decoder.h"
    )
    with pytest.raises(PlanError, match=r"net\.encoder\.h \(3 blocks\) and net\.decoder\.h \(3 blocks\)"):
        ladder(encoder + decoder)
    found = ladder(encoder + decoder, {leaf.owner: "embeddings" for leaf in encoder})
    assert [(rung.name, len(rung.placements)) for rung in found.rungs()] == [
        ("embeddings", 7),
        *((f"layer.{i}", 2) for i in range(3)),
        ("top", 1),
        ("head", 1),
    ]


def test_no_chain_is_refused_and_every_depth_can_be_said():
    leaves = model("first", "second", "last")
    with pytest.raises(PlanError, match=r"no chain of repeated blocks.*first"):
        ladder(leaves)
    assert rungs(leaves, {"first.weight": 1, "second.weight": 2, "last.weight": "head"}) == {
        "first": "layer.0",
        "second": "layer.1",
        "last": "head",
    }


@pytest.mark.parametrize("depth", ["layer.3", "bottom", -1, 6, True, 1.0])
def test_a_depth_that_is_no_rung_is_refused(depth):
    with pytest.raises(PlanError, match=r"write one of embeddings, layer\.0, layer\.1, layer\.2, top, head"):
        ladder(model("E:net.wte", "blocks", "score"), {"score.weight": depth})


def test_the_users_word_wins():
    leaves = model("E:net.wte", "blocks", "score")
    assert rungs(leaves, {"net.h.2.mlp.weight": "head"})["net.h.2.mlp"] == "head"
    assert rungs(leaves, {"net.wte.weight": 3})["net.wte"] == "layer.2"


def test_multipliers_follow_the_bert_convention():
    """Table of the layer-wise decay document: 12 layers, decay 0.95, base 2e-5."""
    twelve = Ladder(12, ())
    rates = [2e-5 * twelve.multiplier(depth, 0.95) for depth in (12, 11, 10, 6, 1, 0)]
    assert [f"{rate * 1e5:.2f}" for rate in rates] == ["2.00", "1.90", "1.81", "1.47", "1.14", "1.08"]
    assert twelve.multiplier(13, 0.95, 10) == 1
    assert twelve.multiplier(14, 0.95, 10) == 10
    assert math.isclose(twelve.multiplier(0, 0.9), 0.9**12)
