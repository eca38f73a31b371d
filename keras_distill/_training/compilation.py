"""What XLA compiles of a step, and on which device the teacher runs."""

import contextlib
import warnings

import tensorflow as tf

from keras_distill._distribute.task_loss import exchanging
from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.masks import masks_by_place
from keras_distill._keras.masks import with_masks


def takes_over_compilation(distiller):
    """Turns off Keras's own compilation.

    Returns:
        Whether XLA compiles the networks, as Keras resolved `jit_compile`.
    """
    wanted = distiller.jit_compile
    distiller.jit_compile = False
    return wanted and _can_compile_teacher(distiller)


def _can_compile_teacher(distiller):
    """Whether XLA compiles the teacher; warns if not."""
    run_teacher = distiller._networks().run_teacher
    teacher = run_teacher and run_teacher.teacher
    unsupported = [
        layer.name
        for layer in ([] if teacher is None else flatten_layers(teacher))
        if not layer.supports_jit
    ]
    if unsupported:
        warnings.warn(
            f"jit_compile is False here: the teacher '{teacher.name}' has "
            f"layers that XLA cannot compile, {unsupported}.",
            stacklevel=4,
        )
    return not unsupported


def networks_of_step(distiller, function):
    """Compiles the networks' part of the step with XLA, if that is wanted.

    Views and the update stay outside: XLA makes neither faster, and compiles
    neither keras-cv's layers nor the sum over replicas. If replicas exchange
    something in the forward pass, only the teacher is compiled.

    Args:
        distiller: The `Distiller`.
        function: A function without arguments. The tensors of the step that it
            uses become inputs of the compiled function.
    """
    names = _exchanges(distiller)
    if names and distiller._compiles_networks:
        warnings.warn(
            "jit_compile=True: of the networks only a teacher is compiled "
            f"here. XLA cannot compile what {names} exchange between replicas "
            "(synchronized=True, cross_replica=True, the positions that a mask "
            "leaves).",
            stacklevel=2,
        )
        return function
    return _compiled(distiller, function)


def teacher_of_step(distiller, function):
    """Runs the teacher first if it is compiled by itself.

    That is so if it is on another device than the student, as XLA compiles for
    one device; or if the rest of the networks cannot be compiled.

    Args:
        distiller: The `Distiller`.
        function: A function without arguments that runs the teacher.

    Returns:
        A function without arguments that returns the teacher's outputs.
    """
    run_teacher = distiller._networks().run_teacher
    if run_teacher is not None and run_teacher.is_spread():
        # XLA compiles for one device.
        outputs = function()
        return lambda: outputs
    device = distiller._networks().teacher_device()
    by_itself = distiller._compiles_networks and _exchanges(distiller)
    if device is None and not by_itself:
        return function
    with tf.device(device) if device else contextlib.nullcontext():
        outputs = _compiled(distiller, function)()
    return lambda: outputs


def _compiled(distiller, function):
    if not distiller._compiles_networks or tf.executing_eagerly():
        return function
    if not _can_compile_teacher(distiller):  # One that was set later.
        return function

    def with_its_masks():
        outputs = function()
        return outputs, masks_by_place(outputs)

    compiled = tf.function(with_its_masks, jit_compile=True, autograph=False)
    return lambda: with_masks(*compiled())


def _exchanges(distiller):
    """Names of what replicas exchange before they have the gradient."""
    if distiller.distribute_strategy.num_replicas_in_sync == 1:
        return []
    if hasattr(distiller, "_members"):
        return sum(map(_exchanges, distiller._members.values()), [])
    layers = [
        layer.name
        for layer in flatten_layers(distiller)
        if getattr(layer, "synchronized", False)
        or getattr(layer, "cross_replica", False)
    ]
    return layers + exchanging(distiller)
