"""Names of the layers inside a model, as taps take them."""

import keras


def layer_paths(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns all layers below a model as a dict path -> layer.

    They come in order of creation. A layer that can be reached in several ways
    is listed once, under the first. Layers inside layers count too, such as
    the convolution inside a `TimeDistributed`.
    """
    paths: dict[str, keras.layers.Layer] = {}
    visited = {id(model)}

    def walk(layer, prefix):
        # Keras has no public way to list the layers inside a layer.
        for child in layer._flatten_layers(include_self=False, recursive=False):
            if id(child) in visited:
                continue
            visited.add(id(child))
            path = prefix + child.name
            paths.setdefault(path, child)
            walk(child, path + "/")

    walk(model, "")
    return paths
