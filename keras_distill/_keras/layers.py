"""The layers inside of a Keras layer."""


def flatten_layers(model, include_self=True, recursive=True):
    """Lists the layers inside of a layer or model.

    Keras has no public walk through the layers inside of layers.

    Args:
        model: A `keras.layers.Layer` or `keras.Model`.
        include_self: Whether the list begins with `model` itself.
        recursive: Whether to list layers inside of layers as well.
    """
    return list(
        model._flatten_layers(include_self=include_self, recursive=recursive)
    )
