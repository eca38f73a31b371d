"""Which numbers a teacher expects its images to have."""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_distill._arguments import checked_integers
from keras_distill._arguments import checked_model
from keras_distill._arguments import one_of
from keras_distill._data.sources import evenly_spaced
from keras_distill._keras.layers import flatten_layers
from keras_distill.metrics.agreement import decision_threshold

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])
# Name -> factor and offset of pixels in [0, 255].
SCALES: dict[str, tuple[Any, Any]] = {
    "[0, 255]": (1.0, 0.0),
    "[0, 1]": (1 / 255, 0.0),
    "[-1, 1]": (1 / 127.5, -1.0),
    "ImageNet": (
        1 / (255 * _IMAGENET_DEVIATION),
        -_IMAGENET_MEAN / _IMAGENET_DEVIATION,
    ),
}
_SAMPLES, _BATCH = 512, 64
# How many standard errors are no accident, for four scales.
_CLEARLY = 2.5


class InputScale(NamedTuple):
    """What `best_input_scale` found.

    Attributes:
        name: `"[0, 255]"`, `"[0, 1]"`, `"[-1, 1]"`, or `"ImageNet"`: minus
            the mean and divided by the deviation of ImageNet's channels.
        accuracies: A dict name -> accuracy; empty if nothing was measured.
    """

    name: str
    accuracies: dict[str, float]


def input_scaling(name: str) -> keras.layers.Rescaling:
    """Returns a layer from pixels in [0, 255] to a scale.

    Args:
        name: See `InputScale`.
    """
    one_of("name", name, tuple(SCALES))
    scale, offset = (np.asarray(x).tolist() for x in SCALES[name])
    return keras.layers.Rescaling(scale, offset)


def best_input_scale(
    teacher: keras.Model, x: Any, y: Any = None, *, class_map: Any = None
) -> InputScale:
    """Finds the scale of the images that a teacher expects.

    A network that was trained on [0, 1] and sees [0, 255] teaches nonsense and
    raises no error. So up to 512 labelled images are shown to it in each
    scale, and the accuracies say which is right. If they do not, or if there
    are no labels, a `Rescaling` or `Normalization` layer in the teacher does.

    Args:
        teacher: A `keras.Model` that gives `(batch, classes)`, or one unit.
        x: `(n, height, width, channels)` images in [0, 255], such as uint8.
            They are resized to the teacher's input; grey ones get three
            channels if it takes three.
        y: `(n,)` integer labels. Defaults to `None`: there are none.
        class_map: The teacher's number of each class of the labels, see
            `kd.teachers.class_map`. Defaults to `None`: they are the same.

    Returns:
        An `InputScale`: the name and all accuracies. Give
        `kd.teachers.input_scaling(name)` to the views as
        `teacher_preprocess=`, or put it before the teacher.

    Raises:
        ValueError: If neither accuracies nor layers tell the scale.

    Example:

    ```python
    inputs = keras.Input((8, 8, 3))
    outputs = teacher(keras.layers.Rescaling(1 / 255)(inputs))
    on_bytes = keras.Model(inputs, outputs)
    images = np.zeros((4, 8, 8, 3), "uint8")
    print(kd.teachers.best_input_scale(on_bytes, images).name)  # [0, 255]
    ```
    """
    checked_model("teacher", teacher)
    rows = evenly_spaced(len(x), _SAMPLES)  # They may be sorted by class.
    x = np.asarray(x)[rows]
    if x.ndim != 4 or not len(x):
        raise ValueError(
            "x must be images (n, height, width, channels) in [0, 255]. "
            f"Received: an array of shape {x.shape}"
        )
    if x.shape[3:] == (1,) and (input_shape(teacher) or ())[2:] == (3,):
        x = np.repeat(x, 3, axis=-1)
    accuracies = {}
    if y is not None:
        if class_map is not None:
            class_map = checked_integers("class_map", class_map, 0)
        y = np.asarray(y).reshape(-1)[rows]
        right = {
            name: _predicted(teacher, x, name, class_map) == y
            for name in SCALES
            if name != "ImageNet" or x.shape[-1] == 3
        }
        accuracies = {name: float(r.mean()) for name, r in right.items()}
        name = _clear_winner(right, y)
        if name is not None:
            return InputScale(name, accuracies)
    # A network of keras.applications says so itself.
    name = getattr(teacher, "input_scale", None) or scale_of_layers(teacher)
    if name is not None:
        return InputScale(name, accuracies)
    found = (
        "no labels were given"
        if y is None
        else f"the accuracies on {len(x)} images do not tell: "
        + ", ".join(f"{k} {100 * v:.1f} %" for k, v in accuracies.items())
    )
    raise ValueError(
        f"The scale of the images that the teacher '{teacher.name}' expects is "
        f"not known: {found}, and it has no Rescaling or Normalization layer. "
        "Put the right layer before it, such as "
        'kd.teachers.input_scaling("[0, 1]"), or give more labelled images.'
    )


def _predicted(teacher, x, name, class_map):
    """Returns the classes that a teacher predicts, `(n,)`."""
    scaling, size = input_scaling(name), _image_size(teacher)
    outputs = []
    for start in range(0, len(x), _BATCH):
        part = keras.ops.cast(x[start : start + _BATCH], "float32")
        if size is not None:
            part = keras.ops.image.resize(part, size)
        outputs.append(np.asarray(teacher(scaling(part), training=False)))
    scores = np.concatenate(outputs)
    if scores.ndim != 2:
        raise ValueError(
            "teacher must give (batch, classes). Received: outputs of shape "
            f"{scores.shape}"
        )
    if scores.shape[1] == 1:
        yes = scores > decision_threshold(teacher)
        scores = np.concatenate([~yes, yes], axis=-1)
    if class_map is not None:
        scores = scores[:, list(class_map)]
    return scores.argmax(-1)


def _clear_winner(right, y):
    """Returns the scale that is surely better than chance and all others."""
    best = max(right, key=lambda name: right[name].mean())
    share = np.unique(y, return_counts=True)[1].max() / len(y)
    chance = share + _CLEARLY * np.sqrt(share * (1 - share) / len(y))
    if right[best].mean() <= chance:
        return None
    for name in set(right) - {best}:
        # Only images that one of the two gets wrong tell them apart.
        gained = int((right[best] & ~right[name]).sum())
        lost = int((right[name] & ~right[best]).sum())
        if gained - lost < _CLEARLY * np.sqrt(gained + lost) or gained == lost:
            return None
    return best


def scale_of_layers(model):
    """Returns the scale that a model's first scaling layer takes, or `None`."""
    kinds = keras.layers.Rescaling, keras.layers.Normalization
    for layer in flatten_layers(model):
        if isinstance(layer, kinds[0]):
            # From [0, 255] it divides, or takes a mean in these units away.
            divides = np.max(layer.scale) < 0.1
            shifts = np.max(np.abs(layer.offset)) > 10
            return "[0, 255]" if divides or shifts else "[0, 1]"
        if isinstance(layer, kinds[1]) and layer.mean is not None:
            return "[0, 255]" if np.max(layer.mean) > 2 else "[0, 1]"
    return None


def input_shape(model):
    """The shape of a sample of a model of one input, or `None`."""
    inputs = getattr(model, "inputs", None) or ()
    return tuple(inputs[0].shape[1:]) if len(inputs) == 1 else None


def _image_size(teacher):
    """Returns the size of the images that a teacher takes, if it is fixed."""
    size = (input_shape(teacher) or (None,))[:2]
    return None if None in size else size
