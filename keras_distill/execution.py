"""How the step is executed: what XLA compiles, and how many steps at once."""

import contextlib
import warnings

import tensorflow as tf

from keras_distill.task_loss import exchanging


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


def takes_over_compilation(distiller):
    """Whether XLA compiles the networks, as Keras resolved `jit_compile`;
    Keras itself then compiles nothing."""
    wanted = distiller.jit_compile
    distiller.jit_compile = False
    teacher = distiller.pair().teacher
    if wanted and teacher is not None:
        unsupported = [
            layer.name
            for layer in teacher._flatten_layers()
            if not layer.supports_jit
        ]
        if unsupported:
            warnings.warn(
                f"jit_compile is False here: the teacher '{teacher.name}' has "
                f"layers that XLA cannot compile, {unsupported}.",
                stacklevel=3,
            )
            return False
    return wanted


def exchanges(distiller):
    """Names of what replicas exchange before the gradient is there."""
    if distiller.distribute_strategy.num_replicas_in_sync == 1:
        return []
    of_layers = [
        layer.name
        for layer in distiller._flatten_layers()
        if getattr(layer, "synchronized", False)
        or getattr(layer, "cross_replica", False)
    ]
    return of_layers + exchanging(distiller)


def networks_of_step(distiller, function):
    """The part of the step that XLA compiles, compiled where it is to be.

    Views and the update stay outside: XLA makes neither faster, and cannot
    compile keras-cv's layers, nor the sum over replicas. Where replicas have
    something to exchange before that, the teacher alone is compiled.

    Args:
        distiller: The `Distiller`.
        function: Without arguments; what it uses of the step becomes inputs.
    """
    names = exchanges(distiller)
    if names and distiller.compiles_networks:
        warnings.warn(
            "jit_compile=True: of the networks only the teacher is compiled "
            f"here. XLA cannot compile what {names} exchange between replicas "
            "(synchronized=True, cross_replica=True, the positions that a mask "
            "leaves).",
            stacklevel=2,
        )
        return function
    return _compiled(distiller, function)


def _compiled(distiller, function):
    if not distiller.compiles_networks or tf.executing_eagerly():
        return function
    return tf.function(function, jit_compile=True, autograph=False)


def teacher_of_step(distiller, function):
    """The teacher's part of the networks, where it is compiled for itself: on
    another device than the student, as XLA compiles for one, or beside what
    cannot be compiled.

    Args:
        distiller: The `Distiller`.
        function: Without arguments, runs the teacher.

    Returns:
        A function without arguments that gives the same.
    """
    device = distiller.pair().teacher_device()
    apart = distiller.compiles_networks and exchanges(distiller)
    if device is None and not apart:
        return function
    with tf.device(device) if device else contextlib.nullcontext():
        seen = _compiled(distiller, function)()
    return lambda: seen


def once_in_graph(function, *args):
    """`function(*args)` as a graph that XLA does not compile.

    Through the concrete function: of one that is called once, TensorFlow says
    after some that it is traced too often.
    """
    graph = tf.function(function, autograph=False, jit_compile=False)
    return graph.get_concrete_function(*args)(*args)
