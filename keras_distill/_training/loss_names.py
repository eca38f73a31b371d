"""What the name of a task loss says of it."""

import keras

_OF_CLASSES = (
    "crossentropy",
    "cross_entropy",
    "hinge",
    "divergence",
    "focal",
    "dice",
    "tversky",
)


def is_for_classes(loss):
    """Whether a task loss, or its name, compares classes."""
    return any(word in name_of(loss) for word in _OF_CLASSES)


def name_of(loss):
    """The name of a Keras loss, a function or what `compile` takes."""
    resolved = keras.losses.get(loss)
    return getattr(resolved, "name", None) or getattr(resolved, "__name__", "")
