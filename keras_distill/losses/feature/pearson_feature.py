from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill.losses.feature.connected import Connected
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.reductions import flat_positions
from keras_distill.losses.relation.coupled import BatchCoupled
from keras_distill.losses.response.dist import pearson_correlation


@keras.saving.register_keras_serializable(package="keras_distill")
class PearsonFeature(Connected, BatchCoupled, LayerPairLoss):
    """Matches each channel up to its mean and its scale (PKD).

        r_c = Pearson's correlation of t_c and r(s)_c over batch and positions
        l = mean over channels c of 1 - r_c
        loss = sum over pairs of layer_weight * mean weight * l

    The same as half the mean squared error of maps that are standardized per
    channel, over all positions of the batch. So the sizes of the two networks'
    features do not matter, and no channel dominates. `r` is the connector,
    trained with the student and not part of it. A channel that is constant in
    one network gives 1.

    The authors' code divides by the unbiased deviation plus 1e-6, which is
    this value times (n - 1) / n for n positions.

    If two maps differ in size, the larger is averaged down to the smaller.

    Args:
        teacher_layer_name: A layer that gives a map, or a list of them; in
            detectors the levels of the feature pyramid.
        student_layer_name: The same, paired one to one.
        connector: `"auto"`: a 1x1 convolution if the channels differ.
            `"conv1x1"`: always. `None`: never. Defaults to `"auto"`.
        cross_replica: Standardize over the samples of all replicas. Defaults
            to `False`.
        layer_weights: One weight per pair. Defaults to 1 each (mmrazor: 6 for
            every level of a detector's pyramid).
        name: Defaults to `"pearson_feature"`.
        dtype: dtype of the connector's weights. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`, or one weight per position of a map: how often it counts.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for features
            that are not maps or, without connector, differ in channels.

    Example:

    ```python
    loss = kd.losses.PearsonFeature(
        teacher_layer_name="a", student_layer_name="b"
    )
    teacher = np.random.normal(size=(2, 4, 4, 3)).astype("float32")
    loss.compute_loss(teacher, 0.1 * teacher + 5.0)  # 0.0
    loss.compute_loss(teacher, -teacher)  # 2.0
    ```

    Reference:
        Cao et al., "PKD: General Distillation Framework for Object Detectors
        via Pearson Correlation Coefficient", 2022.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        connector: str | None = "auto",
        cross_replica: bool = False,
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            cross_replica=cross_replica,
            layer_weights=layer_weights,
            connector=connector,
            **kwargs,
        )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        teacher, student = self.connected(index, teacher, student)
        teacher, student, weight = flat_positions(
            *self.together(teacher, student, sample_weight)
        )
        correlation = pearson_correlation(
            teacher, student, axis=0, weight=weight[:, None]
        )
        return ops.mean(weight) * (1.0 - ops.mean(correlation))
