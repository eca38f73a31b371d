"""What a distillation loss is.

A loss says what it needs to see of the two networks (its taps) and how it
compares them. It never learns how taps are taken, what each network was shown,
where the teacher's outputs came from or on how many devices it runs. This file
uses `keras.ops` and public Keras only, so a loss runs on any Keras backend.
"""

import re

import keras
from keras import ops

from keras_distill.losses.ops.positions import fitting_weight
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import plain
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of
from keras_distill.losses.structures import validated_taps
from keras_distill.losses.values import check_finite


def snake_case(name):
    """`"SoftTargets"` -> `"soft_targets"`, the default name of a loss."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def at_least_float32(x):
    """Casts half precision and integers to float32, leaves float64 alone."""
    x = ops.convert_to_tensor(x)
    dtype = keras.backend.standardize_dtype(x.dtype)
    return x if dtype in ("float32", "float64") else ops.cast(x, "float32")


def same_precision(*tensors):
    """Casts all to the widest of their dtypes, at least float32."""
    tensors = [at_least_float32(x) for x in tensors]
    names = {keras.backend.standardize_dtype(x.dtype) for x in tensors}
    if len(names) == 1:
        return tensors
    return [ops.cast(x, "float64") for x in tensors]


def safe_sqrt(x, tiny=1e-30):
    """Square root whose gradient at 0 is 0 instead of infinite."""
    return ops.sqrt(ops.maximum(x, tiny))


def absolute(x):
    """`|x|` whose gradient at 0 is 0 on every backend (JAX's own is 1)."""
    return x * ops.stop_gradient(ops.sign(x))


def weighted_mean(values, sample_weight=None):
    """`sum(w * values) / number of values`: Keras's own reduction.

    Args:
        values: `(batch, ...)`, one number per sample or per position.
        sample_weight: `None`, `(batch,)` or any leading part of the shape of
            `values`. One that has more axes than `values` (weights per
            position for a loss per sample) is averaged over the extra axes.

    Returns:
        A scalar.
    """
    if sample_weight is None:
        return ops.mean(values)
    return ops.mean(values * fitting_weight(sample_weight, values))


def mean_per_sample(values):
    """Mean over every axis but the first: `(batch, ...)` -> `(batch,)`."""
    if len(values.shape) < 2:
        return values
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))


class DistillationLoss(keras.layers.Layer, keras.distillation.DistillationLoss):
    """Base class: compares what a teacher and a student computed.

    A subclass implements `compute_loss` and, if it trains a connector, `build`.
    Class attributes say what it needs: `needs_teacher`, `needs_labels`,
    `needs_sample_index`, `batch_coupled` (its value for one sample depends on
    the other samples of the batch), `needs_preparation` (`prepare` is to be
    called before training), and `reads_teacher_weights` (`bind` needs the
    teacher itself, not only its outputs).

    Args:
        teacher_layer_name: What to take from the teacher: a layer's name, a
            path into nested models (`"backbone/conv4_block6_out"`), `"conv#1"`
            for the second call of a shared layer, a list of these, or `None`
            for the model's output.
        student_layer_name: The same for the student.
        name: Used in the logs (`<name>_loss`). Defaults to the class name in
            snake case.
        dtype: dtype of the connectors' weights. Defaults to `"float32"`,
            whatever the policy: losses are computed in float32 or higher.
        trainable: Whether the connectors are trained. Defaults to `True`.

    Input shapes:
        `compute_loss` gets one tensor `(batch, ...)` per network for one tap,
        a dict layer name -> tensor for several.

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

    needs_teacher = True
    needs_labels = False
    needs_sample_index = False
    batch_coupled = False
    needs_preparation = False
    reads_teacher_weights = False

    def __init__(
        self,
        *,
        teacher_layer_name=None,
        student_layer_name=None,
        name=None,
        dtype="float32",
        trainable=True,
    ):
        self._named_by_user = name is not None
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

    @property
    def named_by_user(self):
        """Whether `name=` was given (default names may be made unique)."""
        return self._named_by_user

    def bind(self, teacher, student):
        """Called once, before `build`: the only place that sees the models.

        Args:
            teacher: The teacher `keras.Model`, or `None` where the data
                carries its outputs.
            student: The student `keras.Model`.
        """

    def build(self, teacher_shape, student_shape):
        """Creates connectors. Shapes are those of the taps, batch axis first.

        Args:
            teacher_shape: A tuple, or a dict name -> tuple for several taps.
            student_shape: The same for the student.
        """

    def teacher_changed(self):
        """Called where `set_teacher` gives another teacher than the one before:
        for a loss that has learned something of that one. `bind` follows."""

    def prepare(self, teacher_batches):
        """A stage of its own before training, after `build`. Here: none.

        For a part of the loss that depends on the teacher and the data alone.
        `kd.Distiller.fit` calls it before the first epoch while
        `needs_preparation` is true.

        Args:
            teacher_batches: An iterable of what the teacher's tap(s) give on
                the training data: a tensor per batch, or a dict name -> tensor
                for several taps. Every iteration is a new pass.
        """

    def compute_loss(
        self,
        teacher_outputs,
        student_outputs,
        y=None,
        sample_weight=None,
        sample_index=None,
    ):
        """Returns the loss as a scalar.

        Args:
            teacher_outputs: The teacher's tap(s). No gradient flows into them.
            student_outputs: The student's tap(s).
            y: Labels, as the dataset gives them.
            sample_weight: `None`, `(batch,)` or one weight per position.
            sample_index: `(batch,)` integers: each sample's position in the
                data set. Given to losses with `needs_sample_index`, see
                `kd.views.indexed`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement `compute_loss`."
        )

    # Names of further numbers that `compute_loss_and_logs` gives.
    extra_log_names = ()

    def compute_loss_and_logs(self, teacher_outputs, student_outputs, **kwargs):
        """The loss, and numbers to log beside it as `<name of loss>_<name>`.

        Called by `kd.Distiller` in the place of `compute_loss`, with the same
        arguments. A loss that overrides it lists `extra_log_names`.

        Returns:
            `(loss, logs)`: a scalar, and a dict of scalars.
        """
        loss = self.compute_loss(teacher_outputs, student_outputs, **kwargs)
        return loss, {}

    def validate_teacher_values(self, teacher_outputs):
        """Looks at the teacher's taps on the first batch, before training.

        Args:
            teacher_outputs: NumPy arrays, in the structure that `compute_loss`
                gets.

        Raises:
            ValueError: for values that cannot be distilled. Here: NaN or
                infinite ones.
        """
        if isinstance(teacher_outputs, dict):
            named = list(teacher_outputs.items())
        else:
            name = self.teacher_layer_name
            named = [(name, values) for values in as_list(teacher_outputs)]
        for name, values in named:
            check_finite(values, name)

    def validate_sample_index(self, sample_index):
        """Looks at the indices of the first batch, before training, and at
        those of every batch on its way to the training step.

        Args:
            sample_index: `(batch,)` NumPy integers.

        Raises:
            ValueError: for one that the loss cannot take. Here: none.
        """

    def call(self, *args, **kwargs):
        raise NotImplementedError(
            "A distillation loss is not called on its own. Pass it to "
            "`kd.Distiller(distillation_losses=...)`, or call its "
            "`compute_loss(teacher_outputs, student_outputs)`."
        )

    # keras.distillation.Distiller calls these two: they make every loss with
    # one tap per network usable there unchanged.

    def validate_model_compatibility(self, teacher, student):
        self.bind(teacher, student)
        if not self.built:
            self.build(
                _static_shape(teacher, self.teacher_layer_name, "teacher"),
                _static_shape(student, self.student_layer_name, "student"),
            )

    def validate_outputs(self, teacher_outputs, student_outputs):
        """Shapes were compared in `build`; connectors may join unlike ones."""

    def get_config(self):
        return {
            "teacher_layer_name": plain(self.teacher_layer_name),
            "student_layer_name": plain(self.student_layer_name),
            "name": self.name,
            "dtype": self.dtype,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class LayerPairLoss(DistillationLoss):
    """A loss that compares layers pair by pair and adds the pairs up.

        loss = sum_l weight_l * pair_loss(teacher_l, student_l)

    Subclasses implement `build_pair` (optional) and `pair_loss`.

    Args:
        layer_weights: One weight per pair of layers. Defaults to 1 each.
        **kwargs: see `DistillationLoss`.
    """

    def __init__(self, *, layer_weights=None, **kwargs):
        super().__init__(**kwargs)
        teacher = as_list(self.teacher_layer_name)
        student = as_list(self.student_layer_name)
        if len(teacher) != len(student):
            raise ValueError(
                f"{type(self).__name__} pairs layers one to one, but "
                f"teacher_layer_name has {len(teacher)} and student_layer_name "
                f"has {len(student)}. Received: teacher_layer_name={teacher}, "
                f"student_layer_name={student}."
            )
        if layer_weights is not None:
            layer_weights = [float(w) for w in as_list(layer_weights)]
            if len(layer_weights) != len(teacher):
                raise ValueError(
                    f"layer_weights needs one weight per pair of layers "
                    f"({len(teacher)}). Received: {layer_weights}"
                )
        self.layer_weights = layer_weights

    def build(self, teacher_shape, student_shape):
        pairs = zip(
            shape_list(teacher_shape, self.teacher_layer_name, "teacher"),
            shape_list(student_shape, self.student_layer_name, "student"),
        )
        for index, (teacher, student) in enumerate(pairs):
            self.build_pair(index, teacher, student)

    def build_pair(self, index, teacher_shape, student_shape):
        """Checks the shapes of pair `index` and creates its connector."""

    def pair_loss(self, index, teacher, student, sample_weight=None):
        """The loss of pair `index`: two tensors in float32 or higher."""
        raise NotImplementedError

    def compute_loss(
        self,
        teacher_outputs,
        student_outputs,
        y=None,
        sample_weight=None,
        sample_index=None,
    ):
        if not self.built:
            self.build(shapes_of(teacher_outputs), shapes_of(student_outputs))
        teachers = in_order(teacher_outputs, self.teacher_layer_name)
        students = in_order(student_outputs, self.student_layer_name)
        weights = self.layer_weights or [1.0] * len(teachers)
        total = 0.0
        for index, (teacher, student) in enumerate(zip(teachers, students)):
            teacher, student = same_precision(teacher, student)
            teacher = ops.stop_gradient(teacher)
            loss = self.pair_loss(index, teacher, student, sample_weight)
            total = total + weights[index] * loss
        return total

    def get_config(self):
        return {
            **super().get_config(),
            "layer_weights": plain(self.layer_weights),
        }


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
