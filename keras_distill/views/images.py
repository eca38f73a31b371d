"""What views of images share: sizes, preprocessing, crops, flips and mixup."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_layer
from keras_distill._arguments import checked_seed
from keras_distill._arguments import checked_size
from keras_distill.views.base import View
from keras_distill.views.base import Views
from keras_distill.views.base import check_labels_stay
from keras_distill.views.base import deserialized
from keras_distill.views.base import preprocessed
from keras_distill.views.base import serialized
from keras_distill.views.looks import MIXUP
from keras_distill.views.looks import Augmentation
from keras_distill.views.looks import source_hash
from keras_distill.views.mixup import BlendableLabels
from keras_distill.views.mixup import Mixup

INCEPTION_AREA, INCEPTION_ASPECT = (0.05, 1.0), (3 / 4, 4 / 3)


class ImageViews(Views):
    """Base of the four teachings: see `FunctionMatching` for the arguments.

    A subclass says in `_looks` what the networks see of each image.
    """

    teacher_varies = True

    def __init__(
        self,
        image_size: int | tuple[int, int],
        *,
        teacher_image_size: int | tuple[int, int] | None = None,
        crop_area: tuple[float, float] | None = INCEPTION_AREA,
        crop_aspect: tuple[float, float] = INCEPTION_ASPECT,
        mixup: bool | Mixup = False,
        flip: bool | str | None = True,
        quarter_turns: bool = False,
        brightness: float = 0.0,
        augmentation: Callable | None = None,
        student_preprocess: keras.layers.Layer | None = None,
        teacher_preprocess: keras.layers.Layer | None = None,
        seed: int = 0,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.image_size = checked_size("image_size", image_size)
        if teacher_image_size is None:
            teacher_image_size = self.image_size
        self.teacher_image_size = checked_size(
            "teacher_image_size", teacher_image_size
        )
        self._augmentation = Augmentation(
            crop_area,
            crop_aspect,
            flip,
            quarter_turns,
            brightness,
            augmentation,
        )
        self.crop_area = self._augmentation.crop_area
        self.crop_aspect = self._augmentation.crop_aspect
        self.flip = self._augmentation.flip
        self.quarter_turns = self._augmentation.quarter_turns
        self.brightness = self._augmentation.brightness
        self.augmentation = self._augmentation.function
        self._check_square()
        self.mixup = _checked_mixup(mixup)
        self.student_preprocess = self.student_layer = checked_layer(
            "student_preprocess", student_preprocess
        )
        self.teacher_preprocess = checked_layer(
            "teacher_preprocess", teacher_preprocess
        )
        self.seed = checked_seed(seed)
        self.blends_labels = self.mixup is not None
        self.group_size = self.mixup.group_size if self.mixup else 1
        self._labels = BlendableLabels(
            self.mixup and self.mixup.num_classes,
            f"{type(self).__name__}(mixup=kd.views.Mixup(num_classes=...))",
        )

    def _looks(self, images, key):
        """The `Look` of the student and that of the teacher."""
        raise NotImplementedError

    def _check_square(self):
        sizes = (self.image_size, self.teacher_image_size)
        if self.quarter_turns and any(h != w for h, w in sizes):
            raise ValueError(
                "quarter_turns=True needs square images. Received: image_size="
                f"{sizes[0]}, teacher_image_size={sizes[1]}"
            )

    def training(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        epoch: Any = None,
        sample_index: Any = None,
    ) -> View:
        """The batch as the two networks see it in the training step.

        Args:
            x: `(batch, height, width, channels)`.
            y: Labels, or `None`.
            sample_weight: `(batch,)`, or `None`.
            epoch: A scalar integer: views differ between epochs. `None`: fresh
                views at every call.
            sample_index: `(batch,)` integers, the position of each sample in
                the data set. `None`: the position in the batch, and mixup
                blends over the whole batch.

        Returns:
            A `View`.
        """
        images = self._images(x)
        if self._augmentation.moves_pixels:
            check_labels_stay(images, y, sample_weight)
        batch = ops.shape(images)[0]
        if epoch is None:
            epoch = _fresh_number()
        indexed = sample_index is not None
        if not indexed:
            sample_index = ops.arange(batch, dtype="int32")
        key = (self.seed, epoch, sample_index)
        look, teacher_look = self._looks(images, key)
        student = teacher = look.cut(self.image_size, self.jit_compile)
        # What both see alike is computed once.
        same = (
            teacher_look is look and self.teacher_image_size == self.image_size
        )
        if not same:
            teacher = teacher_look.cut(
                self.teacher_image_size, self.jit_compile
            )
        if self.mixup is not None:
            blend = self.mixup.blender(
                (*key, MIXUP), sample_index, whole_batch=not indexed
            )
            student = blend(student)
            teacher = student if same else blend(teacher)
            if y is not None:
                y = blend(self._labels(y))
            if sample_weight is not None:
                sample_weight = blend(sample_weight)
        same = same and self.teacher_preprocess is self.student_preprocess
        student = preprocessed(self.student_preprocess, student)
        if same:
            teacher = student
        else:
            teacher = preprocessed(self.teacher_preprocess, teacher)
        return View(student, teacher, y, sample_weight)

    def evaluation(self, x: Any) -> Any:
        """The whole image, resized and preprocessed for the student."""
        x = _resized(self._images(x), self.image_size)
        return preprocessed(self.student_preprocess, x)

    def teacher_evaluation(self, x: Any) -> Any:
        """The whole image, resized and preprocessed for the teacher."""
        x = _resized(self._images(x), self.teacher_image_size)
        return preprocessed(self.teacher_preprocess, x)

    def evaluation_labels(self, y: Any) -> Any:
        return self._labels(y) if self.mixup and y is not None else y

    def set_output_shape(self, shape: Any) -> None:
        self._labels.set_output_shape(shape)

    def call(self, x, y=None, sample_weight=None):
        """For `dataset.map(views)` on batches: fresh views at every call.

        Returns:
            As many values as the call got: x, y and sample_weight. x is a dict
            with keys `"student"` and `"teacher"`, which a `kd.Distiller`
            without views shares out.
        """
        view = self.training(x, y, sample_weight)
        x = {"student": view.student, "teacher": view.teacher}
        if sample_weight is not None:
            return x, view.y, view.sample_weight
        return x if y is None else (x, view.y)

    def _images(self, x):
        shape = getattr(x, "shape", None)
        if shape is None or len(shape) != 4:
            received = type(x).__name__ if shape is None else tuple(shape)
            raise ValueError(
                f"{type(self).__name__} takes images of shape (batch, height, "
                f"width, channels). Received: {received}."
            )
        return ops.convert_to_tensor(x)

    def teacher_config(self) -> dict[str, Any]:
        config = super().teacher_config()
        # The header of a `TeacherCache` lists them side by side.
        mixup = config.pop("mixup")
        config["mixup"] = mixup is not None
        if mixup is not None:
            config["mixup_concentration"] = self.mixup.concentration
            config["mixup_group_size"] = self.mixup.group_size
        # Caches that were built before these arguments stay what they are.
        for argument, without in _WITHOUT.items():
            if config[argument] == without:
                del config[argument]
        if self.augmentation is not None:
            config["augmentation_source"] = source_hash(self.augmentation)
        other = _OF_STUDENT if self.teacher_varies else _OF_STUDENT + _OF_DRAWS
        return {k: v for k, v in config.items() if k not in other}

    def _teacher_part(self):
        return self.teacher_preprocess

    def get_config(self) -> dict[str, Any]:
        return {
            "image_size": self.image_size,
            "teacher_image_size": self.teacher_image_size,
            "mixup": serialized(self.mixup),
            **self._augmentation.get_config(),
            "student_preprocess": serialized(self.student_preprocess),
            "teacher_preprocess": serialized(self.teacher_preprocess),
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ImageViews":
        return cls(**deserialized(config))


# What the teacher sees does not depend on these arguments, nor on the draws if
# it always sees the same of each image.
_OF_STUDENT = ("image_size", "student_preprocess")
_WITHOUT = {"quarter_turns": False, "brightness": 0.0, "augmentation": None}
_OF_DRAWS = (
    *("crop_area", "crop_aspect", "flip", "mixup", "seed"),
    *(*_WITHOUT, "augmentation_source"),
)


def _checked_mixup(mixup):
    """A `Mixup`, or `None` for no mixup."""
    if mixup is None or isinstance(mixup, Mixup):
        return mixup
    if not isinstance(mixup, bool):
        raise TypeError(
            f"mixup must be True, False or a kd.views.Mixup. Received: "
            f"{mixup!r}"
        )
    return Mixup() if mixup else None


def _resized(images, size):
    images = ops.cast(images, "float32")
    if tuple(images.shape[1:3]) == tuple(size):
        return images
    return ops.image.resize(
        images,
        size,
        interpolation="bilinear",
        data_format="channels_last",  # whatever keras.json says
    )


def _fresh_number():
    """A number that no draw had before; nothing saves or replays it."""
    import tensorflow as tf

    return tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32)
