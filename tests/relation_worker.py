"""Losses that compare samples, on N logical CPU devices.

    python relation_worker.py REPLICAS LOSS OUTPUT.npz

Started by test_cross_replica.py. Trains a small network and stores its
weights, its logs and the state of the loss.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from networks import convnet
from networks import data

import keras_distill as kd

TAPS = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
ALL = {**TAPS, "cross_replica": True}
LOSSES = {
    "distance": lambda: kd.losses.RelationalDistance(**ALL),
    "angle": lambda: kd.losses.RelationalAngle(**ALL),
    "similarity": lambda: kd.losses.SimilarityPreserving(**ALL),
    "congruence": lambda: kd.losses.CorrelationCongruence(**ALL),
    "transfer": lambda: kd.losses.ProbabilisticTransfer(**ALL),
    "relation": lambda: kd.losses.Relation(
        potential="absolute_distance", metric="mae", **ALL
    ),
    "channels": lambda: kd.losses.InterChannelCorrelation(
        form="code", regressor="conv1x1", **TAPS
    ),
    "local": lambda: kd.losses.RelationalDistance(**TAPS),
    "contrast": lambda: Contrast(
        sample_count=22, embedding_size=4, negatives=21, **TAPS
    ),
    "draws": lambda: Drawn(
        sample_count=22,
        embedding_size=4,
        negatives=9,
        negatives_from="other_classes",
        **TAPS,
    ),
}


class Drawn(kd.losses.ContrastiveRepresentation):
    """Finds the indices in the labels: the Distiller passes none yet."""

    needs_sample_index = False

    def compute_loss(self, teacher_outputs, student_outputs, y=None, **kwargs):
        kwargs.update(y=y % 4, sample_index=y)
        return super().compute_loss(teacher_outputs, student_outputs, **kwargs)


class Contrast(Drawn):
    """Compares with all others, in order."""

    def draw_contrast(self, sample_index):
        steps = tf.range(self.sample_count, dtype=sample_index.dtype)
        return (sample_index[:, None] + steps) % self.sample_count


def run(replicas, name, path):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * max(replicas, 2)
    )
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{i}" for i in range(replicas)]
        )
    # Batches of 8: 8, 8, 6; or 8, 8, 1, which leaves a replica empty.
    x, _ = data(17 if name == "similarity" else 22)
    index = np.arange(len(x), dtype="int32")
    dataset = tf.data.Dataset.from_tensor_slices((x, index)).batch(8)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        # As many classes as indices: these travel as labels.
        teacher, student = convnet(8, classes=22), convnet(classes=22)
        loss = LOSSES[name]()
        distiller = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=loss,
            alpha=1.0,
        )
        distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    logs = distiller.fit(dataset, epochs=2, shuffle=False, verbose=0).history
    arrays = {f"w{i}": w for i, w in enumerate(distiller.get_weights())}
    logs = {k: list(map(float, v)) for k, v in logs.items()}
    np.savez(path, **arrays, history=json.dumps(logs))


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2], sys.argv[3])
