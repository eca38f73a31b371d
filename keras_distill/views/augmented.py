"""Any augmentation layer of Keras or keras-cv, in the training step."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._keras.layers import flatten_layers
from keras_distill.views.base import View
from keras_distill.views.base import Views
from keras_distill.views.base import check_labels_stay
from keras_distill.views.base import deserialized
from keras_distill.views.base import serialized
from keras_distill.views.mixup import BlendableLabels
from keras_distill.views.mixup import checked_classes

# Classes of Keras and of keras-cv, by name, so that keras-cv is imported by
# those who use it only. These blend samples of a batch:
_BLENDING = ("CutMix", "FourierMix", "MixUp", "Mosaic")
# These move pixels, and labels of each pixel should go with them:
_MOVING = (
    *("AugMix", "CutMix", "JitteredResize", "Mosaic", "RandAugment"),
    *("RandomAspectRatio", "RandomCopyPaste", "RandomCrop"),
    *("RandomCropAndResize", "RandomElasticTransform", "RandomFlip"),
    *("RandomPerspective", "RandomRotation", "RandomShear"),
    *("RandomTranslation", "RandomZoom"),
)
# These would be missing in evaluation, and in what ships:
_PREPROCESSING = ("CenterCrop", "Normalization", "Rescaling", "Resizing")


@keras.saving.register_keras_serializable(package="keras_distill")
class Augmented(Views):
    """Both networks see the batch as Keras or keras-cv layers augment it.

    The layers run once per batch, in training only: teacher and student get
    the same images. `evaluate`, `predict` and export see the images as they
    are. `kd.Distiller(views=layer)` means `views=kd.views.Augmented(layer)`,
    and `views=[layer, kd.views.FunctionMatching(32)]` means
    `views=kd.views.Augmented(layer, kd.views.FunctionMatching(32))`.

    Layers that blend samples (`MixUp` and `CutMix`; of keras-cv also `Mosaic`
    and `FourierMix`) blend labels and sample weights alike, and sparse labels
    become one-hot. A blending layer of your own takes and returns a dict
    `{"images": ..., "labels": ...}` and has an attribute `blends_labels =
    True`.

    The layers draw their own random numbers, so such views cannot be replayed:
    a `kd.TeacherCache` does not take them. They run outside of what XLA
    compiles, in every replica on its part of the batch. Layers of Keras that
    you create inside `strategy.scope()` draw the same numbers on every replica:
    create them before it. A saved Distiller with keras-cv's `RandomApply`,
    `RandomChoice` or `JitteredResize` cannot be loaded (keras-cv 0.9).
    Some layers do not run in float16 (`RandAugment` of keras-cv, `MixUp` of
    Keras): create them before you set a mixed precision policy.

    Args:
        layers: An augmentation layer, a list of them, or a `keras.Sequential`
            or `keras.layers.Pipeline` of them. Layers for colours take the
            range of your images, such as `value_range=(0, 1)`.
        views: The `kd.views.Views` that the augmented batch goes through.
            Defaults to `None`: both networks see it as it is.
        num_classes: Number of classes of sparse labels that are blended.
            Defaults to `None`: the student's output tells it if its shape is
            `(batch, classes)`.
        name: Name of the layer.

    Raises:
        TypeError: If `layers` holds anything but Keras layers.
        ValueError: If a layer is preprocessing, which evaluation needs too; in
            training, if sparse labels are blended and the number of classes is
            not known.

    Example:

    ```python
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
        views=[keras.layers.RandomFlip("horizontal"), keras.layers.CutMix()],
        alpha=1.0,
    )
    ```
    """

    teacher_varies = True
    replayable = False

    def __init__(
        self,
        layers: keras.layers.Layer | Sequence[keras.layers.Layer],
        views: Views | None = None,
        *,
        num_classes: int | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if views is not None and not isinstance(views, Views):
            raise TypeError(
                f"views must be a kd.views.Views or None. Received: {views!r}"
            )
        self.layers = _flat(layers)
        self.views = views or Views()
        self.num_classes = checked_classes(num_classes)
        self._labels = BlendableLabels(
            self.num_classes, "kd.views.Augmented(..., num_classes=...)"
        )
        self._blends = any(map(_blends, self.layers))
        self._moves_pixels = any(map(_moves_pixels, self.layers))
        self.blends_labels = self._blends or self.views.blends_labels
        self.group_size = self.views.group_size
        self.student_layer = self.views.student_layer

    def training(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        epoch: Any = None,
        sample_index: Any = None,
    ) -> View:
        if isinstance(x, dict):
            raise ValueError(
                "Augmentation layers take one input. Received: a dict with "
                f"keys {list(x)}. Augment these inputs in the data pipeline."
            )
        if self._moves_pixels:
            check_labels_stay(x, y, sample_weight)
        if self._blends and y is not None:
            y = self._labels(y)
        if len(x.shape) == 4:  # Some layers do not take uint8 images.
            x = ops.cast(x, keras.backend.result_type(x.dtype, float))
        for layer in self.layers:
            if _blends(layer):
                x, y, sample_weight = _blended(layer, x, y, sample_weight)
            else:
                x = _called(layer, x)
        return self.views.training(x, y, sample_weight, epoch, sample_index)

    def evaluation(self, x: Any) -> Any:
        return self.views.evaluation(x)

    def teacher_evaluation(self, x: Any) -> Any:
        return self.views.teacher_evaluation(x)

    def evaluation_labels(self, y: Any) -> Any:
        if self._blends and y is not None:
            y = self._labels(y)
        return self.views.evaluation_labels(y)

    def set_output_shape(self, shape: Any) -> None:
        self._labels.set_output_shape(shape)
        self.views.set_output_shape(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            "layers": serialized(self.layers),
            "views": serialized(self.views),
            "num_classes": self.num_classes,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Augmented":
        return cls(**deserialized(config))


def _flat(layers):
    """The layers of a layer, a list, a `Sequential` or a `Pipeline`."""
    if isinstance(layers, (keras.Sequential, keras.layers.Pipeline)):
        layers = layers.layers
    if isinstance(layers, (list, tuple)):
        if not layers:
            raise ValueError("layers must hold at least one augmentation.")
        return [layer for part in layers for layer in _flat(part)]
    if not isinstance(layers, keras.layers.Layer) or isinstance(layers, Views):
        raise TypeError(
            "layers must be augmentation layers of Keras or keras-cv; a "
            f"kd.views.Views comes last. Received: {layers!r}"
        )
    if _is_one_of(layers, ("RepeatedAugmentation",)):
        raise ValueError(
            "RepeatedAugmentation gives more samples than it takes, but every "
            "sample of a batch has one view. Give its layers one by one."
        )
    if _is_one_of(layers, _PREPROCESSING):
        raise ValueError(
            "Augmentation runs in training only, but evaluation needs "
            f"{type(layers).__name__} too. Put it into "
            "kd.views.Preprocessing(student=..., teacher=...), after the "
            "augmentation: views=[augmentation, preprocessing]."
        )
    return [layers]


def _is_one_of(layer, names):
    return any(base.__name__ in names for base in type(layer).__mro__)


def _blends(layer):
    """Whether a layer, or one inside of it, blends samples of a batch."""
    return any(
        getattr(inner, "blends_labels", False) or _is_one_of(inner, _BLENDING)
        for inner in flatten_layers(layer)
    )


def _moves_pixels(layer):
    return any(_is_one_of(inner, _MOVING) for inner in flatten_layers(layer))


def _called(layer, inputs):
    """A layer in training mode, in a graph with autograph."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return layer(inputs, training=True)
    # Keras traces its steps without, but some of keras-cv's layers need it.
    return tf.function(layer, autograph=True)(inputs, training=True)


def _blended(layer, x, y, sample_weight):
    """The batch after a layer that blends samples."""
    # The layer blends rows of numbers: labels and weights side by side.
    values = [v for v in (y, sample_weight) if v is not None]
    batch = ops.shape(x)[0]
    shapes = [tuple(v.shape[1:]) for v in values]
    rows = [
        ops.reshape(ops.cast(value, "float32"), (batch, math.prod(shape)))
        for value, shape in zip(values, shapes, strict=True)
    ]
    # keras-cv's layers want labels, whatever they are.
    rows = rows or [ops.zeros((batch, 1))]
    inputs = {"images": x, "labels": ops.concatenate(rows, axis=1)}
    outputs = _called(layer, inputs)
    # Under a mixed policy they come back in float16.
    blended = ops.cast(outputs["labels"], "float32")
    start, results = 0, []
    for shape in shapes:
        end = start + math.prod(shape)
        part = blended[:, start:end]
        results.append(ops.reshape(part, (batch, *shape)))
        start = end
    y, sample_weight = (
        None if value is None else results.pop(0)
        for value in (y, sample_weight)
    )
    return outputs["images"], y, sample_weight


def checked_views(
    views: Views | keras.layers.Layer | Sequence[keras.layers.Layer] | None,
) -> Views | None:
    """`Views` or `None`: Keras layers become `kd.views.Augmented`."""
    if views is None or isinstance(views, Views):
        return views
    layers = views if isinstance(views, (list, tuple)) else [views]
    if layers and all(isinstance(v, keras.layers.Layer) for v in layers):
        *layers, last = layers
        if isinstance(last, Views):
            return Augmented(layers, last)
        return Augmented([*layers, last])
    raise TypeError(
        "views must be a kd.views.Views (such as kd.views.FunctionMatching), "
        "an augmentation layer of Keras or keras-cv, a list of them, or None. "
        f"Received: {views!r} of type {type(views).__name__}"
    )
