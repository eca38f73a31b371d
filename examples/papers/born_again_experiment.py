"""The network, the data and the trainings of `born_again.py`."""

import functools
import json
import pathlib
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import keras_distill as kd
from keras_distill.cost import multiply_accumulates

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs

layers = keras.layers
OUT = pathlib.Path(__file__).parents[2] / "saved_models"
BATCH_SIZE = 64
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Taught by the plain network: a loss and the share of distillation.
VARIANTS = {
    "BAN+L": (kd.losses.SoftTargets, 0.5),
    "CWTM": (kd.losses.ConfidenceWeightedByTeacherMax, 1.0),
    "DKPP": (kd.losses.DarkKnowledgeWithPermutedPredictions, 1.0),
}


def network(shape, widths, stem_strides):
    """A small wide residual network: pre-activation blocks, one a stage."""

    def conv(x, filters, size=3, strides=1):
        return layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)

    def activated(x, name=None):
        x = layers.BatchNormalization(momentum=0.9)(x)
        return layers.ReLU(name=name)(x)

    image = keras.Input(shape, name="image")
    x = conv(image, widths[0], strides=stem_strides)
    for stage, filters in enumerate(widths):
        strides = 2 if stage else 1
        y = activated(x)
        shortcut = conv(y, filters, 1, strides) if stage else x
        y = activated(conv(y, filters, strides=strides))
        x = layers.Add(name=f"stage{stage + 1}")([shortcut, conv(y, filters)])
    x = layers.GlobalAveragePooling2D(name="pool")(activated(x))
    logits = layers.Dense(10, name="logits")(x)
    return keras.Model(image, logits, name="small_wide_resnet")


class BornAgainExperiment:
    """One data set, in every worker."""

    def __init__(self, settings, data, seed):
        self.settings = {**settings, **settings["data"][data]}
        self.data, self.seed = data, seed
        self.folder = OUT.joinpath(
            settings["home"], "generations", f"{data}_{seed}"
        )
        self.x, self.y, self.x_test, self.y_test = self.images()
        self.batch_size = settings.get("batch_size", BATCH_SIZE)
        self.steps = len(self.x) // self.batch_size

    def images(self):
        """All seeds have the same images of Fashion-MNIST; of the digits each
        has another fifth to be tested on."""
        if self.data == "digits":
            x, y, x_test, y_test = kd.datasets.digits(self.seed % 5)
        else:
            x, y, x_test, y_test = kd.datasets.fashion_mnist()
        order = np.random.default_rng(0).permutation(len(y))
        tested = self.settings["tested"]
        if self.settings["held_out"]:
            x_test, y_test = x[order[-tested:]], y[order[-tested:]]
            order = order[:-tested]
        train = order[: self.settings["images"]]
        return x[train], y[train], x_test[:tested], y_test[:tested]

    def network(self):
        return network(
            self.x.shape[1:],
            self.settings["widths"],
            self.settings["stem_strides"],
        )

    def batches(self, generation, first_epoch=0):
        """Other batches in every generation."""
        return kd.datasets.batches(
            self.x,
            self.y,
            self.batch_size,
            seed=100 * self.seed + generation,
            first_epoch=first_epoch,
            drop_remainder=True,
        )

    def optimizer(self):
        """Nesterov's momentum, as for the paper's wide residual networks."""
        steps = self.steps * self.settings["epochs"]
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            steps - steps // 10,
            warmup_target=self.settings["rate"],
            warmup_steps=steps // 10,
        )
        return keras.optimizers.SGD(
            schedule,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.settings["weight_decay"],
        )

    def error(self, model):
        logits = model.predict(self.x_test, batch_size=500, verbose=0)
        return float(np.mean(logits.argmax(-1) != self.y_test))

    def born_again(self, build=None, **options):
        return kd.born_again(
            build or self.network,
            self.batches,
            compile_options={"optimizer": self.optimizer, "loss": CROSSENTROPY},
            epochs=self.settings["epochs"],
            steps_per_epoch=self.steps,
            verbose=0,
            **options,
        )

    def plain(self):
        """The plain network that `generations` trained."""
        return keras.models.load_model(self.folder / "generation_0.keras")

    # The jobs: each gives errors by row.

    def generations(self):
        found = self.born_again(
            generations=3, seed=self.seed, directory=self.folder
        )
        names = ("plain", "BAN-1", "BAN-2", "BAN-3")
        errors = dict(zip(names, map(self.error, found.models)))
        errors["ensemble of BAN-1, BAN-2"] = self.error(found.ensemble(2))
        errors["ensemble of BAN-1, BAN-2, BAN-3"] = self.error(found.ensemble())
        return errors

    def variant(self, name):
        loss, alpha = VARIANTS[name]
        # Weights and batches are those of BAN-1: the loss is the difference.
        found = self.born_again(
            generations=1,
            teacher=self.plain(),
            distiller_options={"distillation_losses": loss(), "alpha": alpha},
            seed=self.seed,
        )
        return {name: self.error(found.models[1])}

    def plainly_trained(self, number, build=None):
        keras.utils.set_random_seed(1000 * number + self.seed)
        model = (build or self.network)()
        model.compile(self.optimizer(), CROSSENTROPY)
        model.fit(
            self.batches(10 + number),
            epochs=self.settings["epochs"],
            steps_per_epoch=self.steps,
            shuffle=False,
            verbose=0,
        )
        return model

    def alone(self):
        """One plain network: to choose settings by, with --held-out."""
        return {"plain": self.error(self.plainly_trained(0))}

    def more_plain(self):
        """Two more plain networks: what an ensemble gives by itself."""
        models = [self.plain(), *map(self.plainly_trained, (1, 2))]
        return {
            "ensemble of 2 plain": self.error(kd.Ensemble(models[:2])),
            "ensemble of 3 plain": self.error(kd.Ensemble(models)),
        }

    def do(self, job):
        jobs = {
            "alone": self.alone,
            "generations": self.generations,
            "plain": self.more_plain,
        }
        return jobs[job]() if job in jobs else self.variant(job)


# Workers.


@functools.lru_cache(maxsize=2)
def experiment_of(settings, data, seed):
    long_runs.one_thread()
    # It counts every new network's predict as a retracing of the last one's.
    tf.get_logger().setLevel("ERROR")
    return BornAgainExperiment(json.loads(settings), data, seed)


def first_numbers(settings):
    """Of the networks of both data sets."""
    numbers = {}
    for data in settings["data"]:
        model = experiment_of(json.dumps(settings), data, 0).network()
        numbers[data] = {
            "parameters": model.count_params(),
            "multiply_accumulates": multiply_accumulates(model),
        }
    return numbers


def work(job):
    key, name, data, seed, settings = job
    keras.backend.clear_session()
    experiment = experiment_of(json.dumps(settings), data, seed)
    start = time.time()
    errors = experiment.do(name)
    return key, {"errors": errors, "seconds": time.time() - start}
