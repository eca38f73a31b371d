"""`MutualDistiller`: a cohort of students that teach each other."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import one_of
from keras_distill._data.batch_fields import unpacked
from keras_distill._keras.cloning import clone_from_config
from keras_distill._keras.untracked import Untracked
from keras_distill._training.outputs import ForwardOutputs
from keras_distill.distillers import checks
from keras_distill.distillers.base import BaseDistiller
from keras_distill.distillers.mutual import cohort_checks
from keras_distill.distillers.mutual.best import Evaluations
from keras_distill.distillers.mutual.cohort_checks import CohortBatch
from keras_distill.distillers.mutual.member import Member
from keras_distill.distillers.mutual.member import finalized_together
from keras_distill.losses.keras_losses import as_distillation_losses
from keras_distill.losses.response.soft_targets import SoftTargets


@keras.saving.register_keras_serializable(package="keras_distill")
class MutualDistiller(BaseDistiller):
    """Trains several students that learn from labels and from each other.

        L_k = alpha * mean_{l != k} sum_j w_j L_j(peer l, student k)
              + (1 - alpha) * L_S(student k) + R_k

    No gradient flows into the peer. With the defaults (`L_j` the KL divergence
    at temperature 1, alpha 0.5) this is half of the paper's objective,
    `L_S + mean_l KL(p_l || p_k)`.

    Each student has its own optimizer, a copy of the compiled one. `fit`,
    callbacks, replicas, mixed precision, gradient accumulation and saving work
    as in `kd.Distiller`. `predict` and a call return a dict of the students'
    outputs; `evaluate` returns the loss and metrics of each student.

    Args:
        students: A list of two or more `keras.Model`s, or a dict name ->
            model. They take the same inputs and have the same classes, and may
            differ in everything else. Their names appear in the logs.
        distillation_losses: As in `kd.Distiller`. Each student gets a copy
            for each of its peers, with connectors of its own. Each layer name
            must exist in every student. Defaults to
            `SoftTargets(temperature=1.0)`, the paper's.
        distillation_loss_weights: `w_j`, as a number, list or dict to match.
            Defaults to 1 each.
        alpha: As in `kd.Distiller`. Defaults to 0.5: the paper gives both
            terms the same weight.
        update: `"joint"`: each student runs once per step, and all learn from
            these passes. `"alternating"`, the paper's Algorithm 1: the
            students are updated one after the other. Student k learns from
            the outputs of students 1 to k-1 after their update in this step,
            and of the later ones before theirs. This costs one more pass of
            each student but the last. That pass runs in training mode (batch
            statistics, dropout) and moves no statistics of BatchNorm.
            Defaults to `"joint"`.
        views: A `kd.views.Views`. All students see its student's view.
            Defaults to the batch as it is.
        name: Name of the model.

    Logs:
        `loss`, the sum over the students, and for each student
        `<student>_loss` (`L_k`; in evaluation `L_S + R`),
        `<student>_student_loss` (`L_S`), `<student>_distillation_loss`,
        `<student>_<name>_loss` (mean over the peers) and its metrics
        (`<student>_accuracy`, `val_<student>_accuracy`). Give a callback that
        monitors one of these `mode="max"` or `"min"`: Keras knows the
        direction only for the metrics of a single output.

    Raises:
        TypeError, ValueError: For fewer than two students, one object or
            weight in two of them, equal names, different classes, or a loss
            that needs a trained teacher.

    Example:

    ```python
    cohort = kd.MutualDistiller(students={"small": first, "large": second})
    cohort.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    cohort.fit(dataset, validation_data=validation, epochs=2)
    cohort.best_student()  # by val_<student>_accuracy of the last epoch
    cohort.export("small.tflite", student="small")
    ```

    Reference: Zhang, Xiang, Hospedales and Lu 2018, "Deep Mutual Learning",
    section 3 and Algorithm 1.
    """

    _first_batch_class = CohortBatch

    def __init__(
        self,
        *,
        students: Sequence[keras.Model] | dict[str, keras.Model],
        distillation_losses: Any = None,
        distillation_loss_weights: Any = None,
        alpha: Any = 0.5,
        update: str = "joint",
        views: Any = None,
        name: str = "mutual_distiller",
    ) -> None:
        super().__init__(alpha=alpha, views=views, name=name)
        named = cohort_checks.named_students(students)
        if distillation_losses is None:
            distillation_losses = SoftTargets(temperature=1.0)
        losses = as_distillation_losses(distillation_losses, ())
        cohort_checks.check_loss_names(losses)
        cohort_checks.check_losses(losses)
        self.distillation_loss_weights = checks.loss_weights(
            distillation_loss_weights, losses
        )
        self.update = one_of("update", update, ("joint", "alternating"))
        self._members = {
            key: Member(
                student=student,
                peers={n: s for n, s in named.items() if n != key},
                distillation_losses=losses,
                distillation_loss_weights=self.distillation_loss_weights,
                alpha=self.alpha,
                views=self.views,
                name=key,
            )
            for key, student in named.items()
        }
        for loss in losses.values():
            for role in ("teacher", "student"):
                loss._remember_places(role, named)
        cohort_checks.check_log_names(self._log_names())
        # The members train copies of these.
        self._loss_templates = Untracked(losses)
        self._evaluations = Untracked(Evaluations())
        self._bind_if_shapes_are_known()
        self.built = all(student.built for student in named.values())

    # The networks.

    @property
    def students(self) -> dict[str, keras.Model]:
        """The models that you gave, by name."""
        return {name: member.student for name, member in self._members.items()}

    @property
    def distillation_losses(self) -> dict[str, Any]:
        """The losses that you gave, by name. The students train copies."""
        return self._loss_templates.value

    def _networks(self):
        """The first student and its taps. Each member has its own."""
        return next(iter(self._members.values()))._networks()

    def _bind_if_shapes_are_known(self):
        shapes = {
            name: member._networks().student_taps.shapes()
            for name, member in self._members.items()
        }
        if all(shapes.values()):
            self._bind({n: ForwardOutputs(*s) for n, s in shapes.items()})

    def _bind(self, shapes):
        """Binds all losses, by a dict student -> `ForwardOutputs` of shapes."""
        cohort_checks.check_own_weights(self.students)
        cohort_checks.check_same_classes(
            {name: student.output for name, student in shapes.items()}
        )
        for member in self._members.values():
            member.bind(shapes)
            # Some losses know only now that they need a stage of their own.
            cohort_checks.check_losses(member.distillation_losses)
        self.views.set_output_shape(self._networks().student_output_shape)

    def call(self, x, training=None):
        """The outputs of all students, on the batch as evaluation sees it."""
        x = self.views.evaluation(unpacked(x).inputs)
        return {
            name: member._networks().deployed_output(x, training)
            for name, member in self._members.items()
        }

    def deployable_student(self, name: str | None = None) -> keras.Model:
        """Returns one student, the very model that you gave.

        Args:
            name: Its name. Defaults to `best_student_name()`.
        """
        return self._member(name).student

    def best_student(
        self, monitor: str | None = None, mode: str = "auto"
    ) -> keras.Model:
        """Returns the student that did best in the last evaluation.

        Args:
            monitor: What to compare: a metric (`"accuracy"`) or `"loss"`.
                Defaults to the first compiled metric, or to `"loss"` without
                metrics.
            mode: `"max"`, `"min"`, or `"auto"` to go by the metric's name.

        Returns:
            A `keras.Model`. Ties go to the first student.

        Raises:
            ValueError: If nothing was evaluated yet, or not this metric.
        """
        return self.students[self.best_student_name(monitor, mode)]

    def best_student_name(
        self, monitor: str | None = None, mode: str = "auto"
    ) -> str:
        """Returns the name of `best_student()`."""
        return self._evaluations.value.best(list(self._members), monitor, mode)

    def export(
        self,
        filepath: str | os.PathLike,
        format: str | None = None,
        *,
        student: str | None = None,
        **options: Any,
    ) -> Any:
        """Exports one student, see `kd.export.export_model`.

        Args:
            filepath: As in `kd.Distiller.export`.
            format: As in `kd.Distiller.export`.
            student: Its name. Defaults to `best_student_name()`.
            **options: As in `kd.Distiller.export`.
        """
        return self._member(student).export(filepath, format, **options)

    def _member(self, name):
        name = self.best_student_name() if name is None else name
        if name not in self._members:
            raise ValueError(
                f"There is no student '{name}'. The students are "
                f"{list(self._members)}."
            )
        return self._members[name]

    # Training.

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
            optimizer: The first student's optimizer. The others get copies
                and follow the learning rate that a callback sets on it.
            loss: The task loss of every student.
            metrics: Metrics. Each student gets its own copies.
            jit_compile: As in `kd.Distiller`. With `update="alternating"`
                nothing is compiled.
        """
        from keras_distill._training import compilation

        cohort_checks.check_metrics(metrics)
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=False,
        )
        self._save_compiled_with(
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            auto_scale_loss=auto_scale_loss,
        )
        self._compiles_networks = compilation.takes_over_compilation(self)
        first = self.optimizer
        with self.distribute_strategy.scope():
            for index, member in enumerate(self._members.values()):
                member.compile(
                    first if index == 0 else clone_from_config(first),
                    loss,
                    loss_weights,
                    keras.tree.map_structure(clone_from_config, metrics),
                    keras.tree.map_structure(
                        clone_from_config, weighted_metrics
                    ),
                    auto_scale_loss=auto_scale_loss,
                )
            # Callbacks look for `optimizer`.
            self.optimizer = next(iter(self._members.values())).optimizer
        self._start_logs(self._log_names(), self._log_names())

    def _during_training(self):
        return finalized_together(self._members.values())

    def _check_callbacks(self, callbacks):
        cohort_checks.check_callbacks(callbacks)

    def _training_variables(self):
        variables = (m._training_variables() for m in self._members.values())
        return sum(variables, super()._training_variables())

    def train_step(self, data):
        from keras_distill.distillers.mutual import mutual_step

        return mutual_step.train_step(self, data)

    def test_step(self, data):
        from keras_distill.distillers.mutual import mutual_step

        return mutual_step.test_step(self, data)

    @contextlib.contextmanager
    def _in_evaluation(self):
        with super()._in_evaluation():
            yield
        losses = self._current_logs().evaluation.result()
        self._evaluations.value.record(self._members, losses)

    def _build_for(self, batch, with_optimizer):
        for member in self._members.values():
            member._build_for(batch, with_optimizer)

    # Logs.

    def _log_names(self):
        return sum((m.log_names() for m in self._members.values()), ["loss"])

    @property
    def metrics(self):
        if self._current_logs() is None:
            return []
        training, evaluation, _ = self._current_logs()
        of_members = (m.compiled_metrics() for m in self._members.values())
        return sum(of_members, [training, evaluation])

    def _update_metrics(self, y, outputs, sample_weight):
        for name, member in self._members.items():
            member.update_compiled_metrics(y, outputs[name], sample_weight)
        self._labelled[self._evaluating] = y is not None
        return self.get_metrics_result()

    def get_metrics_result(self):
        training, evaluation, _ = self._current_logs()
        results = dict((evaluation if self._evaluating else training).result())
        if not self._labelled[self._evaluating]:
            return results
        for name, member in self._members.items():
            values = member.results().items()
            results.update({f"{name}_{key}": value for key, value in values})
        return results

    # Saving.

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments and the shapes that losses were built
        for, which subclassed students show only on data."""
        arguments = {
            "students": self.students,
            "update": self.update,
            **self._arguments(),
        }
        config = keras.saving.serialize_keras_object(arguments)
        shapes = {n: m.loss_shapes() for n, m in self._members.items()}
        return {**config, "loss_shapes": shapes}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MutualDistiller":
        config = dict(config)
        shapes = config.pop("loss_shapes", {})
        cohort = super().from_config(config)
        for name, losses in shapes.items():
            cohort._members[name].build_losses(losses)
        return cohort

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded cohort as it was when it was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        for member in self._members.values():
            if member.student.built:
                member.optimizer.build(member.trainable_variables)
