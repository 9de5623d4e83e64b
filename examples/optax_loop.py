"""étude in a jitted optax loop: layer-wise rates in the graph, and a driver whose edits compile nothing anew.

Run: .venv/bin/python examples/optax_loop.py. A residual network in plain jax learns scikit-learn's 1,797
handwritten digits. Prints the first, highest and last rate of every group.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import etude

UPDATES, BATCH, WIDTH = 200, 64, 64

images, digits = load_digits(return_X_y=True)
x, held_out, y, truth = train_test_split(images / 16, digits, test_size=0.2, random_state=17)


def dense(key, rows, columns):
    return {"kernel": jax.random.normal(key, (rows, columns)) / rows**0.5, "bias": jnp.zeros(columns)}


keys = jax.random.split(jax.random.key(17), 8)
params = {
    "body": {
        "embed": dense(keys[0], 64, WIDTH),
        **{
            f"block_{i}": {
                "up": dense(keys[2 * i + 1], WIDTH, WIDTH),
                "down": dense(keys[2 * i + 2], WIDTH, WIDTH),
            }
            for i in range(3)
        },
    },
    "head": dense(keys[7], WIDTH, 10),
}


def logits(params, x):
    def linear(part, x):
        return x @ part["kernel"] + part["bias"]

    x = linear(params["body"]["embed"], x)
    for i in range(3):
        block = params["body"][f"block_{i}"]
        x = x + linear(block["down"], jax.nn.gelu(linear(block["up"], x)))
    return linear(params["head"], x)


plan = etude.plan(
    etude.optax.leaves(params),
    lr="3e-3 * (warmup(0.1) >> cosine(to=0.01))",
    layer_decay=0.8,
    head=2,
    weight_decay=0.01,
    groups=[("embed", {"depth": "embeddings"})],
)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), etude.optax.partition(plan, params, optax.adamw))
driver = etude.Driver(plan.over(UPDATES))
traces = 0


@jax.jit
def step(params, state, x, y):
    global traces
    traces += 1  # counted when jax traces, not when it runs
    loss, gradients = jax.value_and_grad(
        lambda params: optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()
    )(params)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss


state, used, rng = optimizer.init(params), [], np.random.default_rng(17)
for k in range(UPDATES):
    if k == UPDATES // 2:
        driver.edit(etude.Scale(k, 0.5, reason="half time"))
    state = etude.optax.put(state, driver.at(k))
    batch = rng.choice(len(x), BATCH, replace=False)
    params, state, loss = step(params, state, x[batch], y[batch])
    used.append(np.asarray(state[1].hypers["lr"]))

right = float(jnp.mean(jnp.argmax(logits(params, held_out), axis=1) == truth))
print(f"accuracy on {len(truth)} held-out digits {right:.2f}; traced {traces} time, with an edit half way")
for i, group in enumerate(plan.groups):
    rates = [row[i] for row in used]
    print(f"{group.name:24} first {rates[0]:.2e}  highest {max(rates):.2e}  last {rates[-1]:.2e}")
