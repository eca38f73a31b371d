"""How the step is executed: what XLA compiles, and how many steps at once."""

import contextlib
import warnings

import tensorflow as tf

from keras_distill._distribute.task_loss import exchanging
from keras_distill._keras.layers import flatten_layers


def takes_over_compilation(distiller):
    """Whether XLA compiles the networks, as Keras resolved `jit_compile`;
    Keras itself then compiles nothing."""
    wanted = distiller.jit_compile
    distiller.jit_compile = False
    teacher = distiller._networks().teacher
    if wanted and teacher is not None:
        unsupported = [
            layer.name
            for layer in flatten_layers(teacher)
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
        for layer in flatten_layers(distiller)
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
    if names and distiller._compiles_networks:
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
    if not distiller._compiles_networks or tf.executing_eagerly():
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
    device = distiller._networks().teacher_device()
    apart = distiller._compiles_networks and exchanges(distiller)
    if device is None and not apart:
        return function
    with tf.device(device) if device else contextlib.nullcontext():
        seen = _compiled(distiller, function)()
    return lambda: seen
