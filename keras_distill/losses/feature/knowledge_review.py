from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import one_of
from keras_distill.losses.feature.feature_maps import check_equal_maps
from keras_distill.losses.feature.feature_maps import check_maps
from keras_distill.losses.feature.fusion import Fusion
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.pooling import adaptive_average_pool
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.ops.reductions import without_void
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of


def hierarchical_context(teacher, student, scales=(4, 2, 1)):
    """Mean squared distance of two maps at several scales, `(batch,)`.

        l = sum_k 2^-k mse_k / sum_k 2^-k      k = 0: the map as it is,
            k = 1, 2, ...: averaged down to 4x4, 2x2, 1x1; scales that are not
            smaller than the map's height are left out

    Args:
        teacher: `(batch, height, width, channels)` of known size.
        student: The same shape.
        scales: Sizes of the pooled maps, falling.
    """
    difference = student - teacher
    # Pooling is linear: the difference of pooled maps is the pooled difference.
    loss = mean_per_sample(ops.square(difference))
    weight = total = 1.0
    for scale in scales:
        if scale >= student.shape[1]:
            continue
        weight /= 2.0
        total += weight
        pooled = adaptive_average_pool(difference, scale, scale)
        loss = loss + weight * mean_per_sample(ops.square(pooled))
    return loss / total


@keras.saving.register_keras_serializable(package="keras_distill")
class KnowledgeReview(LayerPairLoss):
    """Lets each teacher stage teach its student stage and deeper ones.

        r_n = BN(conv1x1(student_n));   from the deepest stage to the first:
        r_k = fusion(BN(conv1x1(student_k)), r_(k+1)) = a * . + b * .
        f_k = BN(conv3x3(r_k)) at the teacher's size
        l_k = hierarchical context loss: mean squares of teacher_k - f_k, whole
              and averaged to 4x4, 2x2 and 1x1, weighted 1, 1/2, 1/4, 1/8
              over their sum
        loss = sum_k layer_weight_k * l_k

    `a` and `b` are maps of attention weights, computed from both inputs. All
    of this is trained with the student and is not part of it. The 3x3
    convolution gives the teacher's channels and can cost more than a small
    student; `hidden_channels` bounds it.

    Cost: 107 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: Layers of the teacher, from first to deepest.
        student_layer_name: The same, paired one to one.
        fusion: `"residual"`: as above. `None`: no network, `f_k = student_k`;
            shapes must agree. Defaults to `"residual"`.
        hidden_channels: Channels of `r_k`. Defaults to the channels of the
            student's deepest layer, at most 512, as in mdistiller.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"knowledge_review"`.
        dtype: dtype of the networks' weights. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, height, width, channels)` of known size. Give a
        vector one position with `keras.layers.Reshape`.
        `sample_weight`: `(batch,)`; weights per position are averaged per
        sample, and positions of weight 0 (void pixels) are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: in `build`, for features that are not maps, of unknown
            size, or, without fusion, of different shapes.

    Example:

    ```python
    loss = kd.losses.KnowledgeReview(
        teacher_layer_name="a", student_layer_name="b", fusion=None
    )
    teacher = np.zeros((1, 8, 8, 3), "float32")
    student = np.ones((1, 8, 8, 3), "float32")
    loss.compute_loss(teacher, student)  # 1.0: so at every scale
    ```

    Reference:
        Chen et al., "Distilling Knowledge via Knowledge Review", 2021.
    """

    joins_positions = True

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        fusion: str | None = "residual",
        hidden_channels: int | None = None,
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.fusion = one_of("fusion", fusion, ("residual", None))
        self.hidden_channels = checked_integer(
            "hidden_channels", hidden_channels, or_none=True
        )
        self.fusions: list = []  # One per stage, from the first to the deepest.

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        names = self.student_layer_name
        deepest = shape_list(student_shape, names, "student")[-1]
        self._hidden = self.hidden_channels or min(512, deepest[-1] or 512)
        super().build(teacher_shape, student_shape)

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        check_maps(self, teacher_shape, student_shape)
        if None in (*teacher_shape[1:3], *student_shape[1:3]):
            raise ValueError(
                "KnowledgeReview pools maps to fixed sizes, so theirs must be "
                f"known. Received: teacher {teacher_shape}, student "
                f"{student_shape}. Give both networks an input of known height "
                "and width."
            )
        if self.fusion is None:
            way_out = 'Pass fusion="residual".'
            check_equal_maps(self, teacher_shape, student_shape, way_out)
            return
        deepest = index == len(as_list(self.student_layer_name)) - 1
        self.fusions.append(
            Fusion(
                student_shape, teacher_shape, self._hidden, deepest, self.dtype
            )
        )

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        if not self.built:
            self.build(shapes_of(teacher_outputs), shapes_of(student_outputs))
        students = in_order(student_outputs, self.student_layer_name)
        if self.fusion is not None:
            # Before the convolutions, which join positions.
            students = self._review(
                [without_void(x, sample_weight) for x in students]
            )
        return super().compute_loss(
            teacher_outputs, students, y, sample_weight, sample_index
        )

    def _review(self, students):
        """The student's maps, each fused with all deeper ones."""
        residual, reviewed = None, []
        for fusion, student in zip(self.fusions[::-1], students[::-1]):
            output, residual = fusion(student, residual)
            reviewed.append(output)
        return reviewed[::-1]

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        values = hierarchical_context(teacher, student)
        return weighted_mean(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "fusion": self.fusion,
            "hidden_channels": self.hidden_channels,
        }
