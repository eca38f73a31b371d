"""The networks and trainings of `quantization.py`."""

import functools
import pathlib
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # _shared

from _shared import long_runs
from _shared.small_networks import accuracy
from _shared.small_networks import conv
from _shared.small_networks import halved
from _shared.small_networks import network
from _shared.small_networks import residual_block

import keras_distill as kd

SAVED = pathlib.Path(__file__).parents[1] / "saved_models"
BATCH_SIZE = 64
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
layers = keras.layers


def squeeze_excite_network(shape, classes=10):
    """A small MobileNetV3: hard-swish, squeeze and excite, shortcuts."""
    image = keras.Input(shape, name="image")
    x = _hard_swish(conv(image, 16, 3, 2, "stem"), "stem")
    x = _inverted_residual(x, 16, 16, 1, "block1")
    x = _inverted_residual(x, 48, 24, 2, "block2")
    x = _hard_swish(conv(x, 64, 1, 1, "last"), "last")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x))


def _hard_swish(x, name):
    return layers.Activation("hard_swish", name=name)(x)


def _inverted_residual(x, expanded, filters, strides, name):
    shortcut = x
    if expanded > x.shape[-1]:
        x = _hard_swish(conv(x, expanded, 1, 1, f"{name}_a"), f"{name}_a")
    x = conv(x, None, 3, strides, f"{name}_b", depthwise=True)
    x = _hard_swish(x, f"{name}_b")
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    gate = layers.Conv2D(8, 1, activation="relu", name=f"{name}_squeeze")(gate)
    gate = layers.Conv2D(
        expanded, 1, activation="hard_sigmoid", name=f"{name}_excite"
    )(gate)
    x = layers.Multiply(name=f"{name}_gated")([x, gate])
    x = conv(x, filters, 1, 1, f"{name}_c")
    if x.shape == shortcut.shape:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


# Network -> data set, student.
NETWORKS = {
    "digits, depthwise": (
        "digits",
        functools.partial(kd.models.mobile, depth=1),
    ),
    "Fashion-MNIST, depthwise": (
        "fashion_mnist",
        functools.partial(kd.models.mobile, width=1.5, depth=1),
    ),
    "Fashion-MNIST, hard-swish, squeeze-excite": (
        "fashion_mnist",
        squeeze_excite_network,
    ),
}
TEACHERS = {
    "digits": [(24, 1), (48, 2)],
    "fashion_mnist": [(24, 1), (48, 2)],
}
# The files of a student: their weights, and how they got their values.
ONE_SCALE, INT8 = "int8, one scale per kernel", "int8"
CALIBRATED = "calibrated only"
LABELS, FLOAT_STUDENT, TEACHER = "labels", "the float student", "the teacher"
WAYS = (CALIBRATED, LABELS, FLOAT_STUDENT, TEACHER)
# Weights, bits, ways: what `kd.quantization.aware` makes.
TUNED = (
    (INT8, 8, (FLOAT_STUDENT,)),
    ("4-bit weights", 4, WAYS),
    ("3-bit weights", 3, WAYS),
)


@functools.cache
def load(data, images, held_out=False):
    """Returns training images and labels, and those to judge by.

    The latter are the test data, or with `held_out` training images that no
    network sees. Fashion-MNIST is halved to 14 x 14 pixels.
    """
    split = getattr(kd.datasets, data)()
    order = np.random.default_rng(0).permutation(len(split.x_train))
    x, y = halved(split.x_train[order]), split.y_train[order]
    if not held_out:
        return x[:images], y[:images], halved(split.x_test), split.y_test
    others = len(x) // 4
    return x[:-others][:images], y[:-others][:images], x[-others:], y[-others:]


def fit(model, x, y, steps, learning_rate, seed, callbacks=()):
    """Trains with Adam, whose rate goes to 0 as half a cosine."""
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        ),
        CROSSENTROPY,
    )
    model.fit(
        stream(x, y, seed),
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=list(callbacks),
        verbose=0,
    )


def stream(x, y, seed):
    return kd.datasets.batches(x, y, BATCH_SIZE, seed=seed)


def teacher_of(data, settings):
    """Trains the teacher of a data set, or loads it."""
    path = SAVED / settings["home"] / f"{data}.keras"
    if not path.exists():
        sizes = settings["data"][data]
        x, y, _, _ = load(data, sizes["images"])
        keras.utils.set_random_seed(0)
        teacher = network(residual_block, TEACHERS[data], x.shape[1:])
        fit(teacher, x, y, sizes["teacher_steps"], 2e-3, seed=0)
        teacher.save(path)
    return keras.models.load_model(path)


def prepare(settings):
    """Trains all teachers, and returns their accuracies."""
    return {
        data: accuracy(teacher_of(data, settings), *load(data, 1)[2:])
        for data in settings["data"]
    }


class Experiment:
    """One network, one seed: the float student and its integer files.

    Args:
        name: A key of `NETWORKS`.
        seed: Of the weights and of the order of the data.
        settings: Those of the run.
    """

    def __init__(self, name, seed, settings):
        self.data, self.make = NETWORKS[name]
        self.seed = seed
        self.sizes = settings["data"][self.data]
        self.tuning_rate = settings["tuning_rate"]
        self.tuned_weights = [
            row for row in TUNED if row[0] in settings.get("tuned", row[0])
        ]
        self.x, self.y, self.x_test, self.y_test = load(
            self.data, self.sizes["images"]
        )
        self.teacher = teacher_of(self.data, settings)

    def rows(self):
        """Returns a dict row -> accuracy and agreement with the float student,
        of TFLite files."""
        student = self.trained_student()
        found = {
            "float": self.predicted(student),
            f"{ONE_SCALE}/{CALIBRATED}": self.with_one_scale(student),
            f"{INT8}/{CALIBRATED}": self.predicted(
                student, quantization="int8", representative_dataset=self.x
            ),
        }
        for weights, bits, ways in self.tuned_weights:
            for way in ways:
                aware = self.tuned(student, bits, way)
                found[f"{weights}/{way}"] = self.predicted(
                    aware, quantization="int8"
                )
        return {
            row: {
                "accuracy": float(np.mean(classes == self.y_test)),
                "agreement": float(np.mean(classes == found["float"])),
            }
            for row, classes in found.items()
        }

    def trained_student(self):
        keras.utils.set_random_seed(1000 + self.seed)
        student = self.make(self.x.shape[1:], 10)
        distiller = kd.Distiller(
            student=student,
            teacher=self.teacher,
            distillation_losses=kd.losses.SoftTargets(),
        )
        self.fit(distiller, self.sizes["student_steps"], 3e-3)
        return student

    def fit(self, model, steps, learning_rate, **options):
        fit(model, self.x, self.y, steps, learning_rate, self.seed, **options)

    def tuned(self, student, bits, way):
        """Returns the network of a file, trained as its row says."""
        steps = self.sizes["tuning_steps"]
        keras.utils.set_random_seed(2000 + self.seed)
        if way in (FLOAT_STUDENT, TEACHER):
            return kd.quantization.fine_tune(
                student,
                stream(self.x, None, self.seed),
                teacher=self.teacher if way == TEACHER else None,
                weights=bits,
                steps_per_epoch=steps,
                learning_rate=self.tuning_rate,
                calibration_data=self.x,
                verbose=0,
            )
        aware = kd.quantization.aware(
            student, weights=bits, calibration_data=self.x
        )
        if way == LABELS:
            freeze = kd.quantization.FreezeRanges(aware)
            self.fit(aware, steps, self.tuning_rate, callbacks=[freeze])
        return aware

    def predicted(self, model, **quantization):
        """Returns the classes that a model's TFLite file says."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "student.tflite"
            kd.export.tflite(model, path, verbose=False, **quantization)
            return kd.export.load(path)(self.x_test).argmax(-1)

    def with_one_scale(self, student):
        """As `predicted`, in int8 with one scale for each kernel."""
        with tempfile.TemporaryDirectory() as folder:
            student.export(folder, format="tf_saved_model", verbose=False)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS_INT8
            ]
            converter._experimental_disable_per_channel = True
            step = max(1, len(self.x) // 500)
            converter.representative_dataset = lambda: (
                [image[None]] for image in self.x[::step]
            )
            path = pathlib.Path(folder) / "student.tflite"
            path.write_bytes(converter.convert())
            return kd.export.load(path)(self.x_test).argmax(-1)


def work(job):
    """Trains one network of one seed, and measures all its files."""
    key, name, seed, settings = job
    long_runs.one_thread()
    tf.get_logger().setLevel("ERROR")
    keras.backend.clear_session()
    start = time.time()
    rows = Experiment(name, seed, settings).rows()
    return key, {"rows": rows, "seconds": time.time() - start}
