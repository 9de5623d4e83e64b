"""The judge itself: what is broken on purpose is found, and nothing that it counts by hand has gone."""

import dataclasses

import pytest
from proof import models, oracle, verdicts
from proof.counts import HAND
from proof.facts import facts

from etude.model.leaf import Leaf

KINDS = [
    "bert BertForSequenceClassification",
    "t5 T5ForConditionalGeneration",
    "swin SwinForImageClassification",
]


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    said = facts(models.build(*request.param.split()))
    return [Leaf(*row) for row in said.rows], oracle.expected(said)


def broken(case, monkeypatch, change):
    """The verdict when étude's placements are changed so."""
    leaves, expected = case
    real = verdicts.ladder

    def ladder(given):
        found = real(given)
        placements = tuple(new for one in found.placements if (new := change(found, one)) is not None)
        return dataclasses.replace(found, placements=placements)

    assert verdicts.judge(leaves, expected).word == "right"
    monkeypatch.setattr(verdicts, "ladder", ladder)
    return verdicts.judge(leaves, expected)


def test_a_parameter_left_out_is_found(case, monkeypatch):
    last = case[0][-1].owner
    found = broken(case, monkeypatch, lambda found, one: None if one.leaf.name == last else one)
    assert found.word == "wrong"
    assert "placed 0 times" in found.reasons[0]


def test_two_blocks_of_one_depth_are_found(case, monkeypatch):
    found = broken(case, monkeypatch, lambda _, one: one._replace(depth=1) if one.depth == 2 else one)
    assert found.word == "wrong"
    assert any("depths [1, 1, 3" in reason for reason in found.reasons)


def test_a_block_of_two_depths_is_found(case, monkeypatch):
    def change(found, one):
        low = one.depth == 2 and one.leaf.module == "Norm"
        return one._replace(depth=1) if low else one

    found = broken(case, monkeypatch, change)
    assert any("several depths" in reason for reason in found.reasons)


def test_an_embedding_among_the_blocks_is_found(case, monkeypatch):
    table = case[1].tables
    if not table:
        pytest.skip("no table: a vision model")
    found = broken(case, monkeypatch, lambda _, one: one._replace(depth=1) if one.depth == 0 else one)
    assert any("the embedding" in reason for reason in found.reasons)


def test_a_head_among_the_blocks_is_found(case, monkeypatch):
    if not case[1].base:
        pytest.skip("T5's head is its tied table")

    def change(found, one):
        return one._replace(depth=found.blocks) if one.depth == found.blocks + 2 else one

    found = broken(case, monkeypatch, change)
    assert any("outside" in reason for reason in found.reasons)


def test_a_tower_too_few_and_a_tower_too_many_are_found(case):
    leaves, expected = case
    first, *rest = expected.towers
    short = first._replace(blocks=first.blocks[:-1])
    assert verdicts.judge(leaves, expected._replace(towers=(short, *rest))).word == "wrong"
    assert verdicts.judge(leaves, expected._replace(towers=tuple(rest), lists=())).word == "wrong"


def test_a_list_that_no_configuration_counts_is_named():
    said = facts(models.build("bert", "BertModel"))
    blind = said._replace(configs=[{"class": "BertConfig"} for _ in said.configs])
    assert oracle.expected(blind).unexplained == ("encoder.layer",)
    assert oracle.expected(said).unexplained == ()


def test_what_is_counted_by_hand_must_agree_with_the_model():
    said = facts(models.build("mobilenet_v2", "MobileNetV2Model"))
    assert len(oracle.expected(said).towers[0].blocks) == HAND["MobileNetV2Config", "layer"].count({})
    shorter = said._replace(modules=[m for m in said.modules if not m.path.startswith("layer.15")])
    with pytest.raises(ValueError, match="16 by hand, but 15 members"):
        oracle.expected(shorter)
