"""The data of "A good teacher is patient and consistent", from TFDS."""

import dataclasses
import functools
import os

import tensorflow as tf

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_seed
from keras_distill._arguments import one_of
from keras_distill.datasets.loaders import load
from keras_distill.datasets.loaders import optional
from keras_distill.datasets.pipelines import steps_per_epoch
from keras_distill.datasets.pipelines import with_fast_epoch_end
from keras_distill.views.images import INCEPTION_AREA
from keras_distill.views.images import INCEPTION_ASPECT


@dataclasses.dataclass(frozen=True)
class PublishedSource:
    """Where the paper's images come from.

    Attributes:
        builder: The name in tensorflow-datasets.
        classes: The number of classes.
        splits: Those of training, validation (to choose settings by) and test,
            as in big_vision, `configs/proj/distill`.
        samples: The number of training images.
        image_size: Of the student, in pixels.
        shorter_side: To which images are resized for evaluation, before the
            centre of `image_size` is cut out.
        batch_size: The number of images of a step.
    """

    builder: str
    classes: int
    splits: tuple[str, str, str]
    samples: int
    image_size: int = 128
    shorter_side: int = 160
    batch_size: int = 512


SOURCES = {
    "flowers102": PublishedSource(
        "oxford_flowers102", 102, ("train", "validation", "test"), 1020
    ),
    "pets": PublishedSource(
        "oxford_iiit_pet", 37, ("train[:90%]", "train[90%:]", "test"), 3312
    ),
    "food101": PublishedSource(
        "food101",
        101,
        ("train[:90%]", "train[90%:]", "validation"),
        68_175,
    ),
    "sun397": PublishedSource(
        "sun397", 397, ("train", "validation", "test"), 76_128
    ),
    "imagenet2012": PublishedSource(
        "imagenet2012",
        1000,
        ("train[:98%]", "train[99%:]", "validation"),
        1_255_544,
        image_size=224,
        shorter_side=256,
        batch_size=4096,
    ),
}


@dataclasses.dataclass(frozen=True)
class Published:
    """What `kd.datasets.published` returns.

    Attributes:
        train: An endless `tf.data.Dataset` of crops and labels: give `fit` the
            `steps_per_epoch`.
        validation: Images to choose settings by, one pass.
        test: Images to report, one pass.
        classes: The number of classes.
        samples: The number of training images.
        steps_per_epoch: Batches in which they are seen once.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    classes: int
    samples: int
    steps_per_epoch: int


def published(
    name: str,
    image_size: int | None = None,
    *,
    batch_size: int | None = None,
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
) -> Published:
    """Loads a data set of the function matching paper, split as there.

    A training image is a random crop of the file's own pixels (5 to 100 % of
    the area, aspect ratio 3/4 to 4/3), resized. It is mixed and mirrored on
    the device, alike for both networks:
    `kd.recipes.function_matching(dataset=...)` gives the views, which crop no
    more. For evaluation, the shorter side is resized to 160 pixels for 128 (to
    256 for 224 on ImageNet, in proportion for other sizes), by the mean over
    the area of each pixel, and the centre is cut out.

    | name | tensorflow-datasets | classes | train | validation | test |
    |---|---|---|---|---|---|
    | `"flowers102"` | `oxford_flowers102` | 102 | train | validation | test |
    | `"pets"` | `oxford_iiit_pet` | 37 | train[:90%] | train[90%:] | test |
    | `"food101"` | same | 101 | train[:90%] | train[90%:] | validation |
    | `"sun397"` | same | 397 | train | validation | test |
    | `"imagenet2012"` | same | 1000 | train[:98%] | train[99%:] | validation |

    The first call downloads and prepares the data. ImageNet has to be
    downloaded by hand: the error of tensorflow-datasets says how.

    Args:
        name: One of the names above.
        image_size: The side of the images in pixels, the larger one if teacher
            and student see different sizes. In the paper 128, and on ImageNet
            also 160, 224, 384 and 512. Defaults to 128, on ImageNet to 224.
        batch_size: The number of images in a batch. Defaults to that of the
            paper: 512, on ImageNet 4096.
        seed: The seed of shuffle and crops. Defaults to 0.
        data_dir: The folder of prepared data sets. Defaults to that of
            tensorflow-datasets, `~/tensorflow_datasets`.

    Returns:
        A `Published`. Images are float32 `(batch, side, side, 3)` in [0, 1],
        labels one-hot, float32 `(batch, classes)`: views blend them.

    Raises:
        ValueError: If the name is another, or a number is not positive.

    Example:

    ```python
    data = kd.datasets.published("flowers102")
    recipe = kd.recipes.function_matching(dataset="flowers102", duration="fast")
    ```

    Reference:
        Beyer, Zhai, Royer, Markeeva, Anil and Kolesnikov, "Knowledge
        distillation: A good teacher is patient and consistent", CVPR 2022,
        sections 3 and 4; google-research/big_vision, `configs/proj/distill`.
    """
    source = SOURCES[one_of("name", name, tuple(SOURCES))]
    size = checked_integer("image_size", image_size, or_none=True)
    size = size or source.image_size
    batch_size = checked_integer("batch_size", batch_size, or_none=True)
    batch_size = batch_size or source.batch_size
    seed = checked_seed(seed, "`seed`")
    files = [_files(source, split, data_dir) for split in source.splits]
    side = round(size * source.shorter_side / source.image_size)
    centre = functools.partial(_centre, size=size, side=side)
    validation, test = (
        _batched(each.map(centre, 8), batch_size) for each in files[1:]
    )
    return Published(
        train=_crops(files[0], size, batch_size, seed),
        validation=validation,
        test=test,
        classes=source.classes,
        samples=source.samples,
        steps_per_epoch=steps_per_epoch(source.samples, batch_size),
    )


def _files(source, split, data_dir):
    tfds = optional("tensorflow_datasets")
    # Encoded images are shuffled: they take a tenth of the memory.
    decoders = tfds.decode.PartialDecoding(
        {"image": True, "label": True}, {"image": tfds.decode.SkipDecoding()}
    )
    data = load(source.builder, split, data_dir, decoders=decoders)
    return data.map(
        lambda e: (e["image"], tf.one_hot(e["label"], source.classes))
    )


def _crops(files, size, batch_size, seed):
    """An endless stream of batches, the same for the same seed."""
    files = files.shuffle(50_000, seed=seed).repeat()
    numbered = tf.data.Dataset.zip((tf.data.Dataset.counter(), files))

    def crop(number, file):
        image, label = file
        image = _decoded(image)
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image),
            tf.zeros([0, 0, 4]),
            seed=[seed, number],
            min_object_covered=0.0,
            aspect_ratio_range=INCEPTION_ASPECT,
            area_range=INCEPTION_AREA,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.slice(image, begin, extent)
        image = tf.ensure_shape(image, [None, None, 3])  # The slice forgets it.
        return tf.image.resize(image, [size, size]) / 255.0, label

    crops = _batched(numbered.map(crop, 8), batch_size, drop_remainder=True)
    return crops.apply(tf.data.experimental.assert_cardinality(-1))


def _centre(image, label, size, side):
    image = _decoded(image)
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    shape = tf.round(shape * side / tf.reduce_min(shape))
    # big_vision's `resize_small` takes the mean over the area of a pixel, and
    # its crops of training interpolate.
    image = tf.image.resize(image, tf.cast(shape, tf.int32), method="area")
    return tf.image.resize_with_crop_or_pad(image / 255.0, size, size), label


def _decoded(image):
    image = tf.io.decode_image(image, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def _batched(images, batch_size, drop_remainder=False):
    batches = images.batch(batch_size, drop_remainder)
    return with_fast_epoch_end(batches.prefetch(2))
