"""Trainings with losses that see more than one sample at a time."""

import json

import keras
import numpy as np
import tensorflow as tf
from networks import convnet
from networks import data

import keras_distill as kd

TAPS = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
ALL = {**TAPS, "cross_replica": True}
TWO = {
    f"{role}_layer_name": ["act1", "pool"] for role in ("teacher", "student")
}
SAMPLES = 21


def contrast(**kwargs):
    return kd.losses.ContrastiveRepresentation(
        sample_count=SAMPLES, embedding_size=4, negatives=9, **TAPS, **kwargs
    )


def aligned(entropy, **kwargs):
    return kd.losses.LayerAlignedVariationalInformation(
        **TWO, entropy=entropy, reduction="mean", **kwargs
    )


def of_outputs(cross_replica):
    coupled = {"cross_replica": cross_replica}
    return {
        "dist": kd.losses.DIST(temperature=2.0, **coupled),
        "by_max": kd.losses.ConfidenceWeightedByTeacherMax(**coupled),
        "by_truth": kd.losses.ConfidenceWeightedByTeacherMax(
            confidence="true_class", log_gradient_parts=True, **coupled
        ),
        "permuted": kd.losses.DarkKnowledgeWithPermutedPredictions(),
    }


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
    "pearson": lambda: kd.losses.PearsonFeature(**ALL),
    "sides": lambda: kd.losses.LocalizationDistillation(
        teacher_layer_name="conv2",
        student_layer_name="conv2",
        cross_replica=True,
    ),
    # All of these, for the price of one training.
    "maps": lambda: {
        name: LOSSES[name]()
        for name in (
            "distance",
            "angle",
            "similarity",
            "congruence",
            "transfer",
            "relation",
            "channels",
            "pearson",
        )
    },
    "local": lambda: kd.losses.RelationalDistance(**TAPS),
    "memories": lambda: {
        "contrast": contrast(),
        "classes": contrast(negatives_from="other_classes", form="paper"),
    },
    "queue": lambda: {
        "queue": kd.losses.QueueSimilarity(queue_size=12, **TAPS),
        "patches": kd.losses.PatchSimilarity(**TAPS),
    },
    "moments": lambda: {
        "gaussian": aligned("gaussian", alignment="learned"),
        "standardized": aligned("standardized", momentum=0.5),
    },
    "outputs": lambda: of_outputs(cross_replica=True),
    "local_outputs": lambda: of_outputs(cross_replica=False),
}


def dataset(samples, weighted):
    x, y = data(SAMPLES)
    arrays = x[:samples], y[:samples]
    if weighted:
        arrays += (np.linspace(0, 2, samples).astype("float32"),)
    dataset = tf.data.Dataset.from_tensor_slices(arrays)
    return kd.views.indexed(dataset).batch(8)


def train(strategy, name, path):
    """Stores the weights, the logs and the state of the losses."""
    keras.utils.set_random_seed(0)
    losses = LOSSES[name]()  # What they hold is made later, inside the scope.
    with strategy.scope():
        distiller = kd.Distiller(
            student=convnet(),
            teacher=convnet(4 if name == "sides" else 8),
            distillation_losses=losses,
            alpha=1.0,
        )
        rate = 0.01 if name.endswith("outputs") else 0.1
        distiller.compile(keras.optimizers.SGD(rate, momentum=0.9))
    logs = {}
    # Batches of 8, 8, 5, which two replicas share as 3 and 2; then of 8, 8, 1,
    # which leaves one of them empty.
    for samples in (SAMPLES, 17):
        batches = dataset(samples, weighted=name.endswith("outputs"))
        history = distiller.fit(batches, verbose=0, shuffle=False).history
        for key, values in history.items():
            logs.setdefault(key, []).extend(map(float, values))
    arrays = {
        f"{i} {v.path}": v.numpy() for i, v in enumerate(distiller.variables)
    }
    np.savez(path, **arrays, history=json.dumps(logs))
