"""One step of the optimizer with the gradient of the global batch.

Keras's optimizers clip each replica's gradient before they add them up, and
look at the first replica's alone to see whether a float16 gradient is finite.
Neither is what one device does. Nor can they accumulate on several replicas:
they decide in a `tf.cond` whether to update, where replicas cannot meet. Here
the gradients are added up first, once, and the decision is made where all
replicas are one.
"""

import keras
import tensorflow as tf

from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.optimizers import optimizers_in

KERAS_OWN = keras.optimizers.Optimizer._backend_apply_gradients


def apply_gradients(optimizer, gradients, variables):
    """
    Args:
        optimizer: A Keras optimizer, with loss scaling or without.
        gradients: Of this replica: a list of tensors, `IndexedSlices` or
            `None`. Their sum over replicas is the gradient.
        variables: What they belong to.
    """
    if not tf.distribute.has_strategy():
        optimizer.apply_gradients(zip(gradients, variables))
        return
    parts = optimizers_in(optimizer)
    gradients = summed(gradients)
    with (
        # Loss scaling goes on in other threads.
        intercepted(
            parts, "_all_reduce_sum_gradients", as_given, all_threads=True
        ),
        intercepted(
            parts, "_backend_apply_gradients", updated, all_threads=True
        ),
    ):
        optimizer.apply_gradients(zip(gradients, variables))


def summed(gradients):
    """Over the replicas."""
    known = [g for g in gradients if g is not None]
    if known:
        context = tf.distribute.get_replica_context()
        known = context.all_reduce(tf.distribute.ReduceOp.SUM, known)
    known = iter(known)
    return [None if g is None else next(known) for g in gradients]


def as_given(optimizer, method, gradients_and_variables):
    return list(gradients_and_variables)


def updated(optimizer, method, gradients, variables):
    """`optimizer._backend_apply_gradients` of gradients that are summed: what
    happens in some steps only is decided where all replicas are one."""
    if type(optimizer)._backend_apply_gradients is not KERAS_OWN:
        return method(gradients, variables)
    if optimizer.gradient_accumulation_steps:
        accumulate(optimizer, gradients, variables)
    else:
        step(optimizer, gradients, variables)
    if optimizer.use_ema:
        average(optimizer)


def step(optimizer, gradients, variables):
    gradients = optimizer._clip_gradients(gradients)
    optimizer._apply_weight_decay(variables)
    optimizer._backend_update_step(
        gradients, variables, optimizer.learning_rate
    )


def accumulate(optimizer, gradients, variables):
    """In every n-th step, `step` with the mean since the last time."""
    steps = optimizer.gradient_accumulation_steps
    sums = [
        optimizer._accumulated_gradients[optimizer._get_variable_index(v)].value
        for v in variables
    ]

    def step_of_replica(gradients):
        gradients = [
            (tf.convert_to_tensor(gradient) + before) / steps
            for gradient, before in zip(gradients, sums)
        ]
        step(optimizer, gradients, variables)

    def on_all_replicas(strategy, gradients):
        def update():
            strategy.extended.call_for_each_replica(
                step_of_replica, args=(gradients,)
            )
            for total in sums:
                strategy.extended.update(total, clear, group=False)

        def wait():
            for total, gradient in zip(sums, gradients):
                strategy.extended.update(
                    total, add, args=(gradient,), group=False
                )

        tf.cond(is_nth(optimizer._iterations, steps), update, wait)

    tf.distribute.get_replica_context().merge_call(
        on_all_replicas, args=(gradients,)
    )


def average(optimizer):
    """The moving average of the weights, and in every n-th step its value for
    theirs."""
    variables = optimizer._trainable_variables
    optimizer._update_model_variables_moving_average(variables)
    if not optimizer.ema_overwrite_frequency:
        return

    def on_all_replicas(strategy):
        def overwrite():
            optimizer._overwrite_model_variables_with_average_value(variables)

        tf.cond(
            # Of the steps that update, unlike `_iterations`.
            is_nth(optimizer.iterations, optimizer.ema_overwrite_frequency),
            overwrite,
            lambda: None,
        )

    tf.distribute.get_replica_context().merge_call(on_all_replicas)


def is_nth(steps_before, n):
    return (tf.convert_to_tensor(steps_before) + 1) % n == 0


def clear(variable):
    variable.assign(tf.zeros_like(variable))


def add(variable, more):
    variable.assign_add(tf.convert_to_tensor(more))
