"""Arrays as pictures inside the page."""

import base64

import numpy as np

from keras_distill.report.html import element

# A picture of a page, not a data set: this is enough to see what it shows.
LONGEST_SIDE = 128


def are_images(x):
    """Whether an array is a batch of pictures: `(n, h, w, 1)` or 3 colours."""
    shape = getattr(x, "shape", ())
    return len(shape) == 4 and shape[-1] in (1, 3) and min(shape[1:3]) > 1


def to_bytes(images):
    """Images of any range as bytes, all on one scale.

    Args:
        images: `(n, h, w, channels)`, or their values in any other shape.

    Returns:
        uint8 of the same shape, and in words what became black and white:
        `None` for images that came in bytes or in [0, 1].
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
    """One image of bytes `(h, w, channels)` -> `<img>`, the file inside it."""
    import tensorflow as tf

    height, width = image.shape[:2]
    if max(height, width) > LONGEST_SIDE:
        scale = LONGEST_SIDE / max(height, width)
        smaller = [max(1, round(scale * side)) for side in (height, width)]
        resized = tf.image.resize(image, smaller, method="area")
        image = tf.cast(tf.round(resized), tf.uint8).numpy()
    png = tf.io.encode_png(image).numpy()
    return element(
        "img",
        src=f"data:image/png;base64,{base64.b64encode(png).decode()}",
        alt=alternative,
        width=image.shape[1],
        height=image.shape[0],
        # Blurred digits of 8 pixels are no digits.
        class_="pixels" if max(image.shape[:2]) <= 64 else None,
    )
