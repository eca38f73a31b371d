from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.connectors import REGRESSORS
from keras_distill.losses.connectors import make_regressor
from keras_distill.losses.feature.feature_maps import check_maps
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.gathering import samples_everywhere
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.ops.reductions import without_void


def channel_similarity(x):
    """Computes how alike channels are, by inner products over positions.

        G = F^T F, each row over max(its L2 norm, 1e-12)

    Args:
        x: `(batch, height, width, channels)`, or any number of positions.

    Returns:
        `(batch, channels, channels)`.
    """
    shape = ops.shape(x)
    x = ops.reshape(x, (shape[0], -1, x.shape[-1]))
    return over_norm(ops.matmul(ops.transpose(x, (0, 2, 1)), x))


@keras.saving.register_keras_serializable(package="keras_distill")
class InterChannelCorrelation(LayerPairLoss):
    """Matches how the channels of a map correlate.

        G = F^T F (channels by channels), each row over max(its L2 norm, 1e-12)
        form="paper":  l = (1 / batch) sum_b ||G_teacher,b - G_student,b||_F^2
                               / channels^2
        form="code":   l = sum_b ||G_teacher,b - G_student,b||_F^2
                               / (channels * batch^2)
        loss = sum over pairs of layer_weight * l

    The authors' code and torchdistill divide by the batch twice: `"code"` is
    `channels / batch` times `"paper"` and changes with the batch size.

    The number of positions may differ between teacher and student. A regressor
    brings the student to the teacher's number of channels.

    Cost: 10 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: A layer that gives a map, or a list of them.
        student_layer_name: The same, paired one to one.
        regressor: `"auto"`: a 1x1 convolution if the channels differ, else
            none. `"conv1x1"`, `"conv_bn_relu"`: always. `None`: never.
            Defaults to `"auto"`. Trained with the student, not part of it.
        form: `"paper"` or `"code"`. Defaults to `"paper"`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"inter_channel_correlation"`.
        dtype: dtype of the regressor's weights. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`; weights per position are averaged over each sample, and
        positions of weight 0 (void pixels) are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for features
            that are not maps or that the regressor cannot join, with both
            shapes.

    Example:

    ```python
    loss = kd.losses.InterChannelCorrelation(
        teacher_layer_name="a", student_layer_name="b"
    )
    teacher = np.ones((1, 4, 4, 2), "float32")  # Two channels as one.
    student = np.zeros((1, 2, 2, 2), "float32")
    student[0, 0, 0, 0] = student[0, 1, 1, 1] = 1.0  # Two that never meet.
    loss.compute_loss(teacher, student)  # 1 - sqrt(1/2) = 0.293
    ```

    Reference:
        Liu et al., "Exploring Inter-Channel Correlation for
        Diversity-Preserved Knowledge Distillation", 2021 (ICKD-C).
    """

    joins_positions = True

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        regressor: str | None = "auto",
        form: str = "paper",
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            **kwargs,
        )
        self.regressor = one_of("regressor", regressor, REGRESSORS)
        self.form = one_of("form", form, ("paper", "code"))
        self.regressors: dict = {}  # Of each pair, or `None`.

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        check_maps(self, teacher_shape, student_shape)
        self.regressors[index] = make_regressor(
            self.regressor, teacher_shape, student_shape, self.dtype
        )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        if self.regressors[index] is not None:
            student = self.regressors[index](student, training=True)
            student = without_void(student, sample_weight)
        difference = channel_similarity(student) - channel_similarity(teacher)
        values = mean_per_sample(ops.square(difference))
        loss = weighted_mean(values, sample_weight)
        if self.form == "code":
            loss = loss * teacher.shape[-1] / samples_everywhere(values)
        return loss

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "regressor": self.regressor,
            "form": self.form,
        }
