"""The contract of a distillation loss.

A loss says what it needs to see of the two networks (its taps) and compares
it. It never learns how taps are taken, which views the networks see, where the
teacher's outputs come from, or how many devices train. It uses `keras.ops` and
public Keras only, so it runs on every Keras backend. docs/your_own_loss.md
explains the contract with an example.
"""

import re
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._keras.layers import flatten_layers
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import validated_taps
from keras_distill.losses.values import check_finite
from keras_distill.taps.paths import named_for_saving
from keras_distill.taps.places import for_network
from keras_distill.taps.places import for_networks
from keras_distill.taps.places import to_config


def snake_case(name):
    """`"SoftTargets"` as `"soft_targets"`, the default name of a loss."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


class DistillationLoss(keras.layers.Layer, keras.distillation.DistillationLoss):
    """Base class of all distillation losses.

    A subclass implements `compute_loss` and, if it trains connectors, `build`.
    Six class attributes say what it needs, these four and two for special
    cases (docs/your_own_loss.md); a subclass may also set them in its
    constructor:

    - `needs_teacher`: `True` (the default); `False` for a loss of the student
      alone; `"trained"` for a loss that learns from a teacher's weights or
      data before the training, so that an untrained peer cannot replace it.
    - `needs_labels`: whether `compute_loss` needs `y`. Defaults to `False`.
    - `needs_sample_index`: whether `compute_loss` gets `sample_index`, the
      position of each sample in the data set (see `kd.views.indexed`).
      Defaults to `False`.
    - `batch_coupled`: whether the value of one sample depends on the others of
      its batch. Defaults to `False`.

    Args:
        teacher_layer_name: What to take from the teacher: a layer's name, a
            path into nested models (`"backbone/conv4_block6_out"`), `"conv#1"`
            for the second call of a shared layer, a list of these, or `None`
            for the model's output. Defaults to `None`.
        student_layer_name: The same for the student.
        name: Used in the logs (`<name>_loss`). Defaults to the class name in
            snake case.
        dtype: dtype of the connectors' weights. Defaults to `"float32"`,
            whatever the policy: losses are computed in float32 or higher.
        trainable: Whether the connectors are trained. Defaults to `True`.

    Input shapes:
        `compute_loss` gets one tensor `(batch, ...)` per network for one tap,
        and a dict layer name -> tensor for several.

    Example:

    ```python
    @keras.saving.register_keras_serializable(package="my_project")
    class MeanAbsoluteError(kd.losses.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, y=None,
                         sample_weight=None, sample_index=None):
            difference = keras.ops.abs(teacher_outputs - student_outputs)
            return kd.losses.weighted_mean(difference, sample_weight)
    ```
    """

    needs_teacher: bool | str = True
    needs_labels = False
    needs_sample_index = False
    batch_coupled = False
    # Whether it compares scores of classes: the networks then choose classes.
    compares_classes: bool = False

    # The output that `None` as a layer's name means, if the outputs are a dict.
    # `kd.Distiller` sets it.
    task: str | None = None

    # The arguments that name layers of each network.
    layer_arguments: dict[str, Sequence[str]] = {
        "teacher": ("teacher_layer_name",),
        "student": ("student_layer_name",),
    }

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str] | None = None,
        student_layer_name: str | Sequence[str] | None = None,
        name: str | None = None,
        dtype: Any = "float32",
        trainable: bool = True,
    ):
        super().__init__(
            name=name or snake_case(type(self).__name__),
            dtype=dtype,
            trainable=trainable,
        )
        self.teacher_layer_name = validated_taps(
            teacher_layer_name, "teacher_layer_name"
        )
        self.student_layer_name = validated_taps(
            student_layer_name, "student_layer_name"
        )
        self._names_to_save: dict = {}

    # Before training.

    def bind(self, teacher: keras.Model | None, student: keras.Model) -> None:
        """Meets the models: called before `build`, and for another teacher.

        The only place that sees the models: copy here what you need of their
        weights, and raise if they do not fit.

        Args:
            teacher: The teacher, or `None` if the data carries its outputs.
            student: The student.
        """

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        """Creates the connectors.

        Args:
            teacher_shape: The shape of the tap, batch axis first, or a dict
                name -> shape for several taps. `None` without a teacher.
            student_shape: The same for the student.
        """

    def _freeze_if_untrainable(self) -> None:
        """Lets `trainable=False` reach the connectors, which `build` made."""
        if not self.trainable:
            for layer in flatten_layers(self, include_self=False):
                layer.trainable = False

    def prepare(self, teacher_batches: Iterable) -> None:
        """A stage before the training, for parts that the teacher trains.

        `kd.Distiller.fit` calls it before the first epoch, after `build`. A
        loss that is prepared already returns without iterating.

        Args:
            teacher_batches: Every iteration is a pass of the teacher over the
                training data. Gives its tap per batch: a tensor, or a dict
                name -> tensor for several taps.
        """

    def teacher_changed(self) -> None:
        """Forgets what was learned of the teacher.

        Called before `bind` if `set_teacher` gives another teacher than the
        one before.
        """

    def validate_batch(
        self, teacher_outputs: Any = None, sample_index: Any = None
    ) -> None:
        """Looks at NumPy values before they reach the training step.

        Args:
            teacher_outputs: The teacher's tap(s) on the first batch, in the
                structure that `compute_loss` gets, or `None`.
            sample_index: `(batch,)` integers of any batch, or `None`. Given to
                losses with `needs_sample_index`.

        Raises:
            ValueError: for values that cannot be distilled. By default: NaN or
                infinite ones of the teacher.
        """
        if isinstance(teacher_outputs, dict):
            named = list(teacher_outputs.items())
        else:
            name = self.teacher_layer_name
            named = [(name, values) for values in as_list(teacher_outputs)]
        for name, values in named:
            check_finite(values, name)

    def validate_shapes(self, teacher_shape: Any, student_shape: Any) -> None:
        """Checks sizes that `build` did not know, such as a batch shows them.

        The default does nothing.

        Args:
            teacher_shape: The shape of the teacher's tap, or a dict of them.
            student_shape: The same of the student.
        """

    def _remember_places(self, role: str, model: Any) -> None:
        """Remembers where the layers are that have no name of their own.

        Keras numbers such layers in each process anew; the configuration holds
        their places.

        Args:
            role: `"teacher"` or `"student"`.
            model: The network, or a dict of several that have these layers.
        """
        for argument in self.layer_arguments[role]:
            names = getattr(self, argument)
            if isinstance(model, dict):
                names = for_networks(
                    {
                        key: named_for_saving(m, for_network(names, key), role)
                        for key, m in model.items()
                    }
                )
            else:
                names = named_for_saving(model, names, role)
            self._names_to_save[argument] = names

    def _choose_network(self, role: str, key: str) -> None:
        """Keeps the places of one of the networks in `_remember_places`."""
        for argument in self.layer_arguments[role]:
            names = for_network(getattr(self, argument), key)
            setattr(self, argument, names)

    def _name_to_save(self, argument: str) -> Any:
        """Returns an argument that names layers, for `get_config`."""
        names = self._names_to_save.get(argument, getattr(self, argument))
        return to_config(names)

    # In every step. A loss implements one of the two.

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        """Computes the loss.

        Args:
            teacher_outputs: The teacher's tap(s). No gradient flows into them.
            student_outputs: The student's tap(s).
            y: Labels, as the dataset gives them.
            sample_weight: `None`, `(batch,)` or one weight per position.
            sample_index: `(batch,)` integers, or `None`.

        Returns:
            A scalar.
        """
        method = type(self).compute_loss_and_logs
        if method is DistillationLoss.compute_loss_and_logs:
            raise NotImplementedError(
                f"{type(self).__name__} does not implement `compute_loss`."
            )
        return self.compute_loss_and_logs(
            teacher_outputs,
            student_outputs,
            y=y,
            sample_weight=sample_weight,
            sample_index=sample_index,
        )[0]

    # The names of the numbers that `compute_loss_and_logs` adds.
    extra_log_names: Sequence[str] = ()

    def compute_loss_and_logs(
        self, teacher_outputs, student_outputs, **arguments
    ):
        """Computes the loss, and numbers to log as `<name of loss>_<name>`.

        `kd.Distiller` calls it. A loss that logs implements it in place of
        `compute_loss`, and lists the names in `extra_log_names`.

        Args:
            teacher_outputs: As in `compute_loss`.
            student_outputs: As in `compute_loss`.
            **arguments: The other arguments of `compute_loss`.

        Returns:
            `(loss, logs)`: a scalar, and a dict of scalars.
        """
        loss = self.compute_loss(teacher_outputs, student_outputs, **arguments)
        return loss, {}

    def call(self, *args, **kwargs):
        raise NotImplementedError(
            "A distillation loss is not called on its own. Pass it to "
            "`kd.Distiller(distillation_losses=...)`, or call its "
            "`compute_loss(teacher_outputs, student_outputs)`."
        )

    # keras.distillation.Distiller calls these two: every loss with one tap per
    # network works there unchanged.

    def validate_model_compatibility(
        self, teacher: keras.Model, student: keras.Model
    ) -> None:
        """Binds and builds the loss inside `keras.distillation.Distiller`."""
        self.bind(teacher, student)
        if not self.built:
            self.build(
                _static_shape(teacher, self.teacher_layer_name, "teacher"),
                _static_shape(student, self.student_layer_name, "student"),
            )
        self._freeze_if_untrainable()

    def validate_outputs(
        self, teacher_outputs: Any, student_outputs: Any
    ) -> None:
        """Does nothing: `build` has compared the shapes."""

    def get_config(self) -> dict[str, Any]:
        return {
            "teacher_layer_name": self._name_to_save("teacher_layer_name"),
            "student_layer_name": self._name_to_save("student_layer_name"),
            "name": self.name,
            "dtype": self.dtype,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistillationLoss":
        return cls(**config)


def _static_shape(model, layer_name, role):
    if isinstance(layer_name, list):
        raise ValueError(
            "keras.distillation.Distiller passes one tap per network. "
            f"Received several for the {role}: {layer_name}. Use kd.Distiller."
        )
    try:
        if layer_name is None:
            return model.output_shape
        return model.get_layer(name=layer_name).output.shape
    except AttributeError as error:
        raise ValueError(
            f"The {role} '{model.name}' has no symbolic outputs, so "
            "keras.distillation.Distiller cannot tap it. Use kd.Distiller, "
            "which taps subclassed models too."
        ) from error
