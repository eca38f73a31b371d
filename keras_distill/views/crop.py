"""The inception crop: where to cut, and cutting.

A box is [y1, x1, y2, x2] relative to the image, as in TensorFlow. A box whose
x1 is right of its x2, or y1 below y2, is mirrored, so a flip costs nothing.

The pixels are those of `keras_cv.layers.RandomCropAndResize`, but one operator
cuts the whole batch. keras-cv's layer cuts image by image, which takes twice as
long (examples/benchmarks/views.py), and its draws cannot be replayed.
"""

from keras import ops

from keras_distill.views import draws

# Tries for a box inside the image, as in torchvision's crop of this kind.
# The chance that ten fail is about 1e-8 with the published area and aspect.
TRIES = 10
# Boxes keep so far from the edges of an image that is resized: the error of
# float32 is a fourth of it.
_MARGIN = 1e-6


def random_boxes(key, shape, area, aspect):
    """Random boxes as in Szegedy et al. 2015, section 6.

    The area is uniform in `area` (relative to the image) and the aspect ratio
    (width / height, in pixels) uniform in `aspect`. The box is the first of a
    few tries that fits into the image, at a uniform place. If none fits, it is
    the largest centred box whose aspect ratio lies in the range.

    Args:
        key: Coordinates of the draws, a tuple with `(batch,)` tensors.
        shape: (height, width) of the images; numbers or scalar tensors.
        area: (least, largest) share of the image's area.
        aspect: (least, largest) width / height.

    Returns:
        `(batch, 4)` float32.
    """
    height, width = (ops.cast(size, "float32") for size in shape)
    tries = ops.arange(TRIES, dtype="int32")[None, :]
    key = [c if isinstance(c, int) else c[..., None] for c in key]
    areas = _between(draws.uniform(*key, 0, tries), *area)
    ratios = _between(draws.uniform(*key, 1, tries), *aspect)
    # Sides relative to the image's own.
    ratios = ratios * height / width
    wide, high = ops.sqrt(areas * ratios), ops.sqrt(areas / ratios)
    fits = ops.logical_and(wide <= 1.0, high <= 1.0)
    first = ops.argmax(ops.cast(fits, "int32"), axis=1)[:, None]

    def chosen(values):
        return ops.take_along_axis(values, first, axis=1)[:, 0]

    fallback = ops.clip(width / height, *aspect) * height / width
    any_fits = ops.any(fits, axis=1)
    wide = ops.where(any_fits, chosen(wide), ops.minimum(fallback, 1.0))
    high = ops.where(any_fits, chosen(high), ops.minimum(1.0 / fallback, 1.0))
    key = [c if isinstance(c, int) else c[..., 0] for c in key]
    at_y = ops.where(any_fits, draws.uniform(*key, 2), 0.5)
    at_x = ops.where(any_fits, draws.uniform(*key, 3), 0.5)
    y1, x1 = at_y * (1.0 - high), at_x * (1.0 - wide)
    return ops.stack([y1, x1, y1 + high, x1 + wide], axis=1)


def centre_boxes(batch, side):
    """Centred boxes with this share of each side, `(batch, 4)` float32."""
    low = (1.0 - side) / 2.0
    box = ops.convert_to_tensor([[low, low, low + side, low + side]], "float32")
    return ops.tile(box, [batch, 1])


def flipped(boxes, key, vertical=False):
    """Mirrors about half of the boxes from left to right, or upside down."""
    return _mirrored(boxes, draws.bernoulli(*key), vertical)


def before_transposition(boxes, turns):
    """Mirrors boxes so that what they cut is turned, once it is transposed.

    A turn by 90 degrees to the left is a flip from left to right and then a
    transposition, one to the right a flip upside down and then that; half a
    turn is both flips.

    Args:
        boxes: `(batch, 4)`.
        turns: `(batch,)` int32, quarter turns to the left. Those with an odd
            number are to be transposed.
    """
    boxes = _mirrored(boxes, ops.logical_or(turns == 1, turns == 2))
    return _mirrored(boxes, turns >= 2, vertical=True)


def _mirrored(boxes, which, vertical=False):
    order = [2, 1, 0, 3] if vertical else [0, 3, 2, 1]
    return ops.where(which[:, None], ops.take(boxes, order, axis=1), boxes)


def crop_and_resize(images, boxes, size, compiled=False):
    """Cuts a box out of each image and resizes it, bilinearly.

    Row i of the result is read at y1 (H - 1) + i (y2 - y1) (H - 1) /
    (size - 1), columns alike, as in `tf.image.crop_and_resize`.

    Args:
        images: `(batch, H, W, channels)`.
        boxes: `(batch, 4)`.
        size: (height, width) of the result.
        compiled: Whether XLA compiles it. XLA has no kernel for that operator
            on CPU: two matrix products, one for each axis, give the same
            pixels. Defaults to `False`.

    Returns:
        `(batch, *size, channels)` float32.
    """
    if not compiled:
        import tensorflow as tf

        batch, *shape = tf.unstack(tf.shape(images)[:3])
        # Rounded, the last place may lie outside, where the operator reads 0.
        margin = tf.where(tf.equal(shape, size), 0.0, _MARGIN)
        margin = tf.tile(margin, [2])
        boxes = tf.clip_by_value(boxes, margin, 1.0 - margin)
        return tf.image.crop_and_resize(images, boxes, tf.range(batch), size)
    images = ops.cast(images, "float32")
    y1, x1, y2, x2 = ops.split(boxes, 4, axis=1)
    rows = _reading(y1, y2, ops.shape(images)[1], size[0])
    columns = _reading(x1, x2, ops.shape(images)[2], size[1])
    images = ops.einsum("bih,bhwc->biwc", rows, images)
    return ops.einsum("bjw,biwc->bijc", columns, images)


def _reading(start, end, old, new):
    """`(batch, new, old)`: the weight of each pixel read for each written."""
    last = ops.cast(old - 1, "float32")
    if new > 1:
        steps = ops.arange(new, dtype="float32") / (new - 1)
        places = (start + (end - start) * steps[None, :]) * last
    else:
        places = (start + end) / 2.0 * last
    pixels = ops.arange(old, dtype="float32")
    distance = ops.abs(places[:, :, None] - pixels[None, None, :])
    return ops.maximum(1.0 - distance, 0.0)


def _between(uniform, low, high):
    return low + (high - low) * uniform
