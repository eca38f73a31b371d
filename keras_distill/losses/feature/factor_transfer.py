from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.losses.feature import paraphraser
from keras_distill.losses.feature.attention import attention_map
from keras_distill.losses.feature.attention import unit_maps
from keras_distill.losses.feature.feature_maps import check_maps
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.elementwise import absolute
from keras_distill.losses.ops.elementwise import safe_sqrt
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import sum_per_sample
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import in_order


def unit_factors(x):
    """Each sample over the L2 norm of all its elements, held above 1e-12."""
    return over_norm(x, tuple(range(1, len(x.shape))))


@keras.saving.register_keras_serializable(package="keras_distill")
class FactorTransfer(LayerPairLoss):
    """Matches a translation of the student to a paraphrase of the teacher.

        x^ = x / max(||x||_2, 1e-12)   per sample, over all elements
        d = x^(translator(student)) - x^(paraphraser(teacher))
        form="paper":      l = (1 / batch) sum_b ||d_b||_p
        form="code":       p=1: l = mean over all elements of |d|
                           p=2: as "paper"
        form="attention":  l = mean over batch and positions of |Q_s - Q_t|^p,
                           Q the attention maps mean_c x^2 over their L2 norm
        loss = sum over pairs of layer_weight * l

    `"code"` is the authors' and torchdistill's. `"attention"` is RepDistiller's
    simplification, without either network.

    The paraphraser is an autoencoder of the teacher's feature. `prepare`
    trains it before the first epoch; then it is frozen. The translator is
    trained with the student. Both are three 3x3 convolutions, which can cost
    more than a small student: tap a deep, small map.

    If two maps differ in size, the larger is averaged down to the smaller.

    Cost: 21 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: A layer that gives a map, or a list of them.
        student_layer_name: The same, paired one to one.
        form: `"paper"`, `"code"` or `"attention"`. Defaults to `"paper"`.
        p: 1 or 2. Defaults to 1, as in the paper.
        paraphrase_rate: Channels of the factor over the teacher's, or `None`
            for no paraphraser. Defaults to 0.5, as in the paper.
        translate: Whether there is a translator. Defaults to `True`.
        paraphraser_epochs: Passes over the data in `prepare`; 0 leaves a
            random paraphraser. Defaults to 5, our choice.
        paraphraser_learning_rate: Learning rate of Adam. Defaults to 1e-3.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"factor_transfer"`.
        dtype: dtype of both networks. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`; weights per position are averaged per sample, and
        positions of weight 0 (void pixels) are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for features
            that are not maps, or without translator for different channels; in
            `keras.distillation.Distiller`, for an untrained paraphraser.

    Example:

    ```python
    loss = kd.losses.FactorTransfer(
        teacher_layer_name="a",
        student_layer_name="b",
        paraphrase_rate=None,
        translate=False,
    )
    teacher = np.array([[[[3.0, 4.0]]]], "float32")
    student = np.array([[[[1.0, 0.0]]]], "float32")
    loss.compute_loss(teacher, student)  # |1 - 0.6| + |0 - 0.8| = 1.2
    ```

    Reference:
        Kim, Park, Kwak, "Paraphrasing Complex Network: Network Compression
        via Factor Transfer", 2018.
    """

    joins_positions = True

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        form: str = "paper",
        p: int = 1,
        paraphrase_rate: float | None = 0.5,
        translate: bool = True,
        paraphraser_epochs: int = 5,
        paraphraser_learning_rate: float = 1e-3,
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.form = one_of("form", form, ("paper", "code", "attention"))
        self.p = one_of("p", p, (1, 2))
        self.paraphrase_rate = checked_number(
            "paraphrase_rate", paraphrase_rate, or_none=True
        )
        self.translate = checked_boolean("translate", translate)
        self.paraphraser_epochs = checked_integer(
            "paraphraser_epochs", paraphraser_epochs, least=0
        )
        has_paraphraser = form != "attention" and paraphrase_rate is not None
        if has_paraphraser and self.paraphraser_epochs > 0:
            self.needs_teacher = "trained"
        self.paraphraser_learning_rate = checked_number(
            "paraphraser_learning_rate", paraphraser_learning_rate
        )
        self.paraphrasers: list = []  # One per pair; none of "attention".
        self.translators: list = []
        self._prepared: Any = None

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        super().build(teacher_shape, student_shape)
        if self.paraphrasers and self.paraphraser_epochs > 0:
            # A weight, so that a saved loss is not prepared again.
            self._prepared = self.add_weight(
                name="prepared", shape=(), initializer="zeros", trainable=False
            )

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        check_maps(self, teacher_shape, student_shape)
        if self.form == "attention":
            return
        channels = factor = teacher_shape[-1]
        if self.paraphrase_rate is not None:
            factor = max(1, round(channels * self.paraphrase_rate))
        if not self.translate and factor != student_shape[-1]:
            raise ValueError(
                "FactorTransfer(translate=False) compares the student's map "
                f"with the teacher's factor, which has {factor} channels. "
                f"Received: teacher {tuple(teacher_shape)}, student "
                f"{tuple(student_shape)}. Pass translate=True."
            )
        if self.paraphrase_rate is not None:
            self.paraphrasers.append(
                paraphraser.Paraphraser(channels, factor, self.dtype)
            )
        if self.translate:
            self.translators.append(
                paraphraser.translator(student_shape[-1], factor, self.dtype)
            )

    @property
    def is_prepared(self):
        """Whether there is no paraphraser left to train."""
        if self._prepared is None:
            return True
        return float(ops.convert_to_numpy(self._prepared)) == 1.0

    def teacher_changed(self) -> None:
        if self._prepared is not None:
            self._prepared.assign(0.0)

    def prepare(self, teacher_batches: Iterable) -> None:
        """Trains the paraphraser of every pair.

        Args:
            teacher_batches: Iterable, once per epoch, of the teacher's tap(s).
        """
        if self.is_prepared:
            return
        paraphraser.train(
            self.paraphrasers,
            _InOrder(teacher_batches, self.teacher_layer_name),
            self.paraphraser_epochs,
            self.paraphraser_learning_rate,
        )
        self._prepared.assign(1.0)

    def validate_model_compatibility(
        self, teacher: keras.Model, student: keras.Model
    ) -> None:
        super().validate_model_compatibility(teacher, student)
        if not self.is_prepared:
            raise ValueError(
                "keras.distillation.Distiller does not train the paraphraser. "
                "Use kd.Distiller, or call loss.build(teacher_shape, "
                "student_shape) and loss.prepare(teacher_batches) first."
            )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        if self.form == "attention":
            values = self._attention_distance(teacher, student)
        else:
            values = self._factor_distance(index, teacher, student)
        return weighted_mean(values, sample_weight)

    def _attention_distance(self, teacher, student):
        maps = [
            # The same after the division by the norm, unless that is 1e-12.
            unit_maps(attention_map(x) / x.shape[-1])
            for x in match_spatial(teacher, student)
        ]
        return mean_per_sample(ops.power(absolute(maps[1] - maps[0]), self.p))

    def _factor_distance(self, index, teacher, student):
        if self.paraphrasers:
            teacher = self.paraphrasers[index](teacher)
        teacher, student = match_spatial(ops.stop_gradient(teacher), student)
        if self.translators:
            student = self.translators[index](student, training=True)
        teacher, student = same_precision(teacher, student)
        difference = unit_factors(student) - unit_factors(teacher)
        if self.p == 2:
            return safe_sqrt(sum_per_sample(ops.square(difference)))
        if self.form == "code":
            return mean_per_sample(absolute(difference))
        return sum_per_sample(absolute(difference))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "form": self.form,
            "p": self.p,
            "paraphrase_rate": self.paraphrase_rate,
            "translate": self.translate,
            "paraphraser_epochs": self.paraphraser_epochs,
            "paraphraser_learning_rate": self.paraphraser_learning_rate,
        }


class _InOrder:
    """Batches of taps as lists, in the order of their names."""

    def __init__(self, batches, names):
        self.batches, self.names = batches, names

    def __iter__(self):
        return (in_order(batch, self.names) for batch in self.batches)
