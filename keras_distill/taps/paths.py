"""Names of the layers inside a model, and the one look-up by name.

A name is a layer's name, its path (`"backbone/conv4_block6_out"`), or either
with the number of a call for a layer called several times (`"conv#1"`).
"""

import difflib

import keras

from keras_distill._arguments import checked_instance
from keras_distill._keras.layers import flatten_layers


def layer_paths(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns all layers below a model as a dict path -> layer.

    They come in order of creation. A layer that can be reached in several ways
    is listed once, under the first. Layers inside layers count too, such as
    the convolution inside a `TimeDistributed`.
    """
    checked_instance(
        "model", model, keras.layers.Layer, "keras.Model", or_none=False
    )
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


def find_layer(model, name, role="model"):
    """The layer of a model that a name means, wherever it lies.

    Args:
        model: A `keras.Model`.
        name: A layer's name or path, with or without the number of a call.
        role: `"teacher"` or `"student"`, for messages.

    Returns:
        `(layer, call)`: the layer, and the number of the call or `None`.

    Raises:
        ValueError: for a name that no layer has (the nearest names are listed)
            or that several layers have (their paths are listed).
    """
    paths = layer_paths(model)
    path, call = find_path(paths, name, model.name, role)
    return paths[path], call


def find_path(paths, name, model_name, role="model"):
    """As `find_layer`, among the paths of a model: `(path, call)`."""
    path, call = name, None
    if "#" in name and name not in paths:
        path, _, number = name.rpartition("#")
        if not number.isdigit():
            raise ValueError(
                f"'{name}': after '#' comes the number of the call, counted "
                f"from 0, as in '{path}#1'."
            )
        call = int(number)
    if path in paths:
        return path, call
    matches = [p for p in paths if p.endswith("/" + path)]
    if len(matches) == 1:
        return matches[0], call
    if matches:
        raise ValueError(
            f"The {role} '{model_name}' has {len(matches)} layers named "
            f"'{path}'. Give the path of one of them: {matches}"
        )
    candidates = [*paths, *(p.rpartition("/")[2] for p in paths)]
    nearest = dict.fromkeys(
        difflib.get_close_matches(path, candidates, n=5, cutoff=0.4)
    )
    hint = (
        f"The nearest names are {list(nearest)}."
        if nearest
        else f"Its layers are {list(paths)[:20]}."
    )
    raise ValueError(
        f"The {role} '{model_name}' has no layer '{path}'. {hint} (An "
        "operation such as `x + y` is not a layer; use keras.layers.Add.)"
    )
