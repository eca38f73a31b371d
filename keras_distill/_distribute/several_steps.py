"""Several training steps in one call of the graph."""

import tensorflow as tf


def several_steps_at_once(model, function, steps):
    """Keras's function of one step on replicas -> one of several steps.

    Keras's own puts each step in a tf.cond, from where the updates of replicas
    do not find their inputs (keras-team/keras#19246). Here only the question
    for the next batch is in one.

    Args:
        model: The `keras.Model`.
        function: What Keras made of its step; of a list of one batch it makes
            one step.
        steps: How many at once.
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
