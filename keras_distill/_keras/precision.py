"""Running a trained network in another precision, without changing it.

The weights stay as they are. While the network runs (in a `tf.function`: while
it is traced) its layers have a policy that computes in another dtype and casts
the weights where they are used, as Keras's mixed policies do; a cast copy of
the network would hold the weights twice.

Relies on, in Keras 3.12.4 and 3.15.1: `Layer._dtype_policy`.
"""

import contextlib
import threading

import keras
import numpy as np
from keras import ops

from keras_distill._keras.layers import flatten_layers

HALF = ("float16", "bfloat16")
FLOATS = (*HALF, "float32", "float64")
# Layers that prepare raw numbers, which may be too large or too fine for half
# precision, and layers that run in their own precision only.
KEPT = (
    keras.layers.Discretization,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.TFSMLayer,
)


class ComputesIn(keras.DTypePolicy):
    """A layer's policy with another dtype to compute in.

    Args:
        policy: The layer's own policy.
        dtype: The dtype in which the layer computes.
    """

    def __init__(self, policy, dtype):
        super().__init__(dtype)
        self._own = policy

    @property
    def variable_dtype(self):
        return self._own.variable_dtype


def layers_that_change(model, dtype):
    """Returns the layers that compute in another dtype in `computing_in`.

    These are all layers, except quantized ones and those of integers. Half
    precision also leaves out:

    - layers that scale raw inputs (`KEPT`) in a graph of layers, and the graph
      itself, which would cast the inputs;
    - float32 layers of a model that computes in half precision itself: such
      layers, as a head, are in float32 on purpose.

    Args:
        model: A `keras.Model`. Each member of a `kd.Ensemble` is judged by
            itself.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`.
    """
    members = getattr(model, "models", None)
    if members:
        # An ensemble adds up in float32, and its members cast the inputs.
        return [x for m in members for x in layers_that_change(m, dtype)]
    layers = [
        x
        for x in flatten_layers(model)
        # An int8 layer is far off if its scales are rounded to float16.
        if x.compute_dtype in FLOATS
        and x.quantization_mode is None
        and not isinstance(x, keras.layers.InputLayer)
    ]
    if dtype in HALF:
        leaves = [
            x for x in layers if not flatten_layers(x, include_self=False)
        ]
        mixed = any(x.compute_dtype in HALF for x in leaves)
        kept = set()
        for graph in filter(_is_graph, layers):
            scaling = [x for x in graph.layers if isinstance(x, KEPT)]
            kept.update(id(x) for x in (graph, *scaling))
        layers = [
            x
            for x in layers
            if x.compute_dtype in HALF or not (mixed or id(x) in kept)
        ]
    return [x for x in layers if x.compute_dtype != dtype]


# Each replica is traced in a thread; today the teacher's passes do not overlap.
# If they do, the first to enter sets the policies and the last restores them.
_lock = threading.Lock()
_running: dict = {}


@contextlib.contextmanager
def computing_in(model, dtype):
    """A context in which a model computes in another dtype.

    Args:
        model: A built `keras.Model`. Its weights, policies and `trainable`
            flags are the same afterwards.
        dtype: `"float32"`, `"bfloat16"`, `"float16"`, or `None` to change
            nothing.
    """
    if dtype is None:
        yield
        return
    with _lock:
        if id(model) not in _running:
            _running[id(model)] = [0, _changed(model, dtype)]
        _running[id(model)][0] += 1
    try:
        yield
    finally:
        with _lock:
            _running[id(model)][0] -= 1
            if not _running[id(model)][0]:
                for layer, policy in _running.pop(id(model))[1]:
                    set_policy(layer, policy)


def _changed(model, dtype):
    """Changes the policies; returns a list of (layer, its own policy)."""
    layers = {id(x): x for x in layers_that_change(model, dtype)}.values()
    return [(layer, compute_in(layer, dtype)) for layer in layers]


def compute_in(layer, dtype):
    """Makes a layer compute in another dtype.

    Returns:
        The layer's own policy, for `set_policy`.
    """
    before = policy = layer.dtype_policy
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        policy = policy[layer.path]
    set_policy(layer, ComputesIn(policy, dtype))
    return before


def set_policy(layer, policy):
    """Sets a layer's policy, which may be a map, and nothing else.

    The public setter writes into a map that layers share, and quantizes.
    """
    object.__setattr__(layer, "_dtype_policy", policy)


def _is_graph(layer):
    """Whether a model is a graph of layers and computes nothing itself."""
    if not isinstance(layer, (keras.Function, keras.Sequential)):
        return False
    call = next(c for c in type(layer).__mro__ if "call" in vars(c))
    return call.__module__.startswith("keras.")


def in_float32(structure):
    """Casts the half-precision tensors of a structure to float32."""
    return keras.tree.map_structure(
        lambda x: (
            ops.cast(x, "float32")
            if keras.backend.standardize_dtype(x.dtype) in HALF
            else x
        ),
        structure,
    )


def check_remembers_nothing(model, dtype):
    """Raises if a layer would keep the precision of another call."""
    names = [
        layer.name
        for layer in flatten_layers(model)
        if hasattr(layer.call, "get_concrete_function")
    ]
    if dtype is not None and names:
        raise ValueError(
            f"teacher_dtype={dtype!r}: the `call` of {names} in the teacher "
            f"'{model.name}' is a tf.function of its own, which remembers the "
            "precision in which it was traced. Remove the decorator "
            "`@tf.function` (the training step is one already), or leave "
            "teacher_dtype out."
        )


def run_first(run, dtype, name, values_of):
    """Runs a teacher for the first time in another precision.

    Args:
        run: A function `(own_precision)` that runs the teacher and returns a
            structure of NumPy arrays.
        dtype: The other precision, or `None`.
        name: The teacher's name.
        values_of: A function that selects what must be finite from such a
            structure.

    Returns:
        What `run(False)` returns.

    Raises:
        ValueError: If the teacher fails, or returns values that are not
            finite, in this precision but not in its own.
    """
    if dtype is None:
        return run(False)
    try:
        outputs = run(False)
    except Exception as error:
        run(True)  # If this fails too, precision is not the cause.
        raise ValueError(
            f"The teacher '{name}' does not run with teacher_dtype={dtype!r}, "
            "but it runs without. Does it combine outputs of its layers with "
            "constants of a fixed dtype? Cast these to `x.dtype`, or leave "
            f"teacher_dtype out. {type(error).__name__}: {error}"
        ) from error
    if not _finite(values_of(outputs)) and _finite(values_of(run(True))):
        wider = {
            "float16": "The largest number of float16 is 65504; "
            'teacher_dtype="bfloat16" has the range of float32.',
            "bfloat16": 'Pass teacher_dtype="float32".',
            "float32": "Leave teacher_dtype out.",
        }
        raise ValueError(
            f"teacher_dtype={dtype!r}: the teacher '{name}' gives infinite "
            "values or NaN on the first batch, but finite ones without it. "
            f"{wider[dtype]}"
        )
    return outputs


def _finite(structure):
    return all(
        np.isfinite(np.asarray(x, "float64")).all()
        for x in keras.tree.flatten(structure)
        if x is not None
    )
