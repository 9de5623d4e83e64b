"""What the finder's tests share: a training with everything that can change, and a hash of all of it."""

import hashlib
import json
import random
import signal
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

import etude
from etude import Driver


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C interrupts, also in a shell's background job, which is started with it ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


class Net(nn.Module):
    """BatchNorm, dropout, tied weights, a frozen layer, a counter, a buffer that is replaced, own noise."""

    def __init__(self, width: int = 12):
        super().__init__()
        self.body = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.again = nn.Linear(width, width)
        self.again.weight = self.body.weight
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(width, 3)
        self.register_buffer("mean", torch.zeros(width), persistent=False)
        self.calls, self.seen = 0, []
        self.noise = np.random.default_rng(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
            self.seen = [*self.seen, self.calls][-3:]
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        x = torch.relu(self.norm(self.body(x - 0.01 * self.mean))) + float(self.noise.normal()) / 100
        return self.head(self.drop(torch.relu(self.frozen(self.again(x)))))


class Rig:
    """A training that is under way: three updates made, gradients left where the last backward put them."""

    def __init__(self, fused: bool = True):
        random.seed(1)
        np.random.seed(2)
        torch.manual_seed(3)
        self.model = Net()
        x = torch.randn(96, 12)
        self.data = TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 1).long())
        self.loader = DataLoader(self.data, 8, shuffle=True, generator=torch.Generator().manual_seed(4))
        self.loss = nn.CrossEntropyLoss()
        self.plan = etude.plan(self.model, 1e-3, weight_decay=0.01, groups=[("head", {"lr_scale": 10})])
        self.optimizer = torch.optim.AdamW(self.plan.torch_groups(self.model), fused=fused)
        self.driver = Driver(self.plan.over(1000), etude.torch.sink(self.optimizer))
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        self.optimizer.register_step_post_hook(lambda *_: self.ema.update_parameters(self.model))
        self.model.train()
        self.model.norm.eval()  # a part that the user keeps in evaluation mode
        self.k = 0
        self.train(3)

    def train(self, updates: int) -> list[float]:
        """Losses of further updates, the way the user's own loop makes them."""
        losses: list[float] = []
        while len(losses) < updates:
            for x, y in self.loader:
                self.driver.apply(self.k)
                self.optimizer.zero_grad()
                loss = self.loss(self.model(x), y)
                self.scaler.scale(loss).backward()
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.k += 1
                losses.append(loss.item())
                if len(losses) == updates:
                    break
        return losses

    def find(self, **changes: Any) -> Any:
        """The finder on this training."""
        from etude.finder.find import find

        keys = {
            "optimizer": self.optimizer, "loss": self.loss, "plan": self.plan, "points": 24,
            "start": 1e-6, "to": 1e-1, "seeds": 1, "scaler": self.scaler, "keep": [self.ema],
        }  # fmt: skip
        return find(self.model, changes.pop("batches", self.loader), **keys | changes)

    def hash(self) -> str:
        """SHA-256 of the full state of the training and of all generators."""
        return digest(self)


def digest(rig: Rig) -> str:
    sha = hashlib.sha256()

    def add(*values: Any) -> None:
        for value in values:
            if isinstance(value, torch.Tensor):
                sha.update(str((value.dtype, tuple(value.shape), value.requires_grad)).encode())
                value = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            sha.update(value if isinstance(value, bytes) else repr(value).encode())

    for model in (rig.model, rig.ema):
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            add(name, tensor, "no gradient" if tensor.grad is None else tensor.grad)
        for name, module in model.named_modules():
            add(name, module.training, list(module._forward_pre_hooks), list(module._forward_hooks))
    add(rig.model.calls, rig.model.seen, rig.model.noise.bit_generator.state)
    add(rig.model.again.weight is rig.model.body.weight)
    for group in rig.optimizer.param_groups:
        add({key: value for key, value in group.items() if key != "params"})
        for parameter in group["params"]:
            for key, value in sorted(rig.optimizer.state.get(parameter, {}).items()):
                add(key, value)
    add(len(rig.optimizer.state))
    add(rig.scaler.state_dict(), rig.scaler._scale, rig.scaler._growth_tracker)
    add(json.dumps(rig.driver.state_dict()), rig.driver.read("lr"))
    add(rig.loader.generator.get_state(), torch.get_rng_state(), random.getstate())
    kind, keys, *rest = np.random.get_state()
    add(kind, keys.tobytes(), rest)
    return sha.hexdigest()


class Straight(NamedTuple):
    """The next five losses of a training that no finder touches, and its hash then."""

    losses: list[float]
    hash: str


@pytest.fixture
def straight() -> Straight:
    made = Rig()
    return Straight(made.train(5), made.hash())


@pytest.fixture
def rig(straight: Straight) -> Rig:
    """A training under way, whose optimizer has moments and whose model has gradients."""
    made = Rig()
    assert len(made.optimizer.state) > 5
    assert made.model.head.weight.grad is not None
    return made
