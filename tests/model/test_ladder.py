"""Where parameters stand: the rules one by one, on small made-up models."""

import pytest

from etude.errors import PlanError
from etude.model.ladder import ladder
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
        p.leaf.name.removesuffix(".weight"): found.name(p.tower, p.depth)
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
    assert rungs([Leaf("net.mask_embed", (4,)), *leaves])["net.mask_embed"] == "embeddings"


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
    ("part", "rung", "leaves"),
    [
        ("net.conv", "top", model("E:net.wte", "blocks", "net.conv")),
        ("net.embedding_projection", "top", model("E:net.wte", "blocks", "net.embedding_projection")),
        ("net.rel_pos_bias", "embeddings", model("E:net.wte", "blocks", "net.rel_pos_bias")),
        ("net.embedding_norm", "top", model("E:net.wte", "blocks", "N:net.embedding_norm")),
        ("embed_time", "embeddings", model("E:net.wte", "blocks", "embed_time")),
        ("extra", "embeddings", model("E:net.wte", "blocks", "E:extra")),
    ],
)
def test_what_is_registered_after_the_blocks_is_above_them_unless_its_name_or_kind_says_otherwise(
    part, rung, leaves
):
    assert rungs(leaves)[part] == rung


def test_what_is_doubtful_is_told_by_the_order_of_execution():
    """BART's norm with a bias comes first, BigBird-Pegasus' of the same name and place comes last."""
    leaves = model("E:net.wte", "blocks", "N:net.layernorm_embedding")
    leaves.append(Leaf("net.layernorm_embedding.bias", (4,), module="Norm"))
    with pytest.raises(PlanError, match=r"net\.layernorm_embedding"):
        ladder(leaves)
    names = [leaf.name for leaf in leaves]
    norm = names[-2:]
    for order, rung in (
        ([names[0], *norm, *names[1:-2]], "embeddings"),
        (names, "top"),
        ([*names[:5], *norm, *names[5:-2]], "layer.1"),
    ):
        found = ladder(leaves, order=lambda order=order: order)
        assert {found.name(p.tower, p.depth) for p in found.placements if p.leaf.name in norm} == {rung}
    with pytest.raises(PlanError, match=r"net\.layernorm_embedding"):
        ladder(leaves, order=lambda: names[:-2])


def test_what_is_registered_between_two_blocks_stands_with_the_next():
    parts = [f"{part}{i}.{fc}" for i in (1, 2) for part in ("block", "transition") for fc in ("a", "b")]
    leaves = model("stem", *(part for part in parts if not part.startswith("transition2")), "fc")
    found = ladder(leaves)
    depth = {p.leaf.name: p.depth for p in found.placements}
    assert found.blocks == 2
    assert depth["transition1.a.weight"] == depth["block2.a.weight"] == 2
    assert (depth["stem.weight"], depth["fc.weight"]) == (0, 4)


DOUBTFUL = [
    ("net.scale", [Leaf("net.scale", (4,)), *model("E:net.wte", "blocks")]),
    ("net.token_embedder", model("E:net.wte", "blocks", "net.embedder")),
    ("all.vision_conv", model("all.vision_conv", "E:all.net.wte", "blocks", path="all.net.h")),
]


@pytest.mark.parametrize("leaves", [leaves for _, leaves in DOUBTFUL], ids=[name for name, _ in DOUBTFUL])
def test_what_is_doubtful_is_refused_with_the_line_that_settles_it(leaves):
    with pytest.raises(PlanError) as caught:
        ladder(leaves)
    lost = str(caught.value).partition("below or above the blocks")[2].partition(": ")[2].partition(".  ")[0]
    doubtful = next(leaf.name for leaf in leaves if leaf.name in lost)
    assert "groups=[(" in str(caught.value)
    assert rungs(leaves, {doubtful: "top"})[doubtful.removesuffix(".weight")] == "top"


def test_a_frozen_doubtful_parameter_needs_no_depth():
    leaves = [Leaf("net.scale", (4,), trainable=False), *model("E:net.wte", "blocks")]
    assert "net.scale" not in rungs(leaves)


# Several towers.


def encoder_decoder() -> list[Leaf]:
    encoder = model("E:net.shared", "E:net.encoder.embed=net.shared", "blocks", path="net.encoder.h")
    decoder = model(
        "E:net.decoder.embed=net.shared",
        "E:net.decoder.positions",
        "blocks",
        "N:net.decoder.norm",
        "score",
        blocks=2,
        path="net.decoder.h",
    )
    return encoder + decoder


def test_an_encoder_and_a_decoder_have_a_ladder_each():
    found = ladder(encoder_decoder())
    assert found.towers == {"encoder": 3, "decoder": 2}
    assert [(rung.name, rung.height, len(rung.placements)) for rung in found.rungs()] == [
        ("encoder.embeddings", 5, 1),
        *((f"encoder.layer.{i}", 4 - i, 2) for i in range(3)),
        ("decoder.embeddings", 4, 1),
        *((f"decoder.layer.{i}", 3 - i, 2) for i in range(2)),
        ("decoder.top", 1, 1),
        ("head", 0, 1),
    ]


def test_a_tower_can_be_settled_by_hand():
    leaves = encoder_decoder()
    found = ladder(leaves, {leaf.owner: "embeddings" for leaf in leaves[: 2 + 6]})
    assert found.towers == {"": 2}
    found = ladder(leaves, {"net.decoder.norm.weight": 1, "score.weight": "encoder.layer.0"})
    placed = {p.leaf.name: (p.tower, p.depth) for p in found.placements}
    assert placed["net.decoder.norm.weight"] == ("decoder", 1)
    assert placed["score.weight"] == ("encoder", 1)
    with pytest.raises(PlanError, match=r"encoder\.embeddings, encoder\.layer\.0.*joint, head"):
        ladder(leaves, {"score.weight": 1})


def test_what_joins_towers_has_a_rung_of_its_own():
    leaves = [
        Leaf("net.scale", ()),
        *model("net.vision.patch", "blocks", "N:net.vision.norm", path="net.vision.h"),
        *model("net.projector"),
        *model("E:net.text.wte", "blocks", "N:net.text.norm", path="net.text.h"),
        *model("lm_head"),
    ]
    assert rungs(leaves) == {
        "net.scale": "joint",
        "net.vision.patch": "vision.embeddings",
        "net.vision.norm": "vision.top",
        "net.projector": "joint",
        "net.text.wte": "text.embeddings",
        "net.text.norm": "text.top",
        "lm_head": "head",
    }


def test_embeddings_beside_the_towers_feed_the_next_that_has_none():
    leaves = [
        *model("E:net.words", "net.vision.patch", "blocks", path="net.vision.h"),
        *model("blocks", "N:net.text.norm", path="net.text.h"),
    ]
    assert rungs(leaves)["net.words"] == "text.embeddings"
    late = [*model("net.vision.patch", "blocks", path="net.vision.h"), *model("blocks", path="net.text.h")]
    assert rungs([*late, *model("E:net.words")])["net.words"] == "text.embeddings"
    neither = [*model("blocks", path="net.vision.h"), *model("blocks", path="net.text.h")]
    with pytest.raises(PlanError, match=r"net\.words"):
        ladder([*neither, *model("E:net.words")])


def test_a_chain_of_the_model_itself_takes_what_lies_beside_it():
    leaves = [
        *model("E:net.wte", "net.vision.patch", "blocks", path="net.vision.h"),
        *model("blocks", "N:net.norm", path="net.h"),
    ]
    found = ladder(leaves)
    placed = {p.leaf.name: found.name(p.tower, p.depth) for p in found.placements}
    name = next(tower for tower in found.towers if tower != "vision")
    assert placed["net.wte.weight"] == f"{name}.embeddings"
    assert placed["net.norm.weight"] == f"{name}.top"


def test_a_single_block_is_a_tower_only_in_a_part_of_its_own():
    deep = model("E:net.encoder.wte", "blocks", path="net.encoder.h")
    lone = model("E:net.decoder.wte", "blocks", blocks=1, path="net.decoder.h")
    assert ladder(deep + lone).towers == {"encoder": 3, "decoder": 1}
    beside = model("blocks", blocks=1, path="net.encoder.extra_layers")
    assert ladder(deep + beside).towers == {"": 3}


def test_a_decoder_that_is_the_encoder_has_no_rungs():
    encoder = model("E:net.encoder.wte", "blocks", path="net.encoder.h")
    decoder = [
        leaf._replace(name=leaf.name.replace("encoder", "decoder"), tied_to=leaf.name) for leaf in encoder
    ]
    found = ladder(encoder + decoder)
    assert found.towers == {"": 3}
    assert len(found.placements) == len(encoder)


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
