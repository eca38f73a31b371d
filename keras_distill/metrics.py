"""Numbers that compare a student with its teacher."""

import keras
from keras import ops

from keras_distill.joint_classifier import JointClassifierGap
from keras_distill.losses.heads import final_activation

__all__ = [
    "Agreement",
    "FusedMeans",
    "JointClassifierGap",
    "decision_threshold",
    "same_decision",
]


def decision_threshold(model):
    """Where a head of one unit says yes: 0 for logits, 0.5 for a sigmoid."""
    return 0.5 if final_activation(model) == "sigmoid" else 0.0


def same_decision(
    teacher_output, student_output, teacher_threshold=0.0, student_threshold=0.0
):
    """Where both networks decide alike.

    Args:
        teacher_output: `(..., classes)` logits or probabilities.
        student_output: The same shape.
        teacher_threshold: Used with one class only, see `decision_threshold`.
        student_threshold: The same for the student.

    Returns:
        Booleans of shape `(...,)`: equal argmax; with one class, both above
        or both below their threshold.
    """
    if teacher_output.shape[-1] == 1:
        return ops.equal(
            ops.squeeze(teacher_output > teacher_threshold, -1),
            ops.squeeze(student_output > student_threshold, -1),
        )
    return ops.equal(
        ops.argmax(teacher_output, axis=-1), ops.argmax(student_output, axis=-1)
    )


@keras.saving.register_keras_serializable(package="keras_distill")
class Agreement(keras.metrics.Mean):
    """Share of samples for which teacher and student predict the same class.

        agreement = (1 / n) * sum_i [argmax teacher(x_i) == argmax student(x_i)]

    `kd.Distiller` reports it in training at no cost. In `evaluate` the teacher
    does not run, unless this metric asks for it:
    `distiller.compile(..., metrics=["accuracy", kd.metrics.Agreement()])`.

    Args:
        name: Name in the logs. Defaults to `"agreement"`.
        dtype: dtype of the state.

    Input shapes:
        `update_state(teacher_output, student_output, sample_weight=None)`:
        `(batch, ..., classes)`, logits or probabilities.

    Reference: Stanton et al. 2021, "Does Knowledge Distillation Really Work?"
    (average top-1 agreement).
    """

    compares_with_teacher = True

    def __init__(self, name="agreement", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.thresholds = (0.0, 0.0)

    def update_state(self, teacher_output, student_output, sample_weight=None):
        same = same_decision(
            ops.convert_to_tensor(teacher_output),
            ops.convert_to_tensor(student_output),
            *self.thresholds,
        )
        super().update_state(ops.cast(same, self.dtype), sample_weight)


class FusedMeans(keras.metrics.Metric):
    """Running means of several numbers in one variable.

    A `Mean` metric per number costs two variable updates per number and step,
    a third of the fixed cost of a step. Here one vector is updated once.

    Args:
        names: The numbers, in the order of the logs.
        name: Name of the metric.
    """

    def __init__(self, names, name):
        super().__init__(name=name, dtype="float32")
        self.names = list(names)
        # Only what was ever recorded is reported: there is no student_loss
        # without labels.
        self.recorded = []
        self.totals = self.add_variable(
            shape=(len(self.names) + 1,), initializer="zeros", name="totals"
        )

    def update_state(self, values, count):
        """Adds means over `count` samples: a dict name -> scalar."""
        self.recorded = [name for name in self.names if name in values]
        row = [
            ops.cast(values.get(name, 0.0), "float32") for name in self.names
        ]
        row = ops.stack([*row, ops.ones((), "float32")])
        self.totals.assign_add(row * ops.cast(count, "float32"))

    def result(self):
        totals = ops.convert_to_tensor(self.totals)
        means = ops.unstack(ops.divide_no_nan(totals, totals[-1]))
        return {
            name: mean
            for name, mean in zip(self.names, means)
            if name in self.recorded
        }
