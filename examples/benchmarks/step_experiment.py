"""The networks and the rows of `step.py`."""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from _shared.measuring import resnet

PLAIN, TEACHER = "plain student step", "teacher forward"
OURS, STOCK = "kd.Distiller", "keras.distillation"
OURS_FEATURE, STOCK_FEATURE = f"{OURS}, + feature", f"{STOCK}, + feature"
HALF, PIECES = f"{OURS}, teacher in bfloat16", f"{OURS}, teacher by quarters"
HAND = "by hand"
FLOOR = (PLAIN, TEACHER)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A ratio of two sums of rows, and what it is to be.

    Args:
        of: Labels of rows, above the line.
        to: The same below.
        target: The bound; none: it is for information.
        at_least: Whether the ratio is to be above it.
    """

    of: tuple
    to: tuple
    target: float | None = None
    at_least: bool = False

    @property
    def label(self):
        names = ["floor" if s == FLOOR else s[0] for s in (self.of, self.to)]
        return " / ".join(names)

    def ratios(self, seconds):
        """`(rounds, 2)`: by the clock, and of processor time."""
        of, to = (sum(seconds[row] for row in s) for s in (self.of, self.to))
        return of / to

    def wanted(self):
        if self.target is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {self.target:.2f}"

    def met(self, ratio):
        if self.target is None:
            return ""
        ratio = round(ratio, 2)  # As precise as the target.
        good = ratio >= self.target if self.at_least else ratio <= self.target
        return "yes" if good else "no"


MEMORY = Comparison((OURS_FEATURE,), FLOOR, 1.05)
WITH_FEATURES = (
    Comparison((OURS_FEATURE,), FLOOR, 1.05),
    Comparison((STOCK_FEATURE,), (OURS_FEATURE,), 1.3, at_least=True),
    Comparison((STOCK_FEATURE,), FLOOR),
)
LOGITS_ONLY = (
    Comparison((OURS,), FLOOR),
    Comparison((OURS,), (STOCK,), 1.0),
    Comparison((OURS,), (HAND,), 1.03),
    Comparison((HALF,), (OURS,)),
    Comparison((PIECES,), (OURS,)),
)
FIXED_COST = (
    Comparison((OURS,), (PLAIN,), 1.45),
    Comparison((STOCK,), (PLAIN,)),
    Comparison((HAND,), (PLAIN,)),
    Comparison((OURS,), (STOCK,), 1.0),
)


@dataclasses.dataclass(frozen=True)
class TeacherStudent:
    """Two networks and their data.

    Args:
        teacher, student: Functions without arguments.
        shape: Of a sample.
        classes: How many.
        batch: Samples.
        tap: A layer of both whose outputs have one shape; none: no features.
        comparisons: What is printed.
    """

    teacher: Callable
    student: Callable
    shape: tuple
    classes: int
    batch: int
    tap: str | None
    comparisons: tuple

    def data(self):
        """Endless batches."""
        generator = np.random.default_rng(0)
        x = generator.normal(size=(self.batch, *self.shape)).astype("float32")
        y = generator.integers(0, self.classes, self.batch).astype("int32")
        options = tf.data.Options()
        options.autotune.enabled = False
        batches = tf.data.Dataset.from_tensors((x, y)).repeat()
        return batches.with_options(options)


def mobilenet(alpha, size=96, classes=100):
    return keras.applications.MobileNetV2(
        input_shape=(size, size, 3),
        alpha=alpha,
        weights=None,
        classes=classes,
        classifier_activation=None,
    )


def one_layer(classes=2):
    inputs = keras.Input((1,))
    return keras.Model(inputs, keras.layers.Dense(classes)(inputs))


def pairs(quick):
    """Name -> `TeacherStudent`."""
    partial = functools.partial
    width, size, batches = (8, 32, (16, 8)) if quick else (32, 96, (64, 64))
    return {
        "residual": TeacherStudent(
            teacher=partial(resnet, width, 2),
            student=partial(resnet, width, 1),
            shape=(32, 32, 3),
            classes=100,
            batch=batches[0],
            tap="stage2",
            comparisons=WITH_FEATURES + LOGITS_ONLY,
        ),
        "MobileNetV2": TeacherStudent(
            teacher=partial(mobilenet, 1.0, size),
            student=partial(mobilenet, 0.35, size),
            shape=(size, size, 3),
            classes=100,
            batch=batches[1],
            tap="out_relu",
            comparisons=WITH_FEATURES + LOGITS_ONLY,
        ),
        "one-layer": TeacherStudent(
            teacher=one_layer,
            student=one_layer,
            shape=(1,),
            classes=2,
            batch=32,
            tap=None,
            comparisons=FIXED_COST,
        ),
    }


class Bench:
    """The rows of one pair: functions without arguments."""

    def __init__(self, pair):
        self.pair = pair
        self.teacher = self.network(pair.teacher)

    def network(self, function):
        keras.utils.set_random_seed(0)
        return function()

    def compiled(self, model):
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        return model

    def fitted(self, model):
        """The train function, after two steps of `fit`."""
        data = self.pair.data()
        self.compiled(model).fit(data, steps_per_epoch=2, verbose=0)
        return functools.partial(model.train_function, iter(data))

    def plain(self):
        return self.fitted(self.network(self.pair.student))

    def teacher_forward(self):
        @tf.function(jit_compile=False, autograph=False)
        def forward(iterator):
            x, _ = iterator.get_next()
            return self.teacher(x, training=False)

        return functools.partial(forward, iter(self.pair.data()))

    def ours(self, feature=False, **options):
        losses = [kd.losses.SoftTargets()]
        if feature:
            losses.append(
                kd.losses.Hint(
                    teacher_layer_name=self.pair.tap,
                    student_layer_name=self.pair.tap,
                    regressor=None,
                )
            )
        return self.fitted(
            kd.Distiller(
                student=self.network(self.pair.student),
                teacher=self.teacher,
                distillation_losses=losses,
                **options,
            )
        )

    def stock(self, feature=False):
        losses = [
            # Its default, a string, is compared without a softmax.
            keras.distillation.LogitsDistillation(
                temperature=1.0, loss=keras.losses.KLDivergence()
            )
        ]
        if feature:
            losses.append(
                keras.distillation.FeatureDistillation(
                    loss="mse",
                    teacher_layer_name=self.pair.tap,
                    student_layer_name=self.pair.tap,
                )
            )
        return self.fitted(
            keras.distillation.Distiller(
                teacher=self.teacher,
                student=self.network(self.pair.student),
                distillation_losses=losses,
            )
        )

    def by_hand(self):
        """What `ours` does without features, as one writes it oneself."""
        student = self.compiled(self.network(self.pair.student))
        optimizer = student.optimizer
        optimizer.build(student.trainable_variables)
        crossentropy = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        )
        mean = keras.metrics.Mean("loss")
        accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")

        @tf.function(jit_compile=False, autograph=False)
        def step(iterator):
            x, y = iterator.get_next()
            log_p = tf.nn.log_softmax(self.teacher(x, training=False))
            with tf.GradientTape() as tape:
                logits = student(x, training=True)
                log_q = tf.nn.log_softmax(logits)
                divergence = tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1)
                divergence = tf.reduce_mean(divergence)
                loss = 0.5 * divergence + 0.5 * crossentropy(y, logits)
            variables = student.trainable_variables
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables))
            mean.update_state(loss)
            accuracy.update_state(y, logits)
            return {"loss": mean.result(), "accuracy": accuracy.result()}

        return functools.partial(step, iter(self.pair.data()))

    def functions(self):
        """Label -> function; each was called."""
        made = {
            PLAIN: self.plain(),
            TEACHER: self.teacher_forward(),
            OURS: self.ours(),
            STOCK: self.stock(),
            HAND: self.by_hand(),
        }
        if self.pair.tap is not None:
            made[OURS_FEATURE] = self.ours(feature=True)
            made[STOCK_FEATURE] = self.stock(feature=True)
            made[HALF] = self.ours(teacher_dtype="bfloat16")
            made[PIECES] = self.ours(teacher_batch_size=self.pair.batch // 4)
        for label, function in made.items():
            function()
            for value in tf.nest.flatten(function()):
                if not np.isfinite(value).all():
                    raise ValueError(f"{label} gives {value}")
        return made
