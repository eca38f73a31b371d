"""The layers inside a layer."""


def flatten_layers(layer, include_self=True, recursive=True):
    """The layers inside a layer or model, as a list."""
    return list(
        layer._flatten_layers(recursive=recursive, include_self=include_self)
    )
