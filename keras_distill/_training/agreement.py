"""How often student and teacher decide alike, among the positions that count.

Positions without a weight do not count: those that a mask of either network
leaves out, void labels (the `ignore_class` of the task loss) and samples of
weight 0.
"""

import keras
import tensorflow as tf

from keras_distill._keras.heads import final_activation
from keras_distill._keras.masks import mask_of
from keras_distill._shapes import sizes_agree
from keras_distill._training.fused_means import WeightedMean
from keras_distill._training.loss_names import is_for_classes
from keras_distill._training.tasks import label_of
from keras_distill._training.tasks import loss_of_task
from keras_distill._training.void import not_void
from keras_distill._training.void import the_one
from keras_distill.losses.ops.reductions import fitting_weight


def agreements(distiller, y, sample_weight, teacher_output, student_output):
    """Returns the agreement on every output that chooses classes.

    Args:
        distiller: The `Distiller`.
        y: Labels, or `None`.
        sample_weight: Weights, or `None`.
        teacher_output: What `comparing.answers` returned.
        student_output: The student's output.

    Returns:
        A dict with `"agreement"`, or with `"<task>_agreement"` for each task.
    """
    networks = distiller._networks()
    if teacher_output is None:
        return {}
    if networks.comparable and chooses_classes(distiller):
        compared = y, sample_weight, teacher_output, student_output
        return {"agreement": agreement(distiller, *compared)}
    return {
        f"{task}_agreement": agreement(
            distiller,
            *of_task(distiller, task, y, sample_weight),
            teacher_output[task],
            student_output[task],
            task,
        )
        for task in networks.comparable_tasks
        if task_chooses_classes(distiller, task)
    }


def of_task(distiller, task, y, sample_weight):
    """Returns the labels of a task, and the weights that count its positions.

    Weights of each output weigh its labels, not the decisions.
    """
    tasks = distiller._tasks()
    if tasks is not None:
        sample_weight = tasks.weight_of_teaching(sample_weight, task)
    elif keras.tree.is_nested(sample_weight):
        sample_weight = None
    return label_of(y, task, distiller.output_names), sample_weight


def task_chooses_classes(distiller, task):
    """As `chooses_classes`, of one task."""
    networks = distiller._networks()
    loss = _task_losses(distiller, task)
    return (
        networks.comparable_tasks[task].loss is not None
        or any(map(is_for_classes, loss))
        or "softmax"
        in (
            final_activation(networks.student, task),
            final_activation(networks.teacher, task),
        )
    )


def _task_losses(distiller, task):
    """The task losses of `compile`: those of one task, or all of them."""
    losses = distiller.loss if task is None else loss_of_task(distiller, task)
    return [loss for loss in keras.tree.flatten(losses) if loss]


def chooses_classes(distiller):
    """Whether what the student predicts is known to be a class.

    A task loss for classes, a distillation loss on class scores, or a softmax
    or sigmoid at the end of a network says so.
    """
    losses = distiller.distillation_losses.values()
    if any(loss.compares_classes for loss in losses):
        return True
    task_losses = _task_losses(distiller, None)
    if any(map(is_for_classes, task_losses)):
        return True
    networks = distiller._networks()
    heads = {
        final_activation(model)
        for model in (networks.teacher, networks.student)
    }
    # An autoencoder ends in a sigmoid too.
    return "softmax" in heads or ("sigmoid" in heads and not task_losses)


def agreement(
    distiller, y, sample_weight, teacher_output, student_output, task=None
):
    """Returns the agreement of one batch as a `WeightedMean`.

    Args:
        distiller: The `Distiller`; its networks are `comparable`.
        y: Labels, or `None`.
        sample_weight: Weights, or `None`.
        teacher_output: `(batch, ..., classes)`.
        student_output: The same shape. If it has other sizes, which only the
            data shows, nothing is counted.
        task: The name of the task, if there are several.
    """

    def counted():
        weight = weight_of_positions(
            distiller, y, sample_weight, teacher_output, student_output, task
        )
        same = distiller._networks().agreement(
            teacher_output, student_output, task
        )
        total = tf.reduce_sum(weight)
        right = tf.reduce_sum(weight * tf.cast(same, weight.dtype))
        return tf.math.divide_no_nan(right, total), total

    if _same_positions_statically(teacher_output, student_output):
        return WeightedMean(*counted())
    return WeightedMean(
        *tf.cond(
            _same_positions(teacher_output, student_output),
            counted,
            lambda: (tf.constant(0.0), tf.constant(0.0)),
        )
    )


def compare(distiller, metric, y, sample_weight, teacher_output, output):
    """Updates a metric that compares the networks."""
    task = getattr(metric, "task", None)
    if task is not None:
        y, sample_weight = of_task(distiller, task, y, sample_weight)
        teacher_output = (teacher_output or {}).get(task)
        output = output[task]
    if not hasattr(metric, "thresholds"):
        metric.update_state(teacher_output, output)
        return
    distiller._networks().check_comparable(metric, teacher_output, output)
    if not _same_positions_statically(teacher_output, output):
        tf.debugging.assert_equal(
            tf.shape(teacher_output)[:-1],
            tf.shape(output)[:-1],
            f"The metric '{metric.name}' compares decisions at equal "
            "positions, but the outputs of teacher and student differ in size.",
        )
    metric.thresholds = distiller._networks().thresholds_of(task)
    weight = weight_of_positions(
        distiller, y, sample_weight, teacher_output, output, task
    )
    metric.update_state(teacher_output, output, sample_weight=weight)


def weight_of_positions(
    distiller, y, sample_weight, teacher_output, student_output, task=None
):
    """Returns the weight of every decision, float32 `(batch, ...)`."""
    outputs = teacher_output, student_output
    shape = tf.shape(outputs[-1])[:-1]
    weight = tf.ones(shape)
    weight.set_shape(outputs[-1].shape[:-1])
    masks = [mask_of(output) for output in outputs]
    losses = _task_losses(distiller, task)
    weights = [
        *masks,
        the_one(sample_weight),
        not_void(losses, y, shape),
    ]
    for other in weights:
        if other is not None:
            weight *= fitting_weight(other, weight)
    return weight


def _same_positions_statically(*outputs):
    one, other = (output.shape[1:-1] for output in outputs)
    return None not in (*one, *other) and sizes_agree(one, other)


def _same_positions(*outputs):
    one, other = (tf.shape(output)[:-1] for output in outputs)
    return tf.reduce_all(tf.equal(one, other))
