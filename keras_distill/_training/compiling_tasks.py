"""`compile` for a student whose output is a dict {task: logits}."""

import keras

from keras_distill._arguments import checked_number
from keras_distill._training.balance import balance_of
from keras_distill._training.tasks import TaskMetrics
from keras_distill._training.tasks import Tasks
from keras_distill._training.tasks import by_task
from keras_distill._training.tasks import tasks_of
from keras_distill.losses.keras_losses import RESERVED


def is_by_task(distiller, loss, loss_weights):
    """Whether an argument of `compile` or a distillation loss is by task.

    Raises:
        ValueError: If `loss_weights` names a way to balance tasks and there
            are none.
    """
    losses = distiller.distillation_losses
    given = any(x.task is not None for x in losses.values())
    named = isinstance(loss_weights, str)
    if tasks_of(distiller.student, losses, loss) is not None:
        return given or named or isinstance(loss, dict)
    if named:
        raise ValueError(
            f"loss_weights={loss_weights!r} balances the tasks of a student "
            f"whose output is a dict. The student '{distiller.student.name}' "
            "has one output. Leave loss_weights out."
        )
    return False


def of_keras(distiller, loss, loss_weights):
    """Returns the `loss_weights` that Keras gets: none for tasks."""
    by_task = is_by_task(distiller, loss, loss_weights)
    return None if by_task else loss_weights


def compiled_tasks(distiller, loss, loss_weights, metrics, weighted_metrics):
    """Replaces Keras's loss and metrics of all outputs by those of each task.

    Keras's own need labels for every output.

    Returns:
        The `Tasks`; `None` if nothing is by task.
    """
    distiller._replace_layer("_task_weights", None)
    if not is_by_task(distiller, loss, loss_weights):
        return None
    names = tasks_of(distiller.student, distiller.distillation_losses, loss)
    for name in set(RESERVED) & set(names):
        raise ValueError(
            f"The student has an output '{name}', but '{name}_loss' belongs to "
            "the logs. Give the output another key."
        )
    meant = loss if isinstance(loss, dict) else {}
    losses = by_task(loss, names, "compile(loss=...)")
    of_task = {
        task: None if given is None else distiller._compiled_loss_of(given)
        for task, given in losses.items()
    }
    with distiller.distribute_strategy.scope():
        balance = balance_of(loss_weights, names)
    if distiller._networks().deployment is not None:
        raise ValueError(
            f"The loss '{distiller._networks().deployment.loss.name}' decides "
            "what ships and needs a student with one output, but this one has "
            f"{names}."
        )
    # Keras saves its weights, and the optimizer trains them.
    distiller._replace_layer("_task_weights", balance)
    tasks = Tasks(
        distiller,
        names,
        of_task,
        _weights(None if balance else loss_weights, names),
        balance,
    )
    tasks.check_taught([task for task in meant if meant[task] is None])
    compiled = {}
    metrics = by_task(metrics, names, "compile(metrics=...)")
    weighted = by_task(weighted_metrics, names, "compile(weighted_metrics=...)")
    for task in names:
        if metrics[task] or weighted[task]:
            compiled[task] = distiller._compiled_metrics_of(
                _listed(metrics[task]), _listed(weighted[task])
            )
    distiller._compiled_loss = None
    distiller._compiled_metrics = (
        TaskMetrics(compiled, distiller) if compiled else None
    )
    return tasks


def _listed(metrics):
    return None if metrics is None else keras.tree.flatten(metrics)


def _weights(loss_weights, names):
    weights = by_task(loss_weights, names, "compile(loss_weights=...)")
    return {
        task: 1.0
        if weight is None
        else checked_number(f"loss_weights['{task}']", weight, "[0, inf)")
        for task, weight in weights.items()
    }
