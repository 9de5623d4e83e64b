"""étude in an MLX loop: a `MultiOptimizer` from a plan, whose rates are computed from its own step.

Run: .venv/bin/python examples/mlx_loop.py. A small transformer reads scikit-learn's 1,797 handwritten digits,
row by row. Prints the first, highest and last rate of every group. On Apple silicon wrap `update` in
`mx.compile(update, inputs=state, outputs=state)` with `state = [model.state, optimizer.state]`; on a CPU that
calls g++ for a minute.
"""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import etude

UPDATES, BATCH, WIDTH = 150, 64, 32

images, digits = load_digits(return_X_y=True)
split = train_test_split(images.reshape(-1, 8, 8) / 16, digits, test_size=0.2, random_state=17)
x, held_out, y, truth = (mx.array(part) for part in split)
mx.random.seed(17)


class Encoder(nn.Module):
    """Three transformer layers over the embedded rows of an image."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, WIDTH)
        self.place = nn.Embedding(8, WIDTH)
        self.encoder = nn.TransformerEncoder(3, WIDTH, 2, 2 * WIDTH)

    def __call__(self, x):
        return self.encoder(self.embed(x) + self.place(mx.arange(8)), None).mean(axis=1)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Encoder()
        self.head = nn.Linear(WIDTH, 10)

    def __call__(self, x):
        return self.head(self.body(x))


model = Classifier()
plan = etude.plan(
    etude.mlx.leaves(model),
    lr="3e-3 * (warmup(0.1) >> cosine(to=0.01))",
    layer_decay=0.8,
    head=2,
    weight_decay=0.01,
    groups=[("embed|place", {"depth": "embeddings"})],
)
optimizer = etude.mlx.optimizer(plan.over(UPDATES), model, optim.AdamW)
loss_and_gradients = nn.value_and_grad(
    model, lambda model, x, y: nn.losses.cross_entropy(model(x), y, reduction="mean")
)


def update(x, y):
    loss, gradients = loss_and_gradients(model, x, y)
    optimizer.update(model, gradients)
    return loss


used, rng = [], np.random.default_rng(17)
for _ in range(UPDATES):
    batch = mx.array(rng.choice(len(x), BATCH, replace=False))
    loss = update(x[batch], y[batch])
    mx.eval(loss, model.parameters(), optimizer.state)
    used.append(optimizer.learning_rate.tolist())

right = mx.mean(mx.argmax(model(held_out), axis=1) == truth).item()
print(f"accuracy on {len(truth)} held-out digits {right:.2f}")
for i, group in enumerate(plan.groups):
    rates = [row[i] for row in used]
    print(f"{group.name:24} first {rates[0]:.2e}  highest {max(rates):.2e}  last {rates[-1]:.2e}")
