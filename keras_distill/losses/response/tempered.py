from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_temperature
from keras_distill._arguments import one_of
from keras_distill.losses.ops.probabilities import log_outcomes
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.probabilities import logits_of_probabilities
from keras_distill.losses.ops.probabilities import logits_of_sigmoid
from keras_distill.losses.ops.probabilities import safe_log
from keras_distill.losses.response.base import ResponseLoss


class TemperedLoss(ResponseLoss):
    """Base class of the divergences of two tempered distributions.

        loss = T^2 sum(weight * divergence) / number of positions

    Subclasses implement `divergence(p, log_p, log_q)`. The arguments are those
    of `SoftTargets`.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        scale_by_temperature_squared: bool = True,
        teacher_probabilities: bool | str | None = None,
        activation: str = "softmax",
        class_map: Sequence[int | None] | None = None,
        **kwargs: Any,
    ):
        super().__init__(class_map=class_map, **kwargs)
        self.temperature = checked_temperature(temperature)
        self.scale_by_temperature_squared = checked_boolean(
            "scale_by_temperature_squared", scale_by_temperature_squared
        )
        self.teacher_probabilities = one_of(
            "teacher_probabilities",
            teacher_probabilities,
            (None, False, True, "as_given"),
        )
        self.activation = one_of(
            "activation", activation, ("softmax", "sigmoid")
        )
        self.reads_teacher_logits = not teacher_probabilities

    def divergence(self, p: Any, log_p: Any, log_q: Any) -> Any:
        """Computes `(...)` from distributions `(..., outcomes)`.

        Args:
            p: The teacher's probabilities.
            log_p: Their logarithms.
            log_q: The logarithms of the student's probabilities.
        """
        raise NotImplementedError

    def position_loss(self, teacher: Any, student: Any) -> Any:
        p, log_p = self._teacher_distribution(teacher)
        loss = self.divergence(p, log_p, self._log_distribution(student))
        if self.activation == "sigmoid":
            loss = ops.mean(loss, axis=-1)
        if self.scale_by_temperature_squared:
            loss = loss * self.temperature**2
        return loss

    def _log_distribution(self, logits):
        if self.activation == "sigmoid":
            return log_outcomes(logits, self.temperature)
        return log_probabilities(logits, self.temperature)

    def _teacher_distribution(self, teacher):
        """The teacher's probabilities and their logarithms."""
        sigmoid = self.activation == "sigmoid"
        if self.teacher_probabilities == "as_given":
            if sigmoid:
                teacher = ops.stack([teacher, 1.0 - teacher], axis=-1)
            elif self.class_map is not None:
                chosen = ops.sum(teacher, axis=-1, keepdims=True)
                teacher = teacher / ops.maximum(chosen, 1e-12)
            return teacher, safe_log(teacher)
        if self.teacher_probabilities:
            to_logits = (
                logits_of_sigmoid if sigmoid else logits_of_probabilities
            )
            teacher = to_logits(teacher)
        log_p = self._log_distribution(teacher)
        return ops.exp(log_p), log_p

    def how_to_get_logits(self, role):
        advice = super().how_to_get_logits(role)
        if role == "teacher":
            advice += (
                " Or keep the teacher as it is and tell the loss: "
                f"{type(self).__name__}(teacher_probabilities=True)."
            )
        return advice

    def how_to_say_logits(self):
        return (
            " If these are logits, say so: "
            f"{type(self).__name__}(teacher_probabilities=False)."
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "scale_by_temperature_squared": self.scale_by_temperature_squared,
            "teacher_probabilities": self.teacher_probabilities,
            "activation": self.activation,
        }
