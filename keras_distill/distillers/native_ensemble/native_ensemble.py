"""`NativeEnsembleDistiller`: branches whose gated ensemble teaches them."""

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_temperature
from keras_distill._keras.cloning import clone_from_config
from keras_distill._keras.untracked import Untracked
from keras_distill.distillers import checks
from keras_distill.distillers.distiller import Distiller
from keras_distill.distillers.mutual import cohort_checks
from keras_distill.distillers.mutual.first_batch import BranchesBatch
from keras_distill.distillers.native_ensemble.branches import ENSEMBLE
from keras_distill.distillers.native_ensemble.branches import branch_names
from keras_distill.distillers.native_ensemble.branches import output_of
from keras_distill.distillers.native_ensemble.branches import with_branches
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.response.soft_targets import SoftTargets


class NativeEnsembleLoss(DistillationLoss):
    """`T^2 sum_i KL(softmax(ensemble / T) || softmax(branch_i / T))`.

    Reads a dict of outputs; its ensemble is the teacher, through which no
    gradient flows.

    Args:
        temperature: T.
        **kwargs: see `DistillationLoss`.
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
        ensemble = ops.stop_gradient(student_outputs[ENSEMBLE])
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

    The layers up to `branch_from` are shared, those after it are copied with
    weights of their own. The gate g is global average pooling of the shared
    features, a dense layer, batch normalization, ReLU and softmax. No gradient
    of the KL flows into `z_e`: the gate learns from the labels. Both are as in
    the authors' code.

    The student that was given is the first branch. `evaluate` gives the
    metrics of every branch and of the ensemble; `predict` and a call give a
    dict with all their logits.

    Args:
        student: A Functional or Sequential `keras.Model` that gives logits.
        branch_from: Name of the layer whose output the branches share. Every
            path from input to output goes through it. The authors branch
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
        `distillation_loss`, and for each of `branch_1` (the student),
        `branch_2`, ..., `ensemble` its metrics (`branch_1_accuracy`). In
        evaluation `loss` is `student_loss + R`. A callback that watches one
        of these wants `mode="max"` or `"min"`: Keras knows the direction of
        the metrics of one output only.

    Raises:
        TypeError, ValueError: for fewer than two branches, a student without
            a graph or that ends in a softmax, or a layer at which it cannot
            be cut in two.

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

    def __init__(
        self,
        *,
        student,
        branch_from,
        branches=3,
        temperature=3.0,
        distillation_loss_weight=1.0,
        views=None,
        name="native_ensemble_distiller",
    ):
        checks.check_student(student)
        branches = checked_integer(
            "branches", branches, least=2, hint="the student's included"
        )
        network = with_branches(student, branch_from, branches)
        super().__init__(
            student=network,
            distillation_losses=NativeEnsembleLoss(
                temperature=checked_temperature(temperature),
                name="native_ensemble",
            ),
            views=views,
            name=name,
        )
        self._first_batch = Untracked(BranchesBatch(self))
        # The network is what runs; the student is the part that was given.
        self.network = network
        self.student = student
        self.branch_from = branch_from
        self.branches = branches
        self.temperature = float(temperature)
        self.distillation_loss_weight = _checked_weight(
            distillation_loss_weight
        )

    def _bind_if_shapes_are_known(self):
        super()._bind_if_shapes_are_known()
        # One for all outputs: the labels are compared with it.
        pair = self._networks()
        pair.student_output_shape = pair.student_output_shape[ENSEMBLE]
        self.views.set_output_shape(pair.student_output_shape)

    @property
    def output_names(self):
        """The outputs: the branches and the ensemble."""
        return [*branch_names(self.branches), ENSEMBLE]

    def set_teacher(self, teacher, check=True):
        raise ValueError(
            "A NativeEnsembleDistiller is taught by its own ensemble; it "
            "takes no teacher. For a trained teacher see kd.Distiller."
        )

    def deployable_student(self, branch=1):
        """One branch, a plain `keras.Model`.

        Args:
            branch: Its number. Defaults to 1: the very student that was
                given. The others share its trunk.
        """
        if branch not in range(1, self.branches + 1):
            raise ValueError(
                f"branch is a number from 1 to {self.branches}. Received: "
                f"branch={branch!r}"
            )
        if branch == 1:
            return self.student
        name = branch_names(self.branches)[branch - 1]
        return output_of(self.network, name, f"{self.student.name}_{name}")

    def deployable_ensemble(self):
        """All branches under the gate as one plain `keras.Model`."""
        return output_of(
            self.network, ENSEMBLE, f"{self.student.name}_{ENSEMBLE}"
        )

    # Training.

    def compile(
        self, optimizer="rmsprop", loss=None, *, metrics=None, **kwargs
    ):
        """Configures training, as `keras.Model.compile`.

        Args:
            optimizer: Optimizer of all branches and the gate.
            loss: The task loss, of every branch and of the ensemble.
            metrics: Metrics; every branch and the ensemble get their own.
            **kwargs: As in `keras.Model.compile`.
        """
        if loss is None:
            raise ValueError(
                "compile() needs loss=...: the task loss, from which branches "
                "and gate learn. Received: loss=None"
            )
        cohort_checks.check_metrics(metrics)
        weighted = kwargs.pop("weighted_metrics", None)
        super().compile(
            optimizer,
            loss,
            metrics=self._for_each_output(metrics),
            weighted_metrics=self._for_each_output(weighted),
            **kwargs,
        )
        self._compile_config.config.update(
            metrics=metrics, weighted_metrics=weighted
        )
        self._compile_loss = SumOverOutputs(self._compile_loss)

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

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        weight = self.distillation_loss_weight
        return {
            "student": serialize(self.student),
            "branch_from": self.branch_from,
            "branches": self.branches,
            "temperature": self.temperature,
            "distillation_loss_weight": serialize(weight)
            if callable(weight)
            else weight,
            "views": serialize(self.views),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        config = dict(config)
        config["student"] = deserialize(config["student"])
        config["views"] = deserialize(config["views"])
        if isinstance(config["distillation_loss_weight"], dict):
            config["distillation_loss_weight"] = deserialize(
                config["distillation_loss_weight"]
            )
        return cls(**config)


class SumOverOutputs:
    """A compiled loss of one output, as the sum over a dict of outputs."""

    def __init__(self, loss):
        self._loss = loss

    def __call__(self, y, outputs, sample_weight=None):
        return sum(
            self._loss(y, output, sample_weight) for output in outputs.values()
        )

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
