"""The labels, weights and mask that a distillation loss gets: those of the
output or layer that it looks at. Void positions have the weight 0."""

import warnings

import keras
import tensorflow as tf

from keras_distill._keras.masks import mask_of_tap
from keras_distill._training.tasks import label_of
from keras_distill._training.tasks import loss_of_task
from keras_distill._training.tasks import weight_of
from keras_distill._training.void import not_void
from keras_distill.losses.ops.reductions import fitting_weight


def labels_and_weight(distiller, name, student, view, replica, teacher=None):
    """Selects the labels and weights for one distillation loss.

    Args:
        distiller: The `Distiller`.
        name: Name of the loss.
        student: What `TeacherStudent.student_pass` returned.
        view: The batch, a `View`.
        replica: The `Replica` that has these samples.
        teacher: The teacher's `ForwardOutputs`, `None` without one. Its mask
            counts where the student has none.

    Returns:
        Labels and weights, each `None` if there are none.

    If there are weights for each output, they weigh the labels of a task, and
    of the losses given for it those that read labels. If the loss is given for
    no task and looks at none of the outputs, its samples have no weights. A
    warning says so.
    """
    loss = distiller.distillation_losses[name]
    tap = student.select(loss.student_layer_name, loss.task)
    mask = mask_of_tap(tap)
    if mask is None and teacher is not None and loss.needs_teacher:
        mask = _fitting(mask_of_tap(teacher.taps_for(loss)), tap)
    y, weight = view.y, view.sample_weight
    if loss.task is not None:
        tasks = distiller._tasks()
        y = label_of(y, loss.task, tasks.names)
        if loss.needs_labels:
            # Where the weight is 0, the label may be any.
            weight = weight_of(weight, loss.task, tasks.names)
        else:
            weight = tasks.weight_of_teaching(weight, loss.task)
        task_loss, output = loss_of_task(distiller, loss.task), tap
        if isinstance(student.output, dict):
            output = student.output[loss.task]
        return y, _counted(weight, mask, task_loss, y, output, replica)
    outputs = keras.tree.flatten(student.output)
    output, task_loss = outputs[0], distiller.loss
    if len(outputs) > 1:
        if keras.tree.is_nested(y) or keras.tree.is_nested(task_loss):
            task_loss = None
        place = [i for i, output in enumerate(outputs) if output is tap]
        if keras.tree.is_nested(weight) and not place:
            warnings.warn(
                f"sample_weight has a part for each output, and the loss "
                f"'{name}' looks at {loss.student_layer_name!r}, which is none "
                "of them: it weighs all samples alike. To weigh it too, pass "
                "one weight per sample for all outputs.",
                stacklevel=2,
            )
            weight = None
        if place:
            names = distiller.output_names
            if isinstance(student.output, dict):
                names = sorted(student.output)
            output = outputs[place[0]]
            y = _part(y, place[0], names)
            weight = _part(weight, place[0], names)
            task_loss = _part(distiller.loss, place[0], names)
    return y, _counted(weight, mask, task_loss, y, output, replica)


def _counted(weight, mask, task_loss, y, output, replica):
    """Weights of a tap, 0 where it is masked or the label is void."""
    valid = not_void(task_loss, y, tf.shape(output)[:-1])
    weight = _of_known_size(weight, output)
    return _with_mask(weight, _both(mask, valid), replica)


def _of_known_size(weight, output):
    """Weights per position of an output, with the sizes that it shows. Losses
    of smaller maps average them, for which they must know theirs."""
    shape = getattr(weight, "shape", ())
    if len(shape) != len(output.shape) - 1 or None not in shape[1:]:
        return weight
    weight = tf.broadcast_to(weight, tf.shape(output)[:-1])
    return tf.ensure_shape(weight, output.shape[:-1])


def _both(mask, valid):
    """Joins two masks; of two that do not fit, the first counts."""
    if mask is None or valid is None:
        return valid if mask is None else mask
    if len(mask.shape) != len(valid.shape):
        return mask
    return tf.cast(mask, "bool") & valid


def _part(structure, place, names):
    if isinstance(structure, dict):
        return structure.get(names[place])
    if isinstance(structure, (list, tuple)):
        return structure[place]
    return structure


def _fitting(mask, tap):
    """A mask of another network, if it is one of the positions of a tap."""
    shape = keras.tree.flatten(tap)[0].shape
    if mask is None or len(mask.shape) > len(shape):
        return None
    sizes = zip(mask.shape[1:], shape[1:])
    fits = all(m in (None, 1) or s in (None, m) for m, s in sizes)
    return mask if fits else None


def _with_mask(sample_weight, mask, replica):
    """Multiplies weights by the mask of a sequence, as Keras's losses do: the
    mean is then over the positions that count."""
    if mask is None:
        return sample_weight
    mask = tf.cast(mask, tf.float32)
    size = tf.cast(tf.size(mask), tf.float32)
    size, counted = replica.summed([size, tf.reduce_sum(mask)])
    weight = mask * tf.math.divide_no_nan(size, counted)
    if sample_weight is None:
        return weight
    if len(weight.shape) == 4 and len(sample_weight.shape) == 2:
        # The weight of a position is that of the query, see `Taps`.
        sample_weight = sample_weight[:, None, :, None]
    return weight * fitting_weight(sample_weight, weight)
