"""The other replicas' samples, for losses that compare samples.

A loss asks for them by `gather_replicas(x)`. On one device, and outside of a
training step, it gets back what it gave. The training step, which knows about
devices, says for its duration how to gather.
"""

import contextlib
import contextvars

from keras import ops

_REPLICA = contextvars.ContextVar("replica", default=None)


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
    replica = _REPLICA.get()
    return x if replica is None else replica.gather(x)


def draw_per_sample(draw, x):
    """Random numbers that do not depend on the number of replicas.

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
    """A context in which losses see the samples of all replicas.

    Args:
        replica: `None` on one device. Else what has `gather(x)`, which gives x
            of all replicas; `everywhere`, the number of their samples; and
            `local_rows(x)`, which gives the rows of x that are samples here.
    """
    token = _REPLICA.set(replica)
    try:
        yield
    finally:
        _REPLICA.reset(token)


def samples_everywhere(values):
    """The number of samples on all replicas.

    Args:
        values: `(samples here,)`.

    Returns:
        A scalar in the dtype of `values`.
    """
    return ops.sum(gather_replicas(ops.ones_like(values)))
