"""Finding and taking intermediate outputs of any Keras model.

A tap is the output of a layer, taken while the model runs its ordinary forward
pass: the layer's `call` is wrapped for the duration of that one pass (in
graph mode: of its tracing). So every kind of model is tapped in the same way
(Functional, Sequential, nested, shared layers, subclassed), nobody edits a
model, the forward runs once, and BatchNorm moves once. The alternative, a
second Functional model over the symbolic tensors, does not exist for
subclassed models and loses what a subclass of a Functional model overrides.
"""

import contextlib

import keras

from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.method_patching import intercepted
from keras_distill.taps.paths import find_path
from keras_distill.taps.paths import layer_paths
from keras_distill.taps.suggestion import Suggestion
from keras_distill.taps.suggestion import suggest

__all__ = ["Suggestion", "Taps", "layer_paths", "suggest"]


class Taps:
    """A model's forward pass together with some of its layers' outputs.

    Args:
        model: A `keras.Model`.
        names: Layer names, paths (`"backbone/conv4_block6_out"`), or either
            with the number of the call for layers called several times
            (`"conv#1"` is the second call). An empty list is allowed.
        role: `"teacher"` or `"student"`, for messages.

    Raises:
        ValueError: for a name that is unknown (the nearest names are listed)
            or that several layers have (their paths are listed).

    Example:

    ```python
    network = keras.applications.MobileNetV2(weights=None)
    taps = kd.taps.Taps(network, ["block_6_project"])
    output, taken = taps(images, training=False)
    taken["block_6_project"].shape     # (batch, 14, 14, 64)
    ```
    """

    def __init__(self, model, names, role="model"):
        self.model = model
        self.role = role
        paths = layer_paths(model) if names else {}
        self._found = {name: _find(name, paths, model, role) for name in names}

    @property
    def names(self):
        return list(self._found)

    @property
    def layers(self):
        """Name -> (layer, number of its call or `None`)."""
        return dict(self._found)

    def __call__(self, inputs, training=False):
        """Runs the model once.

        Args:
            inputs: What the model takes.
            training: Passed to the model where it accepts it.

        Returns:
            `(output, taken)`: the model's output, and a dict name -> tensor.

        Raises:
            ValueError: if a tapped layer did not run exactly as the name says.
        """
        layers = {id(layer): layer for layer, _ in self._found.values()}
        calls = {key: [] for key in layers}

        def record(layer, method, *args, **kwargs):
            outputs = method(*args, **kwargs)
            calls[id(layer)].append(outputs)
            return outputs

        with contextlib.ExitStack() as stack:
            for layer in layers.values():
                quantized = getattr(layer, "quantization_mode", None)
                method = "call" if quantized is None else "quantized_call"
                stack.enter_context(intercepted([layer], method, record))
            if self.model._call_has_training_arg:
                output = self.model(inputs, training=training)
            else:
                output = self.model(inputs)
        taken = {
            name: self._pick(name, layer, index, calls[id(layer)])
            for name, (layer, index) in self._found.items()
        }
        return output, taken

    def shapes(self):
        """Shapes of output and taps, from the model's symbolic inputs.

        Returns:
            `(output_shape, taken_shapes)`, `None` where a size is free; or
            `None` if the model has no symbolic inputs (a subclassed model
            shows its shapes only on data).
        """
        if not self.model.built or not getattr(self.model, "inputs", None):
            return None
        return self.shapes_on(
            keras.tree.map_structure(
                lambda t: keras.KerasTensor((None, *t.shape[1:]), t.dtype),
                symbolic_inputs(self.model),
            )
        )

    def shapes_on(self, inputs):
        """The same for given `keras.KerasTensor` inputs; computes nothing."""
        if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
            inputs = inputs[0]
        output, taken = _Probe(self).compute_output_spec(inputs)
        return keras.tree.map_structure(
            lambda t: Shape(t.shape), (output, taken)
        )

    def _pick(self, name, layer, index, outputs):
        where = f"Layer '{name}' of the {self.role} '{self.model.name}'"
        if not outputs:
            raise ValueError(
                f"{where} did not run in the forward pass, so it has no output "
                "to take. Is it used only in training, or does the model call "
                "it inside a `tf.function` of its own?"
            )
        if index is None and len(outputs) > 1:
            choices = ", ".join(f"'{name}#{k}'" for k in range(len(outputs)))
            raise ValueError(
                f"{where} is called {len(outputs)} times in one forward pass. "
                f"Say which call you want: one of {choices}."
            )
        if index is not None and index >= len(outputs):
            raise ValueError(
                f"{where}: the layer is called {len(outputs)} time(s), "
                f"counted from #0; there is no #{index}."
            )
        output = outputs[index or 0]
        flat = keras.tree.flatten(output)
        if len(flat) != 1:
            raise ValueError(
                f"{where} returns {len(flat)} tensors. Tap a layer that "
                "returns one (for a recurrent layer: `return_state=False`)."
            )
        return flat[0]


class Shape(tuple):
    """A shape that `keras.tree` sees as a leaf."""


class _Probe(keras.Operation):
    def __init__(self, taps):
        super().__init__()
        self._taps = taps

    def call(self, inputs):
        return self._taps(inputs, training=False)


def _find(name, paths, model, role):
    """The layer of a tap and the number of its call, or `None`."""
    path, call = find_path(paths, name, model.name, role)
    return _tappable(paths, path, role), call


def _tappable(paths, path, role):
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        layer = paths.get("/".join(parts[:depth]))
        if getattr(layer, "_remat_mode", None):
            raise ValueError(
                f"Layer '{path}' of the {role} lies in a keras.RematScope: its "
                "output is computed again in the backward pass and gives no "
                "gradient. Tap a layer outside of the scope."
            )
    return paths[path]
