"""The networks of a run, each as it takes the images that were read."""

import keras
import numpy as np

from keras_distill._keras.heads import final_activation
from keras_distill.losses.values import look_like_probabilities
from keras_distill.teachers.class_names import LackedClasses
from keras_distill.teachers.class_names import class_map
from keras_distill.teachers.input_scale import SCALES
from keras_distill.teachers.input_scale import best_input_scale
from keras_distill.teachers.input_scale import input_scaling
from keras_distill.teachers.input_scale import input_shape
from keras_distill.teachers.logits import Logits

# So many images say what a teacher takes and gives.
LOOKED_AT = 512


def with_pixels(model, image):
    """A model that takes pixels in [0, 255], of one that takes [0, 1]."""
    inputs = keras.Input(image, name="image")
    x = keras.layers.Rescaling(1 / 255, name="pixels")(inputs)
    return keras.Model(inputs, model(x), name=model.name)


def look_at_teacher(teacher, x, y, names, teacher_names, scale):
    """Finds out what a teacher takes and gives.

    Args:
        teacher: A `keras.Model`.
        x, y: Training images; `y` may be `None`.
        names: The names of the data's classes, or `None` without labels.
        teacher_names: The names of the teacher's classes, or `None`.
        scale: A name of `kd.teachers.input_scaling`; `None` for images that
            the teacher takes as they are; `"find"`.

    Returns:
        A dict for JSON that `adapted` takes.
    """
    x, y = x[:LOOKED_AT], None if y is None else y[:LOOKED_AT]
    taken = {
        "scale": None if scale == "find" else scale,
        "gives": "logits",
        "units": 2,
        "class_map": None,
    }
    outputs = scores(adapted(teacher, x.shape[1:], taken), x)
    if outputs.ndim != 2:
        raise ValueError(
            f"The teacher '{teacher.name}' must give one row of classes per "
            f"image. Received outputs of shape {outputs.shape}"
        )
    taken["units"] = units = outputs.shape[1]
    classes = max(2, units)
    if teacher_names is not None and len(teacher_names) != classes:
        raise ValueError(
            f"The teacher '{teacher.name}' has {classes} classes. Received "
            f"{len(teacher_names)} class_names{_some(teacher_names)}: give one "
            "for each, in the order of its outputs."
        )
    if teacher_names is not None and names is not None:
        try:
            taken["class_map"] = class_map(teacher_names, names)
        except LackedClasses as error:
            raise ValueError(
                f"{error.differences}\nIf these are meant, call the teacher's "
                "classes as those of the data: all names, in the order of its "
                "outputs, settings={'class_names': [...]} (--set "
                "class_names=a,b,...). Or rename the folders, or take a "
                "teacher that knows these classes."
            ) from error
    elif names is not None and len(names) != classes:
        raise ValueError(
            f"The teacher '{teacher.name}' has {classes} classes, the data "
            f"{len(names)}{_some(names)}. Say which of its classes are those "
            f"of the data: the {classes} names in the order of its outputs, "
            "settings={'class_names': [...]} (--set class_names=a,b,...)."
        )
    if scale == "find":
        taken["scale"] = _scale(teacher, x, y, taken, names)
        outputs = scores(adapted(teacher, x.shape[1:], taken), x)
    kind = "sigmoid" if units == 1 else "softmax"
    ends_so = final_activation(teacher) == kind
    if ends_so or look_like_probabilities(outputs, kind):
        taken["gives"] = "probabilities"
    if y is not None and teacher_names is None:
        logits = scores(adapted(teacher, x.shape[1:], taken), x)
        _check_order(logits.argmax(-1), y, names)
    return taken


def _scale(teacher, x, y, taken, names):
    try:
        chosen = taken["class_map"]
        return best_input_scale(teacher, x, y, class_map=chosen).name
    except ValueError as error:
        # Of classes in another order no scale is right.
        for name in SCALES if y is not None and not chosen else ():
            tried = adapted(teacher, x.shape[1:], {**taken, "scale": name})
            _check_order(scores(tried, x).argmax(-1), y, names)
        raise ValueError(
            f"{error} Or say it here: settings={{'teacher_scale': '[0, 1]'}} "
            f"(--set 'teacher_scale=[0, 1]'), one of {', '.join(SCALES)}."
        ) from error


def adapted(teacher, image, taken):
    """The teacher as a model that takes the images and gives logits.

    Args:
        teacher: A `keras.Model`.
        image: The shape of an image as it was read.
        taken: What `look_at_teacher` returned.

    Returns:
        A `keras.Model`: the teacher itself if there is nothing to adapt.
    """
    shape = input_shape(teacher) or image
    if len(shape) != 3:
        raise ValueError(
            f"The teacher '{teacher.name}' must take images (height, width, "
            f"channels). It takes {shape}"
        )
    size = tuple(a or b for a, b in zip(shape[:2], image[:2]))
    inputs = x = keras.Input(image, name="image")
    if size != tuple(image[:2]):
        x = keras.layers.Resizing(*size, name="teacher_size")(x)
    if shape[2:] == (3,) and image[2] == 1:
        x = keras.layers.Concatenate(name="teacher_channels")([x, x, x])
    if taken["scale"] not in (None, "[0, 255]"):
        x = input_scaling(taken["scale"])(x)
    logits = Logits(
        taken["gives"],
        taken["units"],
        taken["class_map"],
        name="teacher_logits",
    )
    if x is inputs and logits.changes_nothing:
        return teacher
    return keras.Model(inputs, logits(teacher(x)), name=f"{teacher.name}_here")


def _check_order(classes, y, names):
    """Raises if the teacher's classes are those of the data in another order.

    Args:
        classes: `(n,)`: what the teacher decides.
        y: `(n,)` labels.
        names: The names of the data's classes.
    """
    number = len(names)
    counts = np.zeros((number, number))
    np.add.at(counts, (y, classes), 1)
    best = counts.argmax(axis=1)
    right, mapped = np.trace(counts), counts.max(axis=1).sum()
    if (
        len(set(best)) == number
        and mapped > 0.5 * len(y)
        and right < 0.5 * mapped
    ):
        order = [names[list(best).index(i)] for i in range(number)]
        raise ValueError(
            "The teacher's classes are not in the order of the data's: it is "
            f"right on {right / len(y):.0%} of {len(y)} images, and in another "
            f"order on {mapped / len(y):.0%}. If that order is right, say so: "
            f"settings={{'class_names': {order}}} (--set class_names="
            f"{','.join(order)})."
        )


def _some(names, most=4):
    if names is None:
        return ""
    dots = ", ..." if len(names) > most else ""
    return f" ({', '.join(map(str, names[:most]))}{dots})"


def decided(model, x, batch_size=256):
    """The class that a model decides for, `(n,)`."""
    return scores(model, x, batch_size).argmax(axis=-1)


def scores(model, x, batch_size=256):
    """What a model gives, `(n, units)`."""
    outputs = [
        keras.ops.convert_to_numpy(
            model(np.asarray(x[i : i + batch_size], "float32"), training=False)
        )
        for i in range(0, len(x), batch_size)
    ]
    return np.concatenate(outputs)
