"""étude in a Keras `fit`: layer-wise rates, a thawing body, and a driver whose edits act at once.

Run: .venv/bin/python examples/keras_fit.py, on the back end that KERAS_BACKEND names (jax if none does). A
small transformer reads scikit-learn's 1,797 handwritten digits, row by row. Prints the first, highest and
last rate of every group.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import etude

EPOCHS, BATCH, WIDTH = 6, 64, 32

images, digits = load_digits(return_X_y=True)
x, held_out, y, truth = train_test_split(
    images.reshape(-1, 8, 8) / 16, digits, test_size=0.2, random_state=17
)
keras.utils.set_random_seed(17)


class Block(keras.layers.Layer):
    """Attention between the rows of an image, then two dense layers, each beside a short cut."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attention = keras.layers.MultiHeadAttention(2, WIDTH // 2)
        self.before, self.after = keras.layers.LayerNormalization(), keras.layers.LayerNormalization()
        self.wide, self.narrow = keras.layers.Dense(2 * WIDTH, "gelu"), keras.layers.Dense(WIDTH)

    def call(self, x):
        normed = self.before(x)
        x = x + self.attention(normed, normed)
        return x + self.narrow(self.wide(self.after(x)))


class Encoder(keras.layers.Layer):
    """Three blocks over the embedded rows."""

    def __init__(self, **options):
        super().__init__(**options)
        self.embed = keras.layers.Dense(WIDTH, name="embed")
        self.place = keras.layers.Embedding(8, WIDTH, name="place")
        self.blocks = [Block(name=f"block_{i}") for i in range(3)]

    def call(self, x):
        x = self.embed(x) + self.place(keras.ops.arange(8))
        for block in self.blocks:
            x = block(x)
        return keras.ops.mean(x, axis=1)


inputs = keras.Input((8, 8))
model = keras.Model(inputs, keras.layers.Dense(10, name="classifier")(Encoder(name="encoder")(inputs)))

plan = etude.plan(
    etude.keras.leaves(model),
    lr="3e-3 * (warmup(0.1) >> cosine(to=0.01))",
    layer_decay=0.8,
    head=2,
    weight_decay=0.01,
    groups=[("embed|place", {"depth": "embeddings", "gate": "frozen(0.2) >> hold(start=1)"})],
)
optimizer = etude.keras.optimizer(keras.optimizers.AdamW(), plan, model)
driver = etude.Driver(plan.over(EPOCHS * -(-len(x) // BATCH)))
model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])


class Used(keras.callbacks.Callback):
    """Reads every group's rate from the optimizer before each update; halves all of them at half time."""

    def on_train_begin(self, logs=None):
        self.rows = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rows.append(self.model.optimizer.rates)

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == EPOCHS // 2:
            driver.edit(etude.Scale(len(self.rows), 0.5, reason="half time"))


used = Used()
history = model.fit(
    x,
    y,
    BATCH,
    EPOCHS,
    verbose=0,
    validation_data=(held_out, truth),
    callbacks=[etude.keras.Callback(driver), used],
).history
print(f"accuracy on {len(truth)} held-out digits, by epoch:", *(f"{a:.2f}" for a in history["val_accuracy"]))
for group in plan.groups:
    rates = [row[group.name] for row in used.rows]
    print(f"{group.name:24} first {rates[0]:.2e}  highest {max(rates):.2e}  last {rates[-1]:.2e}")
