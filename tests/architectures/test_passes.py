"""The flow of data: how a pass tells what feeds what, and that no ladder goes against it."""

import pytest
import torch
from proof import document, execution, models
from proof.flow import Pass
from proof.order import against_flow
from torch import nn

from etude.errors import PlanError
from etude.model.ladder import ladder
from etude.model.leaf import Leaf
from etude.torch.leaves import leaves

# A sample of the model types; all of them stand in the document, whose generator runs them.
SAMPLE = list(document.rows("transformers"))[::6]


class Branches(nn.Module):
    """Two blocks, a branch of the first that runs before the second, a table, a token that joins late."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.branch = nn.Linear(4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.unused = nn.Linear(4, 4)

    def forward(self, ids):
        first = self.layers[0](self.table(ids))
        side = self.branch(first)
        second = self.layers[1](torch.cat([self.token.expand(len(ids), 1, 4), first], 1))
        return second, side


def fed(one: Pass):
    """What feeds what, by names without `.weight`."""
    names = [name.removesuffix(".weight") for name in one.order]
    return {
        name: {names[j] for j in range(len(names)) if one.feeds[i] >> j & 1} for i, name in enumerate(names)
    }


def test_a_pass_tells_a_branch_from_what_comes_after_it():
    model = Branches()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    one, error = execution.run(model, names, torch.zeros(1, 3, dtype=torch.long))
    assert error is None
    assert [name for name in one.order if name.endswith("weight")] == [
        "table.weight", "layers.0.weight", "branch.weight", "layers.1.weight"
    ]  # fmt: skip
    found = fed(one)
    assert found["table"] == set()
    assert found["layers.0"] == {"table"}
    assert "branch" not in found["layers.1"]
    assert {"table", "layers.0", "token"} <= found["layers.1"]
    assert found["token"] == set()
    assert "unused" not in found


def test_the_first_layer_of_a_model_is_fed_by_nothing():
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 2))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    one, error = execution.run(model, names, torch.zeros(1, 3, 8, 8))
    assert error is None
    assert fed(one)["0"] == set()
    assert fed(one)["2"] == {"0", "0.bias", "1", "1.bias"}


def test_a_ladder_against_the_flow_is_found():
    blocks = [Leaf(f"h.{i}.{part}.weight", (4, 4)) for i in range(3) for part in ("attn", "mlp")]
    found = ladder([Leaf("wte.weight", (9, 4), module="Embedding"), *blocks])
    order = [placement.leaf.name for placement in found.placements]
    before = [(1 << i) - 1 for i in range(len(order))]
    assert against_flow(found, [Pass(order, before)]) == []
    backwards = Pass([order[0], *order[:0:-1]], before)
    assert len(against_flow(found, [backwards])) == 4  # all but the last block, and the table


@pytest.mark.all
@pytest.mark.parametrize("model_type", SAMPLE)
def test_no_ladder_goes_against_the_flow_of_data(model_type):
    for name in models.classes(model_type)[:1]:
        try:
            model = models.build(model_type, name)
        except ImportError as error:
            pytest.skip(str(error)[:60])
        with models.quiet():
            passes, errors = execution.passes(model, on_cpu=False)
        if not passes:
            pytest.skip(f"no pass: {errors[:1]}")
        try:
            found = ladder(leaves(model))
        except PlanError:
            assert (model_type, name) in document.refused()
            return
        assert against_flow(found, passes) == []
