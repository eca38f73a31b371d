"""`NativeEnsembleDistiller`: branches whose gated ensemble teaches them."""

from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_string
from keras_distill._arguments import checked_temperature
from keras_distill._keras.cloning import clone_from_config
from keras_distill._training.first_batch import FirstBatch
from keras_distill._training.positions import weight_of_each_position
from keras_distill.distillers import checks
from keras_distill.distillers.distiller import Distiller
from keras_distill.distillers.mutual import cohort_checks
from keras_distill.distillers.native_ensemble.branches import ENSEMBLE
from keras_distill.distillers.native_ensemble.branches import branch_names
from keras_distill.distillers.native_ensemble.branches import output_of
from keras_distill.distillers.native_ensemble.branches import with_branches
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.response.soft_targets import SoftTargets
from keras_distill.taps.paths import named_for_saving
from keras_distill.taps.places import from_config
from keras_distill.taps.places import to_config
from keras_distill.views.augmented import checked_views


class BranchesBatch(FirstBatch):
    """Checks the data of a `NativeEnsembleDistiller`."""

    def _check_labels_are_there(self, y):
        if y is None:
            raise ValueError(
                "The data has no labels, but branches and gate learn from "
                "them. Pass `y`, or a dataset of (x, y)."
            )


class NativeEnsembleLoss(DistillationLoss):
    """`T^2 sum_i KL(softmax(ensemble / T) || softmax(branch_i / T))`.

    It reads a dict of outputs. The ensemble among them is the teacher, through
    which `SoftTargets` lets no gradient flow.

    Args:
        temperature: T.
        **kwargs: As in `DistillationLoss`.
    """

    needs_teacher = False

    def __init__(self, *, temperature, **kwargs):
        super().__init__(**kwargs)
        self.soft_targets = SoftTargets(temperature=temperature)

    def compute_loss(
        self,
        teacher_outputs,
        student_outputs,
        y=None,
        sample_weight=None,
        sample_index=None,
    ):
        ensemble = student_outputs[ENSEMBLE]
        return sum(
            self.soft_targets.compute_loss(
                ensemble, logits, sample_weight=sample_weight
            )
            for name, logits in student_outputs.items()
            if name != ENSEMBLE
        )


@keras.saving.register_keras_serializable(package="keras_distill")
class NativeEnsembleDistiller(Distiller):
    """Trains a student as one of several branches, taught by their ensemble.

        z_e = sum_i g_i z_i                      the gated ensemble
        L = sum_i L_S(z_i) + L_S(z_e)
            + weight * T^2 sum_i KL(softmax(z_e / T) || softmax(z_i / T)) + R

    The branches share the layers up to `branch_from`. Each has its own copy of
    the layers after it, with weights of its own. The gate g is global average
    pooling of the shared features, a dense layer, batch normalization, ReLU
    and softmax. No gradient of the KL flows into `z_e`, so the gate learns from
    labels alone. Both are as in the authors' code.

    The student that you give is the first branch. `evaluate` returns the
    metrics of every branch and of the ensemble; `predict` and a call return a
    dict of their logits.

    Args:
        student: A Functional or Sequential `keras.Model` that gives logits.
        branch_from: Name of the layer whose output the branches share. Every
            path from input to output must go through it. The authors branch
            before the last stage of a ResNet.
        branches: Number of branches, the student included. Defaults to 3, as
            in the authors' code.
        temperature: T. Defaults to 3.0, as in the authors' code.
        distillation_loss_weight: `weight`, a number >= 0, or a
            `keras.optimizers.schedules.LearningRateSchedule` of the step (the
            authors' code raises it to 1 over the first 80 epochs). Defaults
            to 1, the paper's objective.
        views: A `kd.views.Views`. Defaults to the batch as it is.
        name: Name of the model.

    Logs:
        `loss`, `student_loss` (`sum_i L_S(z_i) + L_S(z_e)`),
        `distillation_loss`, and the metrics of `branch_1` (the student),
        `branch_2`, ..., `ensemble`, such as `branch_1_accuracy`. In evaluation
        `loss` is `student_loss + R`. Give a callback that monitors one of
        these `mode="max"` or `"min"`: Keras knows the direction only for the
        metrics of a single output.

    Raises:
        TypeError, ValueError: For fewer than two branches, a student without
            a graph or with a softmax at its end, or a layer at which the
            student cannot be cut in two.

    Example:

    ```python
    distiller = kd.NativeEnsembleDistiller(
        student=student, branch_from="act1", branches=3
    )
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    distiller.fit(dataset, validation_data=validation, epochs=2)
    distiller.export("student.tflite")  # `student`, without its branches
    best = distiller.deployable_ensemble()
    ```

    Reference: Lan, Zhu and Gong 2018, "Knowledge Distillation by On-the-Fly
    Native Ensemble", section 3; gate, temperature and stopped gradient from
    the authors' code, github.com/Lan1991Xu/ONE_NeurIPS2018.
    """

    _first_batch_class = BranchesBatch

    def __init__(
        self,
        *,
        student: keras.Model,
        branch_from: str,
        branches: int = 3,
        temperature: float = 3.0,
        distillation_loss_weight: Any = 1.0,
        views: Any = None,
        name: str = "native_ensemble_distiller",
    ) -> None:
        checks.check_student(student)
        branches = checked_integer(
            "branches", branches, least=2, hint="the student's included"
        )
        branch_from = checked_string("branch_from", from_config(branch_from))
        temperature = checked_temperature(temperature)
        weight = _checked_weight(distillation_loss_weight)
        views = checked_views(views)
        network = with_branches(student, branch_from, branches)
        super().__init__(
            student=network,
            distillation_losses=NativeEnsembleLoss(
                temperature=temperature,
                name="native_ensemble",
            ),
            views=views,
            name=name,
        )
        # The network is what runs; the student is one branch of it.
        self._branched = network
        self.student = student
        self.branch_from = named_for_saving(student, branch_from, "student")
        self.branches = branches
        self.temperature = temperature
        self.distillation_loss_weight = weight

    def _bind_if_shapes_are_known(self):
        super()._bind_if_shapes_are_known()
        # All outputs have one shape, with which labels are compared.
        networks = self._networks()
        shape = networks.student_output_shape[ENSEMBLE]
        networks.student_output_shape = shape
        self.views.set_output_shape(shape)

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs: the branches and the ensemble."""
        return [*branch_names(self.branches), ENSEMBLE]

    def set_teacher(self, teacher, check=True):
        raise ValueError(
            "A NativeEnsembleDistiller is taught by its own ensemble and "
            "takes no teacher. For a trained teacher see kd.Distiller."
        )

    def deployable_student(self, branch: int = 1) -> keras.Model:
        """Returns one branch.

        Args:
            branch: Its number. Defaults to 1, the very student that you gave.
                The others share its trunk.
        """
        checked_integer("branch", branch, most=self.branches)
        if branch == 1:
            return self.student
        name = branch_names(self.branches)[branch - 1]
        return output_of(self._branched, name, f"{self.student.name}_{name}")

    def deployable_ensemble(self) -> keras.Model:
        """Returns all branches and the gate as one model of plain layers."""
        return output_of(
            self._branched, ENSEMBLE, f"{self.student.name}_{ENSEMBLE}"
        )

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
        """Configures training, as `kd.Distiller.compile`.

        Args:
            optimizer: Optimizer of all branches and the gate.
            loss: The task loss of every branch and of the ensemble. It is
                required.
            metrics: Metrics. Every branch and the ensemble get their own.
        """
        cohort_checks.check_metrics(metrics)
        super().compile(
            optimizer,
            loss,
            loss_weights,
            self._for_each_output(metrics),
            self._for_each_output(weighted_metrics),
            run_eagerly,
            steps_per_execution,
            jit_compile,
            auto_scale_loss,
        )
        self._save_compiled_with(
            metrics=metrics, weighted_metrics=weighted_metrics
        )
        self._compiled_loss = SumOverOutputs(self._compiled_loss, loss)

    def _check_compile(self, loss):
        if loss is None:
            raise ValueError(
                "compile() needs loss=..., the task loss from which branches "
                "and gate learn. Received: loss=None"
            )

    def _for_each_output(self, metrics):
        if metrics is None:
            return None
        return {
            name: keras.tree.map_structure(clone_from_config, metrics)
            for name in self.output_names
        }

    def objective(self, student_loss, distillation_loss):
        weight = self.distillation_loss_weight
        if callable(weight):
            weight = ops.cast(
                weight(self._steps_taken()), distillation_loss.dtype
            )
        return student_loss + weight * distillation_loss

    def _update_metrics(self, y, output, sample_weight, teacher_output):
        y = self._labels_of_each(y)
        return super()._update_metrics(y, output, sample_weight, teacher_output)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y = self._labels_of_each(y)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _labels_of_each(self, y):
        if y is None:
            return None
        return dict.fromkeys(self.output_names, y)

    # Saving.

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = (
            "student",
            "branches",
            "temperature",
            "distillation_loss_weight",
            "views",
            "name",
        )
        config = {name: getattr(self, name) for name in names}
        config["branch_from"] = to_config(self.branch_from)
        return keras.saving.serialize_keras_object(config)


class SumOverOutputs:
    """A compiled loss of one output, as the sum over a dict of outputs.

    Args:
        compiled: The compiled loss.
        loss: What it was before.
    """

    def __init__(self, compiled, loss):
        self._loss, self._given = compiled, loss

    def __call__(self, y, outputs, sample_weight=None):
        shape = tuple(next(iter(outputs.values())).shape)
        weight = weight_of_each_position(sample_weight, shape, self._given)
        return sum(self._loss(y, output, weight) for output in outputs.values())

    @property
    def built(self):
        return self._loss.built

    @property
    def metrics(self):
        return self._loss.metrics


def _checked_weight(weight):
    schedule = keras.optimizers.schedules.LearningRateSchedule
    if isinstance(weight, schedule):
        return weight
    return checked_number(
        "distillation_loss_weight",
        weight,
        "[0, inf)",
        hint="or a keras.optimizers.schedules.LearningRateSchedule of the step",
    )
