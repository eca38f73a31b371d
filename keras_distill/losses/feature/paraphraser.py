"""The two networks of factor transfer, and the training of the teacher's.

Both are three 3x3 convolutions, each with batch normalization and a leaky ReLU
of slope 0.1. Three transposed ones make the paraphraser an autoencoder of the
teacher's feature.
"""

from typing import Any

import keras
from keras import layers

from keras_distill._progress import ProgressBar
from keras_distill.losses.connectors import batch_norm
from keras_distill.losses.ops.elementwise import at_least_float32

SLOPE = 0.1  # Of the leaky ReLU, as in the paper.


def translator(channels, factor_channels, dtype="float32"):
    """Builds three convolutions from `channels` to `factor_channels`.

    Args:
        channels: Number of channels of the input.
        factor_channels: Number of channels of the factor.
        dtype: dtype of the weights.

    Returns:
        A built `keras.Sequential` of maps.
    """
    widths = (channels, factor_channels, factor_channels)
    return _stack(layers.Conv2D, channels, widths, "translator", dtype)


@keras.saving.register_keras_serializable(package="keras_distill")
class Paraphraser(keras.layers.Layer):
    """An autoencoder of one feature, whose code is the factor.

    It is frozen and in inference mode, except for its own training in `train`.

    Args:
        channels: Number of channels of the teacher's feature.
        factor_channels: Number of channels of the factor.
        dtype: dtype of the weights.
    """

    def __init__(
        self, channels: Any, factor_channels: Any, dtype: Any = "float32"
    ):
        super().__init__(name="paraphraser", dtype=dtype)
        self.encoder = translator(channels, factor_channels, dtype)
        self.decoder = _stack(
            layers.Conv2DTranspose,
            factor_channels,
            (factor_channels, channels, channels),
            "decoder",
            dtype,
        )
        self.trainable = False
        self.built = True

    def call(self, x):
        return self.encoder(x, training=False)

    def trainer(self, learning_rate):
        """Returns a compiled autoencoder. Freeze it after use."""
        self.trainable = True
        model = keras.Sequential([self.encoder, self.decoder])
        model.compile(
            keras.optimizers.Adam(learning_rate),
            loss="mse",
            # Compiling takes longer than XLA saves in a few epochs.
            jit_compile=False,
        )
        return model


def train(paraphrasers, batches, epochs, learning_rate):
    """Trains autoencoders of features, by the mean squared error.

    Args:
        paraphrasers: A list of `Paraphraser`.
        batches: Iterable of lists of features, one per paraphraser. Every
            epoch iterates it anew.
        epochs: How often.
        learning_rate: Of Adam.

    Returns:
        Per paraphraser the error of the last epoch.
    """
    trainers = [p.trainer(learning_rate) for p in paraphrasers]
    progress = ProgressBar(epochs, "epoch")
    try:
        for epoch in range(epochs):
            errors = _epoch(trainers, batches)
            names = [f"reconstruction_{i}" for i in range(len(errors))]
            progress.update(epoch + 1, list(zip(names, errors)))
    finally:
        for p in paraphrasers:
            p.trainable = False
    return errors


def _epoch(trainers, batches):
    errors = []
    for features in batches:
        errors.append([])
        for trainer, x in zip(trainers, map(at_least_float32, features)):
            trainer.reset_metrics()  # Keras 3.12 gives the mean since.
            errors[-1].append(float(trainer.train_on_batch(x, x)))
    if not errors:
        raise ValueError(
            "The paraphraser got no batch of the teacher's features to train "
            "on. Give an iterable that can be iterated again in every epoch: "
            "a list or a dataset, not a generator."
        )
    return [sum(batch) / len(batch) for batch in zip(*errors)]


def _stack(kind, channels, widths, name, dtype):
    stack = []
    for width in widths:
        stack += [
            kind(
                width,
                3,
                padding="same",
                data_format="channels_last",
                dtype=dtype,
            ),
            batch_norm(dtype),
            layers.LeakyReLU(negative_slope=SLOPE, dtype=dtype),
        ]
    network = keras.Sequential(stack, name=name)
    network.build((None, None, None, channels))
    return network
