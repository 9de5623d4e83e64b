"""Depths that one forward pass confirms or settles."""

import pytest
import torch
from torch import nn
from transformers import BartConfig, BartModel, BigBirdPegasusConfig, BigBirdPegasusModel

import etude
from etude.errors import PlanError
from etude.planning import layout

SMALL = {
    "vocab_size": 50, "d_model": 8, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip


def rung(model, name: str, **options) -> str:
    found = layout(model, layer_decay=0.5, **options).ladder
    (place,) = (place for place in found.placements if place.leaf.name == name)
    return found.name(place.tower, place.depth)


def test_a_model_in_doubt_is_run_on_its_own_inputs():
    """One name, one place in the tree, two orders of execution."""
    name = "encoder.layernorm_embedding.weight"
    assert rung(BartModel(BartConfig(**SMALL)), name) == "encoder.embeddings"
    config = BigBirdPegasusConfig(**SMALL, attention_type="original_full")
    assert rung(BigBirdPegasusModel(config), name) == "encoder.top"


class Net(nn.Module):
    """Its `mix` is registered after the blocks and used before them, its `out` the other way round."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.lead = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(3))
        self.mix = nn.Linear(4, 4)

    def forward(self, x, reverse=False):
        first, last = (self.mix, self.lead) if reverse else (self.lead, self.mix)
        x = first(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return last(x)


def test_an_example_confirms_the_depths_or_contradicts_them():
    model, x = Net(), torch.zeros(2, 4)
    random = torch.get_rng_state()
    assert etude.plan(model, 1e-3, layer_decay=0.5, example=x) == etude.plan(model, 1e-3, layer_decay=0.5)
    assert torch.equal(random, torch.get_rng_state())
    with pytest.raises(PlanError, match=r"\(layer\.0\) is used after mix\.bias \(top\)") as caught:
        etude.plan(model, 1e-3, layer_decay=0.5, example=(x, True))
    assert 'groups=[("mix", {"depth": "embeddings"})]' in str(caught.value)
    with pytest.raises(PlanError, match=r"lead\.weight \(embeddings\) is used after") as caught:
        etude.plan(model, 1e-3, layer_decay=0.5, example=(x, True), groups=[("mix", {"depth": "embeddings"})])
    assert 'groups=[("lead", {"depth": "layer.2"})]' in str(caught.value)
    by_hand = [("lead", {"depth": "top"}), ("mix", {"depth": "embeddings"})]
    etude.plan(model, 1e-3, layer_decay=0.5, example={"x": x, "reverse": True}, groups=by_hand)


def test_an_example_needs_a_model_that_can_run():
    from etude.torch.leaves import leaves

    with pytest.raises(PlanError, match="forward pass of a torch model"):
        etude.plan(leaves(Net()), 1e-3, layer_decay=0.5, example=torch.zeros(2, 4))
