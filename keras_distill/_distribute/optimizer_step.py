"""One step of the optimizer with the gradient of the global batch.

Three things that Keras's optimizers do on each replica depend on the gradient
of all samples, or on a decision of all replicas:

- They clip gradients, and check whether a float16 gradient is finite, before
  they add them up. Here the gradients are added up first.
- They decide in a `tf.cond` whether to accumulate or to update. Replicas
  cannot meet inside of it, as an update needs. Here the decision is made once
  for all replicas.
- They decide alike whether to overwrite weights with their moving average.
"""

import tensorflow as tf

from keras_distill._keras.optimizers import accumulators
from keras_distill._keras.optimizers import optimizers_in
from keras_distill._keras.optimizers import overwrite_with_average
from keras_distill._keras.optimizers import steps_taken
from keras_distill._keras.optimizers import update
from keras_distill._keras.optimizers import update_average
from keras_distill._keras.optimizers import updates_intercepted


def apply_gradients(optimizer, gradients, variables):
    """Takes one step of the optimizer.

    Args:
        optimizer: A Keras optimizer, with loss scaling or without.
        gradients: The gradients of this replica: a list of tensors,
            `IndexedSlices` or `None`. Their sum over replicas is the gradient.
        variables: The variables that they belong to.
    """
    if not tf.distribute.has_strategy():
        optimizer.apply_gradients(zip(gradients, variables))
        return
    gradients = _summed(gradients)
    with updates_intercepted(optimizers_in(optimizer), _decided_together):
        optimizer.apply_gradients(zip(gradients, variables))


def _summed(gradients):
    """Sums gradients over the replicas."""
    known = [g for g in gradients if g is not None]
    if known:
        context = tf.distribute.get_replica_context()
        known = context.all_reduce(tf.distribute.ReduceOp.SUM, known)
    known = iter(known)
    return [None if g is None else next(known) for g in gradients]


def _decided_together(optimizer, method, gradients, variables):
    """Does what `method(gradients, variables)` does on one device."""
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    if not optimizer.gradient_accumulation_steps and not overwrites:
        return method(gradients, variables)
    if optimizer.gradient_accumulation_steps:
        _accumulate(optimizer, gradients, variables)
    else:
        update(optimizer, gradients, variables)
    if optimizer.use_ema:
        update_average(optimizer)
    if overwrites:
        _overwrite(optimizer)


def _accumulate(optimizer, gradients, variables):
    """Updates in every n-th step, with the mean gradient since the last."""
    n = optimizer.gradient_accumulation_steps
    sums = accumulators(optimizer, variables)

    def update_replica(gradients):
        mean = [
            (tf.convert_to_tensor(gradient) + before) / n
            for gradient, before in zip(gradients, sums)
        ]
        update(optimizer, mean, variables)

    def on_all_replicas(strategy, gradients):
        def update_all():
            strategy.extended.call_for_each_replica(
                update_replica, args=(gradients,)
            )
            for total in sums:
                strategy.extended.update(total, _clear, group=False)

        def wait():
            for total, gradient in zip(sums, gradients):
                strategy.extended.update(
                    total, _add, args=(gradient,), group=False
                )

        tf.cond(_is_nth(steps_taken(optimizer), n), update_all, wait)

    tf.distribute.get_replica_context().merge_call(
        on_all_replicas, args=(gradients,)
    )


def _overwrite(optimizer):
    """Overwrites the weights with their average, in every n-th update."""

    def on_all_replicas(strategy):
        n = optimizer.ema_overwrite_frequency
        tf.cond(
            # `iterations` counts updates only, unlike `steps_taken`.
            _is_nth(optimizer.iterations, n),
            lambda: overwrite_with_average(optimizer),
            lambda: None,
        )

    tf.distribute.get_replica_context().merge_call(on_all_replicas)


def _is_nth(steps_before, n):
    return (tf.convert_to_tensor(steps_before) + 1) % n == 0


def _clear(variable):
    variable.assign(tf.zeros_like(variable))


def _add(variable, value):
    variable.assign_add(tf.convert_to_tensor(value))
