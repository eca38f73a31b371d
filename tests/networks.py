"""Small networks and data that several test files use."""

import keras
import numpy as np

layers = keras.layers
CLASSES = 4


def data(n=32, size=8, classes=CLASSES, seed=0):
    """Images whose class can be learned: `(x, y)`."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(n, size, size, 3)).astype("float32") * 0.5
    x += y[:, None, None, None] / classes
    return x, y.astype("int32")


def convnet(
    width=4,
    classes=CLASSES,
    size=8,
    batch_norm=False,
    synchronized=False,
    dtype=None,
    head=None,
    name=None,
):
    """A Functional network with layers `conv1`, `act1`, `conv2`, `head`."""
    inputs = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(width, 3, padding="same", name="conv1", dtype=dtype)(
        inputs
    )
    if batch_norm:
        x = layers.BatchNormalization(
            name="bn", synchronized=synchronized, dtype=dtype
        )(x)
    x = layers.ReLU(name="act1", dtype=dtype)(x)
    x = layers.Conv2D(
        2 * width, 3, strides=2, padding="same", name="conv2", dtype=dtype
    )(x)
    x = layers.GlobalAveragePooling2D(name="pool", dtype=dtype)(x)
    outputs = layers.Dense(classes, activation=head, name="head", dtype=dtype)(
        x
    )
    return keras.Model(inputs, outputs, name=name)


class Subclassed(keras.Model):
    """The same network as a subclass: no symbolic inputs or outputs."""

    def __init__(self, width=4, classes=CLASSES, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.classes = classes
        self.conv1 = layers.Conv2D(width, 3, padding="same", name="conv1")
        self.act1 = layers.ReLU(name="act1")
        self.pool = layers.GlobalAveragePooling2D(name="pool")
        self.head = layers.Dense(classes, name="head")
        self.calls = 0

    def call(self, x, training=None):
        self.calls += 1
        return self.head(self.pool(self.act1(self.conv1(x))))

    def get_config(self):
        return {"width": self.width, "classes": self.classes, "name": self.name}


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def token_network(vocabulary=11, width=8, seed=0, name=None):
    """A causal network: ids `(batch, length)` to logits of the next ones."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(vocabulary, width)(ids)
    x = layers.Conv1D(width, 3, padding="causal", activation="relu")(x)
    wide = keras.initializers.RandomNormal(stddev=9.0)
    logits = layers.Dense(vocabulary, kernel_initializer=wide, name="head")(x)
    return keras.Model(ids, logits, name=name)
