"""Names of the layers inside a model, as taps take them."""

import keras

from keras_distill._keras.layers import flatten_layers


def layer_paths(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns all layers below a model as a dict path -> layer.

    They come in order of creation. A layer that can be reached in several ways
    is listed once, under the first. Layers inside layers count too, such as
    the convolution inside a `TimeDistributed`.
    """
    paths: dict[str, keras.layers.Layer] = {}
    visited = {id(model)}

    def walk(layer, prefix):
        for child in flatten_layers(layer, include_self=False, recursive=False):
            if id(child) in visited:
                continue
            visited.add(id(child))
            path = prefix + child.name
            paths.setdefault(path, child)
            walk(child, path + "/")

    walk(model, "")
    return paths
