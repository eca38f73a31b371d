"""The layer that holds what a network knows of a whole image."""

import keras

from keras_distill._keras.heads import layer_before_classifier
from keras_distill.taps.paths import layer_paths


def embedding_layer_name(model: keras.Model) -> str | None:
    """Returns the tap of what a network's classifier reads.

    Args:
        model: A `keras.Model`.

    Returns:
        The path of the layer, usually the last pooling; `None`, the model's
        output, for a network without a classifier (a backbone), for one
        whose layers cannot be seen (a subclassed model), and if the classifier
        reads what no layer gives (`x[:, 0]`).
    """
    layer = layer_before_classifier(model)
    for path, candidate in layer_paths(model).items():
        if candidate is layer:
            return path
    return None
