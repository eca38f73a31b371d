"""How the step is executed: what XLA compiles, and how many steps at once."""

import warnings

import tensorflow as tf


def checked_steps(distiller, steps_per_execution):
    """-> how many steps Keras can run at once here."""
    replicas = distiller.distribute_strategy.num_replicas_in_sync
    if replicas > 1 and steps_per_execution != 1:
        # It would put them in a tf.cond, where replicas cannot add up their
        # gradients (keras-team/keras#19246).
        warnings.warn(
            f"steps_per_execution={steps_per_execution} is 1 here: Keras "
            "cannot run several steps in one execution on several replicas. "
            "The steps are the same, one at a time.",
            stacklevel=3,
        )
        return 1
    return steps_per_execution


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
    return [
        layer.name
        for layer in distiller._flatten_layers()
        if getattr(layer, "synchronized", False)
        or getattr(layer, "cross_replica", False)
    ]


def networks_of_step(distiller, function):
    """The part of the step that XLA compiles, compiled where it is to be.

    Views and the update stay outside: XLA makes neither faster, and cannot
    compile keras-cv's layers, nor the sum over replicas.

    Args:
        distiller: The `Distiller`.
        function: Without arguments; what it uses of the step becomes inputs.
    """
    if not distiller.compiles_networks or tf.executing_eagerly():
        return function
    names = exchanges(distiller)
    if names:
        raise ValueError(
            f"jit_compile=True: XLA cannot compile what {names} exchange "
            "between replicas (synchronized=True, cross_replica=True). Compile "
            "with jit_compile=False."
        )
    return tf.function(function, jit_compile=True, autograph=False)


def teacher_of_step(distiller, function):
    """The teacher's part of the networks; where it lives on another device
    than the student, it runs there and then, compiled for itself: XLA compiles
    for one device.

    Args:
        distiller: The `Distiller`.
        function: Without arguments, runs the teacher.

    Returns:
        A function without arguments that gives the same.
    """
    device = distiller.pair().teacher_device()
    if device is None:
        return function
    with tf.device(device):
        seen = networks_of_step(distiller, function)()
    return lambda: seen


def in_graph(function):
    """The function as a graph that XLA does not compile."""
    return tf.function(function, autograph=False, jit_compile=False)
