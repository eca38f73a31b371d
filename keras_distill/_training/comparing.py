"""Which outputs of a teacher and a student can be compared."""

from typing import Any
from typing import NamedTuple

import keras

from keras_distill._keras.heads import layer_activation
from keras_distill._keras.layers import flatten_layers
from keras_distill._shapes import sizes_agree
from keras_distill.metrics.agreement import decision_threshold
from keras_distill.taps.paths import find_layer


class ComparableTask(NamedTuple):
    """What answers a task as the student does.

    Attributes:
        loss: The distillation loss whose tap of the teacher it is; `None` for
            the teacher's output of this name.
        thresholds: Where a head of one unit says yes, of teacher and student.
    """

    loss: Any
    thresholds: tuple[float, float]


def same_scores(teacher_shape, student_shape):
    """Whether two outputs have the same classes and positions, as far as their
    shapes tell."""
    nested = keras.tree.is_nested
    if not teacher_shape or nested(teacher_shape) or nested(student_shape):
        return False
    teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
    return (
        len(student_shape) >= 2
        and student_shape[-1] is not None
        and teacher_shape[-1] == student_shape[-1]
        and sizes_agree(teacher_shape[1:], student_shape[1:])
    )


def check_channels_last(name, loss, shapes, networks):
    """Raises for maps whose channels come first: losses read the last axis.

    Args:
        name: The name of the loss.
        loss: The distillation loss.
        shapes: The shapes of its taps, of teacher and student.
        networks: Both networks; `None` without a teacher.
    """
    taps = loss.teacher_layer_name, loss.student_layer_name
    for network, shape, tap in zip(networks, shapes, taps):
        shape = list(shape.values()) if isinstance(shape, dict) else [shape]
        is_map = tap is not None and any(len(s or ()) == 4 for s in shape)
        if network is None or not is_map:
            continue
        first = [
            layer.name
            for layer in flatten_layers(network)
            if getattr(layer, "data_format", None) == "channels_first"
        ]
        if first:
            raise ValueError(
                f"The loss '{name}' looks at maps of '{network.name}', whose "
                f"layers have the channels first ({', '.join(first[:3])}). "
                "Losses take (batch, height, width, channels): build the "
                "network with data_format='channels_last'."
            )


def maps_classes(losses):
    """Whether a loss on the student's output numbers its classes otherwise
    than the teacher's, so that equal numbers may be other classes.

    Args:
        losses: A dict of distillation losses.
    """
    return any(
        getattr(loss, "class_map", None) is not None
        and loss.student_layer_name is None
        for loss in losses.values()
    )


def comparable_tasks(networks, teacher, student_shape):
    """Finds the teacher's answer for each task of a student.

    It is what the first distillation loss of the task on class scores looks
    at, or else the teacher's output of this name.

    Args:
        networks: A `TeacherStudent`.
        teacher: `ForwardOutputs` of shapes, or `None`.
        student_shape: The shapes of the student's output.

    Returns:
        A dict task -> `ComparableTask`, without tasks that the teacher does
        not answer with the same classes and positions.
    """
    if teacher is None or not isinstance(student_shape, dict):
        return {}
    found = {}
    for task, shape in student_shape.items():
        given = next(
            (
                loss
                for loss in networks.losses.values()
                if loss.task == task
                and loss.compares_classes
                and loss.student_layer_name is None
            ),
            None,
        )
        if getattr(given, "class_map", None) is not None:
            continue  # The same numbers may be other classes.
        if given is not None:
            answer = teacher.taps_for(given)
        elif isinstance(teacher.output, dict):
            answer = teacher.output.get(task)
        else:
            answer = None
        if same_scores(answer, shape):
            thresholds = (
                _threshold_of_teacher(networks.teacher, given, task),
                decision_threshold(networks.student, task),
            )
            found[task] = ComparableTask(given, thresholds)
    return found


def _threshold_of_teacher(teacher, loss, task):
    if loss is None or loss.teacher_layer_name is None:
        return decision_threshold(teacher, task)
    if teacher is None:  # The data carries its outputs.
        return 0.0
    if loss.teacher_layer_name in getattr(teacher, "names", ()):
        return decision_threshold(teacher, loss.teacher_layer_name)
    layer = find_layer(teacher, loss.teacher_layer_name, "teacher")
    return 0.5 if layer_activation(*layer) == "sigmoid" else 0.0


def answers(networks, teacher):
    """Returns the teacher's part of what is compared with the student's output.

    Args:
        networks: A `TeacherStudent`.
        teacher: The teacher's `ForwardOutputs`, or `None`.

    Returns:
        The teacher's output. For a student of several tasks, a dict task ->
        its answer.
    """
    if teacher is None or not networks.comparable_tasks:
        return teacher and teacher.output
    return {
        task: (
            teacher.output[task]
            if comparable.loss is None
            else teacher.taps_for(comparable.loss)
        )
        for task, comparable in networks.comparable_tasks.items()
    }


def check_task(name, loss, teacher, student):
    """Raises if the networks have no output for the task of a loss.

    Args:
        name: Name of the loss.
        loss: A distillation loss.
        teacher: `ForwardOutputs` of shapes, or `None`.
        student: `ForwardOutputs` of shapes.
    """
    if loss.task is None:
        return
    for role, outputs in (("student", student), ("teacher", teacher)):
        if outputs is None or getattr(loss, f"{role}_layer_name") is not None:
            continue
        if role == "teacher" and not loss.needs_teacher:
            continue
        several = isinstance(outputs.output, dict)
        missing = several and loss.task not in outputs.output
        if missing or (role == "student" and not several):
            has = sorted(outputs.output) if several else "a single output"
            raise ValueError(
                f"The loss '{name}' is for the task '{loss.task}', but the "
                f"{role} has {has}. Name what it looks at, {role}_layer_name="
                "..., or give the losses by the names of these outputs."
            )
