"""Tensors, values and gradients on the Keras backend in use.

TensorFlow differentiates what a tape has seen. JAX differentiates functions:
there every input is a `keras.Variable`, so that a `StatelessScope` can put a
traced value in its place while the loss is computed.
"""

import keras
import numpy as np


def constant(array, dtype):
    """An input of a case as what the losses of this backend take.

    Args:
        array: A NumPy array.
        dtype: What floating-point arrays are cast to.
    """
    if not np.issubdtype(array.dtype, np.floating):
        return keras.ops.convert_to_tensor(array)
    if keras.backend.backend() == "jax":
        return keras.Variable(array, dtype=dtype, trainable=False)
    return keras.ops.convert_to_tensor(array, dtype)


def value_and_gradients(compute, watched):
    """Evaluates `compute` and differentiates its `"loss"`.

    Args:
        compute: Function without arguments; returns a dict of tensors that has
            the scalar `"loss"`.
        watched: Name -> input or Keras variable to differentiate by.

    Returns:
        What `compute` returns, and `grad_<name>` for everything watched. A
        name on which the loss does not depend has no entry under TensorFlow
        (the check calls it missing), and one of zeros under JAX.
    """
    known = {"tensorflow": _tensorflow, "jax": _jax}
    results, gradients = known[keras.backend.backend()](compute, watched)
    return {
        **results,
        **{f"grad_{name}": value for name, value in gradients.items()},
    }


def _tensorflow(compute, watched):
    import tensorflow as tf

    sources = {
        name: x.value if isinstance(x, keras.Variable) else x
        for name, x in watched.items()
    }
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(list(sources.values()))
        results = compute()
    gradients = tape.gradient(results["loss"], sources)
    return results, {
        name: tf.convert_to_tensor(gradient)
        for name, gradient in gradients.items()
        if gradient is not None
    }


def _jax(compute, watched):
    import jax

    def loss(values):
        mapping = [(watched[name], value) for name, value in values.items()]
        with keras.StatelessScope(state_mapping=mapping):
            return compute()["loss"]

    gradients = jax.grad(loss)({name: x.value for name, x in watched.items()})
    # Once more outside of the scope: what a loss remembers is written.
    return compute(), gradients
