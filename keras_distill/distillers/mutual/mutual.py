"""`MutualDistiller`: a cohort of students that teach each other."""

import keras

from keras_distill._arguments import checked_alpha
from keras_distill._arguments import one_of
from keras_distill._data.batch_fields import unpacked
from keras_distill._keras.cloning import clone_from_config
from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.untracked import Untracked
from keras_distill._training.logged_model import LoggedModel
from keras_distill._training.outputs import ForwardOutputs
from keras_distill.distillers import checks
from keras_distill.distillers.distiller import Distiller
from keras_distill.distillers.mutual import cohort_checks
from keras_distill.distillers.mutual import configuration
from keras_distill.distillers.mutual.best import Evaluations
from keras_distill.distillers.mutual.first_batch import CohortBatch
from keras_distill.distillers.mutual.member import Member
from keras_distill.losses.keras_losses import as_distillation_losses
from keras_distill.losses.response.soft_targets import SoftTargets
from keras_distill.views import Views
from keras_distill.views.base import checked_views


@keras.saving.register_keras_serializable(package="keras_distill")
class MutualDistiller(Distiller):
    """Trains several students that learn from labels and from each other.

        L_k = alpha * mean_{l != k} sum_j w_j L_j(peer l, student k)
              + (1 - alpha) * L_S(student k) + R_k

    No gradient flows into the peer. With the defaults, `L_j` the KL divergence
    at temperature 1 and alpha 0.5, this is half of the paper's objective,
    `L_S + mean_l KL(p_l || p_k)`.

    Every student has its own optimizer, a copy of the compiled one. `fit`,
    callbacks, replicas, mixed precision, gradient accumulation and saving are
    those of `kd.Distiller`. `predict` and a call give a dict with every
    student's outputs; `evaluate` gives every student's loss and metrics.

    Args:
        students: A list of two or more `keras.Model`s, or a dict name ->
            model. They take the same inputs and have the same classes; they
            may be of any kinds and sizes. The names appear in the logs.
        distillation_losses: As for `kd.Distiller`; every student gets a copy
            for each of its peers, with connectors of its own. Each layer name
            must exist in every student. Defaults to
            `SoftTargets(temperature=1.0)`, the paper's.
        distillation_loss_weights: `w_j`: a number, a list or a dict alike.
            Defaults to 1 each.
        alpha: As for `kd.Distiller`. Defaults to 0.5: the paper weighs both
            terms alike.
        update: `"joint"`: every student runs once per step and all learn from
            these passes. `"alternating"`, the paper's Algorithm 1: the
            students are updated one after the other, in their order; the k-th
            learns from what students 1 to k-1 say of this batch after their
            update in this step, and from what the later ones say before
            theirs. It costs a further pass of each student but the last; that
            pass is in training mode (batch statistics, dropout) and moves no
            statistics of BatchNorm. Defaults to `"joint"`.
        views: A `kd.views.Views`. All students see its student's view.
            Defaults to the batch as it is.
        name: Name of the model.

    Logs:
        `loss`, the sum over the students, and for each student
        `<student>_loss` (`L_k`; in evaluation `L_S + R`),
        `<student>_student_loss` (`L_S`), `<student>_distillation_loss`,
        `<student>_<name>_loss` (mean over the peers) and its metrics
        (`<student>_accuracy`, `val_<student>_accuracy`). A callback that
        watches one of these wants `mode="max"` or `"min"`: Keras knows the
        direction of the metrics of one output only.

    Raises:
        TypeError, ValueError: for fewer than two students, one object or
            weight in two of them, equal names, unlike classes, or a loss that
            needs a trained teacher (SimKD, IJCKD, SRRL, factor transfer, ...).

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

    def __init__(
        self,
        *,
        students,
        distillation_losses=None,
        distillation_loss_weights=None,
        alpha=0.5,
        update="joint",
        views=None,
        name="mutual_distiller",
    ):
        checks.check_backend()
        from keras_distill._training.view_schedule import ViewSchedule

        # Past Distiller.__init__: there is no one student and no teacher.
        LoggedModel.__init__(self, name=name, dtype="float32", autocast=False)
        students = cohort_checks.named_students(students)
        if distillation_losses is None:
            distillation_losses = SoftTargets(temperature=1.0)
        losses = as_distillation_losses(distillation_losses)
        cohort_checks.check_loss_names(losses)
        cohort_checks.check_losses(losses)
        self.distillation_loss_weights = checks.loss_weights(
            distillation_loss_weights, losses
        )
        self.alpha = checked_alpha(alpha)
        self.update = one_of("update", update, ("joint", "alternating"))
        self.views = checked_views(views) or Views(name="views")
        self.members = {
            key: Member(
                student=student,
                peers={n: s for n, s in students.items() if n != key},
                distillation_losses=losses,
                distillation_loss_weights=self.distillation_loss_weights,
                alpha=self.alpha,
                views=self.views,
                name=key,
            )
            for key, student in students.items()
        }
        cohort_checks.check_log_names(self._log_names())
        # What the members copied: never built, none of its weights trained.
        self._kinds = Untracked(losses)
        self._evaluations = Untracked(Evaluations())
        self._first_batch = Untracked(CohortBatch(self))
        self._held_view_schedule = Untracked(ViewSchedule(self))
        self._bind_if_shapes_are_known()
        self.built = all(student.built for student in students.values())

    # The networks.

    @property
    def students(self):
        """Name -> the very `keras.Model` that was given."""
        return {name: member.student for name, member in self.members.items()}

    @property
    def distillation_losses(self):
        return self._kinds.value

    def _networks(self):
        """The first student with its taps; see `members` for all."""
        return next(iter(self.members.values()))._networks()

    def set_teacher(self, teacher, check=True):
        raise ValueError(
            "The students of a MutualDistiller teach each other; it takes no "
            "teacher. For a trained teacher see kd.Distiller."
        )

    def _bind_if_shapes_are_known(self):
        shapes = {
            name: member._networks().student_taps.shapes()
            for name, member in self.members.items()
        }
        if all(shapes.values()):
            self.bind(
                {name: ForwardOutputs(*seen) for name, seen in shapes.items()}
            )

    def bind(self, shapes):
        """Lets all losses meet the students, by the shapes of their outputs."""
        cohort_checks.check_own_weights(self.students)
        outputs = {name: seen.output for name, seen in shapes.items()}
        cohort_checks.check_same_classes(outputs)
        for member in self.members.values():
            member.bind(shapes)
            # Some losses know only now that they need a stage of their own.
            cohort_checks.check_losses(member.distillation_losses)
        self.views.set_output_shape(self._networks().student_output_shape)

    def call(self, x, training=None):
        """Every student's output, a dict, as evaluation sees the batch."""
        x = self.views.evaluation(unpacked(x).inputs)
        return {
            name: member._networks().deployed_output(x, training)
            for name, member in self.members.items()
        }

    def deployable_student(self, name=None):
        """One student, a plain `keras.Model`: the object that was given.

        Args:
            name: Its name. Defaults to the name of `best_student()`.
        """
        return self._member(name).deployable_student()

    def best_student(self, monitor=None, mode="auto"):
        """The student that did best in the last evaluation.

        Args:
            monitor: What to compare: a metric (`"accuracy"`) or `"loss"`.
                Defaults to the first compiled metric, without metrics to
                `"loss"`.
            mode: `"max"`, `"min"`, or `"auto"`: by the name of the metric.

        Returns:
            The `keras.Model`. Of equals the first.

        Raises:
            ValueError: if nothing was evaluated since the students were made
                or loaded, or there is no such metric.
        """
        return self.students[self.best_student_name(monitor, mode)]

    def best_student_name(self, monitor=None, mode="auto"):
        """The name of `best_student`."""
        return self._evaluations.value.best(list(self.members), monitor, mode)

    def export(self, filepath, format=None, *, student=None, **options):
        """Exports one student, see `kd.export.export_model`.

        Args:
            filepath, format, **options: As in `kd.Distiller.export`.
            student: Its name. Defaults to the name of `best_student()`.
        """
        return self._member(student).export(filepath, format, **options)

    def _member(self, name):
        if name is None:
            name = self.best_student_name()
        if name not in self.members:
            raise ValueError(
                f"There is no student '{name}'. The students are "
                f"{list(self.members)}."
            )
        return self.members[name]

    # Training.

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        *,
        metrics=None,
        loss_weights=None,
        weighted_metrics=None,
        auto_scale_loss=True,
        **kwargs,
    ):
        """Configures training, as `keras.Model.compile`.

        Args:
            optimizer: The first student's optimizer; the others get copies of
                its configuration. The learning rate that a callback sets on
                `optimizer` holds for all.
            loss: The task loss of every student.
            metrics: Metrics; every student gets its own copies.
            loss_weights, weighted_metrics, auto_scale_loss, **kwargs: As in
                `keras.Model.compile`.
        """
        cohort_checks.check_metrics(metrics)
        keras.Model.compile(
            self, optimizer=optimizer, auto_scale_loss=False, **kwargs
        )
        objective = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        self._compile_config.config.update(objective)
        given = self.optimizer
        with self.distribute_strategy.scope():
            for index, member in enumerate(self.members.values()):
                # Losses have no state; metrics have.
                member.compile(
                    given if index == 0 else clone_from_config(given),
                    loss,
                    loss_weights=loss_weights,
                    metrics=keras.tree.map_structure(
                        clone_from_config, metrics
                    ),
                    weighted_metrics=keras.tree.map_structure(
                        clone_from_config, weighted_metrics
                    ),
                    auto_scale_loss=auto_scale_loss,
                )
            # Callbacks look for `optimizer`.
            self.optimizer = next(iter(self.members.values())).optimizer
        losses = ["loss", *(f"{name}_loss" for name in self.members)]
        self._start_logs(self._log_names(), losses)

    def fit(self, *args, **kwargs):
        def of_each(first, finalize, variables):
            for member in self.members.values():
                optimizer = member.optimizer
                ends = optimizer.finalize_variable_values
                ends = finalize if optimizer is first else ends
                ends(member.trainable_variables)

        # At the end of training Keras calls that of the one optimizer it knows.
        known = [self.optimizer] if self.compiled else []
        with intercepted(known, "finalize_variable_values", of_each):
            return super().fit(*args, **kwargs)

    fit.__doc__ = Distiller.fit.__doc__

    def train_step(self, data):
        from keras_distill.distillers.mutual import mutual_step

        return mutual_step.train_step(self, data)

    def test_step(self, data):
        from keras_distill.distillers.mutual import mutual_step

        return mutual_step.test_step(self, data)

    def _in_evaluation(self, function, *args, **kwargs):
        def evaluated(*args, **kwargs):
            result = function(*args, **kwargs)
            logs = self._current_logs().evaluation.result()
            for name, member in self.members.items():
                loss = logs.get(f"{name}_loss")
                found = member.results() | (
                    {} if loss is None else {"loss": loss}
                )
                self._evaluations.value.last[name] = found
            return result

        return super()._in_evaluation(evaluated, *args, **kwargs)

    def _build_for(self, batch, with_optimizer):
        for member in self.members.values():
            member._build_for(batch, with_optimizer)

    # Logs.

    def _log_names(self):
        names = [m.log_names() for m in self.members.values()]
        return ["loss", *(name for several in names for name in several)]

    @property
    def metrics(self):
        if self._current_logs() is None:
            return []
        training, evaluation, _ = self._current_logs()
        of_members = [m.compiled_metrics() for m in self.members.values()]
        return [training, evaluation, *(m for ms in of_members for m in ms)]

    def update_members(self, y, outputs, sample_weight):
        """Updates every student's compiled metrics and returns the logs."""
        for name, member in self.members.items():
            if member._compile_metrics is not None and y is not None:
                member._compile_metrics.update_state(
                    y, outputs[name], sample_weight
                )
        if not self._evaluating:
            self._trained_with_labels = y is not None
        return self.get_metrics_result()

    def get_metrics_result(self):
        training, evaluation, _ = self._current_logs()
        results = dict((evaluation if self._evaluating else training).result())
        if not self._evaluating and not self._trained_with_labels:
            return results
        for name, member in self.members.items():
            values = member.results().items()
            results.update({f"{name}_{key}": value for key, value in values})
        return results

    # Saving.

    def get_config(self):
        return configuration.of(self)

    @classmethod
    def from_config(cls, config):
        arguments, shapes = configuration.taken_apart(config)
        cohort = cls(**arguments)
        for name, losses in shapes.items():
            cohort.members[name].build_losses(losses)
        return cohort

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        for member in self.members.values():
            if member.student.built:
                member.optimizer.build(member.trainable_variables)
