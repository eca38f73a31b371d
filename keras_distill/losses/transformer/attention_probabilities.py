from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.transformer.layer_mapping import inside
from keras_distill.losses.transformer.layer_mapping import mapped
from keras_distill.losses.transformer.sequences import check_positions
from keras_distill.losses.transformer.sequences import weight_of_pairs

FORMS = ("scores", "probabilities")


@keras.saving.register_keras_serializable(package="keras_distill")
class AttentionProbabilities(LayerPairLoss):
    """Matches which tokens attend to which, head by head.

        A = queries keys^T / sqrt(size of a head)
        form="scores":         l = mean of (A_student - A_teacher)^2
        form="probabilities":  l = mean of (softmax(A_student)
                                            - softmax(A_teacher))^2
        loss = sum over pairs of layers of layer_weight * l

    The mean is over samples, heads and those pairs of positions that may
    attend: not over padding, and not over later tokens of a causal network.
    Teacher and student have as many heads; for others there is
    `kd.losses.AttentionRelation`.

    Args:
        teacher_layer_name: An attention layer, such as
            `"block4/attention"`, or the layers from first to last.
        student_layer_name: The same. Lists of equal length are paired one to
            one; of a longer list of the teacher's, `layer_mapping` chooses.
        form: Defaults to `"scores"`, which the paper found to converge faster
            and to be better.
        layer_mapping: See `kd.losses.HiddenStates`. Defaults to `"uniform"`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"attention_probabilities"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, heads, queries, keys)`, of one shape: the taps
        `"<layer>/scores"` or `"<layer>/probabilities"`. `sample_weight`:
        `(batch,)`, one weight per position, or one per query and key. In
        `kd.Distiller` the masks of the attention are in it.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for more layers of the student than of the teacher; in
            `build`, for unlike heads or lengths, with both shapes.

    Example:

    ```python
    loss = kd.losses.AttentionProbabilities(
        teacher_layer_name="block4/attention",
        student_layer_name="block2/attention",
    )
    loss.teacher_layer_name  # "block4/attention/scores"
    loss.compute_loss(np.zeros((1, 2, 3, 3)), np.ones((1, 2, 3, 3)))  # 1.0
    ```

    Reference:
        Jiao et al., "TinyBERT: Distilling BERT for Natural Language
        Understanding", 2020, eq. 7.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        form: str = "scores",
        layer_mapping: str = "uniform",
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        names = mapped(teacher_layer_name, student_layer_name, layer_mapping)
        check_named(type(self).__name__, *names)
        self.form = one_of("form", form, FORMS)
        teacher_layer_name, student_layer_name = (
            inside(name, (form,)) for name in names
        )
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.layer_mapping = layer_mapping

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        teacher, student = tuple(teacher_shape), tuple(student_shape)
        problem = None
        if len(teacher) != 4 or len(student) != 4:
            problem = "expected two of (batch, heads, queries, keys)"
        elif teacher[1] != student[1]:
            problem = "the heads must agree; AttentionRelation joins others"
        if problem:
            raise ValueError(
                f"AttentionProbabilities: {problem}. Received: teacher "
                f"{teacher}, student {student}. Name attention layers with "
                "teacher_layer_name= and student_layer_name=."
            )
        check_positions(self, teacher, student, (2, 3))

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        check_positions(self, teacher.shape, student.shape, (2, 3))
        values = ops.square(student - teacher)
        if sample_weight is None:
            return ops.mean(values)
        weight = weight_of_pairs(sample_weight, values)
        return ops.mean(ops.where(weight > 0, weight * values, 0.0))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "form": self.form,
            "layer_mapping": self.layer_mapping,
        }


def check_named(loss, *names):
    """Raises for a loss without a name of an attention layer."""
    for role, name in zip(("teacher", "student"), names):
        if name is None:
            raise ValueError(
                f"{loss} compares attention layers: {role}_layer_name must be "
                "the name of one, or a list of names. Received: "
                f"{role}_layer_name=None"
            )
