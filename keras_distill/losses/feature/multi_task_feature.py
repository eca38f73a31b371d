from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_numbers
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of
from keras_distill.taps import places


def over_smooth_norm(x, epsilon):
    """`x / sqrt(||x||^2 + epsilon)`, norms over the last axis."""
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x / ops.sqrt(squares + epsilon)


@keras.saving.register_keras_serializable(package="keras_distill")
class MultiTaskFeature(DistillationLoss):
    """Lets one feature of the student give the features of many teachers.

        a_t = A_t student                      A_t: 1x1 convolution, no bias
        l_t = mean over batch and positions of
              || a_t / sqrt(||a_t||^2 + epsilon)
                 - f_t / sqrt(||f_t||^2 + epsilon) ||^2    f_t: of teacher t
        loss = sum_t task_weight_t * l_t       norms over channels

    There is one teacher per task, trained on that task alone. The adaptors
    A_t leave the student's feature free: it need not look like any of them. An
    adaptor is trained with the student and is not part of it. In the authors'
    code the adaptors have an Adam of their own with rate 0.1 and weight decay
    5e-4: give them one by a `keras.optimizers.MultiOptimizer`.

    If two maps differ in size, the larger is averaged down to the smaller.

    Args:
        teacher_layer_name: A dict task -> layer of its teacher, such as
            `{"shape": "shape/conv4", "texture": "texture/conv4"}` with
            `kd.Teachers`, a list of layers, or one layer.
        student_layer_name: One layer of the student.
        task_weights: A dict task -> weight, or a list of weights. Defaults to
            1 each (the authors': 1, 1 and 2 for three dense tasks).
        epsilon: Keeps the norms off 0. Defaults to 1e-6, as in the authors'
            code.
        name: Defaults to `"multi_task_feature"`.
        dtype: dtype of the adaptors. Defaults to `"float32"`.

    Input shapes:
        Per task `(batch, height, width, channels)`, `(batch, time, channels)`
        or `(batch, channels)`, with the axes of the student's feature.
        `sample_weight`: `(batch,)`, or one weight per position.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: For weights that do not fit the tasks; in `build`, for
            shapes that no 1x1 convolution joins.

    Example:

    ```python
    loss = kd.losses.MultiTaskFeature(
        teacher_layer_name={"shape": "shape/conv4", "texture": "texture/conv4"},
        student_layer_name="conv2",
    )
    teachers = {
        "shape/conv4": np.ones((2, 4, 4, 8), "float32"),
        "texture/conv4": np.ones((2, 4, 4, 6), "float32"),
    }
    loss.compute_loss(teachers, np.ones((2, 4, 4, 3), "float32"))
    ```

    Reference:
        Li and Bilen, "Knowledge distillation for multi-task learning", 2020,
        eqs. 3 and 4.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Mapping[str, str] | Sequence[str],
        student_layer_name: str,
        task_weights: Mapping[str, float] | Sequence[float] | None = None,
        epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        tasks = None
        teacher_layer_name = places.from_config(teacher_layer_name)
        if isinstance(teacher_layer_name, Mapping):
            tasks = list(teacher_layer_name)
            teacher_layer_name = list(teacher_layer_name.values())
        if isinstance(student_layer_name, list) and len(student_layer_name) > 1:
            raise ValueError(
                "student_layer_name must be one layer, which all tasks share. "
                f"Received: {student_layer_name}"
            )
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            **kwargs,
        )
        self.tasks = tasks or as_list(self.teacher_layer_name)
        self.task_weights = _checked_weights(task_weights, self.tasks)
        self.epsilon = checked_number("epsilon", epsilon)
        self.adaptors: list = []  # One per task.

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        teachers = shape_list(teacher_shape, self.teacher_layer_name, "teacher")
        (student,) = shape_list(
            student_shape, self.student_layer_name, "student"
        )
        for index, (task, teacher) in enumerate(zip(self.tasks, teachers)):
            _check_shapes(task, teacher, student)
            self.adaptors.append(
                self.add_weight(
                    shape=(student[-1], teacher[-1]),
                    initializer="glorot_uniform",
                    name=f"adaptor_{index}",
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
        teachers = in_order(teacher_outputs, self.teacher_layer_name)
        (student,) = in_order(student_outputs, self.student_layer_name)
        total = 0.0
        for weight, adaptor, teacher in zip(
            self.task_weights, self.adaptors, teachers
        ):
            teacher, feature = same_precision(teacher, student)
            teacher = ops.stop_gradient(teacher)
            if len(teacher.shape) == 4:
                teacher, feature = match_spatial(teacher, feature)
            adaptor = ops.cast(adaptor, feature.dtype)
            adapted = ops.matmul(feature, adaptor)
            difference = over_smooth_norm(
                adapted, self.epsilon
            ) - over_smooth_norm(teacher, self.epsilon)
            values = ops.sum(ops.square(difference), axis=-1)
            total = total + weight * weighted_mean(values, sample_weight)
        return total

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {
            **config,
            "tasks": list(self.tasks),
            "task_weights": list(self.task_weights),
            "epsilon": self.epsilon,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MultiTaskFeature":
        config = dict(config)
        tasks, layers = config.pop("tasks"), config["teacher_layer_name"]
        if isinstance(layers, list):
            config["teacher_layer_name"] = dict(zip(tasks, layers))
        return cls(**config)


def _checked_weights(weights, tasks):
    """One weight per task, in their order."""
    if weights is None:
        return (1.0,) * len(tasks)
    if isinstance(weights, Mapping):
        if set(weights) != set(tasks):
            raise ValueError(
                f"task_weights must have the tasks {tasks}. Received: "
                f"{weights!r}"
            )
        weights = [weights[task] for task in tasks]
    return checked_numbers(
        "task_weights",
        weights,
        "[0, inf)",
        length=len(tasks),
        hint="one per task",
    )


def _check_shapes(task, teacher, student):
    """Raises unless a 1x1 convolution joins a student's and a teacher's."""
    sizes = teacher[1:-1], student[1:-1]
    if (
        len(teacher) == len(student) > 1
        and None not in (teacher[-1], student[-1])
        and (
            len(teacher) == 4 or sizes[0] == sizes[1] or None in sum(sizes, ())
        )
    ):
        return
    raise ValueError(
        "MultiTaskFeature joins features of the same axes and known channels "
        "by a 1x1 convolution, and only the sizes of maps may differ. "
        f"Received, for task {task!r}: teacher {teacher}, student {student}. "
        "Tap other layers with teacher_layer_name= or student_layer_name=."
    )
