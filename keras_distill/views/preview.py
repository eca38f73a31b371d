"""What teacher and student see, as one picture."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_integer
from keras_distill._data.batch_fields import unpacked_batch
from keras_distill.views.augmented import checked_views
from keras_distill.views.base import Views

_GAP, _WHITE = 2, 255


def preview(
    views: Views | keras.layers.Layer | Sequence[keras.layers.Layer],
    batch: Any,
    filepath: str | os.PathLike | None = None,
    *,
    samples: int = 8,
    epoch: int = 0,
) -> np.ndarray:
    """Shows what the networks see of a batch of images, side by side.

    Each sample is a row: the image in the data set, the student's view of it
    in training, the teacher's view. Each column has one scale of brightness
    and keeps its own size.

    Args:
        views: What you give to `kd.Distiller(views=...)`.
        batch: A batch of the data set: `x`, `(x, y)` or `(x, y,
            sample_weight)`, with or without an index (`kd.views.indexed`). x
            has shape `(batch, height, width, 1 or 3)`.
        filepath: PNG file to write the picture to. Defaults to `None`: no
            file.
        samples: Largest number of samples to show. Defaults to 8.
        epoch: The epoch whose views are shown. Defaults to 0.

    Returns:
        The picture, a uint8 NumPy array `(height, width, 3)`.

    Raises:
        TypeError: If `views` is `None` or not of this kind.
        ValueError: If the batch, or what a network sees of it, is not images.

    Example:

    ```python
    images = np.random.uniform(size=(16, 32, 32, 3))
    picture = kd.views.preview(
        kd.views.FunctionMatching(24), images, "views.png"
    )
    ```
    """
    from keras_distill.report.images import are_images
    from keras_distill.report.images import to_bytes

    checked_integer("samples", samples)
    checked_integer("epoch", epoch, least=0)
    if filepath is not None:
        filepath = as_path("filepath", filepath)
    views = checked_views(views)
    if views is None:
        raise TypeError("views must be a kd.views.Views. Received: None")
    sample, _, _ = unpacked_batch(batch)
    index = sample.sample_index
    view = views.training(
        sample.inputs,
        epoch=keras.ops.convert_to_tensor(epoch, "int32"),
        sample_index=None
        if index is None
        else keras.ops.convert_to_tensor(index, "int32"),
    )
    columns = []
    for name, images in (
        ("the batch", sample.inputs),
        ("the student's view", view.student),
        ("the teacher's view", view.teacher),
    ):
        if not are_images(images):
            shape = getattr(images, "shape", type(images).__name__)
            raise ValueError(
                "A preview needs images (batch, height, width, 1 or 3 "
                f"colours). Received: {name} of shape {shape}."
            )
        pixels, _ = to_bytes(np.asarray(images)[:samples])
        columns.append(np.repeat(pixels, 3 // pixels.shape[-1], axis=-1))
    picture = _joined(
        [_joined(list(row), axis=1) for row in zip(*columns, strict=True)],
        axis=0,
    )
    if filepath is not None:
        import tensorflow as tf

        tf.io.write_file(str(filepath), tf.io.encode_png(picture))
    return picture


def _joined(pictures, axis):
    """Pictures side by side (axis 1) or one below the other (axis 0)."""
    other = 1 - axis
    longest = max(p.shape[other] for p in pictures)
    padded = []
    for number, picture in enumerate(pictures):
        margin = [(0, 0), (0, 0), (0, 0)]
        margin[other] = (0, longest - picture.shape[other])
        margin[axis] = (_GAP if number else 0, 0)
        padded.append(np.pad(picture, margin, constant_values=_WHITE))
    return np.concatenate(padded, axis=axis)
