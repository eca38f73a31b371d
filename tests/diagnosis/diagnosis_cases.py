"""Networks, data and numbers that the tests of `kd.diagnose` share."""

import copy
import itertools

import keras
import numpy as np

from keras_distill.diagnosis import diagnose
from keras_distill.diagnosis.classifier import Classifier
from keras_distill.diagnosis.data import Data
from keras_distill.diagnosis.regimes import find

layers = keras.layers
FEATURES, CLASSES = 20, 4
RULE = np.random.default_rng(7).normal(size=(FEATURES, CLASSES))


def data(samples, seed=0):
    """Points labelled by a linear rule."""
    x = np.random.default_rng(seed).normal(size=(samples, FEATURES))
    return x.astype("float32"), (x @ RULE).argmax(-1).astype("int32")


VALIDATION = data(1000, seed=1)


def linear(weights, activation=None, name="teacher"):
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(weights.shape[1], activation=activation),
        ],
        name=name,
    )
    model.set_weights([weights, np.zeros(weights.shape[1])])
    return model


def knowing_teacher(**kwargs):
    """Always right."""
    return linear(RULE, **kwargs)


def flexible_student(**kwargs):
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(CLASSES, **kwargs),
        ],
        name="student",
    )


def narrow_student():
    """Sees one direction only: enough for two of four classes at best."""
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(1), layers.Dense(CLASSES)],
        name="student",
    )


def normalized_student(synchronized=False):
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(8)(inputs)
    x = layers.BatchNormalization(momentum=0.999, synchronized=synchronized)(x)
    x = layers.Dropout(0.2)(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="student")


class Own(keras.Model):
    """Cannot be made again from its configuration."""

    def __init__(self, width):
        super().__init__(name="student")
        self.inner = layers.Dense(width, activation="relu")
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(0.2)
        self.head = layers.Dense(CLASSES)

    def call(self, x, training=None):
        x = self.norm(self.inner(x), training=training)
        return self.head(self.drop(x, training=training))

    def get_config(self):
        raise NotImplementedError


class Clonable(Own):
    def get_config(self):
        return {"width": self.inner.units}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def look(student=None, teacher=None, dataset=None, **kwargs):
    settings = {"validation_data": VALIDATION, "steps": 5, "verbose": False}
    return diagnose(
        student=flexible_student() if student is None else student,
        teacher=knowing_teacher() if teacher is None else teacher,
        dataset=data(300) if dataset is None else dataset,
        **{**settings, **kwargs},
    )


def kinds(diagnosis):
    return [kind for kind, _ in diagnosis.findings]


def counted(dataset, batches=20):
    """The `Data` of which so many batches were drawn."""
    samples = Data(dataset, "dataset", 128)
    samples.first()
    list(itertools.islice(samples.stream(), batches))
    return samples


def classifier(model, x=VALIDATION[0]):
    return Classifier(model, lambda x: x, x, "teacher")


def facts(**changes):
    """Numbers in which nothing is remarkable but the student's capacity."""
    row = {"entropy": 0.3, "largest_probability": 0.9, "accuracy": 0.9}
    fit = {"accuracy": 0.8, "cross_entropy": 0.50}
    fit["cross_entropy_standard_error"] = 0.01
    result = {
        "teacher": {
            "head": "logits",
            "classes": 10,
            "training": dict(row),
            "validation": dict(row),
        },
        "headroom": {
            "accuracy": {"difference": 0.1, "low": 0.08, "high": 0.12},
            "balanced_accuracy": {"difference": 0.1, "low": 0.08, "high": 0.12},
        },
        "student": {
            "head": "logits",
            "classes": 10,
            "parameters": 1000,
            "local_batch_normalizations": 0,
            "training": dict(fit),
            "validation": dict(fit),
        },
        "data": {
            "training_samples": 10000,
            "training_samples_used": 2000,
            "validation_samples_used": 2000,
            "training_classes_seen": 10,
            "validation_classes_seen": 10,
        },
        "short_training": {
            "steps": 1000,
            "steps_wanted": 1000,
            "passes": 10.0,
            "views": None,
        },
        "views": {"name": None, "milder": ""},
        "replicas": 1,
    }
    for path, value in changes.items():
        place = result
        *outer, last = path.split("__")
        for key in outer:
            place = place[key]
        place[last] = value
    return copy.deepcopy(result)


def found(**changes):
    return [kind for kind, _ in find(facts(**changes))]
