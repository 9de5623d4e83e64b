"""The rate of a rung: the conventions beside the formulas of their sources, and what is no ratio."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import etude
from etude.errors import PlanError
from etude.model.ladder import Ladder, Placement
from etude.model.leaf import Leaf
from etude.model.rates.convention import CONVENTIONS
from etude.model.rates.multiplier import Multipliers, multiplier


def model(towers: dict[str, int], *without: str) -> Ladder:
    """A ladder with one parameter on every rung that it has, but for those left out by name."""
    shape = Ladder(towers, ())
    rungs = [key for key in shape.known() if shape.name(*key) not in without]
    return Ladder(
        towers, tuple(Placement(Leaf(shape.name(*key) + ".w", (2, 2)), *key, "", ()) for key in rungs)
    )


BERT = model({"": 12})
T5 = model({"encoder": 6, "decoder": 4})


def rates(ladder: Ladder, *given, **asked) -> dict[str, float]:
    return {rung.name: multiplier(ladder, rung.tower, rung.depth, *given, **asked) for rung in ladder.rungs()}


def test_multipliers_follow_the_bert_convention():
    """Table of the layer-wise decay document: 12 layers, decay 0.95, base 2e-5."""
    twelve = Ladder({"": 12}, ())
    found = [2e-5 * multiplier(twelve, "", depth, 0.95) for depth in (12, 11, 10, 6, 1, 0)]
    assert [f"{rate * 1e5:.2f}" for rate in found] == ["2.00", "1.90", "1.81", "1.47", "1.14", "1.08"]
    assert multiplier(twelve, "", 13, 0.95, 10) == 1
    assert multiplier(twelve, "", 14, 0.95, 10) == 10
    assert math.isclose(multiplier(twelve, "", 0, 0.9), 0.9**12)


def test_electra_counts_from_the_head():
    """google-research/electra: layer_decay ** (n_layers + 2 - depth), depth 0, k + 1 and n_layers + 2."""
    found = rates(BERT, 0.8, convention="electra")
    depths = {"embeddings": 0, **{f"layer.{k}": k + 1 for k in range(12)}, "head": 14}
    for name, depth in depths.items():
        assert found[name] == pytest.approx(0.8 ** (12 + 2 - depth), rel=1e-15)
    assert found["layer.11"] == pytest.approx(0.64)


def test_beit_and_mae_have_one_power_more_than_bert():
    """facebookresearch/mae: num_layers = blocks + 1 and layer_decay ** (num_layers - i)."""
    found = rates(BERT, 0.75, convention="beit")
    scales = [0.75 ** (13 - i) for i in range(14)]
    assert list(found.values()) == pytest.approx([*scales[:13], 1, 1], rel=1e-15)
    assert found["top"] == found["head"] == 1


def test_ulmfit_divides_by_2_6_for_each_group():
    """The paper's AWD-LSTM: lr / 2.6 ** [4, 3, 2, 1, 0] for the embedding, three LSTMs and the head."""
    awd_lstm = model({"": 3}, "top")
    assert list(rates(awd_lstm, convention="ulmfit").values()) == pytest.approx(
        [2.6**-4, 2.6**-3, 2.6**-2, 1 / 2.6, 1], rel=1e-15
    )
    assert rates(awd_lstm, 0.5, convention="ulmfit")["embeddings"] == 0.0625


def test_fastai_slices_are_even_in_the_logarithm_over_the_rungs_that_there_are():
    """fastcore's even_mults(1e-5, 1e-3, 5) of groups: start × (stop / start) ** (i / (n - 1))."""
    awd_lstm = model({"": 3}, "top")
    found = list(rates(awd_lstm, convention="fastai(0.01)").values())
    assert [1e-3 * rate for rate in found] == pytest.approx([1e-5, 10**-4.5, 1e-4, 10**-3.5, 1e-3], rel=1e-12)
    assert list(rates(awd_lstm, convention="fastai").values()) == [0.1, 0.1, 0.1, 0.1, 1]
    headless = model({"": 3}, "top", "head")
    assert list(rates(headless, convention="fastai(1/1000)").values()) == pytest.approx([1e-3, 1e-2, 1e-1, 1])
    assert rates(headless, convention="fastai")["layer.2"] == 1


def test_fastai_aligns_towers_below_the_head():
    found = rates(T5, convention="fastai(0.0001)")
    assert found["encoder.embeddings"] == pytest.approx(1e-4)
    assert found["decoder.embeddings"] == found["encoder.layer.1"]
    assert found["encoder.top"] == found["decoder.top"] == found["joint"] == pytest.approx(1e-4 ** (1 / 8))
    assert found["head"] == 1


def test_thirds_are_those_of_the_four_stages_of_a_resnet():
    found = rates(model({"": 4}, "top"), convention="thirds")
    assert list(found.values()) == [0.1, 0.1, 0.1, 0.5, 1, 1]
    twelve = rates(BERT, convention="thirds(0.2, 0.4, 0.8)")
    assert [list(twelve.values()).count(rate) for rate in (0.2, 0.4, 0.8, 1)] == [5, 4, 5, 1]
    assert twelve["top"] == 0.8
    both = rates(T5, convention="thirds")
    assert [both[f"decoder.layer.{i}"] for i in range(4)] == [0.1, 0.1, 0.5, 1]
    assert [both[f"encoder.layer.{i}"] for i in range(6)] == [0.1, 0.1, 0.5, 0.5, 1, 1]
    assert both["joint"] == 1
    with pytest.raises(PlanError, match="needs three blocks, and this model has 2"):
        rates(model({"": 2}), convention="thirds")


def test_towers_may_have_factors_of_their_own():
    found = rates(T5, {"encoder": 0.5, "decoder": 0.8})
    assert found["encoder.embeddings"] == 0.5**6
    assert found["decoder.embeddings"] == pytest.approx(0.8**4)
    assert found["encoder.layer.5"] == found["decoder.layer.3"] == found["joint"] == found["head"] == 1
    assert rates(T5, {"encoder": 0.5, "decoder": 0.8}, convention="electra")["joint"] == 1
    alike = rates(T5, 0.5)
    assert alike["encoder.layer.4"] == alike["decoder.layer.2"] == 0.5
    one = rates(T5, {"encoder": 1, "decoder": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    assert one["decoder.layer.0"] == 0.2
    assert one["decoder.top"] == 0.6
    assert one["encoder.embeddings"] == 1


def test_a_list_is_the_ratios_themselves():
    found = rates(model({"": 3}), [0.1, 0.2, 0.3, 1.5, 0.5], head=4)
    assert list(found.values()) == [0.1, 0.2, 0.3, 1.5, 0.5, 4]


def test_head_embeddings_and_the_smallest_ratio():
    found = rates(BERT, 0.5, 10, embeddings=0.25, min_scale=0.01)
    assert found["embeddings"] == 0.25
    assert found["head"] == 10
    assert [found[f"layer.{i}"] for i in (3, 4, 5, 6, 11)] == [0.01, 0.01, 1 / 64, 1 / 32, 1]


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("towers", [{"": 3}, {"": 12}, {"encoder": 6, "decoder": 4}])
def test_no_convention_gives_a_lower_rung_a_higher_rate(name, towers):
    ladder = model(towers)
    decay = CONVENTIONS[name]().layer_decay and 0.7
    for tower in (*towers, ""):
        of = [
            multiplier(ladder, rung.tower, rung.depth, decay, convention=name)
            for rung in ladder.rungs()
            if rung.tower == tower
        ]
        assert of == sorted(of)
        assert all(0 < rate <= 1 for rate in of)


def test_without_a_ladder_all_rates_are_one():
    assert multiplier(Ladder({}, ()), "", 0, 0.5, 10) == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layer_decay": 0}, "layer_decay=0 is no ratio between two layers: write 0.9, or 1"),
        ({"layer_decay": 1.1}, "write 0.9, or 1"),
        ({"layer_decay": float("nan")}, "layer_decay takes a finite number"),
        ({"layer_decay": "0.9"}, "layer_decay takes a number, got '0.9'"),
        ({"layer_decay": True}, "layer_decay takes a number"),
        ({"layer_decay": []}, "an empty list"),
        ({"layer_decay": [0.5, 0]}, r"layer_decay\[1\]=0 is no ratio of the peak"),
        ({"layer_decay": {"encoder": 2}}, "layer_decay of encoder=2 is no ratio"),
        ({"head": 0}, "head=0 is no ratio of the peak: write 10, or 1"),
        ({"head": float("inf")}, "head takes a finite number"),
        ({"embeddings": 0}, 'write 0.1, or freeze="embeddings"'),
        ({"min_scale": -0.1}, "outside 0 to 1"),
        ({"min_scale": 2}, "outside 0 to 1"),
        ({"head": 0.05, "min_scale": 0.1}, "head=0.05 lies below min_scale=0.1"),
        ({"embeddings": 0.05, "min_scale": 0.1}, "embeddings=0.05 lies below min_scale=0.1"),
        ({"convention": "beat"}, "'beat' is not known; did you mean 'bert' or 'beit'"),
        ({"convention": 3}, "convention=3 is not known"),
        ({"convention": "bert(2)"}, r"'bert\(2\)': write bert"),
        ({"convention": "fastai(1, 2)"}, r"write fastai or fastai\(lowest\) with numbers"),
        ({"convention": "fastai(low)"}, r"write fastai or fastai\(lowest\) with numbers"),
        ({"convention": "fastai(0)"}, r"lowest=0 is no ratio of the peak: write fastai\(0.01\)"),
        ({"convention": "electra"}, "write layer_decay=0.9 beside it"),
        ({"convention": "thirds", "layer_decay": 0.9}, "leave out layer_decay"),
        ({"convention": "beit", "layer_decay": [0.5, 1]}, "leave out convention='beit'"),
    ],
)
def test_what_is_no_rate_is_refused_before_a_model_is_seen(asked, message):
    with pytest.raises(PlanError, match=message):
        Multipliers(**asked)


@pytest.mark.parametrize(
    ("ladder", "decay", "message"),
    [
        (BERT, [0.5] * 13, "13 ratios for 14 rungs below the head: embeddings, layer.0, .*layer.11, top"),
        (
            model({"": 2}, "top"),
            [0.5] * 4,
            "4 ratios for 3 rungs below the head: embeddings, layer.0, layer.1$",
        ),
        (T5, [0.5] * 8, r'several: write layer_decay={"encoder": 0.9, "decoder": 0.9}'),
        (T5, {"encoder": 0.5, "decodr": 0.5}, "no tower 'decodr'; did you mean 'decoder'"),
        (T5, {"encoder": 0.5}, "says nothing of decoder"),
        (
            T5,
            {"encoder": [0.5, 1], "decoder": 1},
            "2 ratios for 8 rungs below the head: encoder.embeddings, ",
        ),
        (BERT, {"encoder": 0.5}, "this model has only one: write a number"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_its_rungs(ladder, decay, message):
    with pytest.raises(PlanError, match=message):
        rates(ladder, decay)


# timm's own grouping of parameters, by the `group_matcher` of its vision transformer.
CHILD = r"""
import importlib.util, json, sys, types
import torch

place, parameters, min_scale = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
for name, path in (("timm", "timm"), ("timm.layers", ""), ("timm.models", ""), ("timm.optim", "timm/optim")):
    sys.modules[name] = types.ModuleType(name)  # their own __init__ want torchvision
    sys.modules[name].__path__ = [f"{place}/{path}"]
sys.modules["timm.layers"].use_reentrant_ckpt = lambda: False
file = f"{place}/timm/models/_manipulate.py"
spec = importlib.util.spec_from_file_location("timm.models._manipulate", file)
manipulate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(manipulate)
sys.modules["timm.models"].group_parameters = manipulate.group_parameters
from timm.optim._param_groups import param_groups_layer_decay

held = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in parameters.items()}
blocks = [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]
net = types.SimpleNamespace(
    named_parameters=lambda: held.items(),
    group_matcher=lambda coarse: {"stem": r"^cls_token|pos_embed|patch_embed", "blocks": blocks},
)
names = {id(p): name for name, p in held.items()}
groups = param_groups_layer_decay(
    net, 0.05, no_weight_decay_list=("pos_embed", "cls_token"), layer_decay=0.5, min_scale=min_scale
)
print(json.dumps({names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}))
"""


class VisionTransformer(nn.Module):
    """With the names of timm's."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.patch_embed = nn.Conv2d(3, 4, 2)
        parts = ({"norm1": nn.LayerNorm(4), "mlp": nn.Linear(4, 4)} for _ in range(3))
        self.blocks = nn.ModuleList(map(nn.ModuleDict, parts))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


@pytest.mark.all
@pytest.mark.parametrize("min_scale", [0.0, 0.2])
def test_beit_is_timm_but_for_its_last_norm(min_scale):
    place = os.environ.get("ETUDE_TIMM", "build/timm")
    if not os.path.isdir(os.path.join(place, "timm")):
        pytest.skip("timm in a folder of its own (ETUDE_TIMM)")
    net = VisionTransformer()
    shapes = json.dumps({name: p.shape for name, p in net.named_parameters()})
    command = [sys.executable, "-c", CHILD, place, shapes, str(min_scale)]
    timm = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    plan = etude.plan(
        net, 1.0, layer_decay=0.5, convention="beit", min_scale=min_scale, weight_decay=0.05,
        no_decay=("bias", "norm", "vector", "embedding"),
    )  # fmt: skip
    ours = {
        name: [group.scale["lr"], 0.05 * group.scale["weight_decay"]]
        for group in plan.groups
        for name in group.params
    }
    apart = {name: (ours[name], timm[name]) for name in timm if ours[name] != timm[name]}
    assert apart == {name: ([1, 0], [0.5, 0]) for name in ("norm.weight", "norm.bias")}
    assert len(ours) == len(timm) == 20
