"""What teacher and student see, as one picture."""

import keras
import numpy as np

from keras_distill._data.batch_fields import unpacked_batch

_GAP, _WHITE = 2, 255


def preview(views, batch, filepath=None, *, samples=8, epoch=0):
    """Shows what the networks see of a batch of images, side by side.

    A row per sample: the image as the data set gives it, what the student sees
    of it in training, what the teacher sees. Each column is on one scale of
    brightness, and of its own size.

    Args:
        views: A `kd.views.Views`.
        batch: What the data set gives: `x`, `(x, y)` or `(x, y,
            sample_weight)`, with an index (`kd.views.indexed`) or without; x
            `(batch, height, width, 1 or 3)`.
        filepath: Where to write the picture, a PNG file. Defaults to `None`:
            nowhere.
        samples: How many samples to show at most. Defaults to 8.
        epoch: The epoch whose views are shown. Defaults to 0.

    Returns:
        The picture, a uint8 NumPy array `(height, width, 3)`.

    Raises:
        TypeError: if `views` is none.
        ValueError: if the batch or what a network sees of it is no images.

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
    from keras_distill.views import Views

    if not isinstance(views, Views):
        raise TypeError(f"views must be a kd.views.Views. Received: {views!r}")
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
    """Pictures beside each other (axis 1) or below (axis 0), on white."""
    other = 1 - axis
    longest = max(p.shape[other] for p in pictures)
    padded = []
    for number, picture in enumerate(pictures):
        margin = [(0, 0), (0, 0), (0, 0)]
        margin[other] = (0, longest - picture.shape[other])
        margin[axis] = (_GAP if number else 0, 0)
        padded.append(np.pad(picture, margin, constant_values=_WHITE))
    return np.concatenate(padded, axis=axis)
