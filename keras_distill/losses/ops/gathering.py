"""The other replicas' samples, for losses that compare samples.

A loss calls `gather_replicas(x)`. On one device, and outside of a training
step, it gets `x` back. The training step, which knows the devices, provides
the gathering with `gathering(replica)`.
"""

import contextlib
import contextvars

from keras import ops

_REPLICA = contextvars.ContextVar("replica", default=None)


def gather_replicas(x):
    """Gathers a tensor from all replicas, in the order of the replicas.

    Differentiable. A loss of gathered samples is the same number on every
    replica, and the weights that the training step gives to the replicas sum
    to 1. So value and gradient are those of one device that sees the whole
    batch.

    Args:
        x: `(samples here, ...)`.

    Returns:
        `(samples everywhere, ...)`; `x` itself on one device.
    """
    replica = _REPLICA.get()
    return x if replica is None else replica.gather(x)


def draw_per_sample(draw, x):
    """Draws random numbers that do not depend on the number of replicas.

    Every replica draws for the whole batch, in step with the others, and takes
    the rows of its own samples.

    Args:
        draw: `function(samples) -> (samples, ...)`.
        x: A tensor, batch axis first.

    Returns:
        `(samples here, ...)`.
    """
    replica = _REPLICA.get()
    if replica is None:
        return draw(ops.shape(x)[0])
    return replica.local_rows(draw(replica.everywhere))


@contextlib.contextmanager
def gathering(replica):
    """Lets losses see the samples of all replicas inside of a `with` block.

    Args:
        replica: `None` on one device. Else an object with `gather(x)`, which
            returns x of all replicas; `everywhere`, the number of their
            samples; and `local_rows(x)`, which returns the rows of x that are
            samples here.
    """
    token = _REPLICA.set(replica)
    try:
        yield
    finally:
        _REPLICA.reset(token)


def samples_everywhere(values):
    """Counts the samples on all replicas.

    Args:
        values: `(samples here,)`.

    Returns:
        A scalar in the dtype of `values`.
    """
    return ops.sum(gather_replicas(ops.ones_like(values)))
