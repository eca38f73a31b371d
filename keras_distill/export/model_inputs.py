"""The inputs and outputs of a Keras model by name, and data for them.

A file has named inputs and outputs in an order of its own. What goes from
Keras to a file goes by the names chosen here.
"""

import re

import keras
import numpy as np
import tensorflow as tf

from keras_distill._arguments import checked_model
from keras_distill._data.sources import batches
from keras_distill._keras.graph import symbolic_inputs


def input_signature(model, signature=None, batch_size=1):
    """Describes the inputs of a model as Keras's export takes them.

    Names are the keys of a dict, else the names of the model's inputs, else
    (for anonymous inputs) `"input"`, or `"input_0"`, `"input_1"`, ...

    Args:
        model: A built `keras.Model`.
        signature: Replaces the model's inputs: the `input_signature` of
            `keras.Model.export`, a `tf.TensorSpec` (`keras.InputSpec`,
            `keras.KerasTensor`) per input; those of a list of inputs are one
            argument, with or without a list of their own. Missing names are
            filled in.
        batch_size: Batch size of the model's own inputs, `None` for an open
            one. Defaults to 1.

    Returns:
        The signature (a list, one entry per positional argument), and a dict
        of its inputs: key or name in Keras -> `tf.TensorSpec`, whose `.name`
        is the name in the file.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not built, or its inputs are nested deeper than
            one dict or list.
    """
    checked_model("model", model)
    if signature is None:
        positional = _inputs_of(model)
    elif isinstance(signature, (list, tuple)):
        positional = list(signature)
    else:
        positional = [signature]
    if len(positional) > 1 and _takes_a_list(model):
        positional = [positional]
    names = [_lasting_name(t) for t in getattr(model, "inputs", None) or []]
    batch = (batch_size,) if signature is None else None
    if len(positional) > 1:
        specs = positional = _specs(positional, batch, names)
    else:
        specs = _specs(positional[0], batch, names)
        positional = [specs]
    if isinstance(specs, dict):
        return positional, specs
    specs = specs if isinstance(specs, list) else [specs]
    return positional, {spec.name: spec for spec in specs}


def _takes_a_list(model):
    has_inputs = getattr(model, "inputs", None)
    return has_inputs and isinstance(symbolic_inputs(model), (list, tuple))


def _inputs_of(model):
    """Returns a list of structures of tensors, one per positional argument."""
    if getattr(model, "inputs", None):
        return [symbolic_inputs(model)]
    # Subclassed models know the shapes of their first call, but not the dtypes.
    shapes = dict(model.get_build_config() or {})
    shapes = list((shapes.get("shapes_dict") or shapes).values())
    if not shapes or None in shapes:
        raise ValueError(
            f"The model '{model.name}' does not know its input shape: it was "
            "never called. Call it on a batch first, or give interface="
            "kd.export.Interface(input_signature=[tf.TensorSpec((1, ...), "
            'tf.float32, name="image")]).'
        )
    return [_shapes_to_tensors(shape) for shape in shapes]


def _shapes_to_tensors(shape):
    if isinstance(shape, dict):
        return {k: _shapes_to_tensors(v) for k, v in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return keras.KerasTensor(tuple(shape), "float32")
    return [_shapes_to_tensors(v) for v in shape]


def _specs(structure, batch, names):
    """Returns the same structure (dict, list or one) of named `tf.TensorSpec`.

    `batch` is `(batch size,)`, or `None` to keep the shape and dtype of each
    tensor. Specs without a name get the `names` of the model's inputs.
    """
    if isinstance(structure, dict):
        return {k: _spec(v, k, batch) for k, v in structure.items()}
    several = isinstance(structure, (list, tuple))
    tensors = structure if several else [structure]
    names = names if len(names) == len(tensors) else [None] * len(tensors)
    specs = []
    for i, (tensor, name) in enumerate(zip(tensors, names)):
        name = _lasting_name(tensor) or name
        name = name or (f"input_{i}" if several else "input")
        specs.append(_spec(tensor, name, batch))
    return specs if several else specs[0]


def _lasting_name(tensor):
    # Keras numbers anonymous tensors throughout a process. A file must not
    # depend on what was built before it.
    name = getattr(tensor, "name", None)
    return None if (name or "").startswith("keras_tensor") else name


def _spec(tensor, name, batch):
    if not hasattr(tensor, "shape") or not hasattr(tensor, "dtype"):
        raise ValueError(
            "A model's inputs must be one tensor, or one dict or list of "
            f"tensors, not nested deeper. Received for '{name}': {tensor!r}"
        )
    shape = tuple(tensor.shape)
    dtype = tf.as_dtype(tensor.dtype or "float32")
    if batch is not None:
        shape = (*batch, *shape[1:])
        dtype = tf.float32 if dtype.is_floating else dtype
    # SavedModel refuses other names.
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(name))
    name = name if name[:1].isalnum() else f"input{name}"
    return tf.TensorSpec(shape, dtype, name=name)


def feed(x, inputs, argument):
    """Turns a batch of a model's data into a dict name in the file -> array.

    Args:
        x: An array, or a dict or list of arrays, as the model takes them.
        inputs: From `input_signature`.
        argument: The name of the user's data, for the error message.

    Raises:
        ValueError: If names, number or shapes do not fit the inputs.
    """
    expected = {k: ("batch", *spec.shape[1:]) for k, spec in inputs.items()}
    if isinstance(x, dict):
        arrays = {k: x[k] for k in inputs if k in x}
    else:
        values = x if isinstance(x, (list, tuple)) else [x]
        arrays = dict(zip(inputs, values)) if len(values) == len(inputs) else {}
    if len(arrays) < len(inputs):
        shapes = keras.tree.map_structure(np.shape, x)
        raise ValueError(
            f"`{argument}` does not fit the model's inputs {expected}. "
            f"Received a batch of shape {shapes}. (Whole arrays for a model "
            "with several inputs: a dict, or a tuple `([a, b], y)`.)"
        )
    for key, array in arrays.items():
        shape = tuple(inputs[key].shape)
        if array.ndim == len(shape) and all(
            size in (None, actual)
            for size, actual in zip(shape[1:], array.shape[1:])
        ):
            continue
        hint = ""
        if array.shape == shape[1:]:
            hint = " This looks like one sample: batch it, dataset.batch(32)."
        raise ValueError(
            f"`{argument}` gives batches of shape {array.shape} for the input "
            f"'{key}', which takes {expected[key]}.{hint}"
        )
    return {inputs[k].name: array for k, array in arrays.items()}


def named_outputs(structure):
    """Turns what a model returned into a dict name in the file -> value.

    The names are those of Keras's export: the keys of a dict, `"output_0"`,
    `"output_1"`, ... for a list, `"output_0"` for a single tensor.
    """
    if isinstance(structure, dict):
        return dict(structure)
    if not isinstance(structure, (list, tuple)):
        structure = [structure]
    return {f"output_{i}": value for i, value in enumerate(structure)}


def representative_samples(
    data, at_most, inputs, argument="representative_dataset"
):
    """Reads what a converter is calibrated on, sample by sample.

    Args:
        data: As for `batches`.
        at_most: How many samples to take: the first of a dataset, evenly
            spaced ones of arrays.
        inputs: From `input_signature`.
        argument: The name of the user's argument, for messages.

    Returns:
        A list of dicts name in the file -> array `(1, ...)` of its dtype.
        Bytes stay bytes: they need a quarter of the memory of floats.

    Raises:
        ValueError: If there is no data, or it does not fit the inputs.
    """
    dtypes = {spec.name: spec.dtype.as_numpy_dtype for spec in inputs.values()}

    def copied(array, name):  # a view would keep the whole batch in memory
        return array.astype("uint8" if array.dtype == "uint8" else dtypes[name])

    samples = []
    for x, _ in batches(data, argument, at_most):
        arrays = feed(x, inputs, argument)
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(
                    f"`{argument}` holds NaN or infinity for the "
                    f"input '{name}': it has no range to measure."
                )
        for i in range(min(map(len, arrays.values()))):
            samples.append(
                {k: copied(v[i : i + 1], k) for k, v in arrays.items()}
            )
            if len(samples) == at_most:
                return samples
    if not samples:
        raise ValueError(f"`{argument}` is empty. Was it consumed before?")
    return samples
