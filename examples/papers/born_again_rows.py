"""The trainings of `born_again.py --table`: one job is a row of one seed."""

import json
import time

import keras
import numpy as np
import tensorflow as tf
from born_again_experiment import BATCH_SIZE
from born_again_experiment import OUT
from born_again_experiment import VARIANTS
from born_again_experiment import BornAgainExperiment
from born_again_experiment import long_runs
from born_again_tables import FULL_TEACHER
from born_again_tables import SMALL_TEACHER
from born_again_tables import TABLES
from born_again_tables import densenet

import keras_distill as kd


def shifted(images, labels):
    """Zeros around, a random crop and flip: as for wide residual networks."""
    shape = tf.shape(images)
    images = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]])
    images = tf.map_fn(lambda x: tf.image.random_crop(x, shape[1:]), images)
    return tf.image.random_flip_left_right(images), labels


class RowExperiment(BornAgainExperiment):
    """The data and the training of all rows, for one seed."""

    def __init__(self, settings, seed):
        self.full = settings["full"]
        data = "cifar" if self.full else "fashion_mnist"
        super().__init__(settings, data, seed)
        self.teacher_path = OUT / settings["home"] / f"teacher_{seed}.keras"

    def images(self):
        if not self.full:
            x, y, x_test, y_test = super().images()
            return x[:, ::2, ::2], y, x_test[:, ::2, ::2], y_test
        name = "cifar10" if self.settings["table"] == 1 else "cifar100"
        arrays = []
        for split in ("train", "test"):
            whole = kd.datasets.load(name, split, batch_size=-1)
            arrays.append(whole["image"].numpy().astype("float32") / 255)
            arrays.append(whole["label"].numpy().astype("int32"))
        mean, deviation = (
            f(arrays[0], axis=(0, 1, 2)) for f in (np.mean, np.std)
        )
        for place in (0, 2):
            arrays[place] = (arrays[place] - mean) / deviation
        return arrays

    def batches(self, generation, first_epoch=0):
        batches = super().batches(generation, first_epoch)
        return batches.map(shifted, 8) if self.full else batches

    def optimizer(self):
        if not self.full:
            return super().optimizer()
        # A fifth after 60, 120 and 160 of 200 epochs.
        steps = self.steps * self.settings["epochs"]
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [round(share * steps) for share in (0.3, 0.6, 0.8)],
            [0.1, 0.02, 0.004, 0.0008],
        )
        return keras.optimizers.SGD(
            schedule, momentum=0.9, nesterov=True, weight_decay=5e-4
        )

    def build(self, row):
        builder = row.full if self.full else row.small
        return lambda: builder(self.x.shape[1:], int(self.y.max()) + 1)

    def alone(self, build):
        """Trained from labels."""
        return self.plainly_trained(0, build)

    def taught(self, build, teacher, seed=0, **options):
        """The generations that follow a teacher."""
        options = {"generations": 1, **options}
        found = self.born_again(
            build, teacher=teacher, seed=10 * self.seed + seed, **options
        )
        return found.models[1:], found

    def shared_teacher(self):
        """The DenseNet of tables 4 and 5: trained by the first row's job."""
        return keras.models.load_model(self.teacher_path)

    def row(self, table, row):
        """Returns errors by column."""
        build = self.build(row)
        if row.name.endswith("the teacher"):
            teacher = self.alone(build)
            teacher.save(self.teacher_path)
            return {"Teacher": self.error(teacher)}
        errors = {}
        if table in (4, 5):
            if "Baseline" in row.published:
                errors["Baseline"] = self.error(self.alone(build))
            shared = {"shared_layers": list(row.shared)} if row.shared else {}
            models, _ = self.taught(build, self.shared_teacher(), **shared)
            return {**errors, "BAN": self.error(models[0])}
        teacher = self.alone(build)
        errors["Teacher"] = self.error(teacher)
        models, _ = self.taught(build, teacher)
        errors["BAN"] = self.error(models[0])
        if table == 3:
            size = FULL_TEACHER if self.full else SMALL_TEACHER
            dense = row._replace(small=densenet(*size), full=densenet(*size))
            models, _ = self.taught(self.build(dense), teacher)
            errors["Dense-90-60"] = self.error(models[0])
        if table == 2:
            errors |= self.generations(build, teacher)
        return errors

    def generations(self, build, teacher):
        """What else table 2 has."""
        errors = {}
        for name, (loss, alpha) in VARIANTS.items():
            options = {"distillation_losses": loss(), "alpha": alpha}
            models, _ = self.taught(build, teacher, distiller_options=options)
            errors[name] = self.error(models[0])
        # Another seed than "BAN", as in the paper.
        models, found = self.taught(build, teacher, seed=1, generations=3)
        for number, model in enumerate(models, 1):
            errors[f"BAN-{number}"] = self.error(model)
        for number in (2, 3):
            errors[f"Ens*{number}"] = self.error(found.ensemble(number))
        return errors


def millions(settings):
    """The sizes of all networks, by row."""
    experiment = RowExperiment(settings, 0)
    rows = TABLES[settings["table"]]
    return {
        row.name: experiment.build(row)().count_params() / 1e6 for row in rows
    }


def work(job):
    key, name, seed, text = job
    settings = json.loads(text)
    keras.backend.clear_session()
    tf.get_logger().setLevel("ERROR")
    if not settings["full"]:
        long_runs.one_thread()
    experiment = RowExperiment(settings, seed)
    row = next(r for r in TABLES[settings["table"]] if r.name == name)
    start = time.time()
    errors = experiment.row(settings["table"], row)
    return key, {"errors": errors, "seconds": time.time() - start}


SMALL = {
    "rate": 0.6,
    "weight_decay": 5e-4,
    "full": False,
    "held_out": False,
    "batch_size": BATCH_SIZE,
    "data": {"fashion_mnist": {"images": 4096, "tested": 10_000, "epochs": 15}},
}
FULL = {
    **SMALL,
    "full": True,
    "batch_size": 128,
    "data": {"cifar": {"images": 50_000, "tested": 10_000, "epochs": 200}},
}
