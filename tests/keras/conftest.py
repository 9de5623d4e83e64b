"""A Keras model whose every weight has the gradient 1, and a fit that tells how far its weights moved."""

import pytest


@pytest.fixture
def summed():
    """`summed("a", "b")`: a model of one layer a name, each a kernel of ones; it returns their sum."""
    keras = pytest.importorskip("keras", reason="needs keras")

    class Weights(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(2,), initializer="ones", name="kernel")

        def call(self, x):
            return x * 0 + keras.ops.sum(self.kernel)

    def make(*names):
        keras.utils.clear_session()
        x = keras.Input((1,))
        sums = [Weights(name=name)(x) for name in names]
        return keras.Model(x, keras.layers.Add()(sums) if len(sums) > 1 else sums[0])

    return make


@pytest.fixture
def moved():
    """`moved(model, optimizer, updates)`: how far each layer's weights moved in each update of a real fit."""
    import keras
    import numpy as np

    class Watch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def _weights(self):
            return {
                one.path.partition("/")[0]: float(keras.ops.convert_to_numpy(one)[0])
                for one in self.model.trainable_variables
            }

        def on_train_batch_begin(self, batch, logs=None):
            self.seen.append([self._weights()])

        def on_train_batch_end(self, batch, logs=None):
            self.seen[-1].append(self._weights())

    def fit(model, optimizer, updates, callbacks=(), gradient=1.0, **options):
        if optimizer is not None:
            model.compile(optimizer, loss=lambda y, out: gradient * keras.ops.mean(out))
        watch, data = Watch(), np.ones((updates, 1), np.float32)
        model.fit(data, data, batch_size=1, verbose=0, callbacks=[*callbacks, watch], **options)
        return {
            name: [before[name] - after[name] for before, after in watch.seen] for name in watch.seen[0][0]
        }

    return fit
