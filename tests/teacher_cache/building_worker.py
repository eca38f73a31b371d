"""Builds a cache, slowly enough to be killed; started by test_building.py.

    python building_worker.py FOLDER SECONDS_PER_BATCH
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_distill as kd

SAMPLES = 83


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


def build(path, **kwargs):
    """3 epochs of 3 shards each: 32, 32 and 19 samples."""
    arguments = {
        "teacher": teacher(),
        "dataset": x(),
        "path": path,
        "views": kd.views.FunctionMatching(8),
        "epochs": 3,
        "teacher_layer_names": "conv",
        "batch_size": 16,
        "samples_per_shard": 32,
        "verbose": False,
    }
    return kd.TeacherCache.build(**{**arguments, **kwargs})


if __name__ == "__main__":
    from keras_distill.teacher_cache import forward

    stored = forward.Forward.stored

    def slowly(*args):
        time.sleep(float(sys.argv[2]))
        return stored(*args)

    forward.Forward.stored = slowly
    build(sys.argv[1])
