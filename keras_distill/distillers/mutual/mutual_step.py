"""One step of mutual learning. TensorFlow lives here.

views -> every student once, with taps
      -> for each student: L from its own pass and the passes of its peers
      -> gradients to it and its connectors -> its update
      -> alternating only: another pass of it, for its peers

XLA compiles all between views and updates; nothing if these alternate.
"""

import tensorflow as tf

from keras_distill._data.batch_fields import plain_batch
from keras_distill._data.batch_fields import unpacked_batch
from keras_distill._distribute import replicas
from keras_distill._distribute.several_steps import after_its_batch
from keras_distill._distribute.task_loss import task_loss
from keras_distill._training import step
from keras_distill._training.compilation import networks_of_step
from keras_distill._training.evaluation import check_results
from keras_distill._training.evaluation import distills_in_evaluation
from keras_distill.distillers.mutual.member import stopped
from keras_distill.losses.ops.gathering import gathering
from keras_distill.views.base import View


@after_its_batch
def train_step(cohort, data):
    batch, replica = replicas.pad_empty_replica(unpacked_batch(data))
    sample, y, weight = batch
    view = cohort._view_schedule().training(sample, y, weight)
    members = cohort._members
    same_learning_rate(members)

    alternating = cohort.update == "alternating"

    def forward_and_backward():
        tapes, own, shown, gradients, logs = {}, {}, {}, {}, {}
        states = {name: member.states() for name, member in members.items()}
        with (
            replica.statistics_of_real_samples(cohort),
            gathering(None if replica.share is None else replica),
        ):
            for name, member in members.items():
                member._networks().check_bound()
                tapes[name] = tf.GradientTape()
                with tapes[name]:
                    own[name] = member._networks().student_pass(
                        view.student, training=True
                    )
                shown[name] = stopped(own[name])
            last = name
            for name, member in members.items():
                with tapes[name]:
                    terms = step.loss_terms(
                        member,
                        member.peers(shown),
                        own[name],
                        view,
                        sample.sample_index,
                        replica,
                    )
                    terms = replica.zero_if_empty(terms)
                    loss = replica.scaled(terms["loss"])
                    loss = member.optimizer.scale_loss(loss)
                gradients[name] = step.gradients_of(
                    member, tapes[name], loss, replica
                )
                logs.update(member.log(terms))
                if alternating:
                    step.update(member, gradients[name])
                    if name != last:
                        shown[name] = member.shown_again(
                            view.student, states[name]
                        )
        return logs, gradients, {name: own[name].output for name in own}

    if alternating:  # The updates are between the passes.
        logs, _, outputs = forward_and_backward()
    else:
        compiled = networks_of_step(cohort, forward_and_backward)
        logs, gradients, outputs = compiled()
        for name, member in members.items():
            step.update(member, gradients[name])

    logs["loss"] = sum(logs[f"{name}_loss"] for name in members)
    cohort._current_logs().training.update_state(logs, replica.count)
    y, weight, outputs = replica.real((view.y, view.sample_weight, outputs))
    return replicas.reducible(cohort._update_metrics(y, outputs, weight))


def test_step(cohort, data):
    (x, y, weight), replica = replicas.pad_empty_replica(plain_batch(data))
    y = cohort.views.evaluation_labels(y)
    logs = {}
    if distills_in_evaluation(cohort, y is not None):
        outputs, logs = _pure_distillation(cohort, x, y, weight, replica)
    else:
        outputs = cohort(x, training=False)
    y, weight, outputs = replica.real((y, weight, outputs))
    for name, member in cohort._members.items():
        loss = task_loss(member, y, outputs[name], weight, replica)
        if loss is not None:
            loss = step.with_additional_losses(member, loss)
            logs[f"{name}_loss"] = loss
    losses = [logs.get(f"{name}_loss") for name in cohort._members]
    if None not in losses:
        logs["loss"] = sum(losses)
    logs = replica.zero_if_empty(logs)
    cohort._current_logs().evaluation.update_state(logs, replica.count)
    results = cohort._update_metrics(y, outputs, weight)
    check_results(cohort, results, y is not None)
    return replicas.reducible(results)


def _pure_distillation(cohort, x, y, weight, replica):
    """The outputs of all students, and what each learns from its peers."""
    x, members = cohort.views.evaluation(x), cohort._members
    own = {}
    for name, member in members.items():
        member._networks().check_bound()
        own[name] = member._networks().student_pass(x, training=False)
    logs = {}
    for name, member in members.items():
        terms = step.evaluation_terms(
            member,
            member.peers(own),
            own[name],
            View(x, None, y, weight),
            replica,
        )
        logs.update(member.log(terms))
    return {name: student.output for name, student in own.items()}, logs


def same_learning_rate(members):
    """Gives all optimizers the learning rate of the first one, which callbacks
    change. Schedules advance by themselves, with each optimizer's own steps."""
    first, *others = [member.optimizer for member in members.values()]
    # A `MultiOptimizer` has no rate of its own.
    rate = getattr(first, "learning_rate", None)
    if rate is None or isinstance(rate, tf.Tensor):
        return
    for optimizer in others:
        optimizer.learning_rate.assign(rate)
