"""Whether a network ends in a softmax or a sigmoid.

A loss on logits runs on probabilities too, and teaches next to nothing. This
look at the structure finds the mistake at construction; losses/values.py looks
at the numbers.

Relies on no private name itself, see graph.py, but on the class names of the
operations that `keras.ops` leaves in a graph (checked in Keras 3.12.4 and
3.15.1).
"""

import keras
from keras import layers

from keras_distill._keras.graph import call_outputs
from keras_distill._keras.graph import producer
from keras_distill._keras.layers import only_rounds

_WITH_ACTIVATION = (
    layers.Activation,
    layers.Dense,
    layers.EinsumDense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
)
_SHAPE_ONLY = (
    layers.ActivityRegularization,
    layers.Dropout,
    layers.Flatten,
    layers.Identity,
    layers.Masking,
    layers.Permute,
    layers.Reshape,
)
# `keras.ops` on symbolic tensors leave operations whose classes are not public.
_SHAPE_ONLY_OPERATIONS = {
    "Cast",
    "ExpandDims",
    "Identity",
    "Reshape",
    "Squeeze",
    "StopGradient",
    "Transpose",
}
_LOOK_BEFORE = "look at the layer before"


def output_keys(model):
    """Returns the sorted keys of a model's output if that is a dict.

    `None` if it is something else, or shows only on data.
    """
    output = getattr(model, "output", None) if model.built else None
    return sorted(output) if isinstance(output, dict) else None


def _tensors(model, output):
    """The symbolic outputs of a model, or one of them by its key: that of a
    dict, or `"output_<i>"` of a list."""
    tensors = getattr(model, "outputs", None)
    keys = output_keys(model)
    if output is not None and output in (keys or ()):
        return [model.output[output]]
    if keys is None and tensors and len(tensors) > 1:
        named = {f"output_{i}": [t] for i, t in enumerate(tensors)}
        return named.get(output, tensors)
    return tensors


def last_layers(model, output):
    """Finds the layers that make an output, back to one with weights.

    Args:
        model: A `keras.Model`.
        output: The key of an output.

    Returns:
        A list of layers, the last one first; empty if they are hidden.
    """
    found = []
    (tensor,) = _tensors(model, output)
    while tensor is not None:
        operation, inputs, index = producer(tensor)
        if getattr(operation, "outputs", None) and isinstance(
            operation, keras.Model
        ):
            tensor = operation.outputs[index]
            continue
        found.append(operation)
        passed = len(inputs) == 1 and not getattr(operation, "weights", None)
        tensor = inputs[0] if passed else None
    return found


def final_activation(model, output=None):
    """Finds the softmax or sigmoid that a model's output went through.

    Looks through nested models, casts, `Identity`, `Dropout`, `Reshape` and
    `Flatten`. It is a best effort: `None` does not prove that the output is
    logits.

    Args:
        model: A `keras.Model`.
        output: The key of an output, if these are a dict.

    Returns:
        `"softmax"`, `"sigmoid"`, or `None`: another activation, no activation,
        or one that is hidden (subclassed models, several outputs, unknown
        layers).

    Example:

    ```python
    from keras_distill._keras.heads import final_activation

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    )
    final_activation(model)  # "softmax"
    ```
    """
    if not isinstance(model, keras.Model):
        return None
    if getattr(model, "is_black_box", False):
        return model.output_activation
    if hasattr(model, "activation_of"):  # `kd.Teachers`
        return model.activation_of(output)
    outputs = _tensors(model, output)
    if outputs is not None:
        return activation_of(outputs[0]) if len(outputs) == 1 else None
    if isinstance(model, keras.Sequential):  # Not built: no tensors yet.
        for layer in reversed(model.layers):
            found = _of_layer(layer)
            if found != _LOOK_BEFORE:
                return found
    return None


def layer_activation(layer, call=None):
    """Does the same as `final_activation` for the output of one layer.

    Args:
        layer: A Keras layer or model.
        call: Which call of a layer that is called several times. Defaults to
            the first.
    """
    if isinstance(layer, keras.Model):
        return final_activation(layer)
    outputs = call_outputs(layer)
    if (call or 0) < len(outputs):
        return activation_of(outputs[call or 0])
    found = _of_layer(layer)
    return None if found == _LOOK_BEFORE else found


def gives_logits(model, layer=None, call=None, output=None):
    """Whether an output is known to be that of a layer without activation.

    Args:
        model: A `keras.Model`.
        layer: One of its layers. Defaults to what gives the model's output.
        call: Which call of the layer, see `layer_activation`.
        output: The key of an output, see `final_activation`.
    """
    if layer is None:
        outputs = _tensors(model, output) or ()
    else:
        outputs = call_outputs(layer)[call or 0 :][:1]
        if not outputs:
            return _has_no_activation(layer)
    tensor = outputs[0] if len(outputs) == 1 else None
    while tensor is not None:
        operation, inputs, index = producer(tensor)
        if isinstance(operation, keras.Model):
            outputs = getattr(operation, "outputs", None)
            tensor = outputs[index] if outputs else None
        elif _of_layer(operation) != _LOOK_BEFORE:
            return _has_no_activation(operation)
        else:
            tensor = inputs[0] if len(inputs) == 1 else None
    return False


def _has_no_activation(layer):
    if isinstance(layer, layers.Wrapper):
        layer = layer.layer
    if isinstance(layer, keras.Model):
        return gives_logits(layer)
    linear = keras.activations.linear
    return isinstance(layer, _WITH_ACTIVATION) and layer.activation is linear


def activation_of(tensor):
    """Does the same as `final_activation` for one symbolic output."""
    while True:
        made = producer(tensor)
        if made is None:
            return None
        operation, inputs, index = made
        if isinstance(operation, keras.Model):
            outputs = getattr(operation, "outputs", None)
            if outputs is None:
                return final_activation(operation)
            tensor = outputs[index]
            continue
        found = _of_layer(operation)
        if found != _LOOK_BEFORE:
            return found
        if len(inputs) != 1:
            return None
        tensor = inputs[0]


def _of_layer(layer):
    """Does the same for the layer alone; may return `_LOOK_BEFORE`."""
    if isinstance(layer, keras.Model):
        return final_activation(layer)
    if not isinstance(layer, layers.Layer):
        name = type(layer).__name__
        if name in _SHAPE_ONLY_OPERATIONS:
            return _LOOK_BEFORE
        return {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(name)
    if isinstance(layer, layers.Softmax):
        return "softmax"
    if isinstance(layer, layers.Wrapper):
        return _of_layer(layer.layer)
    if isinstance(layer, _SHAPE_ONLY) or only_rounds(layer):
        return _LOOK_BEFORE
    if not isinstance(layer, _WITH_ACTIVATION):
        return None
    found = _of_function(layer.activation)
    is_cast = isinstance(layer, layers.Activation) and (
        layer.activation is keras.activations.linear
    )
    return _LOOK_BEFORE if is_cast else found


def _of_function(activation):
    if isinstance(activation, layers.Softmax):
        return "softmax"
    # By name, because `tf.nn.softmax` and `jax.nn.softmax` count too.
    name = getattr(activation, "__name__", "")
    names = {
        "softmax": "softmax",
        "softmax_v2": "softmax",
        "sigmoid": "sigmoid",
    }
    return names.get(name)


def output_classifier(model):
    """Finds the layer that makes a model's output: its last `Dense`.

    Looks through nested models, activations, `Dropout`, `Reshape` and the like.
    A 1x1 convolution counts too.

    Args:
        model: A `keras.Model`.

    Returns:
        The layer, or `None` if there is none or it is hidden (subclassed
        models, several outputs).
    """
    outputs = getattr(model, "outputs", None) or ()
    if len(outputs) != 1:
        return None
    tensor = outputs[0]
    passed = (*_SHAPE_ONLY, layers.Activation, layers.Softmax)
    while True:
        made = producer(tensor)
        if made is None:
            return None
        operation, inputs, _ = made
        if isinstance(operation, keras.Model):
            return output_classifier(operation)
        if is_classifier(operation):
            return operation
        name = type(operation).__name__
        if not isinstance(operation, passed) and name not in (
            *_SHAPE_ONLY_OPERATIONS,
            "Sigmoid",
            "Softmax",
        ):
            return None
        if len(inputs) != 1:
            return None
        tensor = inputs[0]


def layer_before_classifier(model):
    """Finds the layer whose output the classifier of `output_classifier` reads.

    Looks through nested models, and through layers that only drop units. An
    operation that is not a layer (`keras.ops.mean`) is passed: what it reads
    counts. One that picks a position (`x[:, 0]`) is not: no layer has its
    output.

    Args:
        model: A `keras.Model`.

    Returns:
        The layer; `None` if there is no classifier, it is hidden, or it reads
        the model's input or one position of a sequence.
    """
    classifier = output_classifier(model)
    if classifier is None:
        return None
    tensor, found, calls = model.outputs[0], False, []
    while (made := producer(tensor)) is not None:
        operation, inputs, index = made
        if isinstance(operation, layers.InputLayer):
            if not calls:
                return None
            network, outer = calls.pop()
            names = [id(t) for t in network.inputs]
            tensor = outer[names.index(id(tensor))]
        elif getattr(operation, "outputs", None) and isinstance(
            operation, keras.Model
        ):
            calls.append((operation, inputs))
            tensor = operation.outputs[index]
        elif found and type(operation).__name__ == "GetItem":
            return None
        elif found and not _only_drops(operation):
            return operation
        elif len(inputs) != 1:
            return None
        else:
            found = found or operation is classifier
            tensor = inputs[0]
    return None


def _only_drops(operation):
    dropping = (layers.Dropout, layers.SpatialDropout2D, layers.Identity)
    return not isinstance(operation, layers.Layer) or isinstance(
        operation, dropping
    )


def is_classifier(layer):
    """Whether a layer is a `Dense`, or a 1x1 convolution."""
    if isinstance(layer, layers.Conv2D):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, layers.Dense)
