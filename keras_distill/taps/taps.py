"""Finding and taking intermediate outputs of any Keras model.

A tap is the output of a layer, taken while the model runs its ordinary forward
pass: the layer's `call` is wrapped for that one pass (in graph mode, while it
is traced). So every kind of model is tapped in the same way (Functional,
Sequential, nested, shared layers, subclassed), nobody edits a model, the
forward runs once, and BatchNorm moves once. The alternative, a second
Functional model over the symbolic tensors, does not exist for subclassed
models and loses what a subclass of a Functional model overrides.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import checked_string
from keras_distill._arguments import checked_strings
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.layers import call_model
from keras_distill._keras.layers import is_rematerialized
from keras_distill._keras.masks import masked
from keras_distill._keras.masks import masking_intercepted
from keras_distill._keras.masks import masks_of
from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.symbolic_pass import symbolic_pass
from keras_distill._keras.symbolic_pass import with_free_batch
from keras_distill.taps.paths import find_way
from keras_distill.taps.paths import layer_paths


class Taps:
    """A model's forward pass together with some of its layers' outputs.

    Args:
        model: A `keras.Model`.
        names: Layer names, paths (`"backbone/conv4_block6_out"`), or either
            with the number of the call for layers called several times
            (`"conv#1"` is the second call). An empty list is allowed.
        role: `"teacher"` or `"student"`, for messages.

    Raises:
        ValueError: If a name is unknown (the error lists the nearest names) or
            several layers have it (the error lists their paths).

    Example:

    ```python
    network = keras.applications.MobileNetV2(weights=None)
    taps = kd.taps.Taps(network, ["block_6_project"])
    output, taken = taps(images, training=False)
    taken["block_6_project"].shape     # (batch, 14, 14, 64)
    ```
    """

    def __init__(
        self, model: keras.Model, names: Sequence[str], role: str = "model"
    ):
        self.model = model
        self.role = checked_string("role", role)
        names = checked_strings("names", names) if names != [] else []
        paths = layer_paths(model) if names else {}
        ways = {n: find_way(model, n, role, paths) for n in names}
        for name, (way, _) in ways.items():
            _check_no_rematerialization(name, way, role)
        self._layers = {n: (way[-1], call) for n, (way, call) in ways.items()}
        self._attention = {n for n, (way, _) in ways.items() if _scores(way)}

    @property
    def names(self) -> list[str]:
        """The names of the taps."""
        return list(self._layers)

    def gives_attention(self, name: str) -> bool:
        """Whether a tap is the scores of an attention layer, `(batch, heads,
        queries, keys)`."""
        return name in self._attention

    @property
    def layers(self) -> dict[str, tuple[keras.layers.Layer, int | None]]:
        """A dict name -> (layer, number of its call or `None`)."""
        return dict(self._layers)

    def __call__(
        self, inputs: Any, training: bool = False
    ) -> tuple[Any, dict[str, Any]]:
        """Runs the model once.

        Args:
            inputs: The inputs of the model.
            training: Passed to the model if it accepts it.

        Returns:
            `(output, taken)`: the model's output, and a dict name -> tensor.

        Raises:
            ValueError: If a tapped layer did not run exactly as the name says.
        """
        layers = {id(layer): layer for layer, _ in self._layers.values()}
        calls: dict[int, list] = {key: [] for key in layers}

        def record(layer, method, *args, **kwargs):
            outputs = method(*args, **kwargs)
            calls[id(layer)].append((outputs, masks_of(outputs)))
            return outputs

        def record_masks(layer, method, inputs, outputs, mask):
            # Attention takes the masks off the tensors that it reads.
            method(inputs, outputs, mask)
            calls[id(layer)][-1] = outputs, masks_of(outputs)

        with contextlib.ExitStack() as stack:
            for layer in layers.values():
                quantized = getattr(layer, "quantization_mode", None)
                method = "call" if quantized is None else "quantized_call"
                stack.enter_context(intercepted([layer], method, record))
                stack.enter_context(masking_intercepted([layer], record_masks))
            output = call_model(self.model, inputs, training)
        taken = {
            name: self._pick(name, layer, index, calls[id(layer)])
            for name, (layer, index) in self._layers.items()
        }
        return output, taken

    def shapes(self) -> tuple[Any, dict[str, tuple]] | None:
        """Returns the shapes of output and taps, from the symbolic inputs.

        Returns:
            `(output_shape, taken_shapes)`, with `None` for a free size; or
            `None` if the model has no symbolic inputs (a subclassed model
            shows its shapes only on data).
        """
        if not self.model.built or not getattr(self.model, "inputs", None):
            return None
        return self.shapes_on(with_free_batch(symbolic_inputs(self.model)))

    def shapes_on(self, inputs: Any) -> tuple[Any, dict[str, tuple]]:
        """Returns the same for `keras.KerasTensor` inputs."""
        if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
            inputs = inputs[0]
        outputs = symbolic_pass(self, inputs)
        return keras.tree.map_structure(lambda t: Shape(t.shape), outputs)

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
        flat = keras.tree.flatten(masked(*outputs[index or 0]))
        if len(flat) != 1:
            raise ValueError(
                f"{where} returns {len(flat)} tensors. Tap a layer that "
                "returns one (for a recurrent layer: `return_state=False`)."
            )
        return flat[0]


class Shape(tuple):
    """A shape that `keras.tree` sees as a leaf."""


def _check_no_rematerialization(name, way, role):
    if any(map(is_rematerialized, way)):
        raise ValueError(
            f"Layer '{name}' of the {role} lies in a keras.RematScope: its "
            "output is computed again in the backward pass and gives no "
            "gradient. Tap a layer outside of the scope."
        )


def _scores(way):
    """Whether the last layer on the way gives the scores of an attention."""
    attention = (
        keras.layers.MultiHeadAttention,
        keras.layers.GroupQueryAttention,
    )
    scores = keras.layers.Softmax, keras.layers.Dropout
    return (
        len(way) > 1
        and isinstance(way[-2], attention)
        and isinstance(way[-1], scores)
    )
