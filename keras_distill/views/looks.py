"""What one network sees of each image: an augmentation, drawn and carried out.

The order is: the user's function, the crop with its flips, the quarter turn,
the brightness.
"""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_range
from keras_distill._arguments import one_of
from keras_distill.views import crop
from keras_distill.views import draws


class Streams(NamedTuple):
    """Numbers of the draws of one sample, so that no two share a stream."""

    crop: int
    flip: int
    vertical_flip: int
    turn: int
    brightness: int
    function: int


MIXUP = 2
STUDENT, TEACHER = Streams(0, 1, 5, 6, 7, 8), Streams(3, 4, 9, 10, 11, 12)


class Look(NamedTuple):
    """What a network sees of a batch, before it is cut to a size.

    Attributes:
        images: `(batch, height, width, channels)`.
        boxes: `(batch, 4)`, see `crop`.
        turns: `(batch,)` numbers of quarter turns, or `None`.
        brightness: `(batch,)` factors, or `None`.
    """

    images: Any
    boxes: Any
    turns: Any = None
    brightness: Any = None

    def cut(self, size, compiled):
        """Returns what is seen, `(batch, *size, channels)` float32."""
        boxes, turns = self.boxes, self.turns
        if turns is not None:
            boxes = crop.before_transposition(boxes, turns)
        x = crop.crop_and_resize(self.images, boxes, size, compiled)
        if turns is not None:
            is_odd = ops.reshape(turns % 2 == 1, (-1, 1, 1, 1))
            x = ops.where(is_odd, ops.transpose(x, (0, 2, 1, 3)), x)
        if self.brightness is not None:
            x = x * ops.reshape(self.brightness, (-1, 1, 1, 1))
            x = ops.minimum(x, _white(self.images))
        return x


def _white(images):
    """The largest number of each image's scale: 1, 255 or 65 535."""
    largest = ops.max(images, axis=(1, 2, 3), keepdims=True)
    of_integers = ops.where(largest > 255, 65535.0, 255.0)
    return ops.where(largest > 1, of_integers, 1.0)


class Augmentation:
    """What is drawn for every image.

    Args:
        crop_area, crop_aspect, flip, quarter_turns, brightness, augmentation:
            As in `kd.views.FunctionMatching`.
    """

    def __init__(
        self,
        crop_area,
        crop_aspect,
        flip,
        quarter_turns,
        brightness,
        augmentation,
    ):
        self.crop_area = None
        if crop_area is not None:
            self.crop_area = checked_range("crop_area", crop_area, 1.0)
        self.crop_aspect = checked_range("crop_aspect", crop_aspect)
        options = (True, False, "horizontal", "vertical", "both", None)
        flip = one_of("flip", flip, options)
        self.flip = {"horizontal": True, None: False}.get(flip, flip)
        self.quarter_turns = checked_boolean("quarter_turns", quarter_turns)
        self.brightness = checked_number("brightness", brightness, "[0, 1)")
        self.function = _checked_function(augmentation)

    @property
    def moves_pixels(self):
        return bool(self.crop_area or self.flip or self.quarter_turns)

    def look(self, images, key, streams):
        """Draws a `Look`.

        Args:
            images: `(batch, height, width, channels)`.
            key: Seed, epoch and `(batch,)` sample index.
            streams: The `Streams` of the network.
        """
        if self.function is not None:
            seeds = draws.seeds(*key, streams.function)
            images = _each(self.function, images, seeds)
        turns = brightness = None
        if self.quarter_turns:
            turns = draws.quarters(*key, streams.turn)
        if self.brightness:
            uniform = draws.uniform(*key, streams.brightness)
            brightness = 1.0 + self.brightness * (2.0 * uniform - 1.0)
        return Look(
            images, self._boxes(images, key, streams), turns, brightness
        )

    def _boxes(self, images, key, streams):
        batch, *shape = ops.shape(images)[:3]
        if self.crop_area is None:
            boxes = crop.centre_boxes(batch, 1.0)
        else:
            boxes = crop.random_boxes(
                (*key, streams.crop), shape, self.crop_area, self.crop_aspect
            )
        if self.flip in (True, "both"):
            boxes = crop.flipped(boxes, (*key, streams.flip))
        if self.flip in ("vertical", "both"):
            key = (*key, streams.vertical_flip)
            boxes = crop.flipped(boxes, key, vertical=True)
        return boxes

    def get_config(self) -> dict[str, Any]:
        return {
            "crop_area": self.crop_area,
            "crop_aspect": self.crop_aspect,
            "flip": self.flip,
            "quarter_turns": self.quarter_turns,
            "brightness": self.brightness,
            "augmentation": self.function
            and keras.saving.serialize_keras_object(self.function),
        }


def source_hash(function):
    """Returns a hash of a function's source; `None` if there is none to read.

    Under the same name another function may stand.
    """
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return None
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _checked_function(function) -> Callable | None:
    if function is None:
        return None
    if not callable(function) or isinstance(function, keras.layers.Layer):
        raise TypeError(
            "augmentation must be a function of (image, seed), or None. For "
            "augmentation layers of Keras: kd.views.Augmented. Received: "
            f"{function!r}"
        )
    name = keras.saving.get_registered_name(function)
    if keras.saving.get_registered_object(name) is not function:
        raise ValueError(
            "augmentation must be registered, so that it can be saved and a "
            "teacher cache knows it by name. Put this above the function: "
            '@keras.saving.register_keras_serializable(package="my_project"). '
            f"Received: {function!r}"
        )
    return function


def _each(function, images, seeds):
    """Applies a function of (image, seed) to each image, on its own.

    A vectorized map may give other bits in another batch.
    """
    import tensorflow as tf

    images = tf.cast(images, tf.float32)

    def checked(arguments):
        image, seed = arguments
        result = tf.convert_to_tensor(function(image, seed))
        if not result.shape.is_compatible_with(image.shape) or (
            not result.dtype.is_floating
        ):
            raise ValueError(
                "augmentation must return an image of the shape and type that "
                f"it gets, {image.shape} {image.dtype.name}. Received: "
                f"{result.shape} {result.dtype.name}"
            )
        return tf.cast(tf.ensure_shape(result, image.shape), tf.float32)

    spec = tf.TensorSpec(images.shape[1:], tf.float32)
    return tf.map_fn(checked, (images, seeds), fn_output_signature=spec)
