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
from keras_distill._keras.attention import ATTENTION
from keras_distill._keras.attention import PROJECTIONS
from keras_distill._keras.attention import attention_recorded
from keras_distill._keras.attention import positions_recorded
from keras_distill._keras.attention import takes_attention_mask
from keras_distill._keras.graph import producer
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.layers import call_model
from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.layers import is_rematerialized
from keras_distill._keras.masks import mask_of
from keras_distill._keras.masks import masked
from keras_distill._keras.masks import masking_intercepted
from keras_distill._keras.masks import masks_of
from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.symbolic_pass import symbolic_pass
from keras_distill._keras.symbolic_pass import with_free_batch
from keras_distill.taps.paths import find_way
from keras_distill.taps.paths import layer_paths
from keras_distill.taps.places import attention_part


class Taps:
    """A model's forward pass together with some of its layers' outputs.

    Args:
        model: A `keras.Model`.
        names: Layer names, paths (`"backbone/conv4_block6_out"`), or either
            with the number of the call for layers called several times
            (`"conv#1"` is the second call). Of an attention layer
            `"attention"`: `"attention/query"`, `"attention/key"` and
            `"attention/value"`, `(batch, positions, heads, size)`, and
            `"attention/scores"` and `"attention/probabilities"`, `(batch,
            heads, queries, keys)`, before and after mask and softmax. An empty
            list is allowed.
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
        self._parts = {
            n: attention_part(n, layer)
            for n, (layer, _) in self._layers.items()
        }
        self._attention = {
            n for n, (way, _) in ways.items() if self._parts[n] or _scores(way)
        }
        self._projections = [w for w, _ in ways.values() if _is_projection(w)]

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
        targets = {}
        for name, (layer, _) in self._layers.items():
            targets[id(layer), self._parts[name]] = layer
        calls: dict[tuple, list] = {key: [] for key in targets}

        def record(layer, method, *args, **kwargs):
            outputs = method(*args, **kwargs)
            calls[id(layer), None].append((outputs, masks_of(outputs)))
            return outputs

        def record_masks(layer, method, inputs, outputs, mask):
            # Attention takes the masks off the tensors that it reads.
            method(inputs, outputs, mask)
            calls[id(layer), None][-1] = outputs, masks_of(outputs)

        with contextlib.ExitStack() as stack:
            for (_, part), layer in targets.items():
                if part is not None:
                    recording = _recorder(calls[id(layer), part], part)
                    stack.enter_context(attention_recorded(layer, recording))
                    continue
                quantized = getattr(layer, "quantization_mode", None)
                method = "call" if quantized is None else "quantized_call"
                stack.enter_context(intercepted([layer], method, record))
                stack.enter_context(masking_intercepted([layer], record_masks))
            for *_, attention, layer in self._projections:
                recording = _mask_recorder(calls[id(layer), None], layer)
                stack.enter_context(positions_recorded(attention, recording))
            output = call_model(self.model, inputs, training)
        taken = {
            name: self._pick(name, layer, index, calls)
            for name, (layer, index) in self._layers.items()
        }
        padding = None
        if isinstance(inputs, dict):
            padding = inputs.get("padding_mask")
        if padding is not None:
            for name, tensor in taken.items():
                _mask_padding(tensor, padding, name in self._attention)
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

    def _pick(self, name, layer, index, calls):
        outputs = calls[id(layer), self._parts[name]]
        where = f"Layer '{name}' of the {self.role} '{self.model.name}'"
        if not outputs and self._parts[name]:
            raise ValueError(
                f"{where} did not come up in the forward pass: the layer did "
                "not run, or it computes its attention fused (flash "
                "attention), where scores never exist. Call "
                "keras.config.disable_flash_attention() before the model is "
                "made, or compare queries, keys and values: "
                "kd.losses.AttentionRelation."
            )
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
                f"returns one{_advice(name, layer, len(flat))}."
            )
        return flat[0]


class Shape(tuple):
    """A shape that `keras.tree` sees as a leaf."""


def _advice(name, layer, count):
    """Says what to tap instead of a layer of several outputs."""
    recurrent = keras.layers.RNN, keras.layers.Bidirectional
    if isinstance(layer, recurrent):
        return ": make it with `return_state=False`"
    if getattr(layer, "outputs", None):
        inside = [producer(tensor).operation for tensor in layer.outputs]
    else:
        inside = flatten_layers(layer, include_self=False, recursive=False)
        inside = [x for x in inside if x.weights][-count:]
    names = [f"{name}/{x.name}" for x in inside if hasattr(x, "weights")]
    return f", such as one inside of it: {names}" if names else ""


def _check_no_rematerialization(name, way, role):
    if any(map(is_rematerialized, way)):
        raise ValueError(
            f"Layer '{name}' of the {role} lies in a keras.RematScope: its "
            "output is computed again in the backward pass and gives no "
            "gradient. Tap a layer outside of the scope."
        )


def _scores(way):
    """Whether the last layer on the way gives the scores of an attention."""
    scores = keras.layers.Softmax, keras.layers.Dropout
    return (
        len(way) > 1
        and isinstance(way[-2], ATTENTION)
        and isinstance(way[-1], scores)
    )


def _is_projection(way):
    """Whether the last layer on the way projects what an attention reads."""
    return (
        len(way) > 1
        and way[-1].name in PROJECTIONS
        and takes_attention_mask(way[-2])
    )


def _recorder(outputs, part):
    def record(scores, probabilities, mask):
        values = scores if part == "scores" else probabilities()
        outputs.append((values, mask))

    return record


def _mask_recorder(outputs, layer):
    """Gives the mask of its positions to what a projection has just given."""

    def record(query_mask, key_mask):
        values, mask = outputs[-1]
        if mask is None:
            mask = query_mask if layer.name == "query" else key_mask
        outputs[-1] = values, mask

    return record


def _mask_padding(tensor, padding, is_attention):
    """Attaches an input `"padding_mask"`, as the networks of keras-hub have it,
    to a tensor of the same positions without a mask.

    Of attention scores it is the padding of the queries; they have a mask.
    """
    axis, mask = 2 if is_attention else 1, mask_of(tensor)
    fits = len(tensor.shape) > axis + 1
    fits = fits and tensor.shape[axis] == padding.shape[1]
    if not fits or (mask is None) == is_attention:
        return
    padding = keras.ops.cast(padding, "bool")
    if is_attention:
        padding = keras.ops.logical_and(mask, padding[:, None, :, None])
    masked(tensor, padding)
