"""What views of images share: sizes, preprocessing, crops, flips and mixup."""

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_layer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_range
from keras_distill._arguments import checked_size
from keras_distill.views import crop
from keras_distill.views.base import View
from keras_distill.views.base import Views
from keras_distill.views.groups import check_groups
from keras_distill.views.groups import is_whole_data_set
from keras_distill.views.mixup import Mixup

# Numbers of the draws of one sample: what is drawn never shares a stream.
CROP, FLIP, MIXUP, TEACHER_CROP, TEACHER_FLIP = range(5)

INCEPTION_AREA, INCEPTION_ASPECT = (0.05, 1.0), (3 / 4, 4 / 3)
# A crop of 224 out of an image resized to 256.
MILD_SIDE = 224 / 256


class ImageViews(Views):
    """Base of the four teachings: see `FunctionMatching` for the arguments.

    A subclass says, in `boxes`, which part of each image the networks see.
    """

    def __init__(
        self,
        image_size,
        *,
        teacher_image_size=None,
        crop_area=INCEPTION_AREA,
        crop_aspect=INCEPTION_ASPECT,
        flip=True,
        mixup=False,
        mixup_concentration=1.0,
        mixup_group_size=16,
        num_classes=None,
        augmentation=None,
        student_preprocess=None,
        teacher_preprocess=None,
        seed=0,
        name=None,
    ):
        super().__init__(name=name)
        self.image_size = checked_size("image_size", image_size)
        if teacher_image_size is None:
            teacher_image_size = self.image_size
        self.teacher_image_size = checked_size(
            "teacher_image_size", teacher_image_size
        )
        self.crop_area = checked_range("crop_area", crop_area, 1.0)
        self.crop_aspect = checked_range("crop_aspect", crop_aspect)
        self.flip = bool(flip)
        self.mixup = bool(mixup)
        self.mixup_concentration = checked_number(
            "mixup_concentration", mixup_concentration
        )
        self.mixup_group_size = checked_integer(
            "mixup_group_size", mixup_group_size, least=2
        )
        self.num_classes = checked_integer(
            "num_classes", num_classes, least=2, or_none=True
        )
        self.augmentation = checked_layer("augmentation", augmentation)
        self.student_preprocess = checked_layer(
            "student_preprocess", student_preprocess
        )
        self.teacher_preprocess = checked_layer(
            "teacher_preprocess", teacher_preprocess
        )
        self.seed = checked_integer("seed", seed, least=0)
        self._classes, self._one_unit = num_classes, False
        self._mix = Mixup(self.mixup_concentration) if self.mixup else None

    teacher_varies = True

    # What subclasses say.

    def boxes(self, key, batch, shape):
        """-> boxes of the student and of the teacher, `(batch, 4)` each."""
        raise NotImplementedError

    # What the Distiller asks for.

    @property
    def replayable(self):
        """Whether a view is a function of (seed, epoch, sample index)."""
        return self.augmentation is None

    def training(
        self, x, y=None, sample_weight=None, epoch=None, sample_index=None
    ):
        """The batch as the two networks see it in the training step.

        Args:
            x: `(batch, height, width, channels)`.
            y: Labels, or `None`.
            sample_weight: `(batch,)`, or `None`.
            epoch: A scalar integer that names the draw: other views in
                another epoch. `None`: fresh views at every call.
            sample_index: `(batch,)` integers, each sample's position in the
                data set. `None`: the position in the batch, and mixup blends
                over the whole batch.

        Returns:
            `View`.
        """
        images = self._images(x)
        batch = ops.shape(images)[0]
        if epoch is None:
            epoch = _fresh_number()
        position = ops.arange(batch, dtype="int32")
        if sample_index is None:
            groups = ops.zeros_like(position)
            sample_index = position
        else:
            groups = sample_index // self.mixup_group_size
        key = (self.seed, epoch, sample_index)
        if self.augmentation is not None:
            images = self.augmentation(images, training=True)
        shape = ops.shape(images)[1:3]
        boxes, teacher_boxes = self.boxes(key, batch, shape)
        student = self._cut(images, boxes, self.image_size)
        teacher = student
        if (
            teacher_boxes is not boxes
            or self.teacher_image_size != self.image_size
        ):
            teacher = self._cut(images, teacher_boxes, self.teacher_image_size)
        if self._mix is not None:
            mix = self._mix((*key, MIXUP), groups)
            same = teacher is student
            student = mix(student)
            teacher = student if same else mix(teacher)
            if y is not None:
                y = mix(self.labels_to_mix(y))
            if sample_weight is not None:
                sample_weight = mix(sample_weight)
        same = (
            teacher is student
            and self.teacher_preprocess is self.student_preprocess
        )
        student = _preprocessed(self.student_preprocess, student)
        if not same:
            teacher = _preprocessed(self.teacher_preprocess, teacher)
        return View(student, student if same else teacher, y, sample_weight)

    @property
    def student_layer(self):
        return self.student_preprocess

    def evaluation(self, x):
        """-> the whole image, resized and preprocessed for the student."""
        x = _resized(self._images(x), self.image_size)
        return _preprocessed(self.student_preprocess, x)

    def teacher_evaluation(self, x):
        """-> the whole image, resized and preprocessed for the teacher."""
        x = _resized(self._images(x), self.teacher_image_size)
        return _preprocessed(self.teacher_preprocess, x)

    def evaluation_labels(self, y):
        """Labels of the kind that training gives to loss and metrics."""
        if y is None or not self.mixup:
            return y
        return self.labels_to_mix(y)

    def call(self, x, y=None, sample_weight=None):
        """For `dataset.map(views)`, on batches: fresh views at every call.

        Returns:
            As many as were given of x, y and sample_weight. x is a dict
            `"student"`, `"teacher"`, which a `kd.Distiller` without views
            takes apart.
        """
        view = self.training(x, y, sample_weight)
        x = {"student": view.student, "teacher": view.teacher}
        if sample_weight is not None:
            return x, view.y, view.sample_weight
        return x if y is None else (x, view.y)

    # Parts.

    def labels_to_mix(self, y):
        """Labels as numbers that can be blended: one-hot classes, or for a
        student of one unit `(batch, 1)`.

        Raises:
            ValueError: for sparse labels if the number of classes is unknown.
        """
        if self._one_unit:
            y = ops.cast(y, "float32")
            return ops.expand_dims(y, -1) if len(y.shape) == 1 else y
        dtype = keras.backend.standardize_dtype(y.dtype)
        integer = "int" in dtype
        sparse = len(y.shape) == 1 or (len(y.shape) == 2 and y.shape[-1] == 1)
        if not (integer and sparse):
            return ops.cast(y, "float32")
        if self._classes is None:
            raise ValueError(
                "mixup blends labels, so they must be one-hot (batch, "
                f"classes). Received sparse labels {tuple(y.shape)} of type "
                f"{dtype}. Pass num_classes= to {type(self).__name__}, and "
                "train with CategoricalCrossentropy; or leave the labels out "
                "(alpha=1), as function matching needs none."
            )
        y = y[:, 0] if len(y.shape) == 2 else y
        return ops.one_hot(y, self._classes, dtype="float32")

    def set_output_shape(self, shape):
        known = isinstance(shape, tuple) and len(shape) == 2
        if self.num_classes is None and known and isinstance(shape[1], int):
            # One unit is the probability of class 1, no class of its own.
            self._one_unit = shape[1] == 1
            self._classes = None if self._one_unit else shape[1]

    def validate_sample_index(self, sample_index, replicas=1):
        if self.mixup:
            check_groups(sample_index, self.mixup_group_size, replicas)

    def is_whole_data_set(self, sample_index):
        return self.mixup and is_whole_data_set(
            sample_index, self.mixup_group_size
        )

    def inception_boxes(self, key, number, shape):
        return crop.random_boxes(
            (*key, number), shape, self.crop_area, self.crop_aspect
        )

    def flipped(self, boxes, key, number):
        return crop.flipped(boxes, (*key, number)) if self.flip else boxes

    def _cut(self, images, boxes, size):
        return crop.crop_and_resize(images, boxes, size, self.jit_compile)

    def _images(self, x):
        shape = getattr(x, "shape", None)
        if shape is None or len(shape) != 4:
            found = (
                f"{type(x).__name__}" if shape is None else f"{tuple(shape)}"
            )
            raise ValueError(
                f"{type(self).__name__} takes images of shape (batch, height, "
                f"width, channels). Received: {found}."
            )
        return ops.convert_to_tensor(x)

    def teacher_config(self):
        config = super().teacher_config()
        of_others = OF_STUDENT if self.teacher_varies else OF_STUDENT + OF_DRAWS
        return {k: v for k, v in config.items() if k not in of_others}

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "image_size": self.image_size,
            "teacher_image_size": self.teacher_image_size,
            "crop_area": self.crop_area,
            "crop_aspect": self.crop_aspect,
            "flip": self.flip,
            "mixup": self.mixup,
            "mixup_concentration": self.mixup_concentration,
            "mixup_group_size": self.mixup_group_size,
            "num_classes": self.num_classes,
            "seed": self.seed,
            "name": self.name,
            **{
                argument: getattr(self, argument)
                and serialize(getattr(self, argument))
                for argument in LAYERS
            },
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        config = dict(config)
        for argument in LAYERS:
            config[argument] = config[argument] and deserialize(
                config[argument]
            )
        return cls(**config)


LAYERS = ("augmentation", "student_preprocess", "teacher_preprocess")
# Arguments that what the teacher sees does not depend on; and those that it
# does not depend on either, where it is always the same of each image.
OF_STUDENT = ("image_size", "student_preprocess", "num_classes")
OF_DRAWS = (
    "crop",
    "crop_area",
    "crop_aspect",
    "flip",
    "mixup",
    "mixup_concentration",
    "mixup_group_size",
    "seed",
)


def _preprocessed(layer, x):
    return x if layer is None else layer(x, training=False)


def _resized(images, size):
    images = ops.cast(images, "float32")
    if tuple(images.shape[1:3]) == tuple(size):
        return images
    return ops.image.resize(images, size, interpolation="bilinear")


def _fresh_number():
    """A number that no draw had before; nothing saves or replays it."""
    import tensorflow as tf

    return tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32)
