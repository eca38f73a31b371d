"""The ranges of activations: measured on data, then frozen."""

import contextlib
from typing import Any

import keras

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_number
from keras_distill._data.sources import batches
from keras_distill._keras.layers import flatten_layers
from keras_distill.quantization.fake_quantize import FakeQuantize


def range_layers(model: keras.Model) -> list[FakeQuantize]:
    """Lists the layers of a model that hold ranges; none if it does not come
    from `aware`."""
    return [
        layer
        for layer in flatten_layers(model)
        if isinstance(layer, FakeQuantize)
    ]


def calibrate(model: keras.Model, data: Any, *, samples: int = 500) -> None:
    """Measures the ranges of activations on data, without rounding these.

    A range is from the least to the greatest value, as in TFLite's
    calibration. What was measured before is forgotten.

    Args:
        model: A model of `kd.quantization.aware`.
        data: Inputs as in training: a `tf.data.Dataset` of `x`, `(x, y)` or
            `(x, y, sample_weight)` batches, any iterable of such batches or a
            function that returns one, one array, a dict of arrays, or a tuple
            `(x, y)`.
        samples: After how many samples to stop: the first of a dataset,
            evenly spaced ones of arrays. Defaults to 500, as for
            `kd.export.RepresentativeDataset`.

    Raises:
        TypeError: If `model` is not a `keras.Model`, or `data` are none of
            the above.
        ValueError: If `model` does not come from `aware`, there are no data,
            or they do not fit its inputs.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    aware = kd.quantization.aware(student)
    kd.quantization.calibrate(aware, np.random.uniform(size=(100, 6)))
    ```
    """
    from keras_distill.export import model_inputs

    checked_integer("`samples`", samples)
    ranges = _ranges_of(model)
    _, inputs = model_inputs.input_signature(model)
    for layer in ranges:
        layer.forget()
    seen = 0
    with _observing(ranges):
        for x, _ in batches(data, "data", samples):
            model_inputs.feed(x, inputs, "data")  # It checks the shapes.
            model(x, training=False)
            seen += len(keras.tree.flatten(x)[0])
            if seen >= samples:
                return
    if not seen:
        raise ValueError("`data` is empty. Was it consumed before?")


@contextlib.contextmanager
def _observing(ranges):
    for layer in ranges:
        layer.is_observing = True
    try:
        yield
    finally:
        for layer in ranges:
            layer.is_observing = False


class FreezeRanges(keras.callbacks.Callback):
    """Keeps the ranges of activations from some step of `fit` on.

    The weights then adapt to the ranges that the file will have.

    Args:
        model: The model of `kd.quantization.aware` that is trained.
        share: After which share of the steps of this `fit`, in [0, 1].
            Defaults to 0.5. If the data does not say how many steps an epoch
            has, whole epochs are counted.

    Raises:
        TypeError, ValueError: If an argument is none of these.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    aware = kd.quantization.aware(student)
    aware.compile("adam", "mse")
    aware.fit(
        np.random.uniform(size=(64, 6)),
        np.zeros((64, 3)),
        epochs=4,
        callbacks=[kd.quantization.FreezeRanges(aware)],
        verbose=0,
    )
    ```
    """

    def __init__(self, model: keras.Model, share: float = 0.5):
        super().__init__()
        self._share = checked_number("`share`", share, "[0, 1]")
        self._ranges = _ranges_of(model)
        self._epoch = 0

    def on_train_begin(self, logs=None):
        self._set(frozen=False)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._freeze_after(epoch * (self.params["steps"] or 1))

    def on_train_batch_begin(self, batch, logs=None):
        if self.params["steps"]:  # Else only epochs can be counted.
            self._freeze_after(self._epoch * self.params["steps"] + batch)

    def _freeze_after(self, step):
        steps = self.params["epochs"] * (self.params["steps"] or 1)
        if not self._frozen and step >= self._share * steps:
            self._set(frozen=True)

    def _set(self, frozen):
        self._frozen = frozen
        for layer in self._ranges:
            layer.freeze(frozen)


def _ranges_of(model):
    checked_model("model", model)
    ranges = range_layers(model)
    if not ranges:
        raise ValueError(
            f"`model` must come from kd.quantization.aware. '{model.name}' "
            "has no ranges."
        )
    return ranges
