from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.connectors import REGRESSORS
from keras_distill.losses.connectors import make_regressor
from keras_distill.losses.feature.feature_maps import check_maps
from keras_distill.losses.ops.elementwise import safe_sqrt
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.pooling import adaptive_average_pool
from keras_distill.losses.ops.pooling import adaptive_max_pool
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.ops.reductions import without_void
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import checked_weights
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import plain
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of

POOLS = {"average": adaptive_average_pool, "max": adaptive_max_pool}


def flow_matrix(first, second, pool=adaptive_average_pool):
    """Computes how the channels of one layer flow into a later layer.

        G_mn = (1 / (H * W)) sum over positions of first_m * second_n

    Args:
        first: `(batch, height, width, channels_m)`.
        second: `(batch, height, width, channels_n)`. If the maps differ in
            size, the larger is pooled to the smaller.
        pool: `function(map, height, width)`.

    Returns:
        `(batch, channels_m, channels_n)`.
    """
    first, second = match_spatial(first, second, pool)
    _, height, width, _ = ops.shape(first)
    positions = ops.cast(height * width, first.dtype)
    return ops.einsum("bhwm,bhwn->bmn", first, second) / positions


@keras.saving.register_keras_serializable(package="keras_distill")
class FlowOfSolutionProcedure(DistillationLoss):
    """Matches how features flow from layer to layer.

        G_mn = (1 / (H * W)) sum_{h, w} F_m[h, w] F'_n[h, w]   (F before F')
        form="mean":   l = mean over batch, m, n of (G_teacher - G_student)^2
        form="paper":  l = (1 / batch) sum_b ||G_teacher - G_student||_F^2
        form="norm":   l = (1 / batch) sum_b sum_n ||column n of the difference
                           of G||_2, not squared
        loss = sum over flows of layer_weight * l

    (FSP.) `"mean"` is the form of RepDistiller, with its published weight of
    50. torchdistill's is `form="norm", pooling="max", flows="disjoint"`.

    A flow stays inside one network, and the larger of its two maps is pooled
    to the smaller. Teacher and student need the same number of layers with the
    same channels; the maps may differ in size.

    Cost: 12 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: A list of two or more layers, in the order of the
            network.
        student_layer_name: The same, one for each of the teacher's.
        flows: `"consecutive"`: (0, 1), (1, 2), ...; `"disjoint"`: (0, 1),
            (2, 3), ..., the first and the last layer of each stage, as in the
            paper. Defaults to `"consecutive"`.
        form: `"mean"`, `"paper"` or `"norm"`. Defaults to `"mean"`.
        pooling: `"average"` or `"max"` (the paper's figures). Defaults to
            `"average"`.
        regressor: Brings the student's layers to the teacher's channels.
            `"auto"`: a 1x1 convolution if they differ. `"conv1x1"`,
            `"conv_bn_relu"`: always. `None`: never, as in the paper. Defaults
            to `None`.
        layer_weights: One weight per flow. Defaults to 1 each.
        name: Defaults to `"flow_of_solution_procedure"`.
        dtype: dtype of the regressor's weights. Defaults to `"float32"`.

    Input shapes:
        Per layer `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`; weights per position are averaged over each sample, and
        positions of weight 0 (void pixels) are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists or fewer than two layers;
            in `build`, for features that are not maps or differ in channels.

    Example:

    ```python
    loss = kd.losses.FlowOfSolutionProcedure(
        teacher_layer_name=["a", "b"], student_layer_name=["c", "d"]
    )
    teacher = {"a": np.ones((1, 4, 4, 2)), "b": np.ones((1, 2, 2, 3))}
    student = {"c": np.ones((1, 4, 4, 2)), "d": np.zeros((1, 2, 2, 3))}
    loss.compute_loss(teacher, student)  # 1.0
    ```

    Reference:
        Yim et al., "A Gift from Knowledge Distillation: Fast Optimization,
        Network Minimization and Transfer Learning", 2017, eqs. 1 and 2.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        flows: str = "consecutive",
        form: str = "mean",
        pooling: str = "average",
        regressor: str | None = None,
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            **kwargs,
        )
        self.flows = one_of("flows", flows, ("consecutive", "disjoint"))
        self.form = one_of("form", form, ("mean", "paper", "norm"))
        self.pooling = one_of("pooling", pooling, tuple(POOLS))
        self.regressor = one_of("regressor", regressor, REGRESSORS)
        self._pairs = self._pairs_of_layers()
        self.layer_weights = checked_weights(
            layer_weights, len(self._pairs), "flow"
        )
        self.regressors: dict = {}  # Of each layer, or `None`.

    def _pairs_of_layers(self):
        """Which layers a flow is taken between, as pairs of positions."""
        teacher, student = self.teacher_layer_name, self.student_layer_name
        count = len(as_list(teacher))
        step = 1 if self.flows == "consecutive" else 2
        if count != len(as_list(student)) or count < 2 or (count % step):
            raise ValueError(
                f"FlowOfSolutionProcedure(flows={self.flows!r}) needs "
                f"{'two or more' if step == 1 else 'an even number of'} layers "
                "of each network, as many of one as of the other. Received: "
                f"teacher_layer_name={teacher}, student_layer_name={student}."
            )
        return [(i, i + 1) for i in range(0, count - 1, step)]

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        pairs = zip(
            shape_list(teacher_shape, self.teacher_layer_name, "teacher"),
            shape_list(student_shape, self.student_layer_name, "student"),
        )
        for index, (teacher, student) in enumerate(pairs):
            check_maps(self, teacher, student)
            self.regressors[index] = make_regressor(
                self.regressor, teacher, student, self.dtype
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
        teachers = in_order(teacher_outputs, self.teacher_layer_name)
        students = in_order(student_outputs, self.student_layer_name)
        maps = same_precision(*teachers, *students)
        teachers = [ops.stop_gradient(x) for x in maps[: len(teachers)]]
        students = [
            x if regressor is None else regressor(x, training=True)
            for x, regressor in zip(
                maps[len(teachers) :], self.regressors.values()
            )
        ]
        teachers, students = (
            [without_void(x, sample_weight) for x in maps]
            for maps in (teachers, students)
        )
        weights = self.layer_weights or [1.0] * len(self._pairs)
        total = 0.0
        for weight, (i, j) in zip(weights, self._pairs):
            teacher, student = same_precision(
                self._flow(teachers[i], teachers[j]),
                self._flow(students[i], students[j]),
            )
            values = self._per_sample(ops.square(student - teacher))
            total = total + weight * weighted_mean(values, sample_weight)
        return total

    def _flow(self, first, second):
        return flow_matrix(first, second, POOLS[self.pooling])

    def _per_sample(self, squares):
        if self.form == "mean":
            return mean_per_sample(squares)
        if self.form == "paper":
            return ops.sum(squares, axis=(1, 2))
        return ops.sum(safe_sqrt(ops.sum(squares, axis=1)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "flows": self.flows,
            "form": self.form,
            "pooling": self.pooling,
            "regressor": self.regressor,
            "layer_weights": plain(self.layer_weights),
        }
