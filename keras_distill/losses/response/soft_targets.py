from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import one_of
from keras_distill.losses.ops.probabilities import cross_entropy
from keras_distill.losses.ops.probabilities import kl_divergence
from keras_distill.losses.ops.probabilities import standardized
from keras_distill.losses.response.tempered import TemperedLoss


@keras.saving.register_keras_serializable(package="keras_distill")
class SoftTargets(TemperedLoss):
    """Matches the student's tempered class probabilities to the teacher's.

        p = softmax(teacher / T)        q = softmax(student / T)
        form="kl", direction="forward":   l = T^2 sum_c p_c log(p_c / q_c)
        form="kl", direction="reverse":   l = T^2 sum_c q_c log(q_c / p_c)
        form="cross_entropy":             l = -T^2 sum_c p_c log q_c
        loss = sum(weight * l) / number of positions

    With `activation="sigmoid"` each class is a distribution of its own,
    `p_c = sigmoid(teacher_c / T)`, and `l` is the *mean* over the classes of
    its two-outcome divergence (as in `keras.losses.BinaryCrossentropy`).

    Args:
        temperature: T, a positive number. Defaults to 1, the value of Beyer et
            al. 2022, for images that are seen a few times or have no label.
            Take 4 (as Tian et al. 2020) if you have labels and train for 30
            passes or more: `kd.recipes.settings` is the rule.
        form: `"kl"` or `"cross_entropy"`, which adds the teacher's entropy and
            has the same gradient. Defaults to `"kl"`.
        direction: `"forward"`, the paper's, or `"reverse"` (`"kl"` only).
        scale_by_temperature_squared: Multiply by T^2, so that the size of the
            gradient does not depend on T (Hinton et al. 2015, section 2).
            Defaults to `True`. TextBrewer and FKD do not.
        standardize: Replace both logits by `z = (x - mean) / (std + 1e-7)`
            over the classes, std unbiased (Sun et al. 2024). Softmax only.
        teacher_probabilities: `None`: the teacher gives logits, and values
            that look like probabilities are an error. `False`: they are
            logits, whatever they look like. `True`: it ends in a softmax
            (sigmoid) and is brought to temperature T exactly, `p_T ~
            p^(1/T)`. `"as_given"`: its probabilities stay and T acts on the
            student only (FKD; with `class_map` they are scaled to sum to 1).
            Defaults to `None`.
        activation: `"softmax"`, or `"sigmoid"` for binary and multi-label.
        class_map: List of the teacher's class index of each student class, or
            `None` for a class that the teacher lacks: both distributions are
            then over the others alone (Vongkulbhisal et al. 2019).
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"soft_targets"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype. `sample_weight`: `(batch,)` or one weight
        per position; a mask has weights of 0 and 1.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists or that exclude each other;
            in `bind`, for a softmax or sigmoid head; in `build`, if classes or
            positions differ.

    Example:

    ```python
    loss = kd.losses.SoftTargets(temperature=2.0)
    teacher = np.array([[2.0, 0.0], [0.0, 4.0]], "float32")
    student = np.zeros((2, 2), "float32")
    loss.compute_loss(teacher, student)  # 0.878
    ```

    Reference:
        - Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural
          Network", 2015, section 2 and eq. 1.
        - Sun et al., "Logit Standardization in Knowledge Distillation", 2024,
          algorithm 1.
        - Shen, Xing, "A Fast Knowledge Distillation Framework for Visual
          Recognition" (FKD), 2022.
        - Vongkulbhisal et al., "Unifying Heterogeneous Classifiers with
          Distillation", 2019 (teachers of some of the classes).
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        form: str = "kl",
        direction: str = "forward",
        scale_by_temperature_squared: bool = True,
        standardize: bool = False,
        teacher_probabilities: bool | str | None = None,
        activation: str = "softmax",
        class_map: Sequence[int | None] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            temperature=temperature,
            scale_by_temperature_squared=scale_by_temperature_squared,
            teacher_probabilities=teacher_probabilities,
            activation=activation,
            class_map=class_map,
            **kwargs,
        )
        self.form = one_of("form", form, ("kl", "cross_entropy"))
        self.direction = one_of("direction", direction, ("forward", "reverse"))
        self.standardize = checked_boolean("standardize", standardize)
        self._check_combination()

    def _check_combination(self):
        if self.form == "cross_entropy" and self.direction == "reverse":
            raise ValueError(
                'direction="reverse" exists for form="kl" only. Received: '
                'form="cross_entropy". Drop direction=, or pass form="kl".'
            )
        if self.standardize and self.teacher_probabilities:
            raise ValueError(
                "standardize=True needs the teacher's logits. Received: "
                f"teacher_probabilities={self.teacher_probabilities!r}. Give "
                "the teacher's head activation=None, or drop standardize=."
            )
        if self.standardize and self.activation == "sigmoid":
            raise ValueError(
                "standardize=True compares the classes of a softmax. Received: "
                'activation="sigmoid". Drop one of the two.'
            )

    def divergence(self, p: Any, log_p: Any, log_q: Any) -> Any:
        if self.form == "cross_entropy":
            return cross_entropy(p, log_q)
        if self.direction == "forward":
            return kl_divergence(p, log_p, log_q)
        return kl_divergence(ops.exp(log_q), log_q, log_p)

    def _log_distribution(self, logits):
        if self.standardize:
            logits = standardized(logits)
        return super()._log_distribution(logits)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "form": self.form,
            "direction": self.direction,
            "standardize": self.standardize,
        }
