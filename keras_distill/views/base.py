"""What each network sees of a batch.

A view turns the dataset's batch into the student's input and the teacher's
input. It runs inside the training step, on the device, in every replica.
"""

from typing import Any
from typing import NamedTuple

import keras


class View(NamedTuple):
    """One batch as the two networks see it."""

    student: Any
    teacher: Any
    y: Any = None
    sample_weight: Any = None


@keras.saving.register_keras_serializable(package="keras_distill")
class Views(keras.layers.Layer):
    """Base class: both networks see the batch as the dataset gives it.

    Subclasses override `training` for what is seen in the training step and
    `evaluation` (`teacher_evaluation`) for what is seen without randomness:
    in `evaluate`, `predict` and export.

    Attributes:
        jit_compile: Whether XLA compiles what a subclass does, in a step of
            your own; a Distiller runs its views outside of what it compiles.
    """

    # Whether the teacher sees another view of a sample in every epoch.
    teacher_varies = False
    # Whether a view is a function of seed, epoch and sample index.
    replayable = True
    # The Keras layer between the data and the student, which ships with it.
    student_layer = None

    def __init__(self, name=None):
        super().__init__(name=name)
        self.built = True
        self.jit_compile = False

    def training(
        self, x, y=None, sample_weight=None, epoch=None, sample_index=None
    ):
        """The batch as the two networks see it in the training step.

        Args:
            x: The batch's inputs.
            y: Labels, or `None`.
            sample_weight: Weights, or `None`.
            epoch: A scalar integer tensor: what is random should be a function
                of it, of the index and of a seed.
            sample_index: `(batch,)` int32, each sample's position in the data
                set; `None` if the data carries none.

        Returns:
            `View`: student's input, teacher's input, labels and weights.
        """
        return View(
            self.evaluation(x), self.teacher_evaluation(x), y, sample_weight
        )

    def evaluation(self, x):
        """-> the student's input, without randomness."""
        return x

    def teacher_evaluation(self, x):
        """-> the teacher's input, without randomness."""
        return x

    def set_output_shape(self, shape):
        """Told the shape of the student's output, or `None`, by a Distiller."""

    def validate_sample_index(self, sample_index, replicas=1):
        """Raises if views of these samples cannot be replayed.

        Args:
            sample_index: NumPy array `(batch,)`, the first batch's.
            replicas: Number of replicas that share the batch.
        """

    def is_whole_data_set(self, sample_index):
        """Whether what `validate_sample_index` took is right only if there is
        no second batch; the same argument."""
        return False

    def evaluation_labels(self, y):
        """-> labels of the kind that `training` gives."""
        return y

    def teacher_config(self):
        """The part of the configuration that what the teacher sees, in
        training, depends on: its outputs can be used wherever it is equal."""
        config = self.get_config()
        config.pop("name", None)
        return config

    def get_config(self):
        return {"name": self.name}


@keras.saving.register_keras_serializable(package="keras_distill")
class Preprocessing(Views):
    """Gives each network its own resolution, range or layout.

    Args:
        student: A Keras layer or model applied to the student's input, such
            as `keras.layers.Resizing(96, 96)` or a `keras.Sequential` of
            several. `None`: as the dataset gives it.
        teacher: The same for the teacher.

    Example:

    ```python
    views = kd.views.Preprocessing(
        student=keras.layers.Resizing(96, 96),
        teacher=keras.layers.Resizing(224, 224),
    )
    ```
    """

    def __init__(self, student=None, teacher=None, name=None):
        super().__init__(name=name)
        for argument, layer in (("student", student), ("teacher", teacher)):
            if layer is not None and not isinstance(layer, keras.layers.Layer):
                raise TypeError(
                    f"{argument} must be a Keras layer or model, or None. "
                    f"Received: {layer!r}"
                )
        self.student = student
        self.teacher = teacher

    @property
    def student_layer(self):
        return self.student

    def evaluation(self, x):
        return x if self.student is None else self.student(x, training=False)

    def teacher_evaluation(self, x):
        return x if self.teacher is None else self.teacher(x, training=False)

    def teacher_config(self):
        return {"teacher": self.get_config()["teacher"]}

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "student": self.student and serialize(self.student),
            "teacher": self.teacher and serialize(self.teacher),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        config = dict(config)
        for network in ("student", "teacher"):
            config[network] = config[network] and deserialize(config[network])
        return cls(**config)


def checked_views(views):
    if views is not None and not isinstance(views, Views):
        raise TypeError(
            "views must be a kd.views.Views (such as kd.views.Preprocessing) "
            f"or None. Received: {views!r} of type {type(views).__name__}"
        )
    return views
