import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_numbers
from keras_distill._arguments import checked_strings
from keras_distill.losses.feature.feature_maps import PreActivationConnectors
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import sum_of_positions
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import plain
from keras_distill.losses.values import no_weights
from keras_distill.taps.paths import find_layer
from keras_distill.taps.places import from_config


def batch_norm_margin(gamma, beta):
    """Computes the mean negative response of a batch normalization.

        m = beta - |g| exp(-(beta / g)^2 / 2) / (sqrt(2 pi) Phi(-beta / |g|))

    with `Phi` the distribution function of a standard normal; `m = -3 |g|` if
    less than 0.001 of the values are negative, as in the authors' code.

    Args:
        gamma: Scale, `(channels,)`, NumPy.
        beta: Offset, `(channels,)`, NumPy.

    Returns:
        The margin, `(channels,)`, float64. For a channel of scale 0, which is
        constant: `beta` if it is negative, else 0.
    """
    margins = []
    for g, b in zip(np.abs(np.float64(gamma)), np.float64(beta)):
        if g == 0.0:
            margins.append(min(b, 0.0))
            continue
        negative = 0.5 * math.erfc(b / g / math.sqrt(2.0))
        if negative > 0.001:
            density = math.exp(-0.5 * (b / g) ** 2) / math.sqrt(2.0 * math.pi)
            margins.append(b - g * density / negative)
        else:
            margins.append(-3.0 * g)
    return np.array(margins)


def partial_squares(teacher, student, margin):
    """Squared distance to the teacher, if the student is not below it.

        t = max(teacher, margin)
        (student - t)^2  if teacher > 0 or student > t, else 0

    A response that the next ReLU kills in both networks costs nothing.

    Args:
        teacher: `(..., channels)`, before the activation.
        student: The same shape.
        margin: `(channels,)`, not positive.
    """
    target = ops.maximum(teacher, margin)
    counts = ops.logical_or(teacher > 0, student > target)
    difference = ops.where(counts, student - target, 0.0)
    return ops.square(difference)


@keras.saving.register_keras_serializable(package="keras_distill")
class OverhauledFeature(PreActivationConnectors, LayerPairLoss):
    """Partial L2 distance to the teacher's responses before their ReLU.

        t = max(teacher, margin_c)            s = r(student)
        d = (s - t)^2  if teacher > 0 or s > t, else 0
        l = (1 / batch) sum_b sum over positions and channels of d
        loss = sum over pairs of layer_weight * l

    The margin of a channel is the mean of its negative responses, computed
    from scale and offset of the teacher's batch normalization. `r` is the
    connector, trained with the student and not part of it.

    The authors' code and mdistiller multiply the sum by 1 / 1000 and by
    `1 / 2^(n - k - 1)` for pair k of n: give these as `layer_weights`.

    If two maps differ in size, the larger is averaged down to the smaller.

    Cost: 17 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: A layer before its activation, or a list of them.
        student_layer_name: The same, paired one to one.
        batch_norm_layer_name: The teacher's batch normalization that gives the
            margin, or one per pair: the last one before the tap. Defaults to
            the tap, which then must be a batch normalization.
        margin: One number, or per pair one number or a list with one per
            channel. Not positive. Defaults to what the batch normalization
            gives.
        connector: `"auto"`: 1x1 convolution and batch normalization (with the
            statistics of the batch) if the channels differ. `"conv_bn"`:
            always, as in the paper. `None`: never. Defaults to `"auto"`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"overhauled_feature"`.
        dtype: dtype of connector and margin. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`, or one weight per position of a map.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is. NaN if the
        margin is neither given nor found: `bind` was not called.

    Raises:
        ValueError: for a positive margin or one of the wrong length; in
            `bind`, for a tap that is not a batch normalization; in `build`, for
            features that are not maps or, without connector, differ in
            channels.

    Example:

    ```python
    loss = kd.losses.OverhauledFeature(
        teacher_layer_name="a", student_layer_name="b", margin=-1.0
    )
    teacher = np.array([[[[2.0, -3.0, -3.0]]]], "float32")
    student = np.array([[[[0.0, -2.0, 1.0]]]], "float32")
    loss.compute_loss(teacher, student)  # 2^2 + 0 + (1 + 1)^2 = 8.0
    ```

    Reference:
        Heo et al., "A Comprehensive Overhaul of Feature Distillation", 2019
        (ICCV).
    """

    layer_arguments = {
        "teacher": ("teacher_layer_name", "batch_norm_layer_name"),
        "student": ("student_layer_name",),
    }

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        batch_norm_layer_name: str | Sequence[str] | None = None,
        margin: float | Sequence | None = None,
        connector: str | None = "auto",
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            connector=connector,
            layer_weights=layer_weights,
            **kwargs,
        )
        pairs = len(as_list(self.teacher_layer_name))
        self.batch_norm_layer_name = from_config(batch_norm_layer_name)
        if batch_norm_layer_name is not None:
            names = as_list(self.batch_norm_layer_name)
            checked_strings("batch_norm_layer_name", names)
            if len(names) != pairs:
                raise ValueError(
                    f"batch_norm_layer_name needs one name per pair of layers "
                    f"({pairs}). Received: {batch_norm_layer_name}"
                )
        self.margin = _checked_margin(margin, pairs)
        if self.margin is None:
            self.needs_teacher = "trained"
        self.margins: list = []  # One weight per pair.
        self._found: list | None = None

    def bind(self, teacher: keras.Model | None, student: keras.Model) -> None:
        if self.margin is not None:
            return
        if teacher is None:
            if self._found is None and not self.built:
                raise ValueError(no_weights(self, "normalization"))
            return
        names = self.batch_norm_layer_name or self.teacher_layer_name
        self._found = [_margin_of(teacher, name) for name in as_list(names)]
        for weight, found in zip(self.margins, self._found):
            weight.assign(found)

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        super().build_pair(index, teacher_shape, student_shape)
        channels = teacher_shape[-1]
        margin: Any = math.nan
        if self._found is not None:
            margin = self._found[index]
        elif self.margin is not None:
            margin = self.margin[index]
        if np.ndim(margin) and len(margin) != channels:
            raise ValueError(
                f"margin has {len(margin)} numbers for pair {index}, but the "
                f"teacher's tap has {channels} channels: {teacher_shape}. Give "
                "one number, or as many as channels (or another "
                "batch_norm_layer_name)."
            )
        self.margins.append(
            self.add_weight(
                name="margin",
                shape=(channels,),
                initializer=keras.initializers.Constant(np.array(margin)),
                trainable=False,
            )
        )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        teacher, student = match_spatial(teacher, student)
        student = self.connected(index, student)
        teacher, student, margin = same_precision(
            teacher, student, self.margins[index]
        )
        squares = partial_squares(teacher, student, margin)
        return sum_of_positions(ops.sum(squares, axis=-1), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "batch_norm_layer_name": self._name_to_save(
                "batch_norm_layer_name"
            ),
            "margin": self.margin and [plain(m) for m in self.margin],
        }


def _checked_margin(margin, pairs):
    """Returns a number or a list of numbers per pair, or `None`."""
    if margin is None:
        return None
    if not isinstance(margin, (list, tuple, np.ndarray)):
        margin = [margin] * pairs
    if len(margin) != pairs:
        raise ValueError(
            f"margin needs one entry per pair of layers ({pairs}). Received: "
            f"{margin}. For one pair with a number per channel: [[...]]."
        )
    hint = "the mean of negative responses: it must not be positive"
    return [
        list(checked_numbers("margin", m, "(-inf, 0]", hint=hint))
        if isinstance(m, (list, tuple, np.ndarray))
        else checked_number("margin", m, "(-inf, 0]", hint=hint)
        for m in margin
    ]


def _margin_of(teacher, name):
    layer, _ = find_layer(teacher, name, "teacher")
    if not isinstance(layer, keras.layers.BatchNormalization):
        raise ValueError(
            "The margin comes from the teacher's batch normalization, but "
            f"'{name}' of the teacher '{teacher.name}' is a "
            f"{type(layer).__name__} layer. Pass "
            'batch_norm_layer_name="...", the last one before the tap, or '
            "margin=."
        )
    to_numpy = keras.ops.convert_to_numpy
    mean = to_numpy(layer.moving_mean)
    beta = to_numpy(layer.beta) if layer.center else np.zeros_like(mean)
    gamma = to_numpy(layer.gamma) if layer.scale else np.ones_like(mean)
    return batch_norm_margin(gamma, beta)
