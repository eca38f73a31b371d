"""Online trainings on N replicas."""

import json

import keras
import numpy as np
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

# Batches of 8. 22 samples: the last batch has 6. 17: it has 1, and one of two
# replicas is empty.
SCENARIOS = {
    "joint": {"samples": 22, "weighted": True},
    "alternating": {"samples": 17, "update": "alternating"},
    "native_ensemble": {"samples": 17},
    "batch_norm": {"samples": 22, "update": "alternating", "batch_norm": True},
}


def distiller_of(name, scenario):
    norm = {
        "batch_norm": scenario.get("batch_norm", False),
        "synchronized": True,
    }
    if name == "native_ensemble":
        return kd.NativeEnsembleDistiller(
            student=convnet(**norm), branch_from="act1"
        )
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    return kd.MutualDistiller(
        students={
            "narrow": convnet(**norm),
            "wide": convnet(6, **norm),
            "third": convnet(5, **norm),
        },
        distillation_losses={
            "soft": kd.losses.SoftTargets(temperature=2.0),
            "hint": kd.losses.Hint(**taps),
        },
        update=scenario.get("update", "joint"),
    )


def train(strategy, name, path):
    """Stores the weights, the logs and what the networks predict."""
    scenario = SCENARIOS[name]
    x, y = data(scenario["samples"])
    arrays = (x, y)
    if scenario.get("weighted"):
        arrays = (x, y, np.linspace(0, 2, len(x)).astype("float32"))
    dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        distiller = distiller_of(name, scenario)
        distiller.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            crossentropy(),
            metrics=["accuracy"],
        )
    history = distiller.fit(
        dataset, validation_data=dataset, epochs=3, verbose=0
    ).history
    arrays = {f"w{i}": w for i, w in enumerate(distiller.get_weights())}
    for key, values in distiller.predict(dataset, verbose=0).items():
        arrays[f"predicted_{key}"] = values
    history = {k: list(map(float, v)) for k, v in history.items()}
    np.savez(path, **arrays, history=json.dumps(history))
