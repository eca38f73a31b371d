from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.losses.ops.probabilities import skew_divergence
from keras_distill.losses.response.tempered import TemperedLoss


@keras.saving.register_keras_serializable(package="keras_distill")
class SkewKL(TemperedLoss):
    """The KL divergence from one network to a mixture of both.

        direction="forward":   l = T^2 KL(p || skew * p + (1 - skew) * q)
        direction="reverse":   l = T^2 KL(q || skew * q + (1 - skew) * p)
        loss = sum(weight * l) / number of positions

    `p = softmax(teacher / T)`, `q = softmax(student / T)`. A little of the
    first distribution in the second bounds the divergence by `-log(skew)`, and
    its gradient stays small where the student gives almost no probability to
    what the teacher finds likely (reverse: the other way round).

    Args:
        skew: The share of the first distribution in the mixture, in [0, 1).
            Defaults to 0.1, the paper's. With 0 the loss is that of
            `SoftTargets(direction=...)`.
        direction: `"forward"`, SKL, or `"reverse"`, SRKL.
        temperature: T, a positive number. Defaults to 1, as in the paper.
        scale_by_temperature_squared: Multiply by T^2, as `SoftTargets` does.
            Defaults to `True`.
        teacher_probabilities: As in `SoftTargets`. Defaults to `None`.
        activation: `"softmax"`, or `"sigmoid"` for binary and multi-label: the
            mean over the classes of their two-outcome divergences.
        class_map: As in `SoftTargets`. Defaults to `None`.
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"skew_kl"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype; for language models `(batch, steps,
        vocabulary)`. `sample_weight`: `(batch,)` or one weight per position; a
        mask has weights of 0 and 1.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for a `skew` outside [0, 1) or an unknown direction; in
            `bind`, for a softmax or sigmoid head; in `build`, if classes or
            positions differ.

    Example:

    ```python
    loss = kd.losses.SkewKL(skew=0.1)
    teacher = np.array([[2.0, 0.0], [0.0, 4.0]], "float32")
    student = np.zeros((2, 2), "float32")
    loss.compute_loss(teacher, student)  # 0.394
    ```

    Reference:
        Ko et al., "DistiLLM: Towards Streamlined Distillation for Large
        Language Models", 2024, section 3.1.
    """

    def __init__(
        self,
        *,
        skew: float = 0.1,
        direction: str = "forward",
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(temperature=temperature, **kwargs)
        self.skew = checked_number("skew", skew, "[0, 1)")
        self.direction = one_of("direction", direction, ("forward", "reverse"))

    def divergence(self, p: Any, log_p: Any, log_q: Any) -> Any:
        if self.direction == "forward":
            return skew_divergence(p, log_p, log_q, self.skew)
        return skew_divergence(ops.exp(log_q), log_q, log_p, self.skew)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "skew": self.skew,
            "direction": self.direction,
        }
