from collections.abc import Sequence
from typing import Any

import keras
from keras import layers
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_temperature
from keras_distill._arguments import one_of
from keras_distill._keras.heads import layer_activation
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.connectors import conv_bn_relu
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.labels import label_distribution
from keras_distill.losses.ops.labels import labelled
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.probabilities import cross_entropy
from keras_distill.losses.ops.probabilities import kl_divergence
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import sum_per_sample
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of
from keras_distill.taps.paths import find_layer


@keras.saving.register_keras_serializable(package="keras_distill")
class EarlyExits(DistillationLoss):
    """Classifiers at shallow layers, taught by the network's own output.

        F_i = bottleneck_i(layer_i)         z_i = classifier_i(mean_hw F_i)
        p = softmax(z_C / T)                q_i = softmax(z_i / T)
        l_i = (1 - alpha) CE(softmax(z_i), y) + alpha sum_c p_c log(p_c / q_ic)
              + feature_weight * d(F_i, F_C)
        feature_form="mean":   d = mean over all elements of (F_i - F_C)^2
        feature_form="paper":  d = (1 / batch) sum_b ||F_i - F_C||^2
        loss = sum over exits of l_i

    `C` is the deepest classifier, the network's own. No gradient flows into
    its `z_C` and `F_C`. Its own loss from the labels is the Distiller's `L_S`;
    `kd.BeYourOwnTeacher` adds both and finds the last two layers itself.

    A bottleneck is a 1x1, a strided and a 1x1 convolution, each with batch
    normalization and ReLU. The stride brings its map to the size of the
    deepest; if it does not divide, the larger map is averaged down for `d`. A
    classifier is a mean over positions and a dense layer. All of them are
    trained with the student and are not part of it.

    Cost: 8 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        student_layer_name: Three layers or more: those of the exits, first to
            last; the deepest map, which the student pools; its logits.
        alpha: Share of the deepest classifier in what an exit learns, in
            [0, 1]. Defaults to 0.3, as in the authors' code.
        temperature: T, a positive number. Defaults to 3, as in their code.
        feature_weight: Weight of the features, >= 0. Defaults to 0.03, as in
            their code (which takes another norm, see docs/losses.md).
        feature_form: `"mean"` or `"paper"`. Defaults to `"mean"`.
        scale_by_temperature_squared: Multiply the divergence by T^2 (Hinton et
            al. 2015). Defaults to `False`: paper and authors' code do not.
        reduction: The bottleneck has `channels / reduction` channels inside.
            Defaults to 4, as in a ResNet.
        name: Defaults to `"early_exits"`.
        dtype: dtype of the exits. Defaults to `"float32"`.

    Input shapes:
        A dict of `(batch, height, width, channels)` maps of known size and
        `(batch, classes)` logits; `teacher_outputs` is ignored. `y`: sparse or
        one-hot. `sample_weight`: `(batch,)`.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.
        `compute_loss_and_logs` adds `<k>_loss` and `<k>_accuracy` of exit k.

    Raises:
        ValueError: for a `teacher_layer_name` or arguments out of range; in
            `bind`, for a softmax or sigmoid head; in `build`, for an exit
            without positions.

    Example:

    ```python
    loss = kd.losses.EarlyExits(
        student_layer_name=["early", "last_map", "logits"], alpha=0.3
    )
    taps = {
        "early": np.ones((2, 8, 8, 4), "float32"),
        "last_map": np.ones((2, 4, 4, 16), "float32"),
        "logits": np.zeros((2, 5), "float32"),
    }
    value, logs = loss.compute_loss_and_logs(None, taps, y=np.array([0, 3]))
    logs["1_accuracy"]
    ```

    Reference:
        Zhang et al., "Be Your Own Teacher: Improve the Performance of
        Convolutional Neural Networks via Self Distillation", 2019, section 3.
    """

    needs_teacher = False
    needs_labels = True

    def __init__(
        self,
        *,
        student_layer_name: str | Sequence[str],
        alpha: float = 0.3,
        temperature: float = 3.0,
        feature_weight: float = 0.03,
        feature_form: str = "mean",
        scale_by_temperature_squared: bool = False,
        reduction: int = 4,
        **kwargs: Any,
    ):
        super().__init__(student_layer_name=student_layer_name, **kwargs)
        if self.teacher_layer_name is not None:
            raise ValueError(
                "EarlyExits are taught by the student's own output and have "
                "no teacher. Received: teacher_layer_name="
                f"{self.teacher_layer_name!r}"
            )
        if len(as_list(self.student_layer_name)) < 3:
            raise ValueError(
                "student_layer_name must list the layer of one exit or more, "
                "the deepest map and the logits. Received: "
                f"{student_layer_name!r}"
            )
        self.alpha = checked_number(
            "alpha",
            alpha,
            "[0, 1]",
            hint="the deepest classifier's share in what an exit learns",
        )
        self.temperature = checked_temperature(temperature)
        self.feature_weight = checked_number(
            "feature_weight", feature_weight, "[0, inf)"
        )
        self.feature_form = one_of(
            "feature_form", feature_form, ("mean", "paper")
        )
        self.scale_by_temperature_squared = checked_boolean(
            "scale_by_temperature_squared", scale_by_temperature_squared
        )
        self.reduction = checked_integer("reduction", reduction)
        self.bottlenecks: list = []
        self.classifiers: list = []

    @property
    def number_of_exits(self):
        return len(self.student_layer_name) - 2

    @property
    def extra_log_names(self):
        numbers = range(1, self.number_of_exits + 1)
        return [f"{k}_{x}" for k in numbers for x in ("loss", "accuracy")]

    def bind(self, teacher: keras.Model | None, student: keras.Model) -> None:
        found = layer_activation(
            *find_layer(student, self.student_layer_name[-1], "student")
        )
        if found is not None:
            raise ValueError(
                f"EarlyExits compare logits, but the student '{student.name}' "
                f"ends in a {found}. Build its last layer with "
                "activation=None and compile(loss=...(from_logits=True))."
            )

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        names = self.student_layer_name
        *exits, deepest, logits = shape_list(student_shape, names, "student")
        for name, shape in zip(names, [*exits, deepest]):
            if len(shape) != 4 or None in shape[1:]:
                raise ValueError(
                    "An exit needs a map (batch, height, width, channels) of "
                    f"known size, but layer '{name}' has shape {shape}. A "
                    "vector has no positions: take a layer before the pooling "
                    "and the classifier."
                )
        if len(logits) != 2 or logits[-1] is None or logits[-1] < 2:
            raise ValueError(
                "EarlyExits take logits (batch, classes) with two classes or "
                f"more. Received: layer '{names[-1]}' of shape {logits}."
            )
        for number, shape in enumerate(exits, start=1):
            self.bottlenecks.append(
                make_bottleneck(
                    shape, deepest, self.reduction, self.dtype, number
                )
            )
            self.classifiers.append(
                make_classifier(deepest[-1], logits[-1], self.dtype, number)
            )

    def exits(self, student_outputs, training=False):
        """Returns the maps and the logits of the exits, first to last."""
        taps = in_order(student_outputs, self.student_layer_name)[:-2]
        maps = [
            bottleneck(tap, training=training)
            for bottleneck, tap in zip(self.bottlenecks, taps)
        ]
        return maps, [f(x) for f, x in zip(self.classifiers, maps)]

    def deployed_graph(self, student_outputs: Any) -> Any:
        """Returns the logits by name: `"exit_1"`, ..., and `"output"`."""
        _, logits = self.exits(student_outputs)
        named = {f"exit_{k}": z for k, z in enumerate(logits, start=1)}
        return {**named, "output": student_outputs[self.student_layer_name[-1]]}

    def compute_loss_and_logs(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> tuple[Any, dict[str, Any]]:
        if not self.built:
            self.build(None, shapes_of(student_outputs))
        *_, deepest, output = in_order(student_outputs, self.student_layer_name)
        deepest, output = ops.stop_gradient(deepest), ops.stop_gradient(output)
        labels = label_distribution(y, at_least_float32(output), self.name)
        counted = labelled(labels)
        total, logs = 0.0, {}
        maps, logits = self.exits(student_outputs, training=True)
        for number, (map_i, z) in enumerate(zip(maps, logits), start=1):
            z, teacher = same_precision(z, output)
            values = self.values(z, teacher, ops.cast(labels, z.dtype))
            if self.feature_weight:
                distance = self.feature_distance(map_i, deepest)
                values = values + self.feature_weight * ops.cast(
                    distance, values.dtype
                )
            loss = weighted_mean(values, sample_weight)
            right = ops.equal(
                ops.argmax(z, axis=-1), ops.argmax(labels, axis=-1)
            )
            logs[f"{number}_loss"] = loss
            right = ops.cast(right, counted.dtype) * counted
            logs[f"{number}_accuracy"] = ops.divide_no_nan(
                ops.sum(right), ops.sum(counted)
            )
            total = total + loss
        return total, logs

    def values(self, logits, teacher, labels):
        """The loss of an exit per sample, without its features."""
        hard = cross_entropy(labels, log_probabilities(logits))
        log_p = log_probabilities(teacher, self.temperature)
        log_q = log_probabilities(logits, self.temperature)
        soft = kl_divergence(ops.exp(log_p), log_p, log_q)
        if self.scale_by_temperature_squared:
            soft = soft * self.temperature**2
        return (1.0 - self.alpha) * hard + self.alpha * soft

    def feature_distance(self, exit_map, deepest):
        """`d(F_i, F_C)` per sample."""
        exit_map, deepest = match_spatial(*same_precision(exit_map, deepest))
        squares = ops.square(exit_map - deepest)
        mean = self.feature_form == "mean"
        return (mean_per_sample if mean else sum_per_sample)(squares)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "feature_weight": self.feature_weight,
            "feature_form": self.feature_form,
            "scale_by_temperature_squared": self.scale_by_temperature_squared,
            "reduction": self.reduction,
        }


def make_bottleneck(shape, deepest, reduction=4, dtype="float32", number=1):
    """Builds 1x1, strided and 1x1 convolutions with batch norm and ReLU.

    Args:
        shape: `(batch, height, width, channels)` of the exit's layer.
        deepest: The same of the deepest map. The result has its channels and,
            if it divides, its size.
        reduction: Ratio of the deepest map's channels to those inside.
        dtype: dtype of the weights.
        number: Number of the exit, for the name.
    """
    inside = max(1, deepest[-1] // reduction)
    strides = [max(1, n // m) for n, m in zip(shape[1:3], deepest[1:3])]
    stages = (
        (inside, (1, 1), (1, 1)),
        (inside, [max(3, s) for s in strides], strides),
        (deepest[-1], (1, 1), (1, 1)),
    )
    stack = []
    for channels, kernel, stride in stages:
        stack += conv_bn_relu(channels, tuple(kernel), dtype, tuple(stride))
    bottleneck = keras.Sequential(stack, name=f"exit_{number}_bottleneck")
    bottleneck.build((None, *shape[1:]))
    return bottleneck


def make_classifier(channels, classes, dtype="float32", number=1):
    """Builds a mean over positions and a dense layer: an exit's logits."""
    classifier = keras.Sequential(
        [
            layers.GlobalAveragePooling2D(
                data_format="channels_last", dtype=dtype
            ),
            layers.Dense(classes, dtype=dtype),
        ],
        name=f"exit_{number}_classifier",
    )
    classifier.build((None, None, None, channels))
    return classifier
