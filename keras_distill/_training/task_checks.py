"""Labels and weights of the first batch, checked for each task."""

import keras
import numpy as np

from keras_distill._data.sources import are_arrays
from keras_distill._training.tasks import by_task
from keras_distill._training.tasks import completed


def checked_data(distiller, x, y, sample_weight):
    """Returns labels and weights as Keras takes them, see `completed`.

    Args:
        distiller: The compiled `Distiller`.
        x: The data of `fit` or `evaluate`.
        y: Its labels, or `None`.
        sample_weight: Its weights, or `None`.

    Raises:
        ValueError: For labels or weights of a task that do not fit.
    """
    check_task_weights(distiller, sample_weight)
    if are_arrays(x):
        samples = keras.tree.flatten(x)[0].shape[0]
        _check_lengths("y", y, samples)
        _check_lengths("sample_weight", sample_weight, samples)
    return completed(distiller, y, sample_weight)


def checked_validation_data(distiller, data):
    """Returns validation data with `checked_data`."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if not isinstance(y, dict):
        return data
    y, weight = checked_data(distiller, x, y, sample_weight)
    return (x, y) if weight is None else (x, y, weight)


def _check_lengths(argument, values, samples):
    # Keras's own message fails where a task has None.
    for task, value in values.items() if isinstance(values, dict) else ():
        if value is not None and len(value) != samples:
            raise ValueError(
                f"{argument}['{task}'] has {len(value)} samples, and x has "
                f"{samples}. Each task needs one entry per sample of x: where "
                "a sample has no label, give any class and the weight 0."
            )


def check_task_labels(distiller, y):
    """Raises for labels that miss a task, or a task that nothing trains.

    Args:
        distiller: The compiled `Distiller`.
        y: The labels of a batch.
    """
    tasks = distiller._tasks()
    if tasks is None:
        return
    names = tasks.names
    if not isinstance(y, (dict, list, tuple)) and len(names) > 1:
        raise ValueError(
            f"The student has the outputs {names}, so the labels must be a "
            "dict with these keys. Received: one array of shape "
            f"{np.shape(y)}."
        )
    labels = by_task(y, names, "y")
    for task in names:
        if tasks.losses[task] is not None and labels[task] is None:
            if isinstance(y, dict) and task not in y:
                raise ValueError(
                    f"The labels have no '{task}', but compile() has a loss "
                    f"for it. Received: labels for {sorted(y)}. Add the "
                    f"labels. If there are none, say so: y={{'{task}': None}}, "
                    f"or compile(loss={{'{task}': None}})."
                )
            if not tasks.has_teacher(task):
                raise ValueError(
                    f"The labels of '{task}' are None, and no distillation "
                    "loss teaches it: it has no teacher and no labels. Give "
                    f"it labels, or distillation_losses={{'{task}': ...}}."
                )
    for name, loss in distiller.distillation_losses.items():
        if loss.task is not None and loss.needs_labels:
            if labels[loss.task] is None:
                raise ValueError(
                    f"Distillation loss '{name}' needs labels, but those of "
                    f"'{loss.task}' are missing."
                )


def check_task_weights(distiller, sample_weight):
    """Raises for weights that do not fit the output of their task.

    Args:
        distiller: The compiled `Distiller`.
        sample_weight: The weights of a batch, or of all samples.
    """
    tasks = distiller._tasks()
    shapes = distiller._networks().student_output_shape
    if tasks is None or not isinstance(shapes, dict):
        return
    if not keras.tree.is_nested(sample_weight):
        return
    weights = by_task(sample_weight, tasks.names, "sample_weight")
    for task, weight in weights.items():
        if weight is None:
            continue
        positions = tuple(shapes[task])[1:-1]
        given = tuple(np.shape(weight))[1:]
        given = given[:-1] if given[-1:] == (1,) else given
        fits = len(given) <= len(positions) and all(
            b in (None, a) for a, b in zip(given, positions)
        )
        if not fits:
            expected = str(("batch", *positions)).replace("'", "")
            raise ValueError(
                f"sample_weight['{task}'] must have the shape of the output's "
                f"positions, {expected}, or of its first axes. Received: "
                f"{np.shape(weight)}."
            )


def check_compared(networks, metric, task):
    """Raises if there is nothing to compare a task with.

    Args:
        networks: A `TeacherStudent`.
        metric: The metric that compares.
        task: The name of the task.
    """
    if task not in networks.comparable_tasks:
        raise ValueError(
            f"The metric '{metric.name}' compares the task '{task}' with the "
            "teacher, which gives no answer to it with the same classes at "
            "the same positions. It answers "
            f"{sorted(networks.comparable_tasks)}. Drop the metric."
        )


def check_sparse_labels(y, shape, loss, where=""):
    """Raises for sparse labels that are no classes of an output.

    Args:
        y: Labels of a batch.
        shape: The shape of the output.
        loss: The loss of `compile` for this output.
        where: The beginning of the message.
    """
    y = np.asarray(y)
    classes = shape[-1]
    sparse = np.issubdtype(y.dtype, np.integer) and (
        y.ndim == len(shape) - 1 or (y.ndim == len(shape) and y.shape[-1] == 1)
    )
    if not sparse or not classes or classes == 1:
        return
    wrong = y[(y < 0) | (y >= classes)]
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None:
        wrong = wrong[wrong != ignored]
    if wrong.size:
        raise ValueError(
            f"{where}Labels must lie in [0, {classes - 1}]: the student has "
            f"{classes} classes. The first batch has {wrong.size} "
            f"other(s), such as {int(wrong[0])}."
        )
