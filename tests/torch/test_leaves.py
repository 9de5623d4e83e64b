"""A torch model as leaves: names, kinds, tied weights."""

import pytest
import torch
from torch import nn

from etude.errors import PlanError
from etude.torch.leaves import leaves


class RMSNorm(nn.Module):
    """A norm known by its name alone, as in the models of transformers."""

    def __init__(self, *shape: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))


class QuantEmbedding(nn.Module):
    """An embedding known by its name alone, as in IBert."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(7, 4))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.words = nn.Embedding(7, 4)
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3))
        self.tables = nn.ParameterList([torch.zeros(2, 4)])
        self.quant = QuantEmbedding()
        self.norm = RMSNorm(2, 4)
        self.batch = nn.BatchNorm2d(4)
        self.out = nn.Linear(4, 7)
        self.out.weight = self.words.weight
        self.out.bias.requires_grad_(False)


def test_kinds_shapes_and_owners():
    assert [tuple(leaf) for leaf in leaves(Model())] == [
        ("scale", (), True, "Model", None),
        ("words.weight", (7, 4), True, "Embedding", None),
        ("conv.bias", (4,), True, "Conv", None),
        ("conv.parametrizations.weight.original0", (4, 1, 1), True, "Conv", None),
        ("conv.parametrizations.weight.original1", (4, 4, 3), True, "Conv", None),
        ("tables.0", (2, 4), True, "Model", None),
        ("quant.weight", (7, 4), True, "Embedding", None),
        ("norm.weight", (2, 4), True, "Norm", None),
        ("batch.weight", (4,), True, "Norm", None),
        ("batch.bias", (4,), True, "Norm", None),
        ("out.weight", (7, 4), True, "Linear", "words.weight"),
        ("out.bias", (7,), False, "Linear", None),
    ]


def test_owners_are_the_names_that_torch_gives():
    model = Model()
    assert [leaf.name for leaf in leaves(model) if leaf.tied_to is None] == [
        n for n, _ in model.named_parameters()
    ]


def test_a_lazy_module_is_refused():
    with pytest.raises(PlanError, match=r"0\.weight has no shape yet"):
        leaves(nn.Sequential(nn.LazyLinear(3)))
