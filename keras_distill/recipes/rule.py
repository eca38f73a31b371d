"""Settings by a rule: how often each image is seen, for how long.

The rule is read off `examples/studies/defaults.py`; docs/settings.md holds its
table and says why a high temperature wins where it does.
"""

import dataclasses
import math
from typing import Any

import keras

from keras_distill import losses
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._keras.layers import has_normalization
from keras_distill.views import FunctionMatching

# Adam with half a cosine; students of 2 000 to 200 000 parameters.
LEARNING_RATE = 3e-3
# From so many passes and steps on, the higher temperature.
_PASSES, _STEPS = 30, 600
_LOW, _HIGH = 1.0, 4.0
# From so many passes on, crops of this share of the image, at least: all that
# is to be seen stays.
_PASSES_FOR_CROPS = 300
CROP_AREA = (0.7, 1.0)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a distillation; take from it what you need.

    Attributes:
        temperature: That of `kd.losses.SoftTargets`.
        alpha: Argument of `kd.Distiller`.
        learning_rate: Largest learning rate of Adam.
        crop_area: Smallest and largest share of an image that a random crop
            keeps; `None`: images as they are.
        passes: How often each image is seen.
        why: The reason for each of them, by name.
    """

    temperature: float
    alpha: float
    learning_rate: float
    crop_area: tuple[float, float] | None
    passes: float
    why: dict[str, str]

    def distiller_arguments(
        self, image_size: tuple[int, int] | None = None, **loss_options: Any
    ) -> dict[str, Any]:
        """Arguments for `kd.Distiller(student=..., teacher=..., **dict)`.

        Args:
            image_size: `(height, width)` of the samples, if they are images:
                the crops of `crop_area` are then among the arguments, as
                `views`. Defaults to `None`.
            **loss_options: Further arguments of `kd.losses.SoftTargets`, such
                as `teacher_probabilities=True` for a teacher that ends in a
                softmax.
        """
        arguments = {
            "distillation_losses": losses.SoftTargets(
                temperature=self.temperature, **loss_options
            ),
            "alpha": self.alpha,
        }
        if image_size is not None and self.crop_area is not None:
            arguments["views"] = crops(image_size, self.crop_area)
        return arguments

    def optimizer(self, steps: int) -> keras.optimizers.Adam:
        """A new Adam, whose rate goes down to 0 as half a cosine.

        Args:
            steps: The length of the training in steps.
        """
        return cosine_adam(self.learning_rate, checked_integer("steps", steps))


def crops(image_size, crop_area):
    """Returns views that crop, and leave the images alone otherwise."""
    return FunctionMatching(
        image_size, crop_area=crop_area, mixup=False, flip=False
    )


def cosine_adam(learning_rate, steps):
    """Returns Adam whose rate goes from `learning_rate` to 0 in `steps`."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.Adam(schedule)


def settings(
    *,
    samples: int,
    steps: int,
    batch_size: int,
    unlabelled: int = 0,
    labels: bool = True,
    random_views: bool = False,
    student: keras.Model | None = None,
) -> Settings:
    """Chooses temperature, alpha and crops by a rule, and trains nothing.

    The temperature depends on how often each image is seen,

        passes = steps * batch_size / (samples + unlabelled)

    and on the steps: it is 4 from 30 passes and 600 steps on, and 1 below. A
    student that sees each image so often learns the labels by heart. At
    temperature 1 a teacher that is sure of itself says little more than the
    labels, and at a higher one it says which other classes an image resembles.
    In a short training there is no time for that.

    Students without normalization layers are an exception: the one measured
    lost 2 points at temperature 4 after 154 passes, gained nothing surely after
    384 and 614, and lost by crops (docs/settings.md).

    Alpha is 0.5. It is 1 with unlabelled images, since the teacher labels all
    of them, and with random crops at temperature 1, since the label may not be
    right for what is left of the image. From 300 passes on, images are seen in
    random crops of 70 to 100 %: so often, no student needs to see the same
    pixels. `kd.choose` begins with this rule, and measures.

    The learning rate is that of small networks trained from new weights, as
    all in docs/settings.md are. Give a pretrained student, or a large one, an
    optimizer of your own with a lower rate.

    Args:
        samples: The number of labelled training images, or of all if none has
            a label.
        steps: The length of the training in steps.
        batch_size: The number of samples in a batch.
        unlabelled: The number of further images without labels. Defaults to 0.
        labels: Whether the `samples` have labels. Defaults to `True`.
        random_views: Whether both networks see random crops of yours, as of
            `kd.views.FunctionMatching`. Defaults to `False`.
        student: The student, to see whether it has normalization layers.
            Defaults to `None`: it has.

    Returns:
        The `Settings`.

    Raises:
        ValueError: If a number is not positive (`unlabelled` may be 0).

    Example:

    >>> chosen = settings(samples=2000, steps=4000, batch_size=128)
    >>> chosen.temperature, chosen.alpha, chosen.crop_area
    (4.0, 0.5, None)

    Reference:
        Measured by `python examples/studies/defaults.py`.
    """
    checked_integer("samples", samples)
    checked_integer("steps", steps)
    checked_integer("batch_size", batch_size)
    checked_integer("unlabelled", unlabelled, least=0)
    checked_boolean("labels", labels)
    checked_boolean("random_views", random_views)
    normalized = True
    if student is not None:
        normalized = has_normalization(checked_model("student", student))
    passes = steps * batch_size / (samples + unlabelled)
    temperature = _HIGH if passes >= _PASSES and steps >= _STEPS else _LOW
    why_temperature = (
        f"each image is seen {_rounded(passes)} times in {steps} steps"
    )
    if temperature > _LOW and not normalized:
        temperature = _LOW
        why_temperature = "the student has no normalization layers"
    alpha, why_alpha = 0.5, "labels and teacher count alike"
    if unlabelled or not labels:
        alpha, why_alpha = 1.0, "the teacher labels what has no label"
    elif random_views and temperature == _LOW:
        alpha, why_alpha = 1.0, "the teacher labels what is in the crop"
    cropped = passes >= _PASSES_FOR_CROPS and temperature > _LOW
    why_crops = why_temperature if cropped else "images as they are"
    if random_views:
        cropped, why_crops = False, "views of yours"
    return Settings(
        temperature=temperature,
        alpha=alpha,
        learning_rate=LEARNING_RATE,
        crop_area=CROP_AREA if cropped else None,
        passes=passes,
        why={
            "temperature": why_temperature,
            "alpha": why_alpha,
            "learning_rate": "Adam with half a cosine, for small students",
            "crop_area": why_crops,
        },
    )


def _rounded(passes):
    return f"{passes:.1f}" if passes < 10 else str(math.floor(passes))
