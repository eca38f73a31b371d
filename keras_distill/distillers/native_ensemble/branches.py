"""A network with several copies of its later layers, and a gate over them."""

import keras
from keras import layers

from keras_distill._keras.graph import producer
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.graph import symbolic_output
from keras_distill._keras.heads import final_activation
from keras_distill.taps.taps import Taps

ENSEMBLE = "ensemble"


def branch_names(branches):
    """Returns `branch_1` (the student), `branch_2`, ..."""
    return [f"branch_{number + 1}" for number in range(branches)]


def with_branches(student, branch_from, branches):
    """Builds several branches and their gated ensemble on a student's trunk.

        g = softmax(relu(batch_norm(dense(global_pool(trunk(x))))))
        ensemble = sum_i g_i branch_i

    Args:
        student: A Functional or Sequential model with one output of logits.
        branch_from: The layer whose output the branches share, named like a
            tap.
        branches: Number of branches, at least 2.

    Returns:
        A `keras.Model` on the student's inputs with a dict of outputs:
        `branch_1` (the student's own layers), `branch_2`, ... (copies of the
        layers after `branch_from`, with weights of their own) and `ensemble`.

    Raises:
        ValueError: If the student has no such graph, or cannot be cut there.
    """
    _check_student(student)
    shared = _cut(student, branch_from)
    tail = keras.Model(shared, student.outputs[0])
    if not tail.weights:
        raise ValueError(
            f"branch_from='{branch_from}': no layer after it has weights, so "
            "all branches would be the same. Branch from an earlier layer."
        )
    first, *others = branch_names(branches)
    outputs = {first: student.outputs[0]}
    for name in others:
        # As a model in the model, its layers keep their names.
        fresh = keras.models.clone_model(tail, clone_function=_fresh)
        outputs[name] = keras.Model(fresh.inputs, fresh.outputs[0], name=name)(
            shared
        )
    outputs[ENSEMBLE] = gated(gate(shared, branches), list(outputs.values()))
    return keras.Model(
        symbolic_inputs(student), outputs, name=f"{student.name}_branches"
    )


def gate(features, branches):
    """Computes the importance of every branch, as in the authors' code.

    Global average pooling over the positions, a dense layer, batch
    normalization, ReLU, softmax.

    Args:
        features: A symbolic tensor `(batch, ..., channels)`.
        branches: Number of branches.

    Returns:
        A symbolic tensor `(batch, branches)`.
    """
    x = layers.Activation("linear", dtype="float32", name="gate_input")(
        features
    )
    pooling = {
        3: layers.GlobalAveragePooling1D,
        4: layers.GlobalAveragePooling2D,
        5: layers.GlobalAveragePooling3D,
    }
    rank = len(features.shape)
    if rank in pooling:
        x = pooling[rank](dtype="float32", name="gate_pool")(x)
    elif rank != 2:
        raise ValueError(
            "The gate pools features of shape (batch, ..., channels) with at "
            f"most three axes of positions. Received: {features.shape}"
        )
    x = layers.Dense(branches, dtype="float32", name="gate_dense")(x)
    x = layers.BatchNormalization(
        # Any number of replicas gives the same statistics.
        synchronized=keras.backend.backend() == "tensorflow",
        dtype="float32",
        name="gate_batch_norm",
    )(x)
    x = layers.ReLU(dtype="float32", name="gate_relu")(x)
    return layers.Softmax(dtype="float32", name="gate")(x)


def gated(importance, logits):
    """Returns `sum_i importance_i logits_i` of symbolic tensors."""
    ones = (1,) * (len(logits[0].shape) - 2)
    weighted = []
    for number, branch in enumerate(logits):
        share = importance[:, number : number + 1]
        if ones:
            share = layers.Reshape((1, *ones), dtype="float32")(share)
        weighted.append(layers.Multiply(dtype="float32")([share, branch]))
    return layers.Add(dtype="float32", name="gated")(weighted)


def output_of(network, name, model_name):
    """Returns one output of the branched network as a `keras.Model`."""
    return keras.Model(network.input, network.output[name], name=model_name)


def _cut(student, branch_from):
    """Returns the output of `branch_from`, or raises if paths go around it."""
    layer, index = Taps(student, [branch_from], "student").layers[branch_from]
    shared = symbolic_output(student, layer, index)
    if layer not in student.layers:
        raise ValueError(
            f"branch_from='{branch_from}' lies inside of another model in the "
            f"student '{student.name}'. Branch from a layer of the student "
            f"itself: {[x.name for x in student.layers]}."
        )
    output = student.outputs[0]
    if shared is output:
        raise ValueError(
            f"branch_from='{branch_from}' is the student's output, so nothing "
            "is left for the branches. Branch from an earlier layer, such as "
            "the end of the stage before the last."
        )
    around, meets = _paths_around(output, shared)
    if not meets or around:
        what = "no path from the input to the output goes through it"
        if meets:
            what = f"paths from {around} to the output go around it"
        raise ValueError(
            f"branch_from='{branch_from}' does not cut the student "
            f"'{student.name}' in two: {what}. Branch from a layer that all "
            "paths go through, such as the addition at the end of a block."
        )
    return shared


def _paths_around(output, shared):
    """Returns the names of the inputs that reach `output` around `shared`, and
    whether `output` depends on `shared` at all."""
    waiting, seen, around, meets = [output], set(), [], False
    while waiting:
        tensor = waiting.pop()
        if tensor is shared:
            meets = True
            continue
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        before = producer(tensor).inputs
        if not before:
            around.append(tensor.name)
        waiting.extend(before)
    return around, meets


def _check_student(student):
    if not getattr(student, "inputs", None):
        raise ValueError(
            f"The student '{student.name}' is a subclassed or an unbuilt "
            "model, without the graph of layers that branches need. Write it "
            "with the Functional API, or as a keras.Sequential with an Input."
        )
    if len(student.outputs) != 1:
        raise ValueError(
            f"The student '{student.name}' must have one output, its logits. "
            f"It has {len(student.outputs)}."
        )
    activation = final_activation(student)
    if activation:
        raise ValueError(
            f"The student '{student.name}' ends in a {activation}, but the "
            "gate averages logits. Give its last layer activation=None, and "
            "the task loss from_logits=True."
        )


def _fresh(layer):
    """Returns a copy of the layer, with new weights."""
    return type(layer).from_config(_unseeded(layer.get_config()))


def _unseeded(config):
    """Returns a configuration without seeds. With seeded initializers all
    branches would start with the same weights, and keep them."""
    if isinstance(config, dict):
        return {
            key: None
            if key == "seed" and isinstance(value, int)
            else _unseeded(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_unseeded(value) for value in config)
    return config
