"""The networks of keras.applications as teachers."""

import inspect
from typing import Any

import keras

from keras_distill._arguments import as_path


def application_names() -> list[str]:
    """Returns the names of the networks, such as `"MobileNetV2"`."""
    members = inspect.getmembers(keras.applications, inspect.isfunction)
    return [name for name, _ in members]


def preprocessing_of(name):
    """Returns the function that prepares images in [0, 255] for a network."""
    # It comes from the module of its family, whose name is public.
    family = getattr(keras.applications, name).__module__.rpartition(".")[2]
    return getattr(keras.applications, family).preprocess_input


def application(
    name: str,
    weights: Any = "imagenet",
    include_top: bool = True,
    **options: Any,
) -> keras.Model:
    """Makes a network of keras.applications, behind its own preprocessing.

    Args:
        name: One of `application_names()`.
        weights: As in keras.applications.
        include_top: As in keras.applications.
        **options: As in keras.applications. `classifier_activation` defaults
            to `None`: losses compare logits.

    Returns:
        A `keras.Model` that takes images in [0, 255].
    """
    make = getattr(keras.applications, name)
    if include_top:
        options = {"classifier_activation": None, **options}
    if weights not in (None, "imagenet"):
        weights = str(as_path("weights", weights))
    try:
        network = make(weights=weights, include_top=include_top, **options)
    except Exception as error:  # Keras raises just that if there is no network.
        if "URL fetch failure" not in str(error):
            raise
        raise OSError(
            f"The ImageNet weights of {name} could not be downloaded: {error}. "
            "Fetch this file where there is a network, and pass its path: "
            f'kd.load_teacher("{name}", weights="...").'
        ) from error
    inputs = keras.Input(network.input_shape[1:], name="image")
    outputs = network(preprocessing_of(name)(inputs))
    model = keras.Model(inputs, outputs, name=network.name)
    model.input_scale = "[0, 255]"
    return model
