"""Standing in for the functions with which Keras reduces its losses.

Keras has no hook for the number that a loss is divided by on each replica.

Relies on, in Keras 3.12.4 and 3.15.1: the functions
`scale_loss_for_distribution`, `unscale_loss_for_distribution`, `apply_mask`
and `reduce_values` of the module of `keras.Loss`, and on `keras.Loss` looking
them up there.
"""

import contextlib
import sys

import keras

from keras_distill._keras.method_patching import intercepted

_MODULE = sys.modules[keras.Loss.__module__]


@contextlib.contextmanager
def reductions_intercepted(apply_mask, reduce_values):
    """A context in which losses are reduced by the given functions.

    Calls in other threads are not changed. Losses are not divided by the
    number of replicas.

    Args:
        apply_mask: A function `(method, sample_weight, mask, dtype,
            reduction)` that returns weights. `method` is Keras's own function
            of the same arguments.
        reduce_values: A function `(method, values, sample_weight, reduction)`
            that returns the loss.
    """

    def unscaled(module, method, value):
        return value

    def masked(module, method, sample_weight, mask, dtype, reduction):
        return apply_mask(method, sample_weight, mask, dtype, reduction)

    def reduced(module, method, values, sample_weight=None, reduction="mean"):
        return reduce_values(method, values, sample_weight, reduction)

    with (
        intercepted([_MODULE], "scale_loss_for_distribution", unscaled),
        intercepted([_MODULE], "unscale_loss_for_distribution", unscaled),
        intercepted([_MODULE], "apply_mask", masked),
        intercepted([_MODULE], "reduce_values", reduced),
    ):
        yield
