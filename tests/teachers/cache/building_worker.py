"""Builds a cache, slowly enough to be killed; started by test_building.py.

python building_worker.py FOLDER SECONDS_PER_BATCH
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import plain_graphs  # noqa: F401

import keras_distill as kd

SAMPLES = 83


@keras.saving.register_keras_serializable(package="tests")
class Shifted(kd.views.Views):
    """Another view in every epoch, that costs nothing to trace."""

    teacher_varies = True

    def __init__(self, seed=0, factor=1.0, name=None):
        super().__init__(name=name)
        self.seed, self.factor = seed, factor

    def training(self, x, y=None, w=None, epoch=None, sample_index=None):
        number = keras.ops.cast(epoch, "float32") + self.seed
        seen = x + self.factor * keras.ops.reshape(number, (-1, 1, 1, 1))
        return kd.views.View(seen, seen, y, w)

    def get_config(self):
        return {"seed": self.seed, "factor": self.factor, "name": self.name}


def x():
    rng = np.random.default_rng(0)
    return rng.normal(size=(SAMPLES, 8, 8, 1)).astype("float32")


def teacher():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(6),
        ]
    )


def stored(**kwargs):
    return kd.teachers.StoredOutputs(**{"layer_names": "conv", **kwargs})


def build(path, **kwargs):
    """3 epochs of 3 shards each: 32, 32 and 19 samples."""
    arguments = {
        "teacher": teacher(),
        "dataset": x(),
        "path": path,
        "views": Shifted(),
        "epochs": 3,
        "outputs": stored(),
        "run": kd.teachers.TeacherRun(batch_size=16, samples_per_shard=32),
        "verbose": False,
    }
    return kd.TeacherCache.build(**{**arguments, **kwargs})


if __name__ == "__main__":
    from keras_distill.teachers.cache import forward

    run_batch = forward.Forward.stored

    def slowly(*args):
        time.sleep(float(sys.argv[2]))
        return run_batch(*args)

    forward.Forward.stored = slowly
    build(sys.argv[1])
