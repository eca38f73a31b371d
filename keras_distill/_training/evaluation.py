"""What an evaluation measures, known before the first step."""

import keras

from keras_distill._data.batch_fields import carries_teacher_outputs
from keras_distill._data.batch_fields import number_of_parts
from keras_distill._data.batch_fields import unpacked_batch


def distills_in_evaluation(distiller, labelled):
    """Whether an evaluation computes the distillation losses.

    It does if nothing but these is trained and there is no task loss to
    compute. The teacher then runs on the data.

    Args:
        distiller: The compiled distiller.
        labelled: Whether the data has labels.
    """
    with_task_loss = labelled and _compiled(distiller).loss is not None
    return not with_task_loss and _why_not(distiller, labelled) is None


def check_validation(distiller, validation_data):
    """Raises if `fit` can measure nothing on its validation data.

    Args:
        distiller: The compiled distiller.
        validation_data: As in `fit`.
    """
    labelled = _has_labels(validation_data)
    if labelled is None or distiller._current_logs().of_teacher:
        return
    compiled = _compiled(distiller)
    with_metrics = (
        compiled.loss is not None or compiled._compiled_metrics is not None
    )
    reason = _why_not(distiller, labelled)
    cached = _cached_teachers(distiller, validation_data)
    if cached and distills_in_evaluation(distiller, labelled):
        reason = f"the teachers {cached} are cached, and it carries no outputs"
    if (labelled and with_metrics) or reason is None:
        return
    raise _nothing_measured(labelled, reason)


def check_results(distiller, results, labelled):
    """Raises if an evaluation has no result."""
    if not results:
        raise _nothing_measured(labelled, _why_not(distiller, labelled))


def _nothing_measured(labelled, reason):
    missing = "there is no task loss and no metric" if labelled else "no labels"
    return ValueError(
        f"Nothing can be measured in the evaluation: {missing}, and the "
        f"distillation losses cannot be computed, because {reason}. Give "
        "labels, with compile(loss=... or metrics=...), or do not evaluate on "
        "these data (validation_data=)."
    )


def _why_not(distiller, labelled):
    """Why the distillation losses cannot be evaluated; `None` if they can."""
    networks = distiller._networks()
    if distiller.alpha != 1.0:
        return f"they are not all that is trained (alpha={distiller.alpha})"
    if networks.needs_teacher and networks.teacher is None:
        return "there is no teacher that could run on it (teacher=...)"
    for name, loss in distiller.distillation_losses.items():
        if loss.needs_sample_index:
            return f"'{name}' knows the training samples only"
        if loss.needs_labels and not labelled:
            return f"'{name}' needs labels"
    return None


def _cached_teachers(distiller, data):
    """Those of several teachers that cannot run on data without outputs."""
    run_teacher = distiller._networks().run_teacher
    carried = carries_teacher_outputs(data)
    return [] if carried else list(getattr(run_teacher, "stored", ()))


def _compiled(distiller):
    """The model that has the loss and the metrics of `compile`."""
    members = getattr(distiller, "_members", None)
    return next(iter(members.values())) if members else distiller


def _has_labels(data):
    """Whether data have labels; `None` if that shows only in the data."""
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset):
        return number_of_parts(data) > 1
    if isinstance(data, keras.utils.PyDataset):
        _, y, _ = unpacked_batch(data[0])
        return y is not None
    if isinstance(data, (tuple, list)):
        if isinstance(data[0], (tf.data.Dataset, keras.utils.PyDataset)):
            return None  # Keras splits arrays only.
        return len(data) > 1 and data[1] is not None
    return False if hasattr(data, "shape") or isinstance(data, dict) else None
