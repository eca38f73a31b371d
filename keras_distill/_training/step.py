"""One step of distillation. TensorFlow lives here.

    views -> teacher (inference, outside the tape) -> student once, with taps
          -> L = objective(L_S, sum_k w_k L_k) + R
          -> gradients to student and connectors -> update -> logs

Why it is not `Model.train_step` with another `compute_loss`: the losses need
taps of the same forward pass that gives the prediction, and under tf.distribute
every term must be scaled alike (_distribute/replicas.py).
"""

import warnings

import keras
import tensorflow as tf

from keras_distill._data.batch_fields import outputs_of_some
from keras_distill._data.batch_fields import plain_batch
from keras_distill._data.batch_fields import unpacked_batch
from keras_distill._distribute import replicas
from keras_distill._distribute.optimizer_step import apply_gradients
from keras_distill._distribute.several_steps import after_its_batch
from keras_distill._distribute.task_loss import number
from keras_distill._distribute.task_loss import task_loss
from keras_distill._training.agreement import agreements
from keras_distill._training.comparing import answers
from keras_distill._training.compilation import networks_of_step
from keras_distill._training.compilation import teacher_of_step
from keras_distill._training.deployment import untrained_head
from keras_distill._training.evaluation import check_results
from keras_distill._training.evaluation import distills_in_evaluation
from keras_distill._training.loss_inputs import labels_and_weight
from keras_distill._training.proximal import followed_by_proximal_steps
from keras_distill.losses.ops.gathering import gathering
from keras_distill.views.base import View


@after_its_batch
def train_step(distiller, data):
    batch, replica = replicas.pad_empty_replica(unpacked_batch(data))
    sample, y, weight = batch
    view = distiller._view_schedule().training(sample, y, weight)
    networks = distiller._networks()
    networks.check_bound()
    run_teacher = teacher_of_step(
        distiller,
        lambda: networks.teacher_pass(
            view.teacher,
            sample.teacher_outputs,
            y=view.y,
            step=distiller._steps_taken,
        ),
    )

    def forward_and_backward():
        teacher = run_teacher()
        with (
            tf.GradientTape() as tape,
            replica.statistics_of_real_samples(distiller),
            gathering(None if replica.share is None else replica),
        ):
            student = networks.student_pass(view.student, training=True)
            terms = loss_terms(
                distiller, teacher, student, view, sample.sample_index, replica
            )
            terms = replica.zero_if_empty(terms)
            loss = replica.scaled(terms["loss"])
            loss = distiller.optimizer.scale_loss(loss)
        gradients = gradients_of(distiller, tape, loss, replica)
        answered = answers(networks, teacher)
        return terms, gradients, student.output, answered

    compiled = networks_of_step(distiller, forward_and_backward)
    terms, gradients, output, teacher_output = compiled()
    update(distiller, gradients)

    y, weight, output, teacher_output = replica.real(
        (view.y, view.sample_weight, output, teacher_output)
    )
    terms.update(agreements(distiller, y, weight, teacher_output, output))
    distiller._current_logs().training.update_state(terms, replica.count)
    return replicas.reducible(
        distiller._update_metrics(y, output, weight, teacher_output)
    )


def gradients_of(distiller, tape, loss, replica):
    """Returns the gradients of student and connectors, zeros on an empty
    replica."""
    variables = distiller.trainable_variables
    return replica.zero_if_empty(tape.gradient(loss, variables))


def update(distiller, gradients):
    """Takes one step of the optimizer on student and connectors."""
    variables = distiller.trainable_variables
    if not variables:
        warnings.warn(
            "Nothing is trained: no weight of the student or of a connector "
            "is trainable.",
            stacklevel=2,
        )
        return
    networks, optimizer = distiller._networks(), distiller.optimizer
    with (
        untrained_head(networks.deployment),
        networks.followed(optimizer),
        followed_by_proximal_steps(distiller, optimizer),
    ):
        apply_gradients(optimizer, gradients, variables)


def test_step(distiller, data):
    batch, replica = replicas.pad_empty_replica(unpacked_batch(data))
    sample, y, weight = batch
    y = distiller.views.evaluation_labels(y)
    networks, logs = distiller._networks(), distiller._current_logs()
    distills = distills_in_evaluation(distiller, y is not None)
    teacher, terms = None, {}
    if distills or logs.of_teacher:
        view = distiller.views.teacher_evaluation(sample.inputs)
        teacher = networks.teacher_pass(view, outputs_of_some(sample), y=y)
    if distills:
        networks.check_bound()
        view = View(distiller.views.evaluation(sample.inputs), None, y, weight)
        student = networks.student_pass(view.student, training=False)
        output = student.output
        terms = evaluation_terms(distiller, teacher, student, view, replica)
    else:
        output = distiller(sample.inputs, training=False)
    y, weight, output, teacher_output = replica.real(
        (y, weight, output, answers(networks, teacher))
    )
    tasks = distiller._tasks()
    if tasks is None:
        losses = {}
        loss = task_loss(distiller, y, output, weight, replica)
    else:
        losses = tasks.student_losses(y, output, weight, replica)
        loss = tasks.weighted(losses)
    if loss is not None:
        terms = {f"{task}_loss": losses[task] for task in losses}
        terms["loss"] = with_additional_losses(distiller, loss)
    terms = replica.zero_if_empty(terms)
    logs.evaluation.update_state(terms, replica.count)
    results = distiller._update_metrics(y, output, weight, teacher_output)
    check_results(distiller, results, y is not None)
    return replicas.reducible(results)


def predict_step(distiller, data):
    x, _, _ = plain_batch(data)
    x, replica = replicas.pad_empty_replica(x)
    return replica.real(distiller(x, training=False))


def loss_terms(distiller, teacher, student, view, sample_index, replica):
    """Computes the terms of the objective: a dict with `loss` and its parts.

    Each is a mean over the samples of this replica.
    """
    terms, tasks = {}, distiller._tasks()
    labelled = view.y, student.output, view.sample_weight, replica
    if tasks is None:
        student_loss = task_loss(distiller, *labelled)
    else:
        student_losses = tasks.student_losses(*labelled)
        student_loss = tasks.weighted(student_losses)
    if student_loss is not None:
        terms["student_loss"] = student_loss

    terms.update(
        distillation_terms(
            distiller, teacher, student, view, sample_index, replica
        )
    )
    if tasks is None:
        loss = distiller.objective(student_loss, terms["distillation_loss"])
    else:
        terms.update(tasks.terms(student_losses, terms))
        loss = terms["loss"]
    terms["loss"] = with_additional_losses(distiller, loss)
    return terms


def distillation_terms(
    distiller, teacher, student, view, sample_index, replica
):
    """Computes the distillation losses, their sum and what they log: a dict."""
    terms, total = {}, number(0.0)
    for name, loss in distiller.distillation_losses.items():
        y, weight = labels_and_weight(
            distiller, name, student, view, replica, teacher
        )
        arguments = student.shared_with(loss)
        if loss.needs_sample_index:
            arguments["sample_index"] = sample_index
        value, logs = loss.compute_loss_and_logs(
            teacher.taps_for(loss) if teacher else None,
            student.select(loss.student_layer_name, loss.task),
            y=y,
            sample_weight=weight,
            **arguments,
        )
        terms[f"{name}_loss"] = value
        terms.update({f"{name}_{key}": logs[key] for key in logs})
        scale = distiller.distillation_loss_weights[name]
        total += scale * number(value)
    terms["distillation_loss"] = total
    return terms


def evaluation_terms(distiller, teacher, student, view, replica):
    """Computes the distillation losses in evaluation, see `distillation_terms`.

    Nothing that a loss remembers changes: statistics, seeds, memories.
    """
    with (
        keras.StatelessScope(),
        replica.statistics_of_real_samples(distiller),
        gathering(None if replica.share is None else replica),
    ):
        return distillation_terms(
            distiller, teacher, student, view, None, replica
        )


def with_additional_losses(distiller, loss):
    """Adds the regularizers and `add_loss` of student and connectors."""
    losses = distiller.losses
    if not losses:
        return loss
    return loss + tf.add_n([number(loss) for loss in losses])
