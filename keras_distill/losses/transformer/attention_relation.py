import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_strings
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.probabilities import kl_divergence
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import validated_taps
from keras_distill.losses.transformer.attention_probabilities import check_named
from keras_distill.losses.transformer.layer_mapping import inside
from keras_distill.losses.transformer.sequences import check_positions
from keras_distill.losses.transformer.sequences import positions_that_count


@keras.saving.register_keras_serializable(package="keras_distill")
class AttentionRelation(LayerPairLoss):
    """Matches how tokens relate as queries, as keys and as values.

        A: the queries (keys, values) of one layer, of all its heads in a row,
           cut anew into `heads` relation heads of size d
        R = softmax over positions of A A^T / sqrt(d)
        l = mean over samples, relation heads and positions of
            KL(R_teacher || R_student)
        loss = sum over queries, keys and values of layer_weight * l

    Nothing is trained beside the student, and the networks may have other
    widths and numbers of heads. Padding is left out: of the positions, and of
    those that the softmax runs over. The relations take
    `batch * heads * positions^2` numbers for each term.

    Args:
        teacher_layer_name: An attention layer such as `"block4/attention"`, or
            a list of them. The paper takes one: the last of a teacher of 12
            layers, and an upper one (21 of BERT's, 19 of RoBERTa's) of 24.
        student_layer_name: The same, paired one to one; usually the last.
        heads: Number of relation heads; a divisor of both widths. The paper
            has 48 for a teacher of 12 heads (of 768) and 64 for one of 16 (of
            1024), and found more to be better. Defaults to the teacher's
            number of heads.
        projections: Names of the layers inside of an attention layer. `None`
            if the names above are those of the projections. Defaults to
            `("query", "key", "value")`, as in Keras and keras-hub.
        layer_weights: One weight per projection, for each layer in turn.
            Defaults to 1 each.
        name: Defaults to `"attention_relation"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, positions, heads, size)` or `(batch, positions,
        width)`. `sample_weight`: `(batch,)`, or one weight per position. In
        `kd.Distiller` the masks of the attention are in it.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: in `build`, for sequences of unlike length, and for a
            number of heads that does not divide both widths.

    Example:

    ```python
    loss = kd.losses.AttentionRelation(
        teacher_layer_name="block4/attention",
        student_layer_name="block2/attention",
        heads=8,
    )
    loss.student_layer_name[0]  # "block2/attention/query"
    ```

    Reference:
        Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation
        for Compressing Pretrained Transformers", 2021, section 3.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        heads: int | None = None,
        projections: Sequence[str] | None = ("query", "key", "value"),
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        names = (
            validated_taps(teacher_layer_name, "teacher_layer_name"),
            validated_taps(student_layer_name, "student_layer_name"),
        )
        check_named(type(self).__name__, *names)
        if projections is not None:
            projections = tuple(checked_strings("projections", projections))
            names = (
                inside(names[0], projections),
                inside(names[1], projections),
            )
        super().__init__(
            teacher_layer_name=names[0],
            student_layer_name=names[1],
            layer_weights=layer_weights,
            **kwargs,
        )
        self.heads = checked_integer("heads", heads, or_none=True)
        self._heads: dict = {}  # Of each pair.

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        teacher, student = tuple(teacher_shape), tuple(student_shape)
        widths = [_width(shape) for shape in (teacher, student)]
        if None in widths:
            raise ValueError(
                "AttentionRelation: expected two of (batch, positions, heads, "
                "size) or (batch, positions, width), of known sizes. Received: "
                f"teacher {teacher}, student {student}. Name attention layers "
                "with teacher_layer_name= and student_layer_name=."
            )
        check_positions(self, teacher, student, (1,))
        heads = self.heads
        if heads is None and len(teacher) == 4:
            heads = teacher[2]
        divisor = math.gcd(*widths)
        if heads is None or divisor % heads:
            fitting = [k for k in range(1, divisor + 1) if divisor % k == 0]
            raise ValueError(
                f"AttentionRelation(heads={self.heads}): the number of "
                "relation heads must divide both widths, the teacher's "
                f"{widths[0]} and the student's {widths[1]}"
                f"{'' if heads is None else f', and {heads} does not'}. "
                f"Pass heads= one of {fitting}. Received: teacher {teacher}, "
                f"student {student}."
            )
        self._heads[index] = heads

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        check_positions(self, teacher.shape, student.shape, (1,))
        heads = self._heads[index]
        count = positions_that_count(sample_weight, student.shape[1])
        log_p = log_relation(teacher, heads, count)
        log_q = log_relation(student, heads, count)
        values = kl_divergence(ops.exp(log_p), log_p, log_q)
        return weighted_mean(ops.mean(values, axis=1), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "projections": None,  # The names are those of the projections.
        }


def log_relation(x, heads, count=None):
    """`log softmax(A A^T / sqrt(d))` of each relation head.

    Args:
        x: `(batch, positions, heads, size)` or `(batch, positions, width)`.
        heads: Number of relation heads.
        count: Booleans `(batch, positions)`: which positions the softmax runs
            over. Defaults to all.

    Returns:
        `(batch, heads, positions, positions)`.
    """
    batch, positions = ops.shape(x)[:2]
    size = _width(x.shape) // heads
    x = ops.reshape(x, (batch, positions, heads, size))
    x = ops.transpose(x, (0, 2, 1, 3))
    products = ops.matmul(x, ops.transpose(x, (0, 1, 3, 2))) / math.sqrt(size)
    if count is not None:
        products = ops.where(count[:, None, None, :], products, -1e9)
    return ops.log_softmax(products, axis=-1)


def _width(shape):
    """The size of all heads in a row; `None` if it is not known."""
    sizes = tuple(shape)[2:]
    known = len(sizes) in (1, 2) and None not in sizes
    return math.prod(sizes) if known else None
