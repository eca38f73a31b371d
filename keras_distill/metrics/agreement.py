"""How often a student decides as its teacher does."""

from typing import Any

import keras
from keras import ops

from keras_distill._keras.heads import final_activation


def decision_threshold(model, output=None):
    """Returns where a head of one unit says yes: 0 for logits, 0.5 for a
    sigmoid.

    Args:
        model: A `keras.Model`.
        output: The key of an output, if these are a dict.
    """
    return 0.5 if final_activation(model, output) == "sigmoid" else 0.0


def same_decision(
    teacher_output, student_output, teacher_threshold=0.0, student_threshold=0.0
):
    """Returns where both networks decide alike.

    Args:
        teacher_output: `(..., classes)` logits or probabilities.
        student_output: The same shape.
        teacher_threshold: For one class only, see `decision_threshold`.
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

        agreement = sum_i w_i [argmax teacher_i == argmax student_i] / sum_i w_i

    `i` counts the samples, or the positions of a sequence or map. `w` is the
    sample weight, 1 without one. It is 0 where a mask of either network leaves
    a position out, and for void labels (`ignore_class` of the task loss).

    `kd.Distiller` reports it in training at no cost, if the networks choose
    classes. In `evaluate` the teacher does not run, unless this metric asks
    for it: `distiller.compile(..., metrics=["accuracy",
    kd.metrics.Agreement()])`. Then it is computed for any two outputs with the
    same classes and positions.

    Args:
        name: The name in the logs. Defaults to `"agreement"`.
        dtype: The dtype of the state.

    Input shapes:
        `update_state(teacher_output, student_output, sample_weight=None)`:
        `(batch, ..., classes)`, logits or probabilities.

    Reference: Stanton et al. 2021, "Does Knowledge Distillation Really Work?"
    (average top-1 agreement).
    """

    compares_with_teacher = True

    def __init__(self, name: str = "agreement", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.thresholds = (0.0, 0.0)

    def update_state(self, teacher_output, student_output, sample_weight=None):
        same = same_decision(
            ops.convert_to_tensor(teacher_output),
            ops.convert_to_tensor(student_output),
            *self.thresholds,
        )
        super().update_state(ops.cast(same, self.dtype), sample_weight)
