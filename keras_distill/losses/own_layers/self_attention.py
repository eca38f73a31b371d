from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.feature.attention import attention_map
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import sum_per_sample
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import checked_weights
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import plain
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of


def spatial_softmax(maps):
    """Makes `(batch, height, width)` positive, with sum 1 per sample."""
    batch, height, width = ops.shape(maps)
    flat = ops.reshape(maps, (batch, height * width))
    return ops.reshape(ops.softmax(flat, axis=-1), (batch, height, width))


def resize_bilinear(maps, height, width):
    """Interpolates `(batch, H, W)` to `(batch, height, width)`."""
    if tuple(maps.shape[1:]) == (height, width):
        return maps
    # Without `data_format` the user's configuration would decide.
    resized = ops.image.resize(
        maps[..., None],
        (height, width),
        interpolation="bilinear",
        data_format="channels_last",
    )
    return ops.cast(resized[..., 0], maps.dtype)


@keras.saving.register_keras_serializable(package="keras_distill")
class SelfAttention(DistillationLoss):
    """Lets each layer imitate where the next one looks, without a teacher.

        psi(A) = softmax over positions of B(sum_c A[:, :, c]^2)
        l_k = distance(psi(A_k), psi(A_(k+1)))     no gradient into A_(k+1)
        form="sum":   distance = (1 / batch) sum_b sum over positions of d^2
        form="mean":  distance = mean over batch and positions of d^2
        loss = sum over k of layer_weight_k * l_k

    `B` brings the next layer's map to the size of the layer that imitates it,
    by bilinear interpolation, before the softmax. The paper calls its distance
    "an L2 loss", read here as the squared norm, `"sum"`; `"mean"` is that
    divided by `height * width`.

    The paper starts it when the student is half trained and its deeper maps
    are worth imitating, with weight 0.1 beside the task loss:

        alpha = keras.optimizers.schedules.PiecewiseConstantDecay(
            [steps // 2], [0.0, 1 / 11]
        )
        kd.Distiller(student=student, distillation_losses=loss, alpha=alpha)

    Args:
        student_layer_name: Two layers or more that give maps, from the first
            to the deepest.
        form: `"sum"` or `"mean"`. Defaults to `"sum"`.
        layer_weights: One weight per pair of successive layers. Defaults to 1
            each.
        name: Defaults to `"self_attention"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        A dict of `(batch, height, width, channels)` of known size;
        `teacher_outputs` is ignored. `sample_weight`: `(batch,)`; weights per
        position are averaged over each sample.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for fewer than two layers, for a `teacher_layer_name`; in
            `build`, for features that are not maps or of unknown size.

    Example:

    ```python
    loss = kd.losses.SelfAttention(student_layer_name=["first", "second"])
    maps = {
        "first": np.zeros((1, 1, 2, 3), "float32"),  # It looks everywhere.
        "second": np.array([[[[9.0], [0.0]]]], "float32"),  # Left only.
    }
    loss.compute_loss(None, maps)  # (1 - 1/2)^2 + (0 - 1/2)^2 = 0.5
    ```

    Reference:
        Hou et al., "Learning Lightweight Lane Detection CNNs by Self Attention
        Distillation", 2019.
    """

    needs_teacher = False

    def __init__(
        self,
        *,
        student_layer_name: str | Sequence[str],
        form: str = "sum",
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(student_layer_name=student_layer_name, **kwargs)
        if self.teacher_layer_name is not None:
            raise ValueError(
                "SelfAttention compares layers of the student and has no "
                "teacher. Received: teacher_layer_name="
                f"{self.teacher_layer_name!r}. For a teacher's maps use "
                "AttentionTransfer."
            )
        pairs = len(as_list(self.student_layer_name)) - 1
        if pairs < 1:
            raise ValueError(
                "student_layer_name must list two layers or more, from the "
                f"first to the deepest. Received: {student_layer_name!r}"
            )
        self.form = one_of("form", form, ("sum", "mean"))
        self.layer_weights = checked_weights(
            layer_weights, pairs, "pair of successive layers"
        )

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        for shape in shape_list(
            student_shape, self.student_layer_name, "student"
        ):
            if len(shape) != 4 or None in shape[1:3]:
                raise ValueError(
                    "SelfAttention compares maps (batch, height, width, "
                    f"channels) of known size. Received: {student_shape}. Tap "
                    "layers before the pooling with student_layer_name=."
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
            self.build(None, shapes_of(student_outputs))
        maps = [
            attention_map(at_least_float32(x))
            for x in in_order(student_outputs, self.student_layer_name)
        ]
        weights = self.layer_weights or [1.0] * (len(maps) - 1)
        reduce = sum_per_sample if self.form == "sum" else mean_per_sample
        total = 0.0
        for weight, imitating, imitated in zip(weights, maps, maps[1:]):
            imitated = resize_bilinear(
                ops.stop_gradient(imitated), *imitating.shape[1:]
            )
            imitated = ops.cast(imitated, imitating.dtype)
            difference = spatial_softmax(imitating) - spatial_softmax(imitated)
            values = reduce(ops.square(difference))
            total = total + weight * weighted_mean(values, sample_weight)
        return total

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "form": self.form,
            "layer_weights": plain(self.layer_weights),
        }
