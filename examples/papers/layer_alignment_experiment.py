"""Networks, data and trainings of `layer_alignment.py`."""

import functools
import pathlib
import sys

import keras
import numpy as np

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared.reporting import percent

layers = keras.layers
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# Channels and stride of each convolution.
THREE = ((16, 2), (24, 2), (32, 2))
SIX = ((12, 2), (12, 1), (24, 2), (24, 1), (32, 2), (32, 1))
# How deep a layer lies, in layers of the student. Of the six convolutions the
# second of each size stands beside the student's one of that size.
DEPTHS = {
    "same layers": (0, 1, 2, 3, 4),
    "deeper": (-0.5, 0, 0.5, 1, 1.5, 2, 3, 4),
}
TEACHERS = {"same layers": THREE, "deeper": SIX}
STUDENT_DEPTHS = DEPTHS["same layers"]


def network(convolutions, name, dropout=0.0):
    """Convolutions and two dense layers, each with a name of its own."""
    stack = [
        layers.Conv2D(
            channels,
            3,
            stride,
            padding="same",
            activation="relu",
            name=f"conv{number}",
        )
        for number, (channels, stride) in enumerate(convolutions, 1)
    ]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            *stack,
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(64, activation="relu", name="dense1"),
            layers.Dense(10, name="dense2"),
        ],
        name=name,
    )


def aligned_layers(model):
    """Names of the layers that take part, from the first to the last."""
    return [
        x.name for x in model.layers if x.name.startswith(("conv", "dense"))
    ]


def one_to_one(depths):
    """Each layer of the student learns from the one beside it."""
    return np.equal.outer(depths, STUDENT_DEPTHS).astype(float)


def window(depths, shift, spread):
    """lambda_ij as a bell around the layer `shift` deeper than layer j.

        lambda_ij = exp(-(depth_i - depth_j - shift)^2 / (2 spread^2)) / sum_i

    What is below a hundredth is left out: such a pair costs as much as another.
    """
    away = np.subtract.outer(depths, np.add(STUDENT_DEPTHS, shift))
    # The nearest layer of each column counts 1, however far it is.
    nearest = np.min(away**2, axis=0)
    bell = np.exp(-(away**2 - nearest) / (2 * spread**2))
    bell /= bell.sum(axis=0)
    bell[bell < 0.01] = 0.0
    return bell / bell.sum(axis=0)


class Experiment:
    """The data, and how every network here is trained and judged."""

    def __init__(
        self,
        images,
        epochs,
        teacher_images,
        teacher_epochs,
        teachers=tuple(TEACHERS),
    ):
        self.data = kd.datasets.fashion_mnist()
        self.order = np.random.default_rng(0).permutation(60000)
        self.held_out = self._part(self.order[-10000:])
        self.watched = self._part(self.order[-12000:-10000])
        self.test = self.data.x_test, self.data.y_test
        self.images, self.epochs = images, epochs
        self.every = max(1, epochs // 10)  # Epochs between two looks.
        self.teachers = {
            name: self._teacher(name, teacher_images, teacher_epochs)
            for name in teachers
        }

    def _part(self, indices):
        return self.data.x_train[indices], self.data.y_train[indices]

    def _teacher(self, name, images, epochs):
        keras.utils.set_random_seed(0)
        teacher = network(TEACHERS[name], f"teacher_{name[:4]}", dropout=0.3)
        self.fit(teacher, images, epochs, seed=0)
        return teacher

    def fit(self, model, images, epochs, seed, watch=False):
        steps = images // 64
        rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * steps)
        model.compile(
            keras.optimizers.Adam(rate), CROSSENTROPY, metrics=["accuracy"]
        )
        # Else the step is traced twice; with 40 pairs that takes long.
        model.optimizer.build(model.trainable_variables)
        x, y = self._part(self.order[:images])
        return model.fit(
            kd.datasets.batches(x, y, batch_size=64, seed=seed),
            steps_per_epoch=steps,
            epochs=epochs,
            validation_data=self.watched if watch else None,
            validation_batch_size=500,
            validation_freq=self.every,
            shuffle=False,
            verbose=0,
        ).history

    def student(self, seed, teacher=None, loss=None, weight=1.0, alpha=0.5):
        """-> a trained student, its history, and the loss it learned by."""
        keras.utils.set_random_seed(1000 + seed)
        student = trained = network(THREE, "student")
        if teacher is not None:
            loss = loss(self.teachers[teacher], student)
            trained = kd.Distiller(
                student=student,
                teacher=self.teachers[teacher],
                distillation_losses=loss,
                distillation_loss_weights=weight,
                alpha=alpha,
            )
        history = self.fit(trained, self.images, self.epochs, seed, watch=True)
        return student, history, loss

    def classes(self, model, images):
        return model.predict(images, batch_size=500, verbose=0).argmax(-1)

    def judged(self, **how):
        """Accuracy on the held-out images of a student of seed 0, its loss."""
        student, _, loss = self.student(seed=0, **how)
        right = self.classes(student, self.held_out[0]) == self.held_out[1]
        return float(np.mean(right)), loss


def soft_targets(teacher, student, temperature):
    return kd.losses.SoftTargets(temperature=temperature)


def alignment(teacher, student, matrix):
    """`matrix`: lambda, or one of the names that the loss knows."""
    return kd.losses.LayerAlignedVariationalInformation(
        teacher_layer_name=aligned_layers(teacher),
        student_layer_name=aligned_layers(student),
        alignment=matrix,
        reduction="mean",
    )


def search(experiment, teacher):
    """The choices on held-out images.

    Returns:
        Row of the table -> arguments of `Experiment.student`, and what was
        tried: name, accuracy and, of an alignment, its lambda.
    """
    depths = DEPTHS[teacher]
    tried = []

    def attempt(name, **how):
        accuracy, loss = experiment.judged(teacher=teacher, **how)
        matrix = getattr(loss, "alignment_matrix", None)
        tried.append(
            {
                "name": name,
                "accuracy": accuracy,
                "matrix": matrix and np.array(matrix()).tolist(),
                "how": how,
            }
        )
        print(f"  {teacher}: {name}: {100 * accuracy:.1f} %", flush=True)
        return tried[-1]

    def best(attempts):
        return max(attempts, key=lambda a: a["accuracy"])

    def aligned(name, matrix, weight):
        loss = functools.partial(alignment, matrix=matrix)
        return attempt(name, loss=loss, weight=weight)

    soft = [
        attempt(
            f"Hinton, temperature {temperature:g}, alpha {alpha:g}",
            loss=functools.partial(soft_targets, temperature=temperature),
            alpha=alpha,
        )
        for temperature, alpha in experiment.soft
    ]
    pairwise = best(
        aligned(f"pairwise, weight {w:g}", one_to_one(depths), w)
        for w in experiment.weights
    )
    weight = pairwise["how"]["weight"]
    uniform = aligned("all to all", "uniform", weight)
    learned = aligned("learned", "learned", weight)
    grid = best(
        aligned(
            f"shift {shift}, spread {spread:g}",
            window(depths, shift, spread),
            weight,
        )
        for shift in experiment.shifts
        for spread in experiment.spreads
    )
    rows = {
        "Hinton": best(soft),
        "pairwise": pairwise,
        "all to all": uniform,
        "learned lambda": learned,
        "best of the grid": grid,
    }
    return rows, tried


def final(experiment, rows, seeds):
    """Row -> accuracy, agreement with the teacher and history, per seed.

    Args:
        experiment: A `Experiment`.
        rows: `(teacher, row) -> arguments of Experiment.student`.
        seeds: How many.
    """
    decided = {
        name: experiment.classes(teacher, experiment.test[0])
        for name, teacher in experiment.teachers.items()
    }
    results = {}
    for key, how in rows.items():
        result = {"accuracy": [], "agreement": [], "history": []}
        for seed in range(seeds):
            student, history, _ = experiment.student(seed, **how)
            classes = experiment.classes(student, experiment.test[0])
            result["accuracy"].append(
                float(np.mean(classes == experiment.test[1]))
            )
            result["agreement"].append(
                {t: float(np.mean(classes == decided[t])) for t in decided}
            )
            result["history"].append(history["val_accuracy"])
        results[key] = result
        print(f"  {key}: {percent(result['accuracy'])} %", flush=True)
    accuracies = {
        t: float(np.mean(decided[t] == experiment.test[1])) for t in decided
    }
    return results, accuracies
