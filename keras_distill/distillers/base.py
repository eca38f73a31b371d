"""`BaseDistiller`: what every distiller does around Keras's `fit`."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import keras

from keras_distill._arguments import checked_alpha
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import one_of
from keras_distill._data.class_weights import weigh_positions
from keras_distill._data.values import check_class_weight
from keras_distill._data.values import check_sample_weight
from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.untracked import Untracked
from keras_distill._training.evaluation import check_validation
from keras_distill._training.first_batch import FirstBatch
from keras_distill._training.first_batch import check_labels_for_class_weight
from keras_distill._training.first_batch import check_labels_for_sample_weight
from keras_distill._training.logged_model import LoggedModel
from keras_distill._training.prepare import prepare_losses
from keras_distill._training.task_checks import checked_data
from keras_distill._training.task_checks import checked_validation_data
from keras_distill.distillers import checks
from keras_distill.losses.keras_losses import nested_by_task
from keras_distill.views import Views
from keras_distill.views.augmented import checked_views


class BaseDistiller(LoggedModel):
    """A model that trains other models, with Keras's own `fit`.

    Before the first step it checks the first batch and builds whatever is
    not built yet. During training it tells the views which epoch it is. In
    evaluation it leaves every weight and statistic alone.

    A subclass defines `compile` (which calls `_start_logs`), `train_step`,
    `test_step`, `call`, `distillation_losses` and `_networks()`.

    Args:
        alpha: Share of distillation in the objective, see `kd.Distiller`.
        views: A `kd.views.Views`, or `None` for the batch as it is.
        name: Name of the model.
    """

    _first_batch_class = FirstBatch

    def __init__(self, *, alpha: Any, views: Any, name: str) -> None:
        checks.check_backend()
        from keras_distill._training.view_schedule import ViewSchedule

        # The networks cast inputs, each to its own policy.
        super().__init__(name=name, dtype="float32", autocast=False)
        self.alpha = checked_alpha(alpha)
        self.views = checked_views(views) or Views(name="views")
        self._warned_of_class_weight = False
        self._first_batch = Untracked(self._first_batch_class(self))
        self._held_view_schedule = Untracked(ViewSchedule(self))

    def _networks(self):
        """The networks of a step and their taps, a `TeacherStudent`."""
        raise NotImplementedError

    def _trained_networks(self):
        networks = self._networks()
        pair = {"student": networks.student, "teacher": networks.teacher}
        return getattr(self, "students", pair)  # A cohort has several.

    def _tasks(self):
        """The `Tasks` of the student, or `None`."""
        return None

    def _view_schedule(self):
        """How training uses the views, a `ViewSchedule`."""
        return self._held_view_schedule.value

    def build(self, input_shape=None):
        # The networks build themselves when they are first called.
        self.built = True

    # Training.

    def compile(self, *args: Any, **options: Any) -> None:
        # Keras takes any string for true.
        checked_boolean("run_eagerly", options["run_eagerly"])
        checked_integer("steps_per_execution", options["steps_per_execution"])
        choices = ("auto", True, False)
        one_of("jit_compile", options["jit_compile"], choices)
        super().compile(*args, **options)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> keras.callbacks.History:
        """Trains by distillation. The arguments are those of `keras.Model.fit`.

        It differs from `keras.Model.fit` in four points:

        - It looks at the first batch before the first step. A mistake in the
          data, or networks that do not fit it or each other, raise an error
          that says how to fix it.
        - `x` may carry more than the input of a model: one input for each
          network, a sample index (`kd.views.indexed`), or a teacher's outputs
          (`kd.TeacherCache.join`).
        - Some losses have a stage before training, such as the paraphraser of
          `kd.losses.FactorTransfer`. It runs first, on `x`.
        - The states of `stateful=True` layers, of student and teacher, are
          zero at the start of each epoch and go on from batch to batch. The
          data must be streams in order, such as those of
          `kd.datasets.language_model`. Evaluation begins with zeros, and
          leaves the states of training alone. Under `tf.distribute`, make the
          networks for the streams of one replica.
        """
        from keras_distill._training.fit_callbacks import fit_callbacks

        self._check_compiled("fit")
        arguments = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "steps_per_epoch": steps_per_epoch,
            "class_weight": class_weight,
            "sample_weight": sample_weight,
            "validation_split": (
                validation_split if validation_data is None else 0
            ),
        }
        check_sample_weight(sample_weight)
        check_labels_for_sample_weight(x, y, sample_weight)
        check_labels_for_sample_weight(
            *keras.utils.unpack_x_y_sample_weight(validation_data)
        )
        check_class_weight(class_weight)
        x = self._first_batch.value.prepare(x, y, arguments)
        y, sample_weight = checked_data(self, x, y, sample_weight)
        validation_data = checked_validation_data(self, validation_data)
        self._note_weights(sample_weight, "train_function")
        checks.warn_of_class_weight(self, class_weight)
        if validation_data is not None or validation_split:
            checks.check_teacher_metrics(self)
            of_fit = validation_data is None
            check_validation(self, (x, y) if of_fit else validation_data)
            size = validation_batch_size or batch_size
            self._check_streams(validation_data, size)
        prepare_losses(self, x, arguments)
        x, sample_weight, class_weight = self._weigh_positions(
            x,
            y,
            sample_weight,
            class_weight,
            validation_split if validation_data is None else 0.0,
        )
        with self._during_training():
            return super().fit(
                x,
                y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=fit_callbacks(self, callbacks, x, shuffle),
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                class_weight=class_weight,
                sample_weight=sample_weight,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_batch_size=validation_batch_size,
                validation_freq=validation_freq,
            )

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Takes one step, as `keras.Model.train_on_batch`.

        The first batch of each kind is checked as in `fit`.
        """
        self._check_compiled("train_on_batch")
        check_sample_weight(sample_weight)
        check_class_weight(class_weight)
        check_labels_for_class_weight(class_weight, y is not None)
        self._first_batch.value.check_kind(x, y)
        self._note_weights(sample_weight, "train_function")
        x, sample_weight, class_weight = self._weigh_positions(
            x, y, sample_weight, class_weight
        )
        return super().train_on_batch(
            x, y, sample_weight, class_weight, return_dict
        )

    def _note_weights(self, sample_weight, function):
        """Forgets a function that was traced with weights of another kind."""
        tasks = self._tasks()
        if tasks is not None and tasks.note_weights(sample_weight):
            setattr(self, function, None)

    def _weigh_positions(self, x, y, sample_weight, class_weight, split=0.0):
        shape = self._networks().student_output_shape
        return weigh_positions(x, y, sample_weight, class_weight, shape, split)

    def _check_callbacks(self, callbacks):
        """Raises for callbacks of `fit` that do not do what they say."""

    def _during_training(self):
        """A context around the training of `fit`."""
        return contextlib.nullcontext()

    # Evaluation.

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs,
    ) -> Any:
        """Evaluates what you ship, as `keras.Model.evaluate`.

        `loss` is the task loss plus regularizers. The teacher runs only if a
        metric compares with it, or if there is nothing but distillation to
        measure (alpha=1 without labels or without a task loss): then there is
        no `loss`, but `distillation_loss` and its parts. No weight and no
        statistic changes.
        """
        check_sample_weight(sample_weight)
        check_labels_for_sample_weight(x, y, sample_weight)
        with self._in_evaluation():
            y, sample_weight = checked_data(self, x, y, sample_weight)
            self._note_weights(sample_weight, "test_function")
            return super().evaluate(
                x,
                y,
                batch_size=batch_size,
                verbose=verbose,
                sample_weight=sample_weight,
                steps=steps,
                callbacks=callbacks,
                return_dict=return_dict,
                **kwargs,
            )

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Evaluates one batch, see `evaluate`."""
        check_sample_weight(sample_weight)
        with self._in_evaluation():
            return super().test_on_batch(x, y, sample_weight, return_dict)

    @contextlib.contextmanager
    def _in_evaluation(self) -> Iterator[None]:
        checks.check_teacher_metrics(self)
        before, self._evaluating = self._evaluating, True
        try:
            yield
        finally:
            self._evaluating = before

    def predict_step(self, data):
        from keras_distill._training import step

        return step.predict_step(self, data)

    # Building before the first step.

    def _build_before_steps(self, iterator, data_batch):
        # On one device Keras leaves this to the first step, which then makes
        # the optimizer's variables and is traced twice. On several devices it
        # builds with the average of the replicas' first batches, which fails
        # if these differ in size. fit() has built the networks by now.
        batch = self._batch_to_build_for(iterator, data_batch)
        if batch is not None:
            with self.distribute_strategy.scope():
                self._build_for(batch, not self._evaluating)

    def _batch_to_build_for(self, iterator, data_batch):
        """Returns the first batch of `fit`. In an evaluation before any `fit`,
        returns the given batch, or on one device `None`: the first step
        builds."""
        first = self._first_batch.value
        if first.batch is not None or not self._made_under_strategy:
            return first.batch
        if data_batch is None:
            from keras_distill._distribute import strategies

            data_batch = strategies.first_of_replica(
                self.distribute_strategy, iterator
            )
        return first.standardized(data_batch)

    def _build_for(self, batch, with_optimizer):
        """Makes the variables of metrics and optimizer before the first step.

        Args:
            batch: `(x, y, sample_weight)`. Without labels Keras would pass
                `None` to a task loss that has no share (alpha=1).
            with_optimizer: Whether the optimizer is built too. It has to wait
                for the weights of connectors that are built later.
        """
        without = [] if with_optimizer else [self.optimizer]
        if batch[1] is not None:
            with intercepted(without, "build", lambda *_: None):
                self._build_on_symbols(batch)
        elif with_optimizer and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    # Saving.

    def save(
        self, filepath: str | os.PathLike, overwrite: bool = True, **kwargs: Any
    ) -> None:
        """Saves to a `.keras` file, which `kd.load_distiller` reads.

        The arguments are those of `keras.Model.save`.
        """
        if os.fspath(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"save(filepath={os.fspath(filepath)!r}): a distiller is saved "
                "to a .keras file; an HDF5 file cannot be loaded again. Pass "
                "filepath='....keras'. For the weights alone call "
                "save_weights('....weights.h5')."
            )
        super().save(filepath, overwrite=overwrite, **kwargs)

    def _arguments(self) -> dict[str, Any]:
        """The arguments that all distillers have, for `get_config`."""
        return {
            "distillation_losses": nested_by_task(
                self.distillation_losses, self.distillation_losses
            ),
            "distillation_loss_weights": nested_by_task(
                self.distillation_loss_weights, self.distillation_losses
            ),
            "alpha": self.alpha,
            "views": self.views,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BaseDistiller":
        """Makes a distiller from what `get_config` returned."""
        return cls(**keras.saving.deserialize_keras_object(config))
