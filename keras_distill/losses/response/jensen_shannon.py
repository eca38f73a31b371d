from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill.losses.ops.probabilities import skew_divergence
from keras_distill.losses.response.tempered import TemperedLoss


@keras.saving.register_keras_serializable(package="keras_distill")
class JensenShannon(TemperedLoss):
    """The generalized Jensen-Shannon divergence of teacher and student.

        m = beta * p + (1 - beta) * q
        l = T^2 [beta KL(p || m) + (1 - beta) KL(q || m)]
        beta = 0:   l = T^2 KL(p || q), as `SoftTargets()`
        beta = 1:   l = T^2 KL(q || p), as `SoftTargets(direction="reverse")`
        loss = sum(weight * l) / number of positions

    `p = softmax(teacher / T)`, `q = softmax(student / T)`. The second line is 0
    for `beta` 0 and 1, so these two mean its limits after a division by `beta`
    and by `1 - beta`, as in TRL. The loss is thus not continuous there: near 0
    it is `beta` times the forward KL divergence, and a small `beta` wants a
    larger learning rate or weight.

    The forward divergence spreads a student over all that the teacher finds
    possible; the reverse one holds it to what the teacher finds likely, which
    suits a student that is to write text and is too small for all of it.

    Args:
        beta: A number from 0, forward, to 1, reverse. Defaults to 0.5, the
            Jensen-Shannon divergence itself; the paper compares 0.1, 0.5 and
            0.9, and the best one depends on the task.
        temperature: T, a positive number. Defaults to 1, as in the paper.
        scale_by_temperature_squared: Multiply by T^2, as `SoftTargets` does.
            Defaults to `True`.
        teacher_probabilities: As in `SoftTargets`. Defaults to `None`.
        activation: `"softmax"`, or `"sigmoid"` for binary and multi-label: the
            mean over the classes of their two-outcome divergences.
        class_map: As in `SoftTargets`. Defaults to `None`.
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"jensen_shannon"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype; for language models `(batch, steps,
        vocabulary)`. `sample_weight`: `(batch,)` or one weight per position; a
        mask has weights of 0 and 1.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is. For
        `0 < beta < 1` and T = 1 it is at most the entropy of `beta`: log 2 for
        0.5.

    Raises:
        ValueError: for a `beta` outside [0, 1]; in `bind`, for a softmax or
            sigmoid head; in `build`, if classes or positions differ.

    Example:

    ```python
    loss = kd.losses.JensenShannon(beta=0.5)
    teacher = np.array([[2.0, 0.0], [0.0, 4.0]], "float32")
    student = np.zeros((2, 2), "float32")
    loss.compute_loss(teacher, student)  # 0.135
    ```

    Reference:
        - Agarwal et al., "On-Policy Distillation of Language Models: Learning
          from Self-Generated Mistakes" (GKD), 2024, section 2.
    """

    def __init__(
        self, *, beta: float = 0.5, temperature: float = 1.0, **kwargs: Any
    ):
        super().__init__(temperature=temperature, **kwargs)
        self.beta = checked_number("beta", beta, "[0, 1]")

    def divergence(self, p: Any, log_p: Any, log_q: Any) -> Any:
        q, beta = ops.exp(log_q), self.beta
        if beta in (0.0, 1.0):
            forward = beta == 0.0
            pair = (p, log_p, log_q) if forward else (q, log_q, log_p)
            return skew_divergence(*pair, share=0.0)
        return beta * skew_divergence(p, log_p, log_q, beta) + (
            1.0 - beta
        ) * skew_divergence(q, log_q, log_p, 1.0 - beta)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta}
