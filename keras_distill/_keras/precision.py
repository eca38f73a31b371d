"""Running a trained network in another precision, without changing it.

The weights stay as they are. While the network runs (in a `tf.function`: while
it is traced) its layers have a policy that computes in another dtype and casts
the weights where they are used, as Keras's mixed policies do; a cast copy of
the network would hold the weights twice.
"""

import contextlib
import threading

import keras
import numpy as np
from keras import ops

HALF = ("float16", "bfloat16")
FLOATS = (*HALF, "float32", "float64")
# What prepares raw numbers, which may be too large or too fine for half
# precision, and what only runs in its own.
KEPT = (
    keras.layers.Discretization,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.TFSMLayer,
)


class ComputesIn(keras.DTypePolicy):
    """A layer's policy, but for the dtype that it computes in.

    Args:
        policy: The layer's own.
        dtype: What it computes in.
    """

    def __init__(self, policy, dtype):
        super().__init__(dtype)
        self._own = policy

    @property
    def variable_dtype(self):
        return self._own.variable_dtype


def layers_that_change(model, dtype):
    """The layers of a model that `computing_in` has compute in another dtype.

    All, but quantized layers and those of integers. Half precision also leaves
    alone: what scales raw inputs (`KEPT`) in a graph of layers, and the graph
    itself, which would cast them; and float32 layers of a model that computes
    in half precision itself: they are in float32 on purpose, such as a head.

    Args:
        model: A `keras.Model`; each member of a `kd.Ensemble` counts for
            itself.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`.
    """
    members = getattr(model, "models", None)
    if members:
        # It adds up in float32, and leaves inputs to its members.
        return [x for m in members for x in layers_that_change(m, dtype)]
    layers = [
        x
        for x in model._flatten_layers()
        # An int8 layer is far off where its scales are rounded to float16.
        if x.compute_dtype in FLOATS
        and x.quantization_mode is None
        and not isinstance(x, keras.layers.InputLayer)
    ]
    if dtype in HALF:
        own = [x for x in layers if not _sublayers(x)]
        mixed = any(x.compute_dtype in HALF for x in own)
        kept = set()
        for graph in filter(_is_graph, layers):
            own = [x for x in graph.layers if isinstance(x, KEPT)]
            kept.update(id(x) for x in (graph, *own))
        layers = [
            x
            for x in layers
            if x.compute_dtype in HALF or not (mixed or id(x) in kept)
        ]
    return [x for x in layers if x.compute_dtype != dtype]


# Replicas are traced by a thread each, one at a time as far as a teacher goes.
# Should that change, the first to come sets the policies, the last restores.
_lock = threading.Lock()
_running: dict = {}


@contextlib.contextmanager
def computing_in(model, dtype):
    """A context in which a model computes in another dtype.

    Args:
        model: A built `keras.Model`. Its weights, policies and `trainable`
            flags are afterwards as before.
        dtype: `"float32"`, `"bfloat16"`, `"float16"`, or `None`: its own.
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
                    _set(layer, policy)


def _changed(model, dtype):
    """Changes the policies -> a list of (layer, its own policy)."""
    layers = {id(x): x for x in layers_that_change(model, dtype)}.values()
    before = [(layer, layer.dtype_policy) for layer in layers]
    for layer, policy in before:
        if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
            policy = policy[layer.path]
        _set(layer, ComputesIn(policy, dtype))
    return before


def _set(layer, policy):
    # Past the public setter, which writes into a map that layers share, and
    # quantizes.
    object.__setattr__(layer, "_dtype_policy", policy)


def _sublayers(layer):
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _is_graph(layer):
    """Whether a model is a graph of layers and computes nothing itself."""
    if not isinstance(layer, (keras.Function, keras.Sequential)):
        return False
    call = next(c for c in type(layer).__mro__ if "call" in vars(c))
    return call.__module__.startswith("keras.")


def in_float32(structure):
    """Half-precision tensors of a structure cast to float32."""
    return keras.tree.map_structure(
        lambda x: (
            ops.cast(x, "float32")
            if keras.backend.standardize_dtype(x.dtype) in HALF
            else x
        ),
        structure,
    )


def check_remembers_nothing(model, dtype):
    """Raises for layers that would keep the precision of another call."""
    names = [
        layer.name
        for layer in model._flatten_layers()
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
        run: A function that runs it and gives a structure of NumPy arrays; of
            `own_precision`, whether in its own.
        dtype: The other one, or `None`.
        name: The teacher's name.
        values_of: A function of this structure: what of it has to be finite.

    Returns:
        What `run(False)` gives.

    Raises:
        ValueError: if the teacher fails, or gives values that are not finite,
            in this precision and not in its own.
    """
    if dtype is None:
        return run(False)
    try:
        seen = run(False)
    except Exception as error:
        run(True)  # What fails here too has nothing to do with precision.
        raise ValueError(
            f"The teacher '{name}' does not run with teacher_dtype={dtype!r}, "
            "though it does without. Does it combine what its layers give with "
            "constants of a fixed dtype? Cast these to `x.dtype`, or leave "
            f"teacher_dtype out. {type(error).__name__}: {error}"
        ) from error
    if not _finite(values_of(seen)) and _finite(values_of(run(True))):
        wider = {
            "float16": "The largest number of float16 is 65504; "
            'teacher_dtype="bfloat16" has the range of float32.',
            "bfloat16": 'Pass teacher_dtype="float32".',
            "float32": "Leave teacher_dtype out.",
        }
        raise ValueError(
            f"teacher_dtype={dtype!r}: the teacher '{name}' gives infinite "
            "values or NaN on the first batch, and finite ones without it. "
            f"{wider[dtype]}"
        )
    return seen


def _finite(structure):
    return all(
        np.isfinite(np.asarray(x, "float64")).all()
        for x in keras.tree.flatten(structure)
        if x is not None
    )
