"""Samples as pictures, and what the networks see in training."""

import base64

import keras
import numpy as np
from markupsafe import Markup

from keras_distill._data.for_network import for_network
from keras_distill._data.sources import batches
from keras_distill.export import model_inputs

# A report is not a data set: this size is enough to see what is there.
LONGEST_SIDE = 128
# Samples of a batch that are shown as the networks see them.
_SHOWN = 8


def are_images(x):
    """Whether an array is a batch of images `(n, h, w, 1 or 3)`."""
    shape = getattr(x, "shape", ())
    return len(shape) == 4 and shape[-1] in (1, 3) and min(shape[1:3]) > 1


def first_training_batch(dataset, views, models):
    """What both networks see of the first training batch.

    Args:
        dataset: Training data, as `fit` accepts it.
        views: A `Views`.
        models: A dict that may hold `"teacher"` and `"student"`.

    Returns:
        A tuple of facts and of a dict from role to a list of `<img>`.
    """
    batch = next(batches(dataset, "train_dataset"), None)
    if batch is None:
        raise ValueError("`train_dataset` is empty: there is nothing to show.")
    x = keras.tree.map_structure(keras.ops.convert_to_tensor, batch[0])
    viewed = views.training(x, epoch=keras.ops.convert_to_tensor(0))
    facts = {"samples": len(keras.tree.flatten(x)[0]), "scale": {}}
    pictures, inputs = {}, {}
    for role in ("teacher", "student"):
        if role not in models:
            continue
        inputs[role] = keras.tree.map_structure(
            keras.ops.convert_to_numpy,
            for_network(models[role], getattr(viewed, role), role),
        )
        facts[role] = _ranges(inputs[role])
        if are_images(inputs[role]):
            images, scale = to_bytes(inputs[role][:_SHOWN])
            facts["scale"][role] = f" ({scale})" if scale else ""
            pictures[role] = [
                picture(
                    image, f"Training sample {number} as the {role} sees it"
                )
                for number, image in enumerate(images)
            ]
    facts["same"] = len(inputs) == 2 and _equal(*inputs.values())
    return facts, pictures


def _ranges(inputs):
    """Shape, dtype and values of one input or of several."""
    named = model_inputs.named_outputs(inputs)
    if not keras.tree.is_nested(inputs):
        named = {"": inputs}
    return {
        str(name): {
            "shape": list(array.shape[1:]),
            "dtype": str(array.dtype),
            **{
                key: float(getattr(np, key)(array.astype("float64")))
                for key in ("min", "max", "mean")
            },
        }
        for name, array in named.items()
        if array.dtype.kind in "iufb" or array.dtype.name == "bfloat16"
    }


def _equal(one, other):
    one, other = keras.tree.flatten(one), keras.tree.flatten(other)
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def on_one_scale(images):
    """Images of any sizes as bytes, see `to_bytes`; `None` stays `None`."""
    known = [image for image in images if image is not None]
    if not known:
        return images
    values, _ = to_bytes(np.concatenate([np.ravel(image) for image in known]))
    ends = np.cumsum([np.size(image) for image in known])
    parts = iter(np.split(values, ends[:-1]))
    return [
        image if image is None else next(parts).reshape(np.shape(image))
        for image in images
    ]


def to_bytes(images):
    """Images with any range of values as bytes, all on one scale.

    Args:
        images: `(n, h, w, channels)`, or their values in any other shape.

    Returns:
        A tuple: uint8 of the same shape, and in words which values became
        black and white; `None` for images that were bytes or in [0, 1].
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images, None
    values = images.astype("float64")
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if 0.0 <= low and high <= 1.0:
        black, white, words = 0.0, 1.0, None
    elif 0.0 <= low and high <= 255.0:
        black, white, words = 0.0, 255.0, None
    elif -1.0 <= low and high <= 1.0:
        black, white, words = -1.0, 1.0, "-1 is black, 1 is white"
    else:
        black, white = low, high
        words = f"{low:.3g} is black, {high:.3g} is white"
    values = np.nan_to_num(values, nan=black, posinf=white, neginf=black)
    values = (values - black) / ((white - black) or 1.0)
    return np.clip(np.round(255 * values), 0, 255).astype("uint8"), words


def picture(image, alternative):
    """One image of bytes, `(h, w, channels)`, as `<img>` with its data."""
    import tensorflow as tf

    height, width = image.shape[:2]
    if max(height, width) > LONGEST_SIDE:
        scale = LONGEST_SIDE / max(height, width)
        height, width = (max(1, round(scale * s)) for s in (height, width))
        resized = tf.image.resize(image, (height, width), method="area")
        image = tf.cast(tf.round(resized), tf.uint8).numpy()
    png = base64.b64encode(tf.io.encode_png(image).numpy()).decode()
    # Small pictures stay sharp: blurred digits of 8 pixels are unreadable.
    pixels = ' class="pixels"' if max(height, width) <= 64 else ""
    return Markup(
        f'<img src="data:image/png;base64,{png}" width="{width}" '
        f'height="{height}"{pixels} alt="{{}}"/>'
    ).format(alternative)
