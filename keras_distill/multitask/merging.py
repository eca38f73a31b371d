"""From heads of a structure to plain Keras layers."""

import re

import keras

from keras_distill._arguments import checked_model
from keras_distill._keras.graph import shows_its_graph
from keras_distill._keras.graph import uncompiled
from keras_distill._keras.layers import flatten_layers
from keras_distill.multitask.heads import Heads


def merged(model: keras.Model) -> keras.Model:
    """Returns the model with one `Dense` per task in the place of `Heads`.

    No structure is left: the layers are Keras's own, and the outputs those of
    the model, up to rounding. The other layers are shared with it.

    Args:
        model: A built `keras.Model`. One without `Heads`, or one that hides
            them in a subclass, is returned as it is.

    Returns:
        A `keras.Model`. The layers of the tasks are called
        `"<name of the heads>_<task>"`, with `_` for what no name of a layer
        may hold, and a number behind it if another layer has the name.

    Example:

    ```python
    features = keras.Input((16,))
    heads = kd.multitask.Heads({"shape": 4, "texture": 3}, name="heads")
    student = keras.Model(features, heads(features))
    plain = kd.multitask.merged(student)
    plain.get_layer("heads_shape").kernel
    ```
    """
    checked_model("model", model)
    if not _has_heads(model) or not shows_its_graph(model):
        return model
    model = uncompiled(model)
    layers: dict = {}
    names = {layer.name for layer in model.layers}

    def inner(layer):
        return merged(layer) if isinstance(layer, keras.Model) else layer

    def call(layer, *args, **kwargs):
        if not isinstance(layer, Heads):
            return layer(*args, **kwargs)
        if layer not in layers:
            layers[layer] = dense_layers(layer, names)
        return {task: one(*args) for task, one in layers[layer].items()}

    return keras.models.clone_model(
        model, clone_function=inner, call_function=call
    )


def dense_layers(heads, names):
    """Returns a `Dense` with the weights of each task, by its name.

    Args:
        heads: The `Heads`.
        names: The names of other layers, a set. Those of the new ones join.
    """
    layers, kernel = {}, keras.ops.convert_to_numpy(heads.merged_kernel())
    for task, (first, end) in heads.columns().items():
        layer = keras.layers.Dense(
            heads.tasks[task],
            use_bias=heads.use_bias,
            dtype=heads.dtype_policy,
            name=_new_name(f"{heads.name}_{task}", names),
            trainable=heads.trainable,
        )
        layer.build((None, kernel.shape[0]))
        weights = [kernel[:, first:end]]
        if heads.use_bias:
            weights.append(keras.ops.convert_to_numpy(heads.bias)[first:end])
        layer.set_weights(weights)
        layers[task] = layer
    return layers


def _new_name(wanted, names):
    wanted = name = re.sub(r"[^A-Za-z0-9_.-]", "_", wanted)
    number = 0
    while name in names:
        number += 1
        name = f"{wanted}_{number}"
    names.add(name)
    return name


def _has_heads(model):
    return any(isinstance(layer, Heads) for layer in flatten_layers(model))
