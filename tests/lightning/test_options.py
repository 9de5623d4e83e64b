"""The options of `etude.plan` through `configure_optimizers`."""

import pytest

pytest.importorskip("lightning", reason="the fits are Lightning's")

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

import etude.lightning
from etude.errors import PlanError

pytestmark = pytest.mark.filterwarnings("ignore:.*(num_workers|`training_step`|litlogger).*")


class Net(LightningModule):
    """Three layers and a head whose gradients are 1."""

    def __init__(self, **options):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
        self.options = options

    def training_step(self, batch, batch_idx):
        return sum(p.sum() for p in self.parameters() if p.requires_grad)

    def configure_optimizers(self):
        return etude.lightning.configure_optimizers(self, 0.25, optimizer=torch.optim.SGD, **self.options)


def fitted(net):
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    before = [layer.bias.tolist() for layer in net.layers]
    Trainer(accelerator="cpu", max_epochs=1, **quiet).fit(net, DataLoader(torch.zeros(4)))
    after = [layer.bias.tolist() for layer in net.layers]
    return [[(a - b) / 4 for a, b in zip(*pair, strict=True)] for pair in zip(before, after, strict=True)]


def test_conventions_and_freezing_reach_the_weights():
    moved = fitted(Net(layer_decay=0.5, convention="beit"))
    assert moved == [[pytest.approx(0.25 * x)] * 2 for x in (1 / 8, 1 / 4, 1 / 2)]
    assert fitted(Net(freeze="layer.0", stages='stage("layer.2", 0.5) >> stage()')) == [
        [0, 0], [pytest.approx(0.125)] * 2, [pytest.approx(0.25)] * 2,
    ]  # fmt: skip


def test_what_is_no_option_is_refused():
    with pytest.raises(PlanError, match="plan has no 'llrd'; write layer_decay"):
        fitted(Net(llrd=0.9))
