from typing import Any

import keras
from keras import ops

from keras_distill._shapes import sizes_agree
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import weighted_mean


@keras.saving.register_keras_serializable(package="keras_distill")
class PatchSimilarity(LayerPairLoss):
    """Matches which places of an image look alike to teacher and student.

        f_p = the feature at position p / its L2 norm
        a_pq = f_p . f_q, for all pairs of positions of one image
        l = mean over p, q of (a_student - a_teacher)^2
        loss = sum over pairs of layers of
               layer_weight * sum(weight * l) / batch

    The larger of two maps is averaged down to the size of the smaller. The
    channels may differ, so nothing is trained beside the student. In
    `kd.pretrain` it teaches what a vector per image does not show.

    Args:
        teacher_layer_name: A layer or a list of layers, usually the last map.
            `None` for the model's output.
        student_layer_name: The same, paired one to one.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"patch_similarity"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair maps `(batch, height, width, channels)`, or sequences
        `(batch, positions, channels)` of equal length.
        `sample_weight`: `(batch,)`; weights per position are averaged, and
        positions of weight 0 (void pixels) are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: in `build`, for vectors or sequences of different length,
            with both shapes.

    Example:

    ```python
    loss = kd.losses.PatchSimilarity()
    teacher = np.eye(4, dtype="float32").reshape(1, 2, 2, 4)
    student = np.ones((1, 2, 2, 3), "float32")  # All places look alike.
    loss.compute_loss(teacher, student)  # 12 of 16 pairs differ by 1: 0.75
    ```

    Reference:
        Liu et al., "Structured Knowledge Distillation for Semantic
        Segmentation", 2019, eq. 2: "pair-wise distillation".
    """

    joins_positions = True

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        teacher, student = tuple(teacher_shape), tuple(student_shape)
        problem = None
        if len(teacher) != len(student) or len(teacher) not in (3, 4):
            problem = "expected two maps (batch, height, width, channels) or "
            problem += "two sequences (batch, positions, channels)"
        elif len(teacher) == 3 and not sizes_agree(teacher[1:2], student[1:2]):
            problem = "expected sequences of equal length"
        if problem:
            raise ValueError(
                f"PatchSimilarity compares positions: {problem}. Received: "
                f"teacher {teacher}, student {student}. Tap layers before the "
                "pooling with teacher_layer_name= and student_layer_name=."
            )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        if len(teacher.shape) == 4:
            teacher, student = match_spatial(teacher, student)
        difference = affinity(student) - affinity(teacher)
        values = mean_per_sample(ops.square(difference))
        return weighted_mean(values, sample_weight)


def affinity(x):
    """Cosines between all positions: `(batch, positions, positions)`.

    Args:
        x: `(batch, ..., channels)`.
    """
    shape = ops.shape(x)
    x = over_norm(ops.reshape(x, (shape[0], -1, shape[-1])))
    return ops.matmul(x, ops.transpose(x, (0, 2, 1)))
