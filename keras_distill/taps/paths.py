"""Names of the layers inside a model, and the one look-up by name.

A name is a layer's name, its path (`"backbone/conv4_block6_out"`), or either
with the number of a call for a layer called several times (`"conv#1"`).
`"attention/scores"` and `"attention/probabilities"` are no layers: they name
what an attention layer computes inside.
"""

import difflib

import keras

from keras_distill._arguments import checked_instance
from keras_distill._keras.attention import is_attention
from keras_distill._keras.layers import flatten_layers
from keras_distill.taps.places import ATTENTION_PARTS
from keras_distill.taps.places import PlacedName
from keras_distill.taps.places import way_to
from keras_distill.taps.places import with_place


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
    layers, call = find_way(model, name, role)
    return layers[-1], call


def check_has_layers(model, role):
    """Raises for a `kd.BlackBox`, which has none."""
    if getattr(model, "is_black_box", False):
        raise ValueError(
            f"The {role} '{model.name}' is a black box: it gives its output "
            "and no layer inside of it. Losses on outputs work "
            "(teacher_layer_name=None): SoftTargets, LogitsMSE, HardLabels, "
            "DecoupledKD, DIST, and those between samples, such as "
            "SimilarityPreserving on the output. For all others the teacher "
            "must be a Keras model."
        )


def find_way(model, name, role="model", paths=None):
    """As `find_layer`, with the layers that the layer lies in.

    Args:
        model: A `keras.Model`.
        name: As in `find_layer`.
        role: As in `find_layer`.
        paths: `layer_paths(model)`, if it is known.

    Returns:
        `(layers, call)`: the layers on the way from the model to the layer,
        which is the last, and the number of the call or `None`. Of
        `"attention/scores"` it is the attention layer.
    """
    check_has_layers(model, role)
    paths = layer_paths(model) if paths is None else paths
    path, call = _path_and_call(name, paths)
    if isinstance(name, PlacedName):
        return way_to(model, name, role), call
    path = _of_attention(path, paths, model.name, role)
    path = _whole_path(path, paths, model.name, role)
    parts = path.split("/")
    depths = range(1, len(parts) + 1)
    return [paths["/".join(parts[:depth])] for depth in depths], call


def named_for_saving(model, names, role):
    """Returns names that find the same layers in another process.

    Args:
        model: A `keras.Model`.
        names: A name, a list of names, or `None`.
        role: As in `find_layer`.
    """
    if names is None:
        return None
    if isinstance(names, (list, tuple)):
        return [named_for_saving(model, name, role) for name in names]
    layers, _ = find_way(model, names, role)
    return with_place(model, str(names), layers)


def _path_and_call(name, paths):
    """A name without the number of a call, and the number or `None`."""
    if "#" not in name or name in paths:
        return str(name), None
    path, _, number = name.rpartition("#")
    if not number.isdigit():
        raise ValueError(
            f"'{name}': after '#' comes the number of the call, counted "
            f"from 0, as in '{path}#1'."
        )
    return path, int(number)


def _matches(path, paths):
    """The whole paths that a name or the end of a path may mean."""
    if path in paths:
        return [path]
    matches = [p for p in paths if p.endswith("/" + path)]
    if not matches and "/" in path:
        # One of several teachers may lie behind its own preprocessing.
        first, _, rest = path.partition("/")
        inside = [p for p in paths if p.startswith(first + "/")]
        matches = [p for p in inside if p.endswith("/" + rest)]
    return matches


def _of_attention(path, paths, model_name, role):
    """The path of the attention layer that a part belongs to; other paths as
    they are."""
    owner, _, part = path.rpartition("/")
    if part not in ATTENTION_PARTS or not owner or _matches(path, paths):
        return path
    owner = _whole_path(owner, paths, model_name, role)
    if not is_attention(paths[owner]):
        raise ValueError(
            f"'{path}': the layer '{owner}' of the {role} '{model_name}' is a "
            f"{type(paths[owner]).__name__}, which has no attention {part}. "
            "Name a keras.layers.MultiHeadAttention or GroupQueryAttention, "
            "or a layer with a keras.layers.Softmax of its own."
        )
    return owner


def _whole_path(path, paths, model_name, role):
    matches = _matches(path, paths)
    if len(matches) == 1:
        return matches[0]
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
