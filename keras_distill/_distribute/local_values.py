"""What each replica and each process has for itself."""

import numpy as np
import tensorflow as tf


def local_parts(variable):
    """Returns the `tf.Variable` of each replica of this process.

    The replicas write metrics and statistics of batch normalization without
    telling each other, though TensorFlow takes the latter for equal.

    Args:
        variable: A `keras.Variable`.

    Returns:
        A tuple of `tf.Variable`s; `None` outside of a strategy.
    """
    value = variable.value
    if not isinstance(value, tf.distribute.DistributedValues):
        return None
    return value.distribute_strategy.experimental_local_results(value)


def process(strategy):
    """Returns the number of this process and how many train together.

    The chief's number is 0.
    """
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or resolver.task_type is None:
        return 0, 1
    jobs = resolver.cluster_spec().as_dict()
    tasks = [
        (kind, task)
        for kind in ("chief", "worker")
        for task in range(len(jobs.get(kind, ())))
    ]
    return tasks.index((resolver.task_type, resolver.task_id)), len(tasks)


def agreed(strategy, number):
    """Returns whether all processes hold the same number."""
    replicas = strategy.num_replicas_in_sync

    @tf.function
    def everyones():
        context = tf.distribute.get_replica_context()
        numbers = tf.one_hot(
            context.replica_id_in_sync_group, replicas, dtype=tf.int64
        ) * tf.constant(number, tf.int64)
        return context.all_reduce("SUM", numbers)

    numbers = strategy.experimental_local_results(strategy.run(everyones))[0]
    return bool(np.all(numbers.numpy() == number))
