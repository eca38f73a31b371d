"""The tasks of a student whose output is a dict {task: logits}.

    L = sum_t w_t (alpha_t L_D,t + (1 - alpha_t) L_S,t) + alpha L_D + R

`L_D,t` are the distillation losses given for the task t, `L_S,t` is its loss
of `compile`, and `L_D` are the losses given for no task, such as a `Hint` on
the layers that all tasks share. `alpha_t` is alpha, 1 for a task without
labels and 0 for one without distillation losses. If no task has losses of its
own, `L_D` teaches all of them, and every `alpha_t` is alpha.
"""

import keras

from keras_distill._keras.heads import last_layers
from keras_distill._keras.heads import output_keys
from keras_distill._keras.untracked import Untracked
from keras_distill.losses.structures import as_list
from keras_distill.taps.paths import find_layer


def tasks_of(student, losses, loss=None):
    """Returns the names of a student's tasks; `None` if it has one output.

    Args:
        student: A `keras.Model`.
        losses: A dict name -> distillation loss.
        loss: What `compile` gets. A subclassed student shows its outputs only
            on data: its tasks are those that have a loss.
    """
    names = {each.task for each in losses.values() if each.task is not None}
    if names and isinstance(loss, dict):
        names |= set(loss)
    return output_keys(student) or sorted(names) or None


class Tasks:
    """What `compile` knows of the tasks of a `Distiller`.

    Args:
        distiller: The `Distiller`.
        names: The names of the tasks.
        losses: A dict task -> compiled loss of this output, or `None`.
        weights: A dict task -> `w_t`.
        balance: A layer of `balance.py`, or `None`: the weights are fixed.
    """

    def __init__(self, distiller, names, losses, weights, balance=None):
        self.distiller = distiller
        self.names = names
        self.losses = losses
        self.weights = weights
        self.balance = balance
        self._one_weight = {True: False, False: False}
        self.taught: dict = {}
        for name, loss in distiller.distillation_losses.items():
            if loss.task is not None:
                self.taught.setdefault(loss.task, []).append(name)

    def note_weights(self, sample_weight):
        """Remembers whether there is one weight per sample for all outputs.

        Keras hands such weights of arrays on as a dict.

        Returns:
            Whether that is new, for training or for evaluation.
        """
        one = sample_weight is not None
        one = one and not keras.tree.is_nested(sample_weight)
        evaluating = self.distiller._evaluating
        new = self._one_weight[evaluating] != one
        self._one_weight[evaluating] = one
        return new

    def weight_of_teaching(self, sample_weight, task):
        """The weights of a task that are not about its labels, or `None`.

        Weights of each output weigh its labels: where there is none, the
        teacher teaches alone. One weight per sample weighs everything.
        """
        one = self._one_weight[self.distiller._evaluating]
        if keras.tree.is_nested(sample_weight) and not one:
            return None
        return weight_of(sample_weight, task, self.names)

    def log_names(self):
        """Names of what `terms` and `student_losses` add to the logs."""
        names = [f"{task}_loss" for task in self.names]
        if self.taught or self.balance is not None:
            names += [f"{task}_objective" for task in self.names]
        if self.balance is not None:
            names += [f"{task}_weight" for task in self.names]
        return [*names, *(f"{task}_agreement" for task in self.names)]

    def has_teacher(self, task):
        """Whether a distillation loss is for a task or looks at its output."""
        if task in self.taught:
            return True
        student, names = self.distiller.student, []
        for loss in self.distiller.distillation_losses.values():
            if loss.student_layer_name is None and loss.task is None:
                return True  # It looks at all outputs.
            names += as_list(loss.student_layer_name)
        layers = last_layers(student, task)
        return any(
            find_layer(student, name, "student")[0] is layer
            for name in names
            for layer in layers
            if name is not None
        )

    def check_taught(self, meant):
        """Raises for a task that nothing trains.

        Args:
            meant: The tasks whose loss is explicitly `None`.
        """
        for task in self.names:
            if not (
                self.losses[task] or task in meant or self.has_teacher(task)
            ):
                raise ValueError(
                    f"The task '{task}' has no teacher and no labels, so "
                    "nothing trains it. Give it a loss of labels, compile("
                    f"loss={{'{task}': ...}}), or of a teacher, "
                    f"distillation_losses={{'{task}': ...}}. If that is what "
                    f"you want, say so: compile(loss={{'{task}': None}})."
                )

    def student_losses(self, y, output, sample_weight, replica):
        """Computes `L_S,t`: a dict, without tasks that have no labels."""
        from keras_distill._distribute.task_loss import loss_of_output

        losses = {}
        for task, loss in self.losses.items():
            labels = label_of(y, task, self.names)
            if loss is not None and labels is not None:
                weight = weight_of(sample_weight, task, self.names)
                losses[task] = loss_of_output(
                    loss,
                    loss_of_task(self.distiller, task),
                    labels,
                    output[task],
                    weight,
                    replica,
                )
        return losses

    def weighted(self, losses):
        """Returns `sum_t w_t L_t`, `None` for no task.

        The fixed weights count only: a sum with weights that move would say
        nothing about training.
        """
        if not losses:
            return None
        return sum(self.weights[task] * losses[task] for task in losses)

    def terms(self, student_losses, terms):
        """Combines the losses of all tasks.

        Args:
            student_losses: A dict task -> `L_S,t`.
            terms: A dict with each `<name>_loss` of the distillation losses.

        Returns:
            What to log, with the whole objective as `"loss"`.
        """
        from keras_distill._distribute.task_loss import number

        scales = self.distiller.distillation_loss_weights
        objective = self.distiller.objective

        def total(names):
            return sum(
                (scales[n] * number(terms[f"{n}_loss"]) for n in names),
                number(0.0),
            )

        shared = [
            name
            for name, loss in self.distiller.distillation_losses.items()
            if loss.task is None
        ]
        tasks = {}
        for task in self.names:
            of_labels = student_losses.get(task)
            if task in self.taught:
                tasks[task] = total(self.taught[task])
                if of_labels is not None:
                    tasks[task] = objective(of_labels, tasks[task])
            elif of_labels is not None and self.taught:
                tasks[task] = of_labels
            elif of_labels is not None:
                tasks[task] = objective(of_labels, number(0.0))
        logs = {f"{task}_loss": student_losses[task] for task in student_losses}
        logs |= {f"{task}_objective": tasks[task] for task in tasks}
        if self.balance is None:
            loss = self.weighted(tasks)
        else:
            loss, weights = self.balance.combine(tasks)
            logs |= {f"{task}_weight": weights[task] for task in weights}
        if shared:
            of_shared = objective(None, total(shared))
            loss = of_shared if loss is None else loss + of_shared
        return {**logs, "loss": loss}


def by_task(structure, names, argument):
    """Returns one value per task: a dict.

    Args:
        structure: A dict, a list in the order of `names`, or one value for
            all tasks. A task that it does not name has `None`.
        names: The names of the tasks.
        argument: What the user calls it, for messages.
    """
    if isinstance(structure, dict):
        unknown = sorted(set(structure) - set(names))
        if unknown:
            raise ValueError(
                f"{argument} has the keys {unknown}, but the student's outputs "
                f"are {list(names)}."
            )
        return {name: structure.get(name) for name in names}
    if isinstance(structure, (list, tuple)):
        if len(structure) != len(names):
            raise ValueError(
                f"{argument} has {len(structure)} entries, but the student has "
                f"{len(names)} outputs, {list(names)}. Give a dict with these "
                "keys."
            )
        return dict(zip(names, structure))
    return dict.fromkeys(names, structure)


def loss_of_task(distiller, task):
    """What `compile` was given for a task, or `None`."""
    return by_task(distiller.loss, distiller.output_names, "loss")[task]


def label_of(y, task, names):
    """The labels of a task, or `None`."""
    return None if y is None else by_task(y, names, "y")[task]


def weight_of(sample_weight, task, names):
    """The sample weights of a task, or `None`."""
    return by_task(sample_weight, names, "sample_weight")[task]


def completed(distiller, y, sample_weight):
    """Returns labels and weights with `None` for the tasks they leave out.

    Keras wants weights of the same tasks as the labels, and gives one weight
    per sample to the tasks of the labels only.
    """
    tasks = distiller._tasks()
    if tasks is None:
        return y, sample_weight
    if isinstance(y, dict):
        y = by_task(y, tasks.names, "y")
    if isinstance(sample_weight, dict):
        sample_weight = by_task(sample_weight, tasks.names, "sample_weight")
    return y, sample_weight


class TaskMetrics(keras.metrics.Metric):
    """The compiled metrics of every task, as one metric.

    A task without labels has no results.

    Args:
        metrics: A dict task -> compiled metrics of this output.
        distiller: The `Distiller`.
    """

    def __init__(self, metrics, distiller):
        super().__init__(name="compile_metrics")
        self._compiled_of_task = Untracked(metrics)
        self._held_distiller = Untracked(distiller)
        self._labelled = {True: [], False: []}

    def _compiled(self):
        return self._compiled_of_task.value

    def _distiller(self):
        return self._held_distiller.value

    @property
    def built(self):
        return all(m.built for m in self._compiled().values())

    @property
    def variables(self):
        return [v for m in self._compiled().values() for v in m.variables]

    def update_state(self, y, output, sample_weight=None):
        names = self._distiller()._tasks().names
        labelled = [
            t for t in self._compiled() if label_of(y, t, names) is not None
        ]
        self._labelled[self._distiller()._evaluating] = labelled
        for task in labelled:
            self._compiled()[task].update_state(
                label_of(y, task, names),
                output[task],
                weight_of(sample_weight, task, names),
            )

    def reset_state(self):
        for metrics in self._compiled().values():
            metrics.reset_state()

    def result(self):
        return {
            f"{task}_{name}": value
            for task in self._labelled[self._distiller()._evaluating]
            for name, value in self._compiled()[task].result().items()
        }
