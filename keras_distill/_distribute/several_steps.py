"""When training steps run: several in one call, and none without a batch."""

import functools

import tensorflow as tf


def after_its_batch(train_step):
    """Lets nothing of a step run before its batch is there.

    A dataset of unknown length ends within a step. Without a batch the step
    fails, but what does not depend on one would run: the optimizer's count of
    steps, weight decay, moving averages, seeds.

    Args:
        train_step: A function of a model and a batch.
    """

    @functools.wraps(train_step)
    def step(model, data):
        tensors = tf.nest.flatten(data, expand_composites=True)
        tensors = [tensor for tensor in tensors if tensor is not None]
        with tf.control_dependencies(tensors):
            return train_step(model, data)

    return step


def several_steps_at_once(model, function, steps):
    """Makes a function of several steps of Keras's function of one step.

    Keras's own puts each step into a `tf.cond`, in which the updates of
    replicas do not find their inputs (keras-team/keras#19246). Here only the
    question for the next batch is in one.

    Args:
        model: The `keras.Model`.
        function: Keras's function. On a list of one batch it takes one step.
        steps: The number of steps per call.
    """

    def several(iterator):
        def more(step, batch, logs):
            return tf.logical_and(step < steps, batch.has_value())

        def one(step, batch, logs):
            logs = function([batch.get_value()])
            following = tf.cond(
                step + 1 < steps, iterator.get_next_as_optional, lambda: batch
            )
            return step + 1, following, logs

        logs = function([iterator.get_next()])
        first = (1, iterator.get_next_as_optional(), logs)
        return tf.while_loop(more, one, first)[-1]

    if not model.run_eagerly:
        several = tf.function(several, autograph=False, reduce_retracing=True)

    def run(iterator):
        if isinstance(iterator, tf.distribute.DistributedIterator):
            return several(iterator)
        return function(iterator)

    return run
