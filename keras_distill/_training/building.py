"""Building networks and losses on the first batch.

Networks that are subclassed or not built show their shapes only on data, and
the losses between them need these shapes.
"""

import keras
import numpy as np

from keras_distill._data.batch_fields import OF_TEACHERS
from keras_distill._data.for_network import for_network
from keras_distill._data.sparse import as_tensor
from keras_distill._data.sparse import first_rows
from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.layers import left_as_found
from keras_distill._keras.precision import run_first
from keras_distill._keras.symbolic_pass import with_free_batch
from keras_distill._shapes import is_one_shape
from keras_distill._training.outputs import ForwardOutputs
from keras_distill.losses.values import look_like_probabilities
from keras_distill.taps.taps import Shape
from keras_distill.teachers.cache.origin import teacher_threshold


def run_teacher(distiller, x, cached, y=None):
    """Runs the teacher on the first batch.

    Args:
        distiller: The `Distiller`.
        x: Inputs, a structure of tensors.
        cached: The teacher's outputs that the data carries, or `None`.
        y: The labels, or `None`.

    Returns:
        `ForwardOutputs` of NumPy arrays, `None` without a teacher.
    """
    networks = distiller._networks()
    if networks.teacher is None and cached is None:
        return None

    whole = cached is not None and OF_TEACHERS not in cached
    combinations = getattr(networks.teacher, "combinations", {}).values()
    if any(combination.needs_labels for combination in combinations):
        y = distiller.views.evaluation_labels(_as_tensors(y))
    else:
        y = None  # Sparse labels cannot be blended, and need not be.

    def run(own_precision):
        def teacher_pass(x):
            return networks.teacher_pass(x, cached, own_precision, y=y)

        if distiller.run_eagerly or networks.teacher_batch_size is not None:
            return _as_numpy(teacher_pass(x))
        # Eagerly, a Functional model holds the outputs of all its layers until
        # its end. That is more memory than the whole training step takes.
        return _as_numpy(once_in_graph(teacher_pass, x))

    with distiller.distribute_strategy.scope():
        x = distiller.views.teacher_evaluation(x)
        if whole:
            return _as_numpy(networks.teacher_pass(x, cached))
        with left_as_found(networks.teacher):
            return run_first(
                run,
                networks.teacher_dtype,
                networks.teacher.name,
                lambda outputs: [
                    outputs.taps_for(networks.losses[name])
                    for name in networks.needs_teacher
                ],
            )


def build_networks(distiller, x, teacher, cached):
    """Builds the student and, with the shapes now known, the losses.

    Args:
        distiller: The `Distiller`.
        x: Inputs, a structure of tensors.
        teacher: What `run_teacher` returned.
        cached: The teacher's outputs that the data carries, or `None`.
    """
    networks, student = distiller._networks(), distiller.student
    x = for_network(student, distiller.views.evaluation(x), "student")
    with distiller.distribute_strategy.scope():
        build_student(student, x)
        distiller.built = True
        if networks.bound:
            _compare_positions(networks, x, teacher)
            return
        thresholds = (
            _teacher_threshold(networks, teacher, cached),
            _student_threshold(distiller),
        )
        shapes = ForwardOutputs(
            *networks.student_taps.shapes_on(with_free_batch(x))
        )
        if teacher is not None:
            teacher = keras.tree.map_structure(
                lambda a: None if a is None else Shape((None, *a.shape[1:])),
                teacher,
            )
        networks.bind(teacher, shapes, thresholds)
    distiller.views.set_output_shape(networks.student_output_shape)


def build_student(student, x):
    """Builds a student that shows its shapes only on data.

    Args:
        student: A `keras.Model`.
        x: Its input, the first batch.
    """
    if student.built:
        return
    stateful = [
        layer
        for layer in flatten_layers(student)
        if getattr(layer, "stateful", False)
    ]
    if not stateful:  # The states of recurrent layers have a batch size.
        x = keras.tree.map_structure(lambda a: first_rows(a, 1), x)
    with left_as_found(student):
        student(x)
    for layer in stateful:
        layer.reset_state()


def _compare_positions(networks, x, teacher):
    """Compares sizes that the networks show only on data."""
    shape = networks.student_output_shape
    if teacher is None or not is_one_shape(shape) or None not in shape[1:]:
        return
    student = ForwardOutputs(
        *networks.student_taps.shapes_on(with_free_batch(x))
    )
    for loss in networks.losses.values():
        if loss.needs_teacher:
            loss.validate_shapes(
                keras.tree.map_structure(
                    lambda a: Shape(a.shape), teacher.taps_for(loss)
                ),
                student.select(loss.student_layer_name, loss.task),
            )
    if networks.comparable:
        networks.compare_positions(
            Shape(np.shape(teacher.output)), student.output
        )


def _student_threshold(distiller):
    """0.5 if the task loss takes probabilities, for a student that does not
    show its last layer; else `None`."""
    takes_logits = getattr(distiller.loss, "from_logits", None)
    shown = getattr(distiller.student, "outputs", None)
    return 0.5 if takes_logits is False and shown is None else None


def _teacher_threshold(networks, outputs, cached):
    """0.5 if the one unit of a teacher that does not show its last layer gives
    probabilities; else `None`. A cache knows it."""
    threshold = teacher_threshold(cached)
    if threshold is not None or outputs is None:
        return threshold
    values = outputs.output
    shown = getattr(networks.teacher, "outputs", None)
    said = [
        getattr(loss, "teacher_probabilities", None)
        for loss in networks.losses.values()
    ]
    if shown is not None or False in said or keras.tree.is_nested(values):
        return None
    one_unit = values.shape[-1] == 1
    if one_unit and look_like_probabilities(values, "sigmoid"):
        return 0.5
    return None


def once_in_graph(function, x):
    """Returns `function(x)`, computed as a graph that XLA does not compile."""
    import tensorflow as tf

    graph = tf.function(function, autograph=False, jit_compile=False)
    # The concrete function: TensorFlow warns of functions traced per call.
    return graph.get_concrete_function(x)(x)


def _as_tensors(structure):
    return keras.tree.map_structure(
        lambda a: a if a is None else as_tensor(a), structure
    )


def _as_numpy(structure):
    return keras.tree.map_structure(
        lambda a: a if a is None else keras.ops.convert_to_numpy(a), structure
    )
