"""The base class of the two ablations of born-again networks."""

from typing import Any

from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.ops.elementwise import safe_sqrt
from keras_distill.losses.response.base import ResponseLoss

GRADIENT_PARTS = ("correct_class", "dark_knowledge")


def gradient_parts(target, student, correct):
    """Sizes of the two parts of the gradient of a cross-entropy.

        g = softmax(student) - target           (by the student's logits)
        correct class:   |g_c|,  c the correct class
        dark knowledge:  sqrt(sum_{k != c} g_k^2)

    The paper writes the sums of these parts over the classes, which cancel
    each other in every sample. So these are their norms.

    Args:
        target: Probabilities `(batch, ..., classes)` that the student is
            shown.
        student: Logits of the same shape.
        correct: One-hot of the same shape: the correct class.

    Returns:
        Both norms, `(batch, ...)`.
    """
    gradient = ops.softmax(student, axis=-1) - target
    correct_class = ops.abs(ops.sum(correct * gradient, axis=-1))
    squares = (1.0 - correct) * ops.square(gradient)
    return correct_class, safe_sqrt(ops.sum(squares, axis=-1))


class BornAgainLoss(ResponseLoss):
    """Base class of the two ablations of born-again networks.

    Args:
        log_gradient_parts: See the subclasses.
        **kwargs: See `ResponseLoss`.
    """

    # Takes the loss from `compute_loss_and_logs`.
    compute_loss = DistillationLoss.compute_loss

    def __init__(self, *, log_gradient_parts: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.log_gradient_parts = checked_boolean(
            "log_gradient_parts", log_gradient_parts
        )

    @property
    def extra_log_names(self):
        return GRADIENT_PARTS if self.log_gradient_parts else ()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "log_gradient_parts": self.log_gradient_parts,
        }
