"""The base class of losses that compare layers pair by pair."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.reductions import without_void
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import checked_weights
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import plain
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of


class LayerPairLoss(DistillationLoss):
    """Base class of losses that compare layers pair by pair.

        loss = sum_l weight_l * pair_loss(teacher_l, student_l)

    Subclasses implement `build_pair` (optional) and `pair_loss`. The class
    attribute `joins_positions` says whether a loss compares positions of a map
    with each other. Then those of weight 0, such as void pixels, are zeros in
    both maps.

    Args:
        layer_weights: One weight per pair of layers. Defaults to 1 each.
        **kwargs: See `DistillationLoss`.
    """

    joins_positions = False

    def __init__(
        self, *, layer_weights: Sequence[float] | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        teacher = as_list(self.teacher_layer_name)
        student = as_list(self.student_layer_name)
        if len(teacher) != len(student):
            raise ValueError(
                f"{type(self).__name__} pairs layers one to one, but "
                f"teacher_layer_name has {len(teacher)} and student_layer_name "
                f"has {len(student)}. Received: teacher_layer_name={teacher}, "
                f"student_layer_name={student}."
            )
        self.layer_weights = checked_weights(
            layer_weights, len(teacher), "pair of layers"
        )

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        pairs = zip(
            shape_list(teacher_shape, self.teacher_layer_name, "teacher"),
            shape_list(student_shape, self.student_layer_name, "student"),
        )
        for index, (teacher, student) in enumerate(pairs):
            self.build_pair(index, teacher, student)

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        """Checks the shapes of pair `index` and creates its connector."""

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        """Computes the loss of pair `index`, in float32 or higher."""
        raise NotImplementedError

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
        weights = self.layer_weights or [1.0] * len(teachers)
        total = 0.0
        for index, (teacher, student) in enumerate(zip(teachers, students)):
            teacher, student = same_precision(teacher, student)
            teacher = ops.stop_gradient(teacher)
            if self.joins_positions:
                teacher = without_void(teacher, sample_weight)
                student = without_void(student, sample_weight)
            loss = self.pair_loss(index, teacher, student, sample_weight)
            total = total + weights[index] * loss
        return total

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer_weights": plain(self.layer_weights),
        }
