"""What each network sees of a batch.

A view turns the dataset's batch into the student's input and the teacher's
input. It runs inside the training step, on the device, in every replica.
"""

from typing import Any
from typing import NamedTuple

import keras

from keras_distill._arguments import checked_layer


class View(NamedTuple):
    """One batch as the two networks see it."""

    student: Any
    teacher: Any
    y: Any = None
    sample_weight: Any = None


@keras.saving.register_keras_serializable(package="keras_distill")
class Views(keras.layers.Layer):
    """Base class: both networks see the batch as the dataset gives it.

    Override `training` for what the networks see in the training step, and
    `evaluation` (`teacher_evaluation`) for what they see without randomness:
    in `evaluate`, `predict` and export.

    Attributes:
        teacher_varies: Whether the teacher sees a sample differently in every
            epoch.
        replayable: Whether a view is a function of seed, epoch and sample
            index.
        group_size: Size of the groups of neighbours in an indexed data set
            within which samples are blended; 1 if none are.
        blends_labels: Whether `training` blends the labels.
        student_layer: The Keras layer between the data and the student, which
            ships with it, or `None`.
        jit_compile: Set it if XLA compiles the view in a step of your own. A
            Distiller runs its views outside of what it compiles.
    """

    teacher_varies = False
    replayable = True
    group_size = 1
    blends_labels = False
    student_layer: keras.layers.Layer | None = None

    def __init__(self, name: str | None = None):
        super().__init__(name=name)
        self.built = True
        self.jit_compile = False

    def training(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        epoch: Any = None,
        sample_index: Any = None,
    ) -> View:
        """The batch as the two networks see it in the training step.

        Args:
            x: The batch's inputs.
            y: Labels, or `None`.
            sample_weight: Weights, or `None`.
            epoch: A scalar integer tensor. Make random numbers a function of
                it, of the index and of a seed.
            sample_index: `(batch,)` int32, the position of each sample in the
                data set; `None` if the data carries none.

        Returns:
            A `View`: the student's input, the teacher's input, labels and
            weights.
        """
        return View(
            self.evaluation(x), self.teacher_evaluation(x), y, sample_weight
        )

    def evaluation(self, x: Any) -> Any:
        """The student's input, without randomness."""
        return x

    def teacher_evaluation(self, x: Any) -> Any:
        """The teacher's input, without randomness."""
        return x

    def evaluation_labels(self, y: Any) -> Any:
        """Labels of the kind that `training` gives, not blended."""
        return y

    def set_output_shape(self, shape: Any) -> None:
        """A Distiller tells the shape of the student's output, or `None`."""

    def teacher_config(self) -> dict[str, Any]:
        """The configuration of what the teacher sees in training.

        Cached outputs of a teacher fit all views for which it is equal.
        """
        config = self.get_config()
        config.pop("name", None)
        return config

    def _teacher_part(self):
        """The layer with the weights that decide what the teacher sees, or
        `None`."""
        return self

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


@keras.saving.register_keras_serializable(package="keras_distill")
class Preprocessing(Views):
    """Gives each network its own resolution, range or layout.

    Args:
        student: A Keras layer or model that is applied to the student's input,
            such as `keras.layers.Resizing(96, 96)` or a `keras.Sequential` of
            several. Defaults to `None`: the batch as it is.
        teacher: The same for the teacher.
        name: Name of the layer.

    Raises:
        TypeError: If `student` or `teacher` is not a Keras layer.

    Example:

    ```python
    views = kd.views.Preprocessing(
        student=keras.layers.Resizing(96, 96),
        teacher=keras.layers.Resizing(224, 224),
    )
    ```
    """

    def __init__(
        self,
        student: keras.layers.Layer | None = None,
        teacher: keras.layers.Layer | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.student = self.student_layer = checked_layer("student", student)
        self.teacher = checked_layer("teacher", teacher)

    def evaluation(self, x: Any) -> Any:
        return preprocessed(self.student, x)

    def teacher_evaluation(self, x: Any) -> Any:
        return preprocessed(self.teacher, x)

    def teacher_config(self) -> dict[str, Any]:
        return {"teacher": self.get_config()["teacher"]}

    def _teacher_part(self):
        return self.teacher

    def get_config(self) -> dict[str, Any]:
        return {
            "student": serialized(self.student),
            "teacher": serialized(self.teacher),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Preprocessing":
        return cls(**deserialized(config))


def preprocessed(layer, x):
    """What a preprocessing layer, or `None`, makes of x."""
    return x if layer is None else layer(x, training=False)


def check_labels_stay(x: Any, y: Any, sample_weight: Any) -> None:
    """Raises if labels or weights of each pixel would not move with it."""
    for value in keras.tree.flatten((y, sample_weight)):
        shape = getattr(value, "shape", ())
        if len(shape) > 2 and tuple(shape[1:3]) == tuple(x.shape[1:3]):
            raise ValueError(
                "These views move the pixels of the images, and not those of "
                f"the labels or weights of shape {tuple(shape)}. Augment both "
                "in dataset.map (docs/dense.md, Augmentation), or train "
                "without labels, with alpha=1."
            )


def serialized(value):
    """A Keras object, a list of them or `None`, for a configuration."""
    if isinstance(value, (list, tuple)):
        return [serialized(item) for item in value]
    return value and keras.saving.serialize_keras_object(value)


def deserialized(config):
    """A configuration whose serialized objects are objects again."""

    def restored(value):
        if isinstance(value, dict) and "class_name" in value:
            return keras.saving.deserialize_keras_object(value)
        if isinstance(value, list):
            return [restored(item) for item in value]
        return value

    return {key: restored(value) for key, value in config.items()}
