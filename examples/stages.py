"""Stages five ways: which layers train when, for how long, and at what levels, each in one line.

Run: .venv/bin/python examples/stages.py. A small residual network that has learnt scikit-learn's handwritten
digits 0 to 4 is fine-tuned to tell 5 to 9 apart under a new head. Prints for each recipe what trains when,
and the accuracy on held-out digits.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import etude

BLOCKS, WIDTH, BATCH, EPOCHS = 6, 192, 32, 8

RECIPES = {
    "everything throughout": {"lr": "2e-3 * wsd(decay=0.1)"},
    # First the top layers at high rates, later the middle and the bottom, at lower and lower ones; a long
    # plateau, and a decay in the last tenth of the run.
    "multi-stage": {"lr": "2e-3 * wsd(decay=0.1)", "stages": "unfreeze('1ep', stages=4, fade=0.5)"},
    "LP-FT": {"lr": "2e-3 * linear()", "stages": "lp_ft(0.2, warmup=0.05)"},
    "FreezeOut": {"lr": 1e-3, "stages": "freezeout(0.5)"},
    # Each stage with a schedule of its own: the plan's rate is then a number.
    "of one's own": {
        "lr": 2e-3,
        "stages": """stage("head", "1ep", path=linear())
            >> stage("layer.3..head", "2ep", peak=0.7, path=warmup(0.1) >> cosine(to=0.1))
            >> stage(peak=0.3, path=warmup(0.1) >> cosine())""".replace("\n", ""),
    },
}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.norm, self.down = (
            nn.Linear(WIDTH, WIDTH),
            nn.BatchNorm1d(WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, x):
        return x + self.down(torch.relu(self.norm(self.up(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(64, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def digits(which):
    """Images and labels from 0 to 4 of five of the digits, for training and held out."""
    images, labels = load_digits(return_X_y=True)
    chosen = (labels >= which) & (labels < which + 5)
    parts = train_test_split(images[chosen] / 16, labels[chosen] - which, test_size=0.3, random_state=17)
    x, held, y, truth = map(torch.tensor, parts)
    return x.float(), y, held.float(), truth


def train(net, x, y, epochs, **recipe):
    """Fine-tune; returns for each update its time in epochs and the groups that trained."""
    updates = len(x) // BATCH
    plan = etude.plan(net, groups=[("^embed", {"depth": "embeddings"})], weight_decay=0.01, **recipe)
    optimizer = torch.optim.AdamW(plan.torch_groups(net), fused=True)
    driver = etude.Driver(plan.over(epochs * updates, epoch=updates), etude.torch.sink(optimizer))
    trained = []
    for k in range(epochs * updates):
        net.train()
        driver.apply(k)
        chosen = torch.randperm(len(x))[:BATCH]
        nn.functional.cross_entropy(net(x[chosen]), y[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
        open_ = zip(plan.groups, driver.rates.open(k), strict=True)
        names = dict.fromkeys(group.name.removesuffix(".no_decay") for group, flag in open_ if flag)
        trained.append((k / updates, " ".join(names)))
    return trained


torch.manual_seed(17)
torch.set_num_threads(1)
pretrained = Net()
x, y, *_ = digits(0)
train(pretrained, x, y, 10, lr="2e-3 * linear()")
x, y, held, truth = digits(5)
for name, recipe in RECIPES.items():
    torch.manual_seed(17)
    net = Net()
    net.load_state_dict(pretrained.state_dict())
    net.head.reset_parameters()
    trained = train(net, x, y, EPOCHS, **recipe)
    net.eval()
    right = (net(held).argmax(1) == truth).float().mean().item()
    print(f"{name}: {right:.1%} of {len(truth)} held-out digits")
    before = ""
    for epoch, names in trained:
        if names != before:
            print(f"  from epoch {epoch:4.2f}: {names}")
        before = names
