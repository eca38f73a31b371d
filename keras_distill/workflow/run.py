"""A run: its arguments, its folder, and what its steps share."""

import functools
import time
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_distill.workflow import data as images
from keras_distill.workflow import networks

STEPS = (
    "look",
    "diagnose",
    "choose",
    "cache",
    "train",
    "compare",
    "export",
    "verify",
    "report",
)
# Without them nothing ships.
NEEDED = ("look", "train")
# They follow from what the others left.
SHIPPING = ("export", "verify", "report")


class Arguments(NamedTuple):
    """The arguments of `kd.distill`, checked; data from Python as arrays."""

    teacher: Any
    data: Any
    student: Any
    validation_data: Any
    unlabelled: Any
    budget: Any
    time_limit: float | None
    skip: tuple


class Run:
    """What the steps of a run share, made when it is first needed.

    Args:
        arguments: The `Arguments`.
        folder: The `RunFolder`.
        screen: The `Screen`.
        settings: The `Settings`.
    """

    def __init__(self, arguments, folder, screen, settings):
        self.arguments, self.folder = arguments, folder
        self.screen, self.settings = screen, settings
        self.began = time.perf_counter() - folder.seconds()

    def seconds(self):
        """How long the run has taken, with what killed ones took."""
        return time.perf_counter() - self.began

    def skips(self, step):
        return step in self.arguments.skip

    @functools.cached_property
    def given_teacher(self):
        """The teacher as it was given or loaded."""
        from keras_distill.teachers.roles import as_one_teacher

        teacher = self.arguments.teacher
        if isinstance(teacher, (keras.Model, list, tuple)):
            return as_one_teacher(teacher)
        from keras_distill.teachers import load_teacher

        if self._teacher_is_function:
            shape = self.data.train[0].shape[1:]
            return load_teacher(teacher, input_shape=shape)
        return load_teacher(teacher)

    @property
    def _teacher_is_function(self):
        """Whether the teacher does not tell what images it takes."""
        teacher = self.arguments.teacher
        return callable(teacher) and not isinstance(teacher, keras.Model)

    @functools.cached_property
    def given_student(self):
        """The student as it was given or loaded; `None` for "auto"."""
        student = self.arguments.student
        if student == "auto":
            return None
        if isinstance(student, keras.Model):
            return student
        return keras.saving.load_model(student, compile=False)

    @functools.cached_property
    def data(self):
        """The images in their parts."""
        size, channels = self._image()
        read = functools.partial(
            images.read,
            image_size=size,
            channels=channels,
        )
        arguments, work = self.arguments, self.folder.work
        labelled = read(
            arguments.data,
            "data",
            class_names=None,
            directory=work("images"),
        )
        if channels is None:
            read = functools.partial(read, channels=labelled.x.shape[-1])
        validation = read(
            arguments.validation_data,
            "validation_data",
            class_names=labelled.class_names,
            directory=work("validation_images"),
        )
        unlabelled = read(
            arguments.unlabelled,
            "unlabelled",
            class_names=None,
            directory=work("unlabelled_images"),
        )
        for argument, others in (
            ("validation_data", validation),
            ("unlabelled", unlabelled),
        ):
            if others is not None and (
                others.x.shape[1:] != labelled.x.shape[1:]
                or others.x.dtype != labelled.x.dtype
            ):
                raise ValueError(
                    f"{argument} must hold images like those of data: "
                    f"{labelled.x.dtype} {labelled.x.shape[1:]}. Received: "
                    f"{others.x.dtype} {others.x.shape[1:]}"
                )
        seed = self.settings["seed"]
        return images.divided(labelled, validation, unlabelled, seed)

    @functools.cached_property
    def taught(self):
        """The images that the teacher teaches, `(x, y)`; `y` may be `None`.

        They are in the order of `kd.choose`, which then shares its cache.
        """
        from keras_distill.diagnosis.choosing.races import fair_order

        (x, y), unlabelled = self.data.train, self.data.unlabelled
        extra = 0 if unlabelled is None else len(unlabelled)
        order = fair_order(
            len(x) if y is None else y, extra, self.settings["seed"]
        )
        everything = np.concatenate([x, unlabelled]) if extra else x
        return everything[order], None if extra or y is None else y[order]

    @functools.cached_property
    def teacher(self):
        """The teacher as a model that takes these images and gives logits."""
        return networks.adapted(
            self.given_teacher,
            self.data.train[0].shape[1:],
            self.folder.done("look")["teacher"],
        )

    def student(self):
        """A new student with its initial weights."""
        return load(self.folder.work("start.keras"))

    @functools.cached_property
    def distilled(self):
        """The distilled student, trained; `None` if there is none."""
        file = self.folder.work("distilled.keras")
        return load(file) if file.exists() else None

    @functools.cached_property
    def alone(self):
        """The student trained alone, or `None`."""
        file = self.folder.work("alone.keras")
        return load(file) if file.exists() else None

    def _image(self):
        """The size to read images in, and their channels if they are known."""
        fixed = self.settings.fixed.get("image_size")
        if isinstance(self.arguments.data, images.Source):
            *size, channels = self.arguments.data.x.shape[1:]
            if fixed not in (None, size):
                raise ValueError(
                    "settings['image_size'] is for images in files. data holds "
                    f"images of {size}. Received: {fixed}"
                )
            return tuple(size), channels
        size = channels = None
        teacher = None if self._teacher_is_function else self.given_teacher
        for model in self.given_student, teacher:
            shape = networks.input_shape(model)
            if shape is not None and len(shape) == 3:
                size = size or (None not in shape[:2] and shape[:2]) or None
                channels = channels or shape[2]
        size = tuple(fixed) if fixed else size
        if size is None:
            raise ValueError(
                "Neither student nor teacher has a fixed input size. Say what "
                "size the images are to be read in: settings={'image_size': "
                "96} (--set image_size=96)."
            )
        return size, channels


def load(path):
    """Loads a model that the run has saved."""
    return keras.saving.load_model(path, compile=False)
