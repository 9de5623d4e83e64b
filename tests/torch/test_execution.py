"""The order in which a model uses its parameters."""

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from etude.model.confirm import confirm
from etude.planning import layout
from etude.torch.execution import order_of_use


class Backwards(nn.Module):
    """Registers its parts in another order than it uses them, and some of them not at all."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3, 2)
        self.unused = nn.Linear(3, 3)
        self.first = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x, factor=1.0):
        return self.last(torch.cat([self.first(x) * self.scale * factor]))


def test_parameters_come_in_the_order_of_their_first_use():
    expected = ["first.weight", "first.bias", "scale", "last.weight", "last.bias"]
    assert order_of_use(Backwards(), torch.zeros(2, 4)) == expected
    assert order_of_use(Backwards(), (torch.zeros(2, 4), 2.0)) == expected
    assert order_of_use(Backwards(), {"x": torch.zeros(2, 4), "factor": 2.0}) == expected
    with torch.device("meta"):
        assert order_of_use(Backwards(), torch.zeros(2, 4)) == expected


def test_the_pass_leaves_no_trace():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    order_of_use(model, torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert [module.training for module in model] == [True, True, False]
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_real_model_agrees_with_its_ladder():
    config = BertConfig(
        hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, vocab_size=20
    )
    with torch.device("meta"):
        model = BertForSequenceClassification(config)
        order = order_of_use(model, {"input_ids": torch.zeros(1, 4, dtype=torch.long)})
    assert len(order) == len(dict(model.named_parameters()))
    confirm(layout(model, head=2).ladder, order)
