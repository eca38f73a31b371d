"""The four ways of teaching that Beyer et al. compare, as views.

    Beyer, Zhai, Royer, Markeeva, Anil and Kolesnikov, "Knowledge distillation:
    A good teacher is patient and consistent", CVPR 2022, section 3.1.

From the worst to the best in their figure 3: the teacher sees the plain image
(`FixedTeacher`), another crop than the student (`IndependentNoise`), the same
crop (`Consistent`), the same crop and the same mixup (`FunctionMatching`).
"""

import keras

from keras_distill._arguments import one_of
from keras_distill.views import crop
from keras_distill.views import images
from keras_distill.views.images import ImageViews

_CROPS = ("inception", "mild")


class _CropViews(ImageViews):
    """Views whose crop has two variants in the paper."""

    def __init__(self, image_size, *, crop="inception", **kwargs):
        self.crop = one_of("crop", crop, _CROPS)
        if crop == "mild":
            area = images.MILD_SIDE**2
            kwargs = {
                "crop_area": (area, area),
                "crop_aspect": (1.0, 1.0),
                **kwargs,
            }
        super().__init__(image_size, **kwargs)

    def get_config(self):
        return {**super().get_config(), "crop": self.crop}


@keras.saving.register_keras_serializable(package="keras_distill")
class FunctionMatching(ImageViews):
    """Both networks see the same crop, flip and mixup of every image.

        x = weight * crop(x_i) + (1 - weight) * crop(x_j),   y likewise,
        weight ~ U[0, 1], or Beta(a, a)

    The teacher is a function that the student matches, on many more inputs
    than there are images: so it needs no labels (`alpha=1`), and long
    training. The crop is that of Inception: the area uniform in `crop_area`,
    the aspect ratio in `crop_aspect`, at a uniform place.

    Every draw is a function of (`seed`, epoch, sample index), if the data
    carries the index (`kd.views.indexed`): the same view can be shown in
    another process or on another number of devices. Partners for mixup are
    then sought among the sample's neighbours in the data set, groups of
    `mixup_group_size`; `kd.views.grouped_batches` and
    `kd.datasets.batches(..., group_size=)` keep them together while they
    shuffle. The epoch is that of `fit`, unless the data knows its own
    (`kd.datasets.batches(seed=)`, `kd.TeacherCache.join`): a second `fit`
    shows the views of the first one again, if `initial_epoch=` does not say
    where to go on, and `train_on_batch` stays with the epoch of the last
    `fit`, at first 0.

    Without an index draws differ by step, and the partner is any sample of
    the (replica's) batch.

    Args:
        image_size: What the student sees, in pixels: a side, or (height,
            width).
        teacher_image_size: What the teacher sees of the same crop. Defaults to
            `image_size`.
        crop_area: Share of the image's area, (least, largest). Defaults to
            (0.05, 1), as in the paper.
        crop_aspect: Width / height of the crop in pixels, (least, largest).
            Defaults to (3/4, 4/3), as in the paper.
        mixup: Defaults to `True`.
        mixup_concentration: a of Beta(a, a). Defaults to 1.0: U[0, 1], as in
            the paper.
        mixup_group_size: Neighbours in an indexed data set that mixup may
            blend. Defaults to 16.
        num_classes: To blend sparse labels, which become one-hot, in
            evaluation too: train with a loss and metrics for these
            (`CategoricalCrossentropy`). Defaults to `None`: as the student's
            output says, where it is `(batch, classes)`.
        flip: Whether half of the views are mirrored. Defaults to `True`.
        augmentation: A Keras or keras-cv layer for whole images, before the
            crop and so the same for both networks, such as
            `keras_cv.layers.RandAugment((0, 255))`. Its draws are its own:
            such views cannot be replayed. Defaults to `None`.
        student_preprocess: A Keras layer or model between view and student,
            such as `keras.layers.Rescaling(1 / 255)`. Defaults to `None`.
        teacher_preprocess: The same for the teacher.
        seed: A whole number. Defaults to 0.
        name: Name of the layer.

    Input shapes:
        `(batch, height, width, channels)`, any number type. What networks
        see is float32 in the same range, before their preprocessing.

    Raises:
        ValueError: for sizes, areas or aspects that are none; in training, for
            images that are not 4-D, or sparse labels of unknown classes.
        TypeError: for a preprocessing that is no Keras layer.

    Example:

    ```python
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
        views=kd.views.FunctionMatching(32),
        alpha=1.0,
    )
    ```

    Reference:
        Beyer et al., "Knowledge distillation: A good teacher is patient and
        consistent", 2022. Crop: Szegedy et al., "Going deeper with
        convolutions", 2015. Mixup: Zhang et al., "mixup: Beyond empirical risk
        minimization", 2018.
    """

    def __init__(self, image_size, *, mixup=True, **kwargs):
        super().__init__(image_size, mixup=mixup, **kwargs)

    def boxes(self, key, batch, shape):
        boxes = self.inception_boxes(key, images.CROP, shape)
        boxes = self.flipped(boxes, key, images.FLIP)
        return boxes, boxes


@keras.saving.register_keras_serializable(package="keras_distill")
class Consistent(_CropViews):
    """Both networks see the same crop and flip of every image.

    "Consistent teaching" of the paper: `FunctionMatching` without mixup.

    Args:
        image_size: As in `FunctionMatching`, as is what is not listed here.
        crop: `"inception"`: same/ic of the paper, `crop_area` and
            `crop_aspect` apply. `"mild"`: same/rc, a square of 224/256 of each
            side at a uniform place. Defaults to `"inception"`.
        mixup: Defaults to `False`.

    Reference:
        Beyer et al., "Knowledge distillation: A good teacher is patient and
        consistent", 2022.
    """

    boxes = FunctionMatching.boxes


@keras.saving.register_keras_serializable(package="keras_distill")
class IndependentNoise(_CropViews):
    """Each network sees a crop and flip of its own.

    Args:
        image_size: As in `FunctionMatching`, as is what is not listed here.
        crop: `"inception"`: ind/ic of the paper. `"mild"`: ind/rc, see
            `Consistent`. Defaults to `"inception"`.
        mixup: Whether both are blended, alike. Defaults to `False`.

    Reference:
        Beyer et al., "Knowledge distillation: A good teacher is patient and
        consistent", 2022.
    """

    def boxes(self, key, batch, shape):
        student = self.inception_boxes(key, images.CROP, shape)
        teacher = self.inception_boxes(key, images.TEACHER_CROP, shape)
        return (
            self.flipped(student, key, images.FLIP),
            self.flipped(teacher, key, images.TEACHER_FLIP),
        )


@keras.saving.register_keras_serializable(package="keras_distill")
class FixedTeacher(_CropViews):
    """The student sees crops, the teacher always the same of each image.

    So its outputs can be computed once for all epochs, which is why this is
    common; the paper finds it to overfit. The variant that averages the
    teacher over a thousand crops (fix/ic_ens) is not built.

    Args:
        image_size: As in `FunctionMatching`, as is what is not listed here.
        teacher_sees: `"image"`: the whole image (fix/rs of the paper).
            `"centre"`: its central 224/256 (fix/cc). Defaults to `"image"`.
        crop: What the student sees: `"inception"`, or `"mild"`, the paper's
            for fix/cc; see `Consistent`. Defaults to `"inception"`.
        mixup: Whether both are blended, alike. Defaults to `False`.

    Reference:
        Beyer et al., "Knowledge distillation: A good teacher is patient and
        consistent", 2022.
    """

    def __init__(self, image_size, *, teacher_sees="image", **kwargs):
        self.teacher_sees = one_of(
            "teacher_sees", teacher_sees, ("image", "centre")
        )
        super().__init__(image_size, **kwargs)

    @property
    def teacher_varies(self):
        return self.mixup

    def boxes(self, key, batch, shape):
        student = self.inception_boxes(key, images.CROP, shape)
        side = 1.0 if self.teacher_sees == "image" else images.MILD_SIDE
        return (
            self.flipped(student, key, images.FLIP),
            crop.centre_boxes(batch, side),
        )

    def get_config(self):
        return {**super().get_config(), "teacher_sees": self.teacher_sees}
