from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_temperature
from keras_distill._arguments import one_of
from keras_distill._keras.heads import layer_activation
from keras_distill._shapes import sizes_agree
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.probabilities import kl_divergence
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.relation.coupled import BatchCoupled
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of
from keras_distill.losses.values import look_like_probabilities
from keras_distill.taps.paths import find_layer

SIDES = 4


@keras.saving.register_keras_serializable(package="keras_distill")
class LocalizationDistillation(BatchCoupled, DistillationLoss):
    """Matches the distributions of the four sides of each box (LD).

        p_e = softmax(teacher_e / T)     q_e = softmax(student_e / T)
        l_a = T^2 sum over the sides e of anchor a of KL(p_e || q_e)
        form="paper":  loss = sum_a w_a r_a l_a / sum_a r_a
        form="code":   the same / (4 * bins)

    For heads that give each side of a box as a distribution over `bins`
    distances (GFL and the heads with distribution focal loss that followed).
    An anchor is an anchor box or a point of any level.

    `r` says in which regions boxes are learned, since most anchors are
    background and their boxes mean nothing. Give the layer of the teacher's
    class logits as the second of `teacher_layer_name`: then `r_a` is the
    teacher's largest class probability, `max_c sigmoid(logit_c)`. Without it
    `r` is 1. `w` is the sample weight: with a map of weights per anchor you
    choose the regions yourself, such as the paper's main region (the anchors
    with an object) and valuable localization region (those around it).

    For the classes of the same head take `SoftTargets(activation="sigmoid")`,
    and for boxes that are four numbers `LogitsMSE(regression=True)`.

    Args:
        teacher_layer_name: The layer that gives the teacher's sides, or a list
            of it and the layer of its class logits.
        student_layer_name: The layer that gives the student's sides.
        temperature: T, a positive number. Defaults to 10, as in the paper.
        bins: How many distances a distribution has. Defaults to `None`: a
            fourth of the last axis, if the axis before that is not of size 4.
        form: `"paper"` or `"code"`, whose mean over the bins belongs to the
            authors' weight of 0.25. Defaults to `"paper"`.
        cross_replica: Take `sum_a r_a` over all replicas. Defaults to `False`.
        name: Defaults to `"localization_distillation"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Sides `(batch, ..., 4 * bins)` or `(batch, ..., 4, bins)`; class logits
        `(batch, ..., classes)`. `sample_weight`: `(batch,)` or one weight per
        anchor `(batch, ...)`.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is; 0 if
        every `r_a` is 0.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for other
            shapes, or anchors that differ.

    Example:

    ```python
    loss = kd.losses.LocalizationDistillation(
        teacher_layer_name="sides", student_layer_name="sides"
    )
    teacher = np.random.normal(size=(2, 100, 4 * 17)).astype("float32")
    loss.compute_loss(teacher, teacher)  # 0.0
    ```

    Reference:
        Zheng et al., "Localization Distillation for Dense Object Detection",
        2022. Li et al., "Generalized Focal Loss", 2020 (the distributions).
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str] | None = None,
        student_layer_name: str | None = None,
        temperature: float = 10.0,
        bins: int | None = None,
        form: str = "paper",
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            **kwargs,
        )
        names = self.teacher_layer_name
        self._has_regions = isinstance(names, list)
        if self._has_regions and len(names) != 2:
            raise ValueError(
                "teacher_layer_name must be the layer of the box sides, or a "
                "list of it and the layer of the class logits. Received: "
                f"{names}"
            )
        if isinstance(self.student_layer_name, list):
            raise ValueError(
                "student_layer_name must be the one layer of the box sides. "
                f"Received: {self.student_layer_name}"
            )
        self.temperature = checked_temperature(temperature)
        self.bins = checked_integer("bins", bins, least=2, or_none=True)
        self.form = one_of("form", form, ("paper", "code"))
        self.batch_coupled = self._has_regions
        self._are_probabilities = False

    def bind(self, teacher: keras.Model | None, student: keras.Model) -> None:
        self._are_probabilities = False
        if teacher is not None and self._has_regions:
            layer = find_layer(teacher, self.teacher_layer_name[1], "teacher")
            self._are_probabilities = layer_activation(*layer) is not None

    def validate_batch(
        self, teacher_outputs: Any = None, sample_index: Any = None
    ) -> None:
        super().validate_batch(teacher_outputs, sample_index)
        # The data may carry the teacher's outputs, or a model hide its layers.
        if teacher_outputs is not None and self._has_regions:
            classes = teacher_outputs[self.teacher_layer_name[1]]
            if look_like_probabilities(classes, "sigmoid"):
                self._are_probabilities = True

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        teacher, *classes = shape_list(
            teacher_shape, self.teacher_layer_name, "teacher"
        )
        (student,) = shape_list(
            student_shape, self.student_layer_name, "student"
        )
        both = f"teacher {teacher}, student {student}"
        anchors = [self._anchors_of(x, both) for x in (teacher, student)]
        if not sizes_agree(*anchors) or teacher[-1] != student[-1]:
            raise ValueError(
                "LocalizationDistillation compares the sides of the same "
                f"boxes. Received: {both}. Tap heads with equal anchors and "
                "bins with teacher_layer_name= and student_layer_name=."
            )
        if classes and not sizes_agree(classes[0][:-1], anchors[0]):
            raise ValueError(
                "The second of teacher_layer_name must give class logits "
                f"{(*anchors[0], 'classes')} for sides {teacher}. Received: "
                f"{classes[0]}."
            )

    def _anchors_of(self, shape, both):
        last, bins = shape[-1], self.bins
        may_be_sides = len(shape) > 3 and shape[-2] == SIDES
        if last and bins is None and not may_be_sides:
            bins = last // SIDES
        if last and bins and bins > 1 and len(shape) > 2:
            if last == SIDES * bins:
                return shape[:-1]
            if last == bins and may_be_sides:
                return shape[:-2]
        raise ValueError(
            "LocalizationDistillation takes sides (batch, ..., 4 * bins), or "
            "(batch, ..., 4, bins). If the last axis but one has size 4, pass "
            f"bins= to say which. Received: {both}, bins={self.bins}. Tap the "
            "layers that give the distributions with teacher_layer_name= and "
            "student_layer_name=."
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
        teacher, *classes = in_order(teacher_outputs, self.teacher_layer_name)
        student = in_order(student_outputs, self.student_layer_name)[0]
        teacher, student = same_precision(teacher, student)
        log_p, log_q = (
            log_probabilities(self._by_side(x), self.temperature)
            for x in (ops.stop_gradient(teacher), student)
        )
        values = kl_divergence(ops.exp(log_p), log_p, log_q)
        values = self.temperature**2 * ops.sum(values, axis=-1)
        if self.form == "code":
            values = values / (SIDES * log_q.shape[-1])
        if classes:
            regions = ops.cast(self._regions(classes[0]), values.dtype)
            (everywhere,) = self.together(mean_per_sample(regions))
            values = values * ops.divide_no_nan(regions, ops.mean(everywhere))
        return weighted_mean(values, sample_weight)

    def _by_side(self, x):
        """Returns `(batch, ..., 4, bins)`."""
        if self.bins == x.shape[-1]:
            return x
        shape = tuple(ops.shape(x))
        return ops.reshape(x, (*shape[:-1], SIDES, x.shape[-1] // SIDES))

    def _regions(self, classes):
        classes = ops.stop_gradient(classes)
        if not self._are_probabilities:
            classes = ops.sigmoid(classes)
        return ops.max(classes, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "bins": self.bins,
            "form": self.form,
        }
