"""`Distiller`: what the user constructs, compiles, fits, saves and exports."""

import inspect

import keras

from keras_distill._arguments import checked_alpha
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_teacher_dtype
from keras_distill._data.batch_fields import unpacked
from keras_distill._keras.loss_scaling import computes_in_float16
from keras_distill._keras.loss_scaling import with_loss_scaling
from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.untracked import Untracked
from keras_distill._training.first_batch import FirstBatch
from keras_distill._training.logged_model import LoggedModel
from keras_distill._training.networks import TeacherStudent
from keras_distill._training.prepare import prepare_losses
from keras_distill.distillers import checks
from keras_distill.distillers import serialization
from keras_distill.losses.keras_losses import as_distillation_losses
from keras_distill.teachers.roles import as_teacher
from keras_distill.views import Views
from keras_distill.views.base import checked_views


@keras.saving.register_keras_serializable(package="keras_distill")
class Distiller(LoggedModel):
    """Trains a student from labels and from a teacher, with `model.fit`.

        L = alpha * sum_k w_k L_k(teacher, student) + (1 - alpha) * L_S + R

    `L_S` is the loss given to `compile`, each `L_k` a distillation loss, `R`
    the regularizers of the student. The teacher runs once per step, in
    inference mode, and is left as it was; the student runs once per step.
    `evaluate`, `predict`, `save` of the student and `export` are about the
    student alone. A loss that puts the teacher's classifier behind the student
    (SimKD, IJCKD) changes what that is: `L_S`, metrics, `evaluate`, `predict`
    and `export` then take the logits of `deployable_student()`.

    Args:
        student: The `keras.Model` to train.
        teacher: A trained `keras.Model`; a list of them (their probabilities
            are averaged, see `kd.Ensemble`); `kd.MovingAverageTeacher`; or
            `None` where the losses need none, the data carries its outputs
            (`kd.TeacherCache`), or it is given later by `set_teacher`. Its
            weights and `trainable` flags are not touched.
        distillation_losses: A distillation loss (`kd.losses`, or one of
            `keras.distillation`), a list of them, or a dict name -> loss.
            Names appear in the logs as `<name>_loss`.
        distillation_loss_weights: `w_k`: a number, a list or a dict alike.
            Defaults to 1 each.
        alpha: Share of distillation in the objective: a float in [0, 1], or a
            `keras.optimizers.schedules.LearningRateSchedule` of the step. At
            1 no labels are needed. Defaults to 0.5, the best of 0.5, 0.9 and
            1 over student sizes, amounts of images and lengths of training
            (README, "What to expect when").
        views: What each network sees, a `kd.views.Views`. Defaults to the
            batch as it is.
        teacher_dtype: The precision that the teacher computes in:
            `"bfloat16"`, `"float16"` or `"float32"`, beside a student of any
            policy. Its weights stay in theirs and are cast where they are
            used, as under Keras's mixed policies; the losses see float32. In
            half precision these stay as they are: `Normalization` and
            `Rescaling` of raw inputs in a Functional or Sequential model, and
            the float32 layers of a teacher that computes in half precision
            itself (such as its head). Defaults to `None`, the teacher's own.
        teacher_batch_size: The teacher sees at most so many samples (of a
            replica) at once, and the rest of the batch after these: its
            activations need the memory of so many. Its outputs are the same.
            Defaults to `None`, the whole batch, which is faster.
        name: Name of the model.

    Input shapes:
        `fit` takes what `keras.Model.fit` takes. A dict `x` may hold the input
        names of both networks, or `"student"` and `"teacher"`. Losses that
        need to know which samples they see want `kd.views.indexed` data.

    Raises:
        TypeError, ValueError: at construction, or in `fit` before the first
            step; the message says what was given, what was expected, and how
            to mend it.

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
        student,
        teacher=None,
        distillation_losses,
        distillation_loss_weights=None,
        alpha=0.5,
        views=None,
        teacher_dtype=None,
        teacher_batch_size=None,
        name="distiller",
    ):
        checks.check_backend()
        from keras_distill._training.view_schedule import ViewSchedule

        # Inputs are the networks' business: each casts to its own policy.
        super().__init__(name=name, dtype="float32", autocast=False)
        checks.check_student(student)
        self.student = student
        self.distillation_losses = as_distillation_losses(distillation_losses)
        self.distillation_loss_weights = checks.loss_weights(
            distillation_loss_weights, self.distillation_losses
        )
        self.alpha = checked_alpha(alpha)
        self.views = checked_views(views) or Views(name="views")

        self._teacher_fingerprint = None
        pair = TeacherStudent(
            student,
            dict(self.distillation_losses),
            checked_teacher_dtype(teacher_dtype),
            checked_integer(
                "teacher_batch_size", teacher_batch_size, or_none=True
            ),
        )
        self._held_networks = Untracked(pair)
        self._first_batch = Untracked(FirstBatch(self))
        self._held_view_schedule = Untracked(ViewSchedule(self))
        if teacher is not None:
            self.set_teacher(teacher)
        else:
            self._bind_if_shapes_are_known()
        self.built = student.built

    # The networks.

    def _networks(self):
        """The two networks with their taps, a `TeacherStudent`."""
        return self._held_networks.value

    def set_teacher(self, teacher, check=True):
        """Gives a loaded Distiller its teacher.

        Args:
            teacher: A `keras.Model` or a list of them.
            check: Whether it must be the teacher that the Distiller was saved
                with, by fingerprint. Defaults to `True`.
        """
        teacher = as_teacher(teacher)
        checks.check_teacher(teacher, self.student)
        if checks.is_another_teacher(teacher, self, check):
            for loss in self.distillation_losses.values():
                loss.teacher_changed()
        self._networks().set_teacher(teacher)
        # One that changes with the student is saved with it.
        self.moving_teacher = self._networks().moving_teacher
        self._bind_if_shapes_are_known()
        # Functions traced without this teacher are of no use.
        self.train_function = None
        self.test_function = None

    def _view_schedule(self):
        """How the views are used in training, a `ViewSchedule`."""
        return self._held_view_schedule.value

    def _bind_if_shapes_are_known(self):
        with self.distribute_strategy.scope():
            self._networks().bind_if_shapes_are_known()
        self.views.set_output_shape(self._networks().student_output_shape)

    def call(self, x, training=None):
        """What ships, on the batch as evaluation sees it."""
        x = self.views.evaluation(unpacked(x).inputs)
        return self._networks().deployed_output(x, training)

    def build(self, input_shape=None):
        # The student builds itself when it is first called.
        self.built = True

    def deployable_student(self):
        """The plain `keras.Model` that ships: needs nothing of this package.

        Returns:
            The student; or, with a loss that deploys more (SimKD, IJCKD),
            trunk + connector + teacher's classifier as one model, which shares
            its trunk with the student. Then `student` alone is not what was
            trained: its own head never took part.

        Raises:
            ValueError: if such a model cannot be made of a subclassed student.
        """
        return self._networks().deployable_student()

    def export(self, filepath, format=None, **options):
        """Exports the deployable student, see `kd.export.export_model`.

        Args:
            filepath: `"*.tflite"` means LiteRT, `"*.keras"` the Keras model,
                a path without suffix a SavedModel.
            format: As in `keras.Model.export`; `None`: by `filepath`.
            **options: `quantization`, `representative_dataset`, `overwrite`,
                ... The views' layer before the student goes into the file,
                unless `preprocessing=None`.
        """
        from keras_distill.export.distilled import export_distilled

        return export_distilled(self, filepath, format, **options)

    # Training.

    @property
    def output_names(self):
        """The student's, where it shows them: losses and metrics of `compile`
        may be dicts by these names."""
        return getattr(self.student, "output_names", None)

    def compile(
        self, optimizer="rmsprop", loss=None, *, metrics=None, **kwargs
    ):
        """Configures training, as `keras.Model.compile`.

        Args:
            optimizer: Optimizer of student and connectors. It is wrapped in a
                `LossScaleOptimizer` if any layer of the student computes in
                float16.
            loss: The task loss `L_S` on the student's output. `None` is
                allowed if alpha is 1.
            metrics: Keras metrics of the student, and metrics that compare it
                with the teacher such as `kd.metrics.Agreement()`.
            **kwargs: As in `keras.Model.compile`. `jit_compile=True` compiles
                forward, losses and gradient of both networks. On several
                replicas with synchronized batch normalization or
                `cross_replica=True` it compiles the teacher alone, where the
                teacher has a layer that XLA cannot compile nothing: both with
                a warning. `"auto"`, the default, is `True` on a GPU without a
                `tf.distribute` strategy.
        """
        from keras_distill._training import compilation

        checks.check_compile(loss, self.alpha)
        checks.warn_of_probabilities(
            loss, self.student, self._networks().deployment is not None
        )
        checks.check_log_names(self.distillation_losses, self.student)
        own, others = checks.split_metrics(metrics)
        auto_scale_loss = kwargs.pop("auto_scale_loss", True)
        # compile() is not cumulative: forget the loss and metrics of before.
        self.loss = self._compile_loss = self._compile_metrics = None
        super().compile(
            optimizer=optimizer,
            loss=loss,
            metrics=others,
            auto_scale_loss=False,
            **kwargs,
        )
        self._compile_config.config["metrics"] = metrics
        self._compiles_networks = compilation.takes_over_compilation(self)
        if auto_scale_loss and computes_in_float16(self.student):
            self.optimizer = with_loss_scaling(self.optimizer)
        names = checks.log_names(self.distillation_losses)
        self._start_logs(names, ["loss"], own)

    def _current_alpha(self):
        if callable(self.alpha):
            return keras.ops.cast(
                self.alpha(self._steps_taken()), keras.config.floatx()
            )
        return self.alpha

    def _steps_taken(self):
        """What schedules are asked for, of alpha as of the learning rate."""
        from keras_distill._keras.optimizers import steps_taken

        return steps_taken(self.optimizer)

    def objective(self, student_loss, distillation_loss):
        """How the terms combine, without R; a subclass may override it.

        Args:
            student_loss: `L_S`, a scalar; `None` without labels or loss.
            distillation_loss: `sum_k w_k L_k`, a scalar.
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

    def predict_step(self, data):
        from keras_distill._training import step

        return step.predict_step(self, data)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains the student, as `keras.Model.fit`."""
        self._assert_compile_called("fit")
        given = inspect.signature(super().fit).bind(x, y, *args, **kwargs)
        x = self._first_batch.value.prepare(x, y, given.arguments)
        prepare_losses(self, x, given.arguments)
        callbacks = given.arguments.get("callbacks")
        given.arguments["callbacks"] = self._view_schedule().callbacks(
            callbacks
        )
        given.arguments["x"] = x
        return super().fit(*given.args, **given.kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        self._assert_compile_called("train_on_batch")
        self._first_batch.value.check_kind(x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """Evaluates the student, as `keras.Model.evaluate`.

        `loss` is the task loss. The teacher runs only for metrics that
        compare with it. No weight and no statistic changes.
        """
        return self._in_evaluation(super().evaluate, *args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        return self._in_evaluation(super().test_on_batch, *args, **kwargs)

    def _in_evaluation(self, function, *args, **kwargs):
        checks.check_teacher_metrics(self)
        before, self._evaluating = self._evaluating, True
        try:
            return function(*args, **kwargs)
        finally:
            self._evaluating = before

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # On one device Keras leaves it to the first step, which then makes the
        # optimizer's variables and so is traced twice. On several it averages
        # the replicas' first batches to get a batch to build with, which fails
        # on an uneven one. fit() has built the networks by then.
        batch = self._batch_to_build_for(iterator, data_batch)
        if batch is not None:
            with self.distribute_strategy.scope():
                self._build_for(batch, not self._evaluating)

    def _batch_to_build_for(self, iterator, data_batch):
        """That of `fit`; in an evaluation before it the given one, and `None`
        on one device, where the first step builds."""
        first = self._first_batch.value
        if first.batch is not None or self._distribute_strategy is None:
            return first.batch
        if data_batch is None:
            from keras_distill._distribute import strategies

            data_batch = strategies.first_of_replica(
                self.distribute_strategy, iterator
            )
        return first.plain(data_batch)

    def _build_for(self, batch, with_optimizer):
        """Makes the variables of metrics and optimizer before the first step.

        Args:
            batch: `(x, y, sample_weight)`. Without labels Keras would pass
                `None` to a task loss that has no share (alpha=1).
        """
        # There may be connectors to come, whose weights it will have.
        without = [] if with_optimizer else [self.optimizer]
        if batch[1] is not None:
            with intercepted(without, "build", lambda *_: None):
                self._symbolic_build(data_batch=batch)
        elif with_optimizer and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    # Saving.

    def get_config(self):
        return serialization.to_config(self)

    @classmethod
    def from_config(cls, config):
        arguments, teacher_fingerprint = serialization.taken_apart(config)
        distiller = cls(**arguments)
        distiller._teacher_fingerprint = teacher_fingerprint
        return distiller

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        if self.built:
            self.optimizer.build(self.trainable_variables)
