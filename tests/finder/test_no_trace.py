"""The finder leaves no trace, however it ends: all state hashes to the same, the next losses are equal."""

import os
import random
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from etude.errors import EtudeError
from etude.finder.find import find
from etude.finder.snapshot import Snapshot


class Broken(Exception):  # noqa: N818
    """What a user's own code raises."""


def fail(rig, at, how):
    """A loss that works for some updates and then does not."""
    calls = 0

    def loss(model, batch):
        nonlocal calls
        calls += 1
        if calls == at:
            how()
        x, y = batch
        return rig.loss(model(x), y)

    return loss


def raises():
    raise Broken


def interrupts():
    os.kill(os.getpid(), signal.SIGINT)


def interrupts_twice():
    interrupts()
    interrupts()


def broken(rig):
    loader = rig.loader

    def batches():
        for i, batch in enumerate(loader):
            if i == 5:
                raise Broken
            yield batch

    return batches


ENDINGS = {
    "finishes": (lambda rig: {}, None),
    "diverges": (lambda rig: {"to": 1e6}, None),
    "with held-out data": (lambda rig: {"held_out": rig.loader, "held_out_every": 5}, None),
    "with several seeds": (lambda rig: {"seeds": 3, "points": 12}, None),
    "with an optimizer of its own": (lambda rig: {"optimizer": None, "scaler": None}, None),
    "raises in the loss": (lambda rig: {"loss": fail(rig, 7, raises)}, Broken),
    "raises in the first update": (lambda rig: {"loss": fail(rig, 1, raises)}, Broken),
    "raises in the loader": (lambda rig: {"batches": broken(rig)}, Broken),
    "is interrupted": (lambda rig: {"loss": fail(rig, 7, interrupts)}, KeyboardInterrupt),
    "is interrupted in the last update": (lambda rig: {"loss": fail(rig, 24, interrupts)}, KeyboardInterrupt),
    "is interrupted twice": (lambda rig: {"loss": fail(rig, 7, interrupts_twice)}, KeyboardInterrupt),
}


@pytest.mark.parametrize("snapshot", ["memory", "disk"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_pain_38_the_finder_leaves_no_trace(rig, straight, ending, snapshot):
    changes, error = ENDINGS[ending]
    before = rig.hash()
    keys = changes(rig) | {"snapshot": snapshot}
    if error is None:
        found = rig.find(**keys)
        assert bool(found.stopped) == (ending == "diverges")
        assert len(found.losses) >= 10
    else:
        with pytest.raises(error):
            rig.find(**keys)
    assert rig.hash() == before
    assert (rig.train(5), rig.hash()) == straight


def test_the_hash_sees_what_a_finder_could_leave_behind(rig):
    """Without the snapshot the same sweep changes the hash, and so does each single thing."""
    seen = {rig.hash()}
    for change in (
        lambda: torch.rand(1),
        random.random,
        np.random.rand,
        lambda: rig.model.norm.running_mean.add_(1),
        lambda: rig.model.head.weight.grad.mul_(2),
        lambda: rig.model.eval(),
        lambda: rig.optimizer.param_groups[0].update(lr=0.5),
        lambda: rig.optimizer.state[rig.model.head.weight]["exp_avg"].add_(1),
        lambda: rig.scaler.update(2.0),
        lambda: next(iter(rig.loader)),
        lambda: rig.ema.update_parameters(rig.model),
        lambda: setattr(rig.model.head.weight, "grad", None),
        lambda: rig.model.body.requires_grad_(False),
    ):
        change()
        assert rig.hash() not in seen, change
        seen.add(rig.hash())


def test_gradients_that_were_none_stay_none(rig):
    rig.optimizer.zero_grad()
    rig.find()
    assert all(parameter.grad is None for parameter in rig.model.parameters())


def test_a_model_in_evaluation_mode_is_trained_in_training_mode_and_goes_back(rig):
    """`from_pretrained` gives models in evaluation mode; the test is of the training."""
    rig.model.eval()
    modes = []
    rig.model.drop.register_forward_hook(lambda module, *_: modes.append(module.training))
    before = rig.hash()
    rig.find()
    assert modes
    assert all(modes)
    assert rig.hash() == before


def test_every_object_stays_the_one_it_was(rig):
    """Who refers to a tensor, a group or a state sees what was there before."""
    weight, group = rig.model.head.weight, rig.optimizer.param_groups[0]
    state, moment = rig.optimizer.state[weight], rig.optimizer.state[weight]["exp_avg"]
    gradient, buffer = weight.grad, rig.model.norm.running_mean
    rig.find()
    assert rig.model.head.weight is weight
    assert rig.optimizer.param_groups[0] is group
    assert rig.optimizer.state[weight] is state
    assert state["exp_avg"] is moment
    assert weight.grad is gradient
    assert rig.model.norm.running_mean is buffer


def test_a_new_optimizer_and_a_new_scaler_are_new_again(rig):
    optimizer = torch.optim.SGD(rig.model.head.parameters(), 0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    find(
        rig.model, rig.loader, optimizer=optimizer, loss=rig.loss, scaler=scaler, points=12, to=1e-2, seeds=1
    )
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert scaler._scale is None


@pytest.mark.parametrize("asked", [{}, {"seeds": 2}, {"scan": True}], ids=["once", "twice", "scan"])
def test_workers_and_a_pass_under_way_are_left_alone(rig, asked):
    """The user is in the middle of a pass with persistent workers, which the finder must not take over."""
    loader = DataLoader(rig.data, 8, shuffle=True, num_workers=1, persistent_workers=True)
    under_way = iter(loader)
    first = next(under_way)
    torch_state = torch.get_rng_state()
    rig.find(batches=loader, points=12, **asked)
    assert loader._iterator is under_way
    assert torch.equal(torch.get_rng_state(), torch_state)
    rest = [batch[0] for batch in under_way]
    assert len(rest) == 11
    assert torch.equal(torch.cat([first[0], *rest]).sort(0).values, rig.data.tensors[0].sort(0).values)


def test_a_generator_inside_the_data_set_is_put_back():
    class Noisy(torch.utils.data.Dataset):
        def __init__(self):
            self.noise, self.given = np.random.default_rng(0), 0

        def __len__(self):
            return 32

        def __getitem__(self, i):
            self.given += 1
            return torch.full((4,), self.noise.normal(), dtype=torch.float32), i % 2

    data, model = Noisy(), nn.Linear(4, 2)
    loader = DataLoader(data, 4)
    before = data.noise.bit_generator.state
    find(model, loader, loss=nn.CrossEntropyLoss(), points=12, seeds=1)
    assert (data.given, data.noise.bit_generator.state) == (0, before)


def test_the_disk_is_left_clean(rig, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folders = []

    def look(model, batch):
        folders[:] = [len(list(folder.iterdir())) for folder in tmp_path.iterdir()]
        raise Broken

    for snapshot in ("disk", tmp_path, str(tmp_path)):
        with pytest.raises(Broken):
            rig.find(loss=look, snapshot=snapshot)
        assert len(folders) == 1
        assert folders[0] > 20
        assert not list(tmp_path.iterdir())


def test_tied_weights_are_kept_once_and_quantised_ones_not_at_all(tmp_path):
    sizes = []

    def look(model, batch):
        (folder,) = tmp_path.iterdir()
        sizes[:] = [file.stat().st_size for file in folder.iterdir()]
        raise Broken

    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data)  # two parameters, one storage
    model.base = nn.Parameter(torch.zeros(99, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(Broken):
        find(model, [torch.zeros(2, 64)], loss=look, seeds=1, snapshot=tmp_path)
    assert len(sizes) == 1


def test_a_snapshot_that_cannot_be_kept_changes_nothing(rig, tmp_path, monkeypatch):
    before = rig.hash()
    for wrong in ("ram", Path("/nowhere"), None):
        with pytest.raises(EtudeError, match="memory"):
            rig.find(snapshot=wrong)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(EtudeError, match="No space left"):
        rig.find(snapshot=tmp_path)
    assert not list(tmp_path.iterdir())
    assert rig.hash() == before


def test_a_snapshot_alone(rig):
    """The context manager, around whatever changes a training."""
    before = rig.hash()
    loaders, others = [rig.loader], [rig.ema, rig.driver]
    with Snapshot(rig.model, rig.optimizer, scaler=rig.scaler, batches=loaders, keep=others):
        rig.train(4)
        rig.model.head.weight.data = torch.zeros(3, 12)
        rig.model.extra, rig.model.body.bias = 1, None
        rig.optimizer.load_state_dict(rig.optimizer.state_dict())
    assert rig.hash() == before
    assert not hasattr(rig.model, "extra")
