from collections.abc import Sequence
from typing import Any

import keras
from keras import layers
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.losses.feature.connected import Connected
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.gathering import draw_per_sample
from keras_distill.losses.ops.reductions import sum_of_positions
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.ops.seeded import Seeded


@keras.saving.register_keras_serializable(package="keras_distill")
class MaskedGenerative(Seeded, Connected, LayerPairLoss):
    """Generates the teacher's map from a part of the student's (MGD).

        m_p = 0 with probability mask_ratio, else 1    at each position p
        g = conv3x3(relu(conv3x3(r(s) * m)))
        form="paper":  l = (1 / batch) sum_b sum over positions and channels
                           of (t - g)^2
        form="mean":   l = mean over all elements of (t - g)^2
        loss = sum over pairs of layer_weight * l

    A position of the student must tell what its neighbours see, because they
    may be masked. `r` is the connector. It and the two convolutions, which
    have the teacher's channels, are trained with the student and are not part
    of it. Every step draws new masks, the same ones on any number of replicas.

    The sum grows with the map: the authors weigh it by 2e-5 for detectors and
    segmentation and by 7e-5 for classifiers. Give that as a
    `distillation_loss_weights`, or take `form="mean"`.

    If two maps differ in size, the larger is averaged down to the smaller.

    Args:
        teacher_layer_name: A layer that gives a map, or a list of them.
        student_layer_name: The same, paired one to one.
        mask_ratio: lambda, the share of positions that are masked, in [0, 1).
            Defaults to 0.75, for segmentation in the authors' code (0.65 for
            detectors; for classifiers it masks 15 % of the channels instead,
            at all positions).
        form: `"paper"` or `"mean"`. Defaults to `"paper"`.
        connector: `"auto"`: a 1x1 convolution if the channels differ, as in
            the paper. `"conv1x1"`: always. `None`: never.
        seed: Seed of the masks, an integer. Defaults to 0. Its state is saved
            with the Distiller.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"masked_generative"`.
        dtype: dtype of the connector's weights. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`, or one weight per position of a map; positions of weight 0
        (void pixels) are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for features
            that are not maps or, without connector, differ in channels.

    Example:

    ```python
    loss = kd.losses.MaskedGenerative(
        teacher_layer_name="a", student_layer_name="b", form="mean"
    )
    teacher = np.random.normal(size=(2, 8, 8, 6)).astype("float32")
    student = np.random.normal(size=(2, 8, 8, 4)).astype("float32")
    loss.compute_loss(teacher, student)  # another value in every step
    ```

    Reference:
        Yang et al., "Masked Generative Distillation", 2022.
    """

    joins_positions = True

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        mask_ratio: float = 0.75,
        form: str = "paper",
        connector: str | None = "auto",
        seed: int | None = 0,
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            seed=seed,
            layer_weights=layer_weights,
            connector=connector,
            **kwargs,
        )
        self.mask_ratio = checked_number("mask_ratio", mask_ratio, "[0, 1)")
        self.form = one_of("form", form, ("paper", "mean"))
        self.generators: list = []  # One per pair.

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        super().build_pair(index, teacher_shape, student_shape)
        self.generators.append(generator(teacher_shape[-1], self.dtype))

    def masks(self, x):
        """Draws the masks of one step. Override it to give your own.

        Args:
            x: `(batch, height, width, channels)`.

        Returns:
            Zeros and ones `(batch, height, width, 1)`, in the dtype of `x`.
        """
        height, width = ops.shape(x)[1:3]
        numbers = draw_per_sample(
            lambda samples: keras.random.uniform(
                (samples, height, width, 1),
                dtype="float32",
                seed=self.seed_generator,
            ),
            x,
        )
        return ops.cast(numbers >= self.mask_ratio, x.dtype)

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        teacher, student = self.connected(index, teacher, student)
        student = self.generators[index](student * self.masks(student))
        teacher, student = same_precision(teacher, student)
        squares = ops.square(teacher - student)
        if self.form == "mean":
            return weighted_mean(ops.mean(squares, axis=-1), sample_weight)
        return sum_of_positions(ops.sum(squares, axis=-1), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mask_ratio": self.mask_ratio,
            "form": self.form,
        }


def generator(channels, dtype="float32"):
    """Builds the two 3x3 convolutions, with ReLU between them.

    Args:
        channels: Number of channels of input and output.
        dtype: dtype of the weights.
    """
    options = {"padding": "same", "data_format": "channels_last"}
    network = keras.Sequential(
        [
            layers.Conv2D(
                channels, 3, activation="relu", dtype=dtype, **options
            ),
            layers.Conv2D(channels, 3, dtype=dtype, **options),
        ],
        name="generator",
    )
    network.build((None, None, None, channels))
    return network
