"""The other replicas' samples, for losses that compare samples.

A loss asks for them by `gather_replicas(x)`. On one device, and outside of a
training step, it gets back what it gave. The training step, which knows about
devices, says for its duration how to gather.
"""

import contextlib
import contextvars

from keras import ops

_GATHER = contextvars.ContextVar("gather", default=None)


def gather_replicas(x):
    """`(samples here, ...)` -> `(samples everywhere, ...)`.

    In the order of the replicas, the same on each of them; differentiable. A
    loss of gathered samples is the same number on every replica, and the
    weights that the training step gives to the replicas sum to 1: value and
    gradient are those of one device that sees the whole batch.

    Args:
        x: A tensor, batch axis first.

    Returns:
        `x` itself on one device.
    """
    gather = _GATHER.get()
    return x if gather is None else gather(x)


@contextlib.contextmanager
def gathering(gather):
    """A context in which `gather_replicas` calls `gather`.

    Args:
        gather: `function(x) -> x of all replicas`; `None` on one device.
    """
    token = _GATHER.set(gather)
    try:
        yield
    finally:
        _GATHER.reset(token)


def samples_everywhere(values):
    """The number of samples on all replicas.

    Args:
        values: `(samples here,)`.

    Returns:
        A scalar in the dtype of `values`.
    """
    return ops.sum(gather_replicas(ops.ones_like(values)))
