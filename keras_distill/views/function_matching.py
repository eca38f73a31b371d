"""The four ways of teaching that Beyer et al. compare, as views.

    Beyer, Zhai, Royer, Markeeva, Anil and Kolesnikov, "Knowledge distillation:
    A good teacher is patient and consistent", CVPR 2022, section 3.1.

From the worst to the best in their figure 3: the teacher sees the whole image
(`FixedTeacher`), another crop than the student (`IndependentNoise`), the same
crop (`Consistent`), the same crop and the same mixup (`FunctionMatching`).
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.views import crop
from keras_distill.views import images
from keras_distill.views import looks
from keras_distill.views.images import ImageViews
from keras_distill.views.mixup import Mixup

_MILD_SIDE = 224 / 256

#: The paper's milder crop ("rc"): 224/256 of each side, at a uniform place.
MILD_CROP: dict[str, Any] = {
    "crop_area": (_MILD_SIDE**2, _MILD_SIDE**2),
    "crop_aspect": (1.0, 1.0),
}


@keras.saving.register_keras_serializable(package="keras_distill")
class FunctionMatching(ImageViews):
    """Both networks see the same crop, flip and mixup of every image.

        x = weight * crop(x_i) + (1 - weight) * crop(x_j),   y likewise,
        weight ~ U[0, 1], or Beta(a, a)

    The student matches the teacher as a function, on many more inputs than
    there are images. So it needs no labels (`alpha=1`), but long training.

    If the data carries the index of each sample (`kd.views.indexed`), every
    draw is a function of (`seed`, epoch, sample index): another process or
    another number of devices shows the same view. A sample is then blended
    with one of its neighbours in the data set, within groups
    (`kd.views.Mixup`); `kd.views.grouped_batches` and
    `kd.datasets.batches(..., group_size=)` shuffle whole groups. The epoch is
    that of `fit`, unless the data knows its own (`kd.datasets.batches(seed=)`,
    `kd.TeacherCache.join`). A second `fit` shows the views of the first again
    unless you pass `initial_epoch=`; `train_on_batch` uses the epoch of the
    last `fit`, 0 before the first.

    Without an index the draws differ in every step, and a sample is blended
    with any other of its (replica's) batch.

    Args:
        image_size: Size of the student's images in pixels: one side, or
            (height, width).
        teacher_image_size: Size of the same crop for the teacher. Defaults to
            `image_size`.
        crop_area: Range of the crop's share of the image's area, (least,
            largest), drawn uniformly; `None`: the whole image, without a crop.
            Defaults to (0.05, 1), as in the paper.
        crop_aspect: Range of the crop's width / height in pixels, drawn
            uniformly. Defaults to (3/4, 4/3), as in the paper.
        mixup: `True`, `False` or a `kd.views.Mixup`. Defaults to `True`.
        flip: How views are mirrored, each with probability 1/2:
            `"horizontal"` (or `True`), `"vertical"`, `"both"` (one
            independently of the other), `None` (or `False`). Defaults to
            `True`, as in the paper.
        quarter_turns: Whether views are turned by 0, 90, 180 or 270 degrees,
            with equal probability. For images without an up and down, seen
            from above or through a microscope. Defaults to `False`.
        brightness: b: each view is multiplied by a number of U[1 - b, 1 + b]
            and clipped at 1; if its image has numbers above 1, at 255, and
            if it has numbers above 255, at 65 535. In [0, 1), for images whose
            black is 0. Defaults to 0.
        augmentation: Your own function of `(image, seed)`, registered with
            `keras.saving.register_keras_serializable`. It gets each image of
            the data as float32 `(height, width, channels)`, before the crop,
            and an int32 seed of shape (2,) for functions such as
            `tf.image.stateless_random_contrast`. It returns an image of the
            same shape, and must draw from this seed alone. Defaults to `None`.
        student_preprocess: A Keras layer or model between view and student,
            such as `keras.layers.Rescaling(1 / 255)`. Defaults to `None`.
        teacher_preprocess: The same for the teacher.
        seed: Seed of the draws, an integer. Defaults to 0.
        name: Name of the layer.

    Input shapes:
        `(batch, height, width, channels)`, any number type. The networks see
        float32 in the same range, before their preprocessing.

    Raises:
        ValueError: If a size, area or aspect is out of range; in training, if
            images are not 4-D, or labels are sparse and the number of classes
            is not known.
        TypeError: If a preprocessing is not a Keras layer, or `mixup` is
            something else.

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

    def __init__(
        self,
        image_size: int | tuple[int, int],
        *,
        teacher_image_size: int | tuple[int, int] | None = None,
        crop_area: tuple[float, float] | None = images.INCEPTION_AREA,
        crop_aspect: tuple[float, float] = images.INCEPTION_ASPECT,
        mixup: bool | Mixup = True,
        flip: bool | str | None = True,
        quarter_turns: bool = False,
        brightness: float = 0.0,
        augmentation: Callable | None = None,
        student_preprocess: keras.layers.Layer | None = None,
        teacher_preprocess: keras.layers.Layer | None = None,
        seed: int = 0,
        name: str | None = None,
    ):
        super().__init__(
            image_size,
            teacher_image_size=teacher_image_size,
            crop_area=crop_area,
            crop_aspect=crop_aspect,
            mixup=mixup,
            flip=flip,
            quarter_turns=quarter_turns,
            brightness=brightness,
            augmentation=augmentation,
            student_preprocess=student_preprocess,
            teacher_preprocess=teacher_preprocess,
            seed=seed,
            name=name,
        )

    def _looks(self, images, key):
        look = self._augmentation.look(images, key, looks.STUDENT)
        return look, look


@keras.saving.register_keras_serializable(package="keras_distill")
class Consistent(ImageViews):
    """Both networks see the same crop and flip of every image.

    This is "consistent teaching", same/ic of the paper: `FunctionMatching`
    without mixup. `Consistent(224, **kd.views.MILD_CROP)` is same/rc.

    Args:
        image_size: As in `FunctionMatching`, like all other arguments.
        mixup: Defaults to `False`.

    Reference:
        Beyer et al., "Knowledge distillation: A good teacher is patient and
        consistent", 2022.
    """

    _looks = FunctionMatching._looks


@keras.saving.register_keras_serializable(package="keras_distill")
class IndependentNoise(ImageViews):
    """Each network sees its own crop and flip.

    This is ind/ic of the paper. `IndependentNoise(224, **kd.views.MILD_CROP)`
    is ind/rc.

    Args:
        image_size: As in `FunctionMatching`, like all other arguments.
        mixup: Blends the views of both networks alike. Defaults to `False`.

    Reference:
        Beyer et al., "Knowledge distillation: A good teacher is patient and
        consistent", 2022.
    """

    def _looks(self, images, key):
        return (
            self._augmentation.look(images, key, looks.STUDENT),
            self._augmentation.look(images, key, looks.TEACHER),
        )


@keras.saving.register_keras_serializable(package="keras_distill")
class FixedTeacher(ImageViews):
    """The student sees crops, the teacher always the same of each image.

    So you can compute the teacher's outputs once for all epochs, which is why
    this is common; the paper finds that it overfits. The paper's variant that
    averages the teacher over a thousand crops (fix/ic_ens) is not included.

    Args:
        image_size: As in `FunctionMatching`, like all other arguments.
        teacher_sees: `"image"`: the whole image (fix/rs of the paper).
            `"centre"`: its central 224/256; with `**kd.views.MILD_CROP` for
            the student it is fix/cc. Defaults to `"image"`.
        mixup: Blends the views of both networks alike. Defaults to `False`.

    Reference:
        Beyer et al., "Knowledge distillation: A good teacher is patient and
        consistent", 2022.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        *,
        teacher_sees: str = "image",
        **kwargs: Any,
    ):
        super().__init__(image_size, **kwargs)
        self.teacher_sees = one_of(
            "teacher_sees", teacher_sees, ("image", "centre")
        )
        # Without mixup the teacher's view depends on the image only.
        self.teacher_varies = self.mixup is not None

    def _looks(self, images, key):
        side = 1.0 if self.teacher_sees == "image" else _MILD_SIDE
        boxes = crop.centre_boxes(ops.shape(images)[0], side)
        return (
            self._augmentation.look(images, key, looks.STUDENT),
            looks.Look(images, boxes),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "teacher_sees": self.teacher_sees}
