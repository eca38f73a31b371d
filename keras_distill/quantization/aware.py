"""A student as its int8 file computes it, to be trained."""

from typing import Any

import keras

from keras_distill._arguments import checked_model
from keras_distill._keras.graph import producer
from keras_distill._keras.graph import shows_its_graph
from keras_distill.multitask.merging import merged
from keras_distill.quantization import folding
from keras_distill.quantization import graph as graphs
from keras_distill.quantization import rules
from keras_distill.quantization.fake_quantize import QuantizedWeights
from keras_distill.quantization.fake_quantize import checked_bits
from keras_distill.quantization.ranges import calibrate
from keras_distill.quantization.ranges import range_layers
from keras_distill.quantization.shared_ranges import SharedRanges


def aware(
    student: keras.Model,
    *,
    weights: int = 8,
    activations: int = 8,
    calibration_data: Any = None,
) -> keras.Model:
    """Makes the network that an int8 file of a student computes.

    The network has the student's inputs and outputs, and rounds weights and
    activations where TFLite's int8 operators do: weights symmetrically, with a
    scale per channel of convolutions and one per dense layer; activations
    behind every operator that changes their range. Batch norm is folded into
    the layer before it, with its moving statistics; ReLU and ReLU6 are part of
    the operator before them. It is trained as any student: gradients pass the
    rounding as if it were not there. `kd.export.tflite` writes it with the
    ranges that it has.

    Args:
        student: A built Functional or Sequential model. It stays as it is, its
            weights are copied. Nested models are flattened, and
            `kd.multitask.Heads` are merged.
        weights: Number of bits of weights, from 2 to 8. Defaults to 8. Fewer
            are stored as int8 in the file. It is as large, its weights have
            fewer values.
        activations: Number of bits of activations, from 2 to 8. Defaults to 8.
        calibration_data: What `kd.quantization.calibrate` takes, to measure
            ranges. Defaults to `None`: the first training batch does.

    Returns:
        A Functional `keras.Model` with the student's inputs and outputs.
        Layers have the student's names, with a number behind it if another
        one has the name; a layer with an activation is two, of which the
        activation has the name. Batch norm behind a layer with a kernel is
        part of it. Layers with a kernel have a bias, and no regularizers and
        constraints.

    Raises:
        TypeError: If `student` is not a `keras.Model`.
        ValueError: If it is not built, subclassed, or was made by this
            function; if no rule says how one of its layers is quantized
            (`kd.quantization.rule`), or if an argument is out of its range.

    Example:

    ```python
    student = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 3, strides=2, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    images = np.random.uniform(size=(200, 28, 28, 1)).astype("float32")
    aware = kd.quantization.aware(student, calibration_data=images)
    distiller = kd.Distiller(
        student=aware,
        teacher=student,
        distillation_losses=kd.losses.SoftTargets(),
        alpha=1.0,
    )
    distiller.compile("adam")
    distiller.fit(images, epochs=1, verbose=0)
    distiller.export("files/aware.tflite", quantization="int8")
    ```

    Reference: Jacob et al. 2018, "Quantization and Training of Neural Networks
    for Efficient Integer-Arithmetic-Only Inference". Krishnamoorthi 2018,
    "Quantizing deep convolutional networks for efficient inference".
    """
    _check_student(student)
    quantizer = rules.Quantizer(
        checked_bits("`weights`", weights),
        checked_bits("`activations`", activations),
    )
    graph = graphs.read(merged(student))
    folding.rewrite(graph)
    model = _Lowering(graph, quantizer).model(f"{student.name}_aware")
    if calibration_data is not None:
        calibrate(model, calibration_data)
    return model


def _check_student(student):
    checked_model("student", student)
    if student.built and not shows_its_graph(student):
        raise ValueError(
            f"'{student.name}' is a subclass of keras.Model, which does not "
            "show its layers' calls. Write it as a Functional or Sequential "
            "model: keras.Model(inputs, outputs)."
        )
    if not student.built:
        raise ValueError(
            f"'{student.name}' is not built. Begin it with "
            "keras.Input(shape), or call student.build((None, ...))."
        )
    if range_layers(student):
        raise ValueError(
            f"'{student.name}' rounds already: pass the float student."
        )


class _Lowering:
    """Calls the rules one after another.

    Args:
        graph: A rewritten `Graph`.
        quantizer: A `rules.Quantizer`.
    """

    def __init__(self, graph, quantizer):
        self._graph = graph
        self._quantizer = quantizer
        self._ranges = SharedRanges(graph)
        self._rounding = {}
        self._tensors = {}
        self._named = {}
        self._outputs = set(keras.tree.flatten(graph.outputs))

    def model(self, name):
        """Returns the Functional model."""
        inputs = keras.tree.map_structure(self._input, self._graph.inputs)
        for call in self._graph.calls:
            self._call(call)
        outputs = keras.tree.map_structure(
            self._tensors.get, self._graph.outputs
        )
        self._name_the_rest(outputs)
        return keras.Model(inputs, outputs, name=name)

    def _input(self, value):
        x = keras.Input(
            batch_shape=value.shape, dtype=value.dtype, name=value.name
        )
        is_anonymous = value.name.startswith("keras_tensor")
        name = "input" if is_anonymous else value.name
        self._tensors[value] = self._rounded(value, x, f"{name}_range")
        return x

    def _call(self, call):
        rule = rules.rule_of(call.operation)
        name = call.operation.name
        is_output = call.outputs[0] in self._outputs
        if is_output and rule.output not in (rules.SAME, rules.SHARED):
            # The output keeps its name; the layer before it gives it up.
            call.operation.name = f"{name}_unrounded"
        else:
            name = f"{name}_range"
        self._name(call.operation)
        args, kwargs = keras.tree.map_structure(
            lambda leaf: (
                self._taken(leaf, call, rule)
                if isinstance(leaf, graphs.Value)
                else leaf
            ),
            (call.args, call.kwargs),
        )
        outputs = rule.function(
            self._quantizer, call.operation, *args, **kwargs
        )
        if call.activation is not None:
            if is_output:
                name = call.activation.name
                call.activation.name = f"{name}_unrounded"
            self._name(call.activation)
            outputs = call.activation(outputs)
        dtype = getattr(call.operation, "dtype_policy", None)
        for value, y in zip(call.outputs, keras.tree.flatten(outputs)):
            if rule.output not in (rules.SAME, rules.SHARED):
                y = self._rounded(value, y, name, dtype)
            self._tensors[value] = y

    def _taken(self, value, call, rule):
        """Returns a tensor that a call takes, in its range."""
        x = self._tensors[value]
        group = self._ranges.group
        if rule.output == rules.SHARED and group(value) is not group(
            call.outputs[0]
        ):
            # TFLite has no operator that only changes the range.
            low, _ = self._ranges.fixed(value)
            if low < 0.0:
                x = keras.ops.clip(x, -1.0, 1.0)
            else:
                same = keras.layers.ReLU(name=f"{call.operation.name}_part")
                self._name(same)
                x = same(x)
            name = f"{call.operation.name}_range"
            return self._rounded(call.outputs[0], x, name)
        return x

    def _rounded(self, value, x, name, dtype=None):
        """Rounds a tensor to the range of a value's group."""
        group = self._ranges.group(value)
        if group not in self._rounding:
            self._rounding[group] = self._quantizer.activations(
                value_range=self._ranges.fixed(value), name=name, dtype=dtype
            )
            self._name(self._rounding[group])
        else:
            self._rounding[group].is_shared = True
        return self._rounding[group](x)

    def _name(self, operation):
        """Gives an operation a name that none before it has."""
        owner = operation
        if isinstance(operation, QuantizedWeights):  # It has its layer's name.
            owner = operation.layer
        name, number = operation.name, 0
        while self._named.setdefault(name, owner) is not owner:
            number += 1
            name = f"{operation.name}_{number}"
        operation.name = name

    def _name_the_rest(self, tensors):
        """Names what rules called without a name of their own."""
        seen, left = set(), keras.tree.flatten(tensors)
        while left:
            made = producer(left.pop())
            self._name(made.operation)
            left += [tensor for tensor in made.inputs if id(tensor) not in seen]
            seen |= {id(tensor) for tensor in made.inputs}
