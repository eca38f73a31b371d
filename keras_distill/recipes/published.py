"""Published training recipes: what to give to Distiller, compile and fit.

Numbers marked "config" are from google-research/big_vision,
`configs/proj/distill/bit_i1k.py`, the configuration of the ImageNet runs in
"Knowledge distillation: A good teacher is patient and consistent".
"""

import dataclasses
from typing import Any

import keras

from keras_distill import losses
from keras_distill._arguments import checked_instance
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_mapping
from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.optimizers import DecoupledAdam
from keras_distill.views import FunctionMatching
from keras_distill.views import Views

_PUBLISHED_BATCH_SIZE = 4096
_IMAGENET = {
    "batch_size": _PUBLISHED_BATCH_SIZE,
    "temperature": 1.0,
    "learning_rate": 0.03,
    "warmup_steps": 5000,
    "weight_decay": 3e-4,
    "image_size": 224,
}
# "bigsweep_flowers_pet.py" and "bigsweep_food_sun.py": epochs, temperature,
# learning rate, weight decay.
_SMALL_SETS = {
    "flowers102": {
        "fast": (10_000, 10.0, 3e-3, 3e-4),
        "medium": (100_000, 1.0, 1e-3, 1e-4),
        "long": (1_000_000, 1.0, 3e-4, 1e-5),
    },
    "pets": {
        "fast": (1000, 5.0, 0.01, 1e-3),
        "medium": (3000, 10.0, 3e-3, 3e-4),
        "long": (30_000, 2.0, 3e-3, 1e-5),
    },
    "food101": {
        "fast": (100, 10.0, 0.01, 1e-3),
        "medium": (1000, 10.0, 1e-3, 3e-4),
        "long": (3000, 5.0, 0.01, 1e-4),
    },
    "sun397": {
        "fast": (100, 10.0, 0.01, 1e-3),
        "medium": (1000, 10.0, 1e-3, 1e-4),
        "long": (3000, 10.0, 0.01, 3e-5),
    },
}
# The config's example, its default, the paper's longest.
_IMAGENET_EPOCHS = {"fast": 300, "medium": 1200, "long": 9600}
_EXPONENTS = {"none": 0.0, "square_root": 0.5, "linear": 1.0}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A training recipe; take from it what you need.

    Attributes:
        views: Argument of `kd.Distiller`: what the networks see.
        distillation_losses: Argument of `kd.Distiller`.
        alpha: Argument of `kd.Distiller`.
        batch_size: Samples of the global batch.
        steps: Length of the training. Each epoch has
            `kd.datasets.steps_per_epoch(samples, batch_size)` of them.
        learning_rate: Largest learning rate, after the warm-up.
        warmup_steps: Steps in which the rate rises from 0.
        weight_decay: Share of each kernel that one step takes away at the
            peak of the schedule.
        clip_norm: Largest norm of all gradients together.
    """

    views: Views
    distillation_losses: dict
    alpha: float
    batch_size: int
    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip_norm: float

    def __post_init__(self):
        checked_instance("views", self.views, Views, "kd.views.Views")
        checked_mapping("distillation_losses", self.distillation_losses)
        checked_number("alpha", self.alpha, "[0, 1]")
        checked_integer("batch_size", self.batch_size)
        checked_integer("steps", self.steps)
        checked_number("learning_rate", self.learning_rate)
        checked_integer("warmup_steps", self.warmup_steps, least=0)
        checked_number("weight_decay", self.weight_decay, "[0, inf)")
        checked_number("clip_norm", self.clip_norm)

    def distiller_arguments(self) -> dict[str, Any]:
        """Arguments for `kd.Distiller(student=..., teacher=..., **dict)`."""
        return {
            "views": self.views,
            "distillation_losses": self.distillation_losses,
            "alpha": self.alpha,
        }

    def schedule(self) -> keras.optimizers.schedules.CosineDecay:
        """The learning rate by step: linear warm-up, then half a cosine."""
        warm = self.warmup_steps > 0
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warm else self.learning_rate,
            decay_steps=self.steps - self.warmup_steps,
            warmup_target=self.learning_rate if warm else None,
            warmup_steps=self.warmup_steps,
        )

    def optimizer(self) -> DecoupledAdam:
        """A new optimizer, for one training."""
        return DecoupledAdam(
            self.schedule(),
            peak_learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            epsilon=1e-8,  # optax's default, which big_vision keeps
            global_clipnorm=self.clip_norm,
        )


def function_matching(
    image_size: int | tuple[int, int] | None = None,
    *,
    samples: int | None = None,
    dataset: str | None = None,
    duration: str = "medium",
    epochs: int | None = None,
    batch_size: int | None = None,
    temperature: float | None = None,
    learning_rate: float | None = None,
    learning_rate_scaling: str = "none",
    warmup_steps: int | None = None,
    weight_decay: float | None = None,
    clip_norm: float = 1.0,
    **views: Any,
) -> Recipe:
    """The recipe of Beyer et al. 2022: patient, consistent, without labels.

    Both networks see the same crop and mixup. The KL divergence is the only
    loss, the optimizer is Adam with decoupled weight decay, warm-up and cosine,
    and training is long. The numbers are for ImageNet and a ResNet-50 without
    batch normalization (`kd.models.bit_resnet`), unless you name one of the
    paper's other data sets. On yours, choose on held-out images, as the same
    authors do for small sets: rate 0.0003 to 0.01, decay 1e-5 to 1e-3,
    temperature 1 to 10, 1000 to 1 000 000 epochs, with
    `batch_size=512, warmup_steps=1500`.

    Args:
        image_size: Size of the student's images in pixels: one side, or
            (height, width). Defaults to that of the `dataset`, and without
            one to 224, config.
        samples: Number of training images. Defaults to that of the `dataset`.
        dataset: A name of `kd.datasets.published`. Its training images are
            crops already, in [0, 1]: the views mix and mirror them, and both
            networks see them in [-1, 1]. Defaults to `None`: yours.
        duration: `"fast"`, `"medium"` or `"long"`: which of the published
            numbers for the `dataset` to take (big_vision,
            `bigsweep_flowers_pet.py`, `bigsweep_food_sun.py`): for flowers
            10 000, 100 000 or 1 000 000 epochs, for pets 1000, 3000 or 30 000,
            for the larger two 100, 1000 or 3000, each with its own temperature,
            rate and decay. On ImageNet, and without a `dataset`, 300, 1200
            ("a good middle-ground", config) or 9600 epochs. Defaults to
            `"medium"`.
        epochs: Passes over them. Defaults to those of the `duration`.
        batch_size: Samples of the global batch. Defaults to 4096, config; to
            512 for a small `dataset`.
        temperature: Temperature of the KL divergence. Defaults to 1, config.
        learning_rate: Largest learning rate. Defaults to 0.03, config.
        learning_rate_scaling: `"linear"` multiplies the rate by
            `batch_size / 4096`, `"square_root"` by its root. Defaults to
            `"none"`. The config has neither.
        warmup_steps: Steps in which the rate rises from 0. Defaults to 5000,
            config, to 1500 for a small `dataset`; take fewer if the training
            has less than, say, 50 000 steps.
        weight_decay: See `DecoupledAdam`. Defaults to 0.0003, config.
        clip_norm: Largest norm of all gradients together. Defaults to 1,
            config.
        **views: More arguments of `kd.views.FunctionMatching`. Its defaults
            are those of the paper.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If a number is not positive (a decay may be 0), the warm-up
            is as long as the training, or there is neither `samples` nor
            `dataset`.

    Example:

    ```python
    recipe = kd.recipes.function_matching(
        32, samples=50_000, epochs=300, batch_size=512,
        learning_rate=0.003, warmup_steps=1500,
    )
    student = kd.models.cifar_resnet(20)
    distiller = kd.Distiller(
        student=student,
        teacher=kd.models.cifar_resnet(56),
        **recipe.distiller_arguments(),
    )
    distiller.compile(optimizer=recipe.optimizer())
    ```

    Reference:
        Beyer, Zhai, Royer, Markeeva, Anil and Kolesnikov, "Knowledge
        distillation: A good teacher is patient and consistent", CVPR 2022.
    """
    one_of("duration", duration, tuple(_IMAGENET_EPOCHS))
    epochs_of_imagenet = _IMAGENET_EPOCHS[duration]
    numbers: dict[str, Any] = {**_IMAGENET, "epochs": epochs_of_imagenet}
    if dataset is not None:
        known, of_views = _of_dataset(dataset, duration)
        numbers |= known
        views = of_views | views
    elif samples is None:
        raise ValueError(
            "Give `samples`, the number of your training images, or the name "
            "of a published `dataset`. Received neither."
        )
    given = {
        "image_size": image_size,
        "samples": samples,
        "epochs": epochs,
        "batch_size": batch_size,
        "temperature": temperature,
        "learning_rate": learning_rate,
        "warmup_steps": warmup_steps,
        "weight_decay": weight_decay,
    }
    numbers |= {k: v for k, v in given.items() if v is not None}
    return _recipe(
        **numbers,
        scaling=one_of(
            "learning_rate_scaling", learning_rate_scaling, tuple(_EXPONENTS)
        ),
        clip_norm=checked_number("clip_norm", clip_norm),
        views=views,
    )


def _of_dataset(name, duration):
    """The published numbers, and the views of images that are crops."""
    from keras_distill.datasets.published_sets import SOURCES

    source = SOURCES[one_of("dataset", name, tuple(SOURCES))]
    of_source = "samples", "image_size", "batch_size"
    numbers = {number: getattr(source, number) for number in of_source}
    if name in _SMALL_SETS:
        names = ("epochs", "temperature", "learning_rate", "weight_decay")
        numbers |= dict(zip(names, _SMALL_SETS[name][duration]))
        numbers["warmup_steps"] = 1500
    scales = {
        f"{who}_preprocess": keras.layers.Rescaling(2.0, -1.0)
        for who in ("student", "teacher")
    }
    return numbers, {"crop_area": None, **scales}


def _recipe(
    *,
    image_size,
    samples,
    epochs,
    batch_size,
    temperature,
    learning_rate,
    warmup_steps,
    weight_decay,
    scaling,
    clip_norm,
    views,
):
    samples = checked_integer("samples", samples, least=1)
    epochs = checked_integer("epochs", epochs, least=1)
    batch_size = checked_integer("batch_size", batch_size, least=1)
    warmup_steps = checked_integer("warmup_steps", warmup_steps, least=0)
    learning_rate = checked_number("learning_rate", learning_rate)
    weight_decay = checked_number("weight_decay", weight_decay, "[0, inf)")
    views = FunctionMatching(image_size, **views)
    soft_targets = losses.SoftTargets(temperature=temperature)
    steps = epochs * -(-samples // batch_size)  # the last batch is smaller
    if warmup_steps >= steps:
        raise ValueError(
            f"warmup_steps must be less than the {steps} steps of the training "
            f"(epochs={epochs}, samples={samples}, batch_size={batch_size}). "
            f"Received: warmup_steps={warmup_steps}. A tenth of the training "
            "or less is usual."
        )
    scale = (batch_size / _PUBLISHED_BATCH_SIZE) ** _EXPONENTS[scaling]
    return Recipe(
        views=views,
        distillation_losses={"soft_targets": soft_targets},
        alpha=1.0,
        batch_size=batch_size,
        steps=steps,
        learning_rate=learning_rate * scale,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
    )
