"""One step of distillation. TensorFlow lives here.

    views -> teacher (inference, outside the tape) -> student once, with its taps
          -> L = alpha * sum_k w_k L_k + (1 - alpha) * L_S + R
          -> gradients to student and connectors -> update -> logs

Why it is not `Model.train_step` with another `compute_loss`: the losses need
taps of the same forward pass that gives the prediction, and under tf.distribute
every term must be scaled alike. Each term is first a mean over the samples of
its replica; then all are multiplied by (samples here / samples everywhere), so
that the sum over replicas, which the optimizer takes, is the mean over the
global batch: with an uneven last batch, and with replicas that got nothing.
"""

from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf


def train_step(distiller, data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    x, y, sample_weight, replica = share_of_replica(
        distiller, x, y, sample_weight
    )
    view = distiller.views.training(x, y, sample_weight)
    pair = distiller.pair()
    teacher = pair.teacher_pass(view.teacher)

    with tf.GradientTape() as tape:
        student = pair.student_pass(view.student, training=True)
        terms = loss_terms(distiller, teacher, student, view)
        terms = replica.without_nan(terms)
        loss = replica.scaled(terms["loss"])
        loss = distiller.optimizer.scale_loss(loss)

    variables = distiller.trainable_variables
    gradients = replica.without_nan(tape.gradient(loss, variables))
    distiller.optimizer.apply_gradients(zip(gradients, variables))

    if teacher is not None and pair.comparable:
        same = tf.cast(pair.agreement(teacher.output, student.output), tf.float32)
        terms["agreement"] = replica.without_nan(tf.reduce_mean(same))
    distiller.logs().training.update_state(terms, replica.count)
    return distiller.update_metrics(
        view.y,
        student.output,
        view.sample_weight,
        teacher_output=None if teacher is None else teacher.output,
    )


def test_step(distiller, data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    output = distiller(x, training=False)
    count = tf.shape(tf.nest.flatten(x)[0])[0]
    loss = task_loss(distiller, y, output, sample_weight)
    additional = additional_losses(distiller)
    if loss is not None:
        loss = loss if additional is None else loss + additional
        loss = tf.where(count > 0, loss, tf.zeros_like(loss))
        distiller.logs().evaluation.update_state({"loss": loss}, count)
    teacher_output = None
    if distiller.logs().of_teacher:
        x = distiller.views.teacher_evaluation(x)
        teacher_output = distiller.pair().teacher_pass(x).output
    return distiller.update_metrics(
        y, output, sample_weight, teacher_output=teacher_output
    )


def loss_terms(distiller, teacher, student, view):
    """All numbers of the objective: a dict with `loss` and its parts.

    Every number is a mean over the samples of this replica.
    """
    terms = {}
    student_loss = task_loss(
        distiller, view.y, student.output, view.sample_weight
    )
    if student_loss is not None:
        terms["student_loss"] = student_loss

    weight = with_mask(view.sample_weight, student.output)
    total = number(0.0)
    for name, loss in distiller.distillation_losses.items():
        value = loss.compute_loss(
            teacher.of(loss.teacher_layer_name) if teacher else None,
            student.of(loss.student_layer_name),
            y=view.y,
            sample_weight=weight,
        )
        terms[f"{name}_loss"] = value
        scale = distiller.distillation_loss_weights[name]
        total += scale * number(value)
    terms["distillation_loss"] = total

    alpha = distiller.current_alpha()
    if student_loss is None or distiller.alpha == 1.0:
        loss = alpha * total
    else:
        loss = alpha * total + (1.0 - alpha) * student_loss
    additional = additional_losses(distiller)
    terms["loss"] = loss if additional is None else loss + additional
    return terms


def number(x):
    """A loss term in float32, in float64 under floatx float64."""
    wide = keras.config.floatx() == "float64"
    return tf.cast(x, tf.float64 if wide else tf.float32)


def task_loss(distiller, y, output, sample_weight):
    """L_S, a mean over this replica's samples; `None` without labels."""
    if y is None or distiller.loss is None:
        return None
    loss = distiller._compile_loss(y, output, sample_weight)
    if loss is None:
        return None
    # Keras divides by the number of replicas; `Replica.scaled` does it here.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return number(loss) * replicas


def additional_losses(distiller):
    """Regularizers and `add_loss` of student and connectors, or `None`."""
    losses = distiller.losses
    if not losses:
        return None
    return tf.add_n([number(loss) for loss in losses])


def with_mask(sample_weight, output):
    """Folds the mask of a sequence into the weights, as Keras's losses do:
    the mean is then over the positions that count."""
    # What Keras's own losses read; there is no public accessor.
    mask = getattr(output, "_keras_mask", None)
    if mask is None:
        return sample_weight
    mask = tf.cast(mask, tf.float32)
    size = tf.cast(tf.size(mask), tf.float32)
    weight = mask * tf.math.divide_no_nan(size, tf.reduce_sum(mask))
    if sample_weight is None:
        return weight
    sample_weight = tf.cast(sample_weight, tf.float32)
    missing = len(mask.shape) - len(sample_weight.shape)
    shape = tf.concat([tf.shape(sample_weight), [1] * missing], axis=0)
    return weight * tf.reshape(sample_weight, shape)


class Replica(NamedTuple):
    """This replica's part of the global batch."""

    count: Any  # samples here
    share: Any  # samples here / samples everywhere; None on one device

    def scaled(self, loss):
        if self.share is None:
            return loss
        return loss * tf.cast(self.share, loss.dtype)

    def without_nan(self, structure):
        """Zeros if this replica got no samples: means over nothing are NaN."""
        if self.share is None:
            return structure

        def zero_if_empty(x):
            if isinstance(x, tf.IndexedSlices):
                values = zero_if_empty(x.values)
                return tf.IndexedSlices(values, x.indices, x.dense_shape)
            return tf.where(self.count > 0, x, tf.zeros_like(x))

        if isinstance(structure, list):
            return [x if x is None else zero_if_empty(x) for x in structure]
        if isinstance(structure, dict):
            return {k: zero_if_empty(v) for k, v in structure.items()}
        return zero_if_empty(structure)


def share_of_replica(distiller, x, y, sample_weight):
    """-> the batch and its `Replica`.

    A replica without samples runs on an empty batch and adds nothing. Only
    where a BatchNormalization that is not synchronized would turn the mean of
    nothing into its statistics, one sample of zeros stands in; it has share 0.
    """
    count = tf.shape(tf.nest.flatten(x)[0])[0]
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return x, y, sample_weight, Replica(count, None)
    context = tf.distribute.get_replica_context()
    everywhere = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
    share = tf.cast(count, tf.float32) / tf.cast(everywhere, tf.float32)
    if distiller.has_local_batch_norm:
        rows = tf.where(count > 0, 0, 1)

        def with_stand_in(tensor):
            if tensor is None:
                return None
            shape = tf.concat([[rows], tf.shape(tensor)[1:]], axis=0)
            stand_in = tf.zeros(shape, tensor.dtype)
            joined = tf.concat([tensor, stand_in], axis=0)
            joined.set_shape([None, *tensor.shape[1:]])
            return joined

        x, y, sample_weight = keras.tree.map_structure(
            with_stand_in, (x, y, sample_weight)
        )
    return x, y, sample_weight, Replica(count, share)
