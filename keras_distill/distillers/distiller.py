"""`Distiller`: a student, its teacher and the losses between them."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_teacher_dtype
from keras_distill._data.batch_fields import unpacked
from keras_distill._keras.heads import output_keys
from keras_distill._keras.loss_scaling import computes_in_float16
from keras_distill._keras.loss_scaling import with_loss_scaling
from keras_distill._keras.untracked import Untracked
from keras_distill._training.apart import check_apart
from keras_distill._training.networks import TeacherStudent
from keras_distill._training.tasks import tasks_of
from keras_distill.distillers import checks
from keras_distill.distillers.base import BaseDistiller
from keras_distill.losses.keras_losses import as_distillation_losses
from keras_distill.teachers.roles import as_teacher
from keras_distill.teachers.teacher_fingerprint import teacher_fingerprint


@keras.saving.register_keras_serializable(package="keras_distill")
class Distiller(BaseDistiller):
    """Trains a student from labels and from a teacher, with `fit`.

        L = alpha * sum_k w_k L_k(teacher, student) + (1 - alpha) * L_S + R

    `L_S` is the loss that you give to `compile`, each `L_k` is a distillation
    loss, and `R` are the student's regularizers. Each network runs once per
    step. The teacher runs in inference mode and never changes.

    `evaluate`, `predict` and `export` use the student alone, because that is
    what you ship. `ReusedClassifier` and `IdealJointClassifier` ship the
    teacher's classifier on top of the student: with one of them, `L_S`,
    metrics, `evaluate`, `predict` and `export` use `deployable_student()`.

    A student whose output is a dict has several tasks, each with losses,
    labels and a weight of its own, see docs/several_tasks.md.

    `sample_weight` and `class_weight` of `fit` weigh the samples in the task
    loss and in every distillation loss. Weights for each output weigh its task
    loss, and the losses that name a layer which gives it; not the losses of a
    task: a teacher also teaches samples without labels.

    `fit` logs `agreement`, the share of positions where student and teacher
    choose the same class, if losses or last layers say that they choose
    classes. Padding, void labels and zero weights do not count.

    Args:
        student: The `keras.Model` to train.
        teacher: A trained `keras.Model`, a list of them (they teach the mean
            of their probabilities, see `kd.Ensemble`), a dict name -> teacher
            (losses name what they read of whom, see `kd.Teachers`) or a
            `kd.MovingAverageTeacher`. Defaults to `None`: the losses need no
            teacher, the data carries its outputs (`kd.TeacherCache`), or
            `set_teacher` gives it later.
        distillation_losses: A loss of `kd.losses` or `keras.distillation`, a
            list of losses, or a dict name -> loss. The logs show each as
            `<name>_loss`. Under the name of an output of the student: a loss
            of this task, or a list of them.
        distillation_loss_weights: `w_k`, as a number, list or dict to match.
            Defaults to 1 each.
        alpha: The share of distillation in the objective: a float in [0, 1],
            or a `keras.optimizers.schedules.LearningRateSchedule` of the step.
            At 1 you need no labels. Defaults to 0.5; docs/settings.md says
            when 1 is better.
        views: What each network sees of the batch: a `kd.views.Views`, or
            augmentation layers of Keras or keras-cv (`kd.views.Augmented`).
            Defaults to the batch as it is.
        teacher_dtype: `"float32"`, `"bfloat16"` or `"float16"`: the precision
            in which the teacher computes. Its weights are cast where they are
            used; `Normalization`, `Rescaling` and the layers that a
            half-precision teacher keeps in float32 stay as they are. Losses
            see float32. Defaults to the teacher's own precision.
        teacher_batch_size: How many samples (per replica) the teacher sees at
            once, to save memory. Defaults to the whole batch, which is faster.
        name: Name of the model.

    Attributes:
        moving_teacher: The teacher if it changes with the student, or `None`.

    Input shapes:
        What `keras.Model.fit` takes. A dict `x` may hold the input names of
        both networks, or the keys `"student"` and `"teacher"`. Losses that
        need to know which samples they see want `kd.views.indexed` data.

    Raises:
        TypeError, ValueError: At construction, or in `fit` before the first
            step. The message says what was given, what was expected and how
            to fix it.

    Example:

    ```python
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(temperature=4.0),
    )
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    distiller.fit(dataset, validation_data=validation, epochs=10)
    distiller.export("student.tflite")
    ```

    Reference: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a
    Neural Network".
    """

    def __init__(
        self,
        *,
        student: keras.Model,
        teacher: keras.Model
        | Sequence[keras.Model]
        | Mapping[str, Any]
        | None = None,
        distillation_losses: Any,
        distillation_loss_weights: Any = None,
        alpha: Any = 0.5,
        views: Any = None,
        teacher_dtype: str | None = None,
        teacher_batch_size: int | None = None,
        name: str = "distiller",
    ) -> None:
        super().__init__(alpha=alpha, views=views, name=name)
        checks.check_student(student)
        self.student = student
        self.distillation_losses = as_distillation_losses(
            distillation_losses, output_keys(student)
        )
        self.distillation_loss_weights = checks.loss_weights(
            distillation_loss_weights, self.distillation_losses
        )
        self._held_tasks = Untracked(None)
        # Keras saves it with the student, as every attribute that is a model.
        self.moving_teacher: keras.Model | None = None
        self._teacher_fingerprint = None
        networks = TeacherStudent(
            student,
            dict(self.distillation_losses),
            checked_teacher_dtype(teacher_dtype),
            checked_integer(
                "teacher_batch_size", teacher_batch_size, or_none=True
            ),
        )
        self._held_networks = Untracked(networks)
        if teacher is not None:
            self.set_teacher(teacher)
        else:
            self._bind_if_shapes_are_known()
        self.built = student.built

    # The networks.

    def _networks(self):
        return self._held_networks.value

    def set_teacher(
        self,
        teacher: keras.Model | Sequence[keras.Model] | Mapping[str, Any],
        check: bool = True,
    ) -> None:
        """Sets the teacher, such as that of a loaded Distiller.

        Args:
            teacher: A `keras.Model`, a list or a dict of them.
            check: Whether it must be the teacher that the Distiller was saved
                with, by fingerprint. Defaults to `True`.
        """
        checked_boolean("check", check)
        teacher = as_teacher(teacher)
        checks.check_teacher(teacher, self.student)
        if checks.is_another_teacher(teacher, self, check):
            for loss in self.distillation_losses.values():
                loss.teacher_changed()
        networks = self._networks()
        networks.set_teacher(teacher)
        check_apart(networks.teacher, self.student)
        self.moving_teacher = self._networks().moving_teacher
        self._bind_if_shapes_are_known()
        # Forget functions that were traced with another teacher.
        self.train_function = None
        self.test_function = None

    def _bind_if_shapes_are_known(self):
        with self.distribute_strategy.scope():
            self._networks().bind_if_shapes_are_known()
        self.views.set_output_shape(self._networks().student_output_shape)

    def call(self, x, training=None):
        """What ships, on the batch as evaluation sees it."""
        x = self.views.evaluation(unpacked(x).inputs)
        return self._networks().deployed_output(x, training)

    def deployable_student(self) -> keras.Model:
        """Returns the model that ships. It needs nothing of this package.

        Returns:
            The student, with a `Dense` per task in the place of
            `kd.multitask.Heads`. With a loss that deploys more
            (`ReusedClassifier`, `IdealJointClassifier`), one model of the
            student's trunk, the connector and the teacher's classifier. It
            shares the trunk with the student, whose own head was never
            trained.

        Raises:
            ValueError: If a subclassed student cannot be made such a model.
        """
        return self._networks().deployable_student()

    def export(
        self,
        filepath: str | os.PathLike,
        format: str | None = None,
        **options: Any,
    ) -> Any:
        """Exports the deployable student, see `kd.export.export_model`.

        Args:
            filepath: Where to write. `"*.tflite"` means LiteRT, `"*.keras"` a
                Keras model, and a path without suffix a SavedModel.
            format: As in `keras.Model.export`. Defaults to what `filepath`
                says.
            **options: `quantization`, `representative_dataset`, `overwrite`,
                and so on. If the views preprocess the student's input, that
                layer goes into the file, unless you pass
                `preprocessing=None`.
        """
        from keras_distill.export.distilled import export_distilled

        return export_distilled(self, filepath, format, **options)

    # Training. What a step does stands in _training/step.py.

    @property
    def output_names(self) -> list[str] | None:
        """Of the student: the keys of losses and metrics by output."""
        meant = self.distillation_losses, getattr(self, "loss", None)
        names = getattr(self.student, "output_names", None)
        return tasks_of(self.student, *meant) or names

    def _tasks(self):
        """The `Tasks` of a compiled Distiller; `None` if it has one output, or
        if no argument is by task."""
        return self._held_tasks.value

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: str | bool = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Configures training. The arguments are those of
        `keras.Model.compile`; these say more:

        Args:
            optimizer: Optimizer of the student and of connectors.
            loss: The task loss `L_S` on the student's output. It may be
                `None` if alpha is 1. A dict task -> loss may leave tasks out.
            loss_weights: `w_t` of each task: a dict, `"uncertainty"` (trained,
                Kendall 2018) or `"dynamic"` (by how fast the loss of a task
                fell in the last epochs, Liu 2019). Defaults to 1 each.
            metrics: Keras metrics of the student, and metrics that compare it
                with the teacher, such as `kd.metrics.Agreement()`.
            jit_compile: `True` compiles the forward passes, the losses and
                the gradient with XLA. If replicas exchange statistics
                (synchronized batch normalization, `cross_replica=True`), only
                the teacher is compiled. If XLA cannot compile a layer of the
                teacher, nothing is. Both cases warn. Defaults to `"auto"`:
                `True` on a GPU without a `tf.distribute` strategy.
            auto_scale_loss: Whether to wrap the optimizer in a
                `LossScaleOptimizer` if a layer of the student computes in
                float16. Defaults to `True`.
        """
        from keras_distill._training import compilation
        from keras_distill._training import compiling_tasks

        checked_boolean("auto_scale_loss", auto_scale_loss)
        checks.check_reduction(loss)
        self._check_compile(loss)
        checks.warn_of_probabilities(
            loss, self.student, self._networks().deployment is not None
        )
        checks.check_log_names(self.distillation_losses, self.student)
        of_teacher, of_student = checks.split_metrics(metrics)
        # Compiling again starts afresh: forget the loss and metrics so far.
        self._forget_compiled()
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=compiling_tasks.of_keras(self, loss, loss_weights),
            metrics=of_student,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=False,
        )
        saved = {"loss_weights": loss_weights, "metrics": metrics}
        self._save_compiled_with(**saved, auto_scale_loss=auto_scale_loss)
        self._held_tasks = Untracked(
            compiling_tasks.compiled_tasks(
                self, loss, loss_weights, of_student, weighted_metrics
            )
        )
        self._compiles_networks = compilation.takes_over_compilation(self)
        if auto_scale_loss and computes_in_float16(self.student):
            self.optimizer = with_loss_scaling(self.optimizer)
        names = checks.log_names(self.distillation_losses)
        names += self._tasks().log_names() if self._tasks() else []
        self._start_logs(names, names, of_teacher)

    def _check_compile(self, loss):
        checks.check_compile(loss, self.alpha)

    def _current_alpha(self):
        if callable(self.alpha):
            return keras.ops.cast(
                self.alpha(self._steps_taken()), keras.config.floatx()
            )
        return self.alpha

    def _steps_taken(self):
        """The step that schedules see, of alpha as of the learning rate."""
        from keras_distill._keras.optimizers import steps_taken

        return steps_taken(self.optimizer)

    def objective(self, student_loss: Any, distillation_loss: Any) -> Any:
        """Combines the terms. A subclass may override it.

        Args:
            student_loss: `L_S`, a scalar; `None` without labels or loss.
            distillation_loss: `sum_k w_k L_k`, a scalar.

        Returns:
            A scalar, to which the regularizers `R` are added.
        """
        alpha = self._current_alpha()
        if student_loss is None or self.alpha == 1.0:
            return alpha * distillation_loss
        return alpha * distillation_loss + (1.0 - alpha) * student_loss

    def train_step(self, data):
        from keras_distill._training import step

        return step.train_step(self, data)

    def test_step(self, data):
        from keras_distill._training import step

        return step.test_step(self, data)

    # Saving.

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the teacher's fingerprint in
        place of the teacher; a moving teacher is saved itself."""
        networks = self._networks()
        config = {
            "student": self.student,
            "teacher": self.moving_teacher,
            "teacher_dtype": networks.teacher_dtype,
            "teacher_batch_size": networks.teacher_batch_size,
            "teacher_fingerprint": teacher_fingerprint(self),
            **self._arguments(),
        }
        if self.moving_teacher is None:
            del config["teacher"]
        return keras.saving.serialize_keras_object(config)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Distiller":
        config = dict(config)
        fingerprint = config.pop("teacher_fingerprint", None)
        distiller = super().from_config(config)
        distiller._teacher_fingerprint = fingerprint
        return distiller

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded Distiller as it was when it was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)
